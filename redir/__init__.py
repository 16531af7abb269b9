"""redir removes redundancy from neural networks, without data."""

from redir import ops, passes
from redir.app.api import compress, plan
from redir.errors import RedirError
from redir.io.models import from_torch, load, save, to_torch
from redir.ir import Graph
from redir.pipeline import Pass, Pipeline

__all__ = [
    "Graph",
    "Pass",
    "Pipeline",
    "RedirError",
    "compress",
    "from_torch",
    "load",
    "ops",
    "passes",
    "plan",
    "save",
    "to_torch",
]
__version__ = "0.1.0"
