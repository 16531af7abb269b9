"""What matters: scores of channels, by which pruning ranks them."""

from redir.importance.criterion import Criterion, criterion

__all__ = ["Criterion", "criterion"]
