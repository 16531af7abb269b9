"""The graph and nothing else: what it is made of, how it is rewritten, what it means."""

from redir.ir.graph import WIDEST, Graph, Node, Value, expect_graph, width
from redir.ir.interpreter import evaluate
from redir.ir.op import Attr, Kept, Link, Op, Port, Size
from redir.ir.rewriter import map_constants, rewrite, transform
from redir.ir.source import Source

__all__ = [
    "WIDEST",
    "Attr",
    "Graph",
    "Kept",
    "Link",
    "Node",
    "Op",
    "Port",
    "Size",
    "Source",
    "Value",
    "evaluate",
    "expect_graph",
    "map_constants",
    "rewrite",
    "transform",
    "width",
]
