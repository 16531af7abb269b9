"""How good outputs are: metrics, the data they judge by, and what became of a model by them."""

from redir.evaluation.judge import Judge, Judged, accuracy
from redir.evaluation.metrics import METRICS, Metric, metric

__all__ = ["METRICS", "Judge", "Judged", "Metric", "accuracy", "metric"]
