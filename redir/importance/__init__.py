"""What matters: scores of channels, by which pruning ranks them."""

from redir.importance.criterion import Criterion, criterion, scored
from redir.importance.evidence import Evidence
from redir.importance.family import Family, families
from redir.importance.labelled import Labelled

__all__ = ["Criterion", "Evidence", "Family", "Labelled", "criterion", "families", "scored"]
