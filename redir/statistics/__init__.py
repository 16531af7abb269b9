"""What flows through a graph: inputs that stand for real ones, moments, and least squares."""

from redir.statistics.sources import Source, draws_lengths, is_made_up, source

__all__ = ["Source", "draws_lengths", "is_made_up", "source"]
