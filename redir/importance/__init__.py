"""What matters: scores of channels, by which pruning ranks them."""

from redir.importance.criterion import Criterion, criterion, scored
from redir.importance.evidence import Evidence
from redir.importance.family import Family, families

__all__ = ["Criterion", "Evidence", "Family", "criterion", "families", "scored"]
