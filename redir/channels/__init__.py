"""Channels: which must change together, which are constant, and how they are removed."""
