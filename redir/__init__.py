"""redir removes redundancy from neural networks, without data."""

from redir import ops
from redir.compiler import compress
from redir.ir import Graph
from redir.models import from_torch, load, save, to_torch
from redir.pipeline import Pass, Pipeline

__all__ = ["Graph", "Pass", "Pipeline", "compress", "from_torch", "load", "ops", "save", "to_torch"]
__version__ = "0.1.0"
