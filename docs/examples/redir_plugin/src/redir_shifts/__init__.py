"""Passes of redir for hardware that shifts and adds where others multiply."""
