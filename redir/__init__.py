"""redir removes redundancy from neural networks, without data."""

from redir import ops
from redir.compiler import compress
from redir.ir import Graph
from redir.models import load, save
from redir.pipeline import Pass, Pipeline

__all__ = ["Graph", "Pass", "Pipeline", "compress", "load", "ops", "save"]
__version__ = "0.1.0"
