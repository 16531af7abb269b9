"""An operator behind itself."""

from __future__ import annotations

from redir.ir import Node
from redir.passes.simplify.rules import Around, Found, rule


@rule("undone", "Neg", "Not", "BitwiseNot")
def undone(node: Node, _: Around) -> Found:
    """Done twice it is undone."""
    inner = node.inputs[0].node
    return inner.inputs[0] if inner is not None and inner.op == node.op else None


@rule("done already", "Relu", "Abs", "Ceil", "Floor", "Round", "Sign")
def done_already(node: Node, _: Around) -> Found:
    """To do it again changes nothing."""
    inner = node.inputs[0].node
    return node.inputs[0] if inner is not None and inner.op == node.op else None


RULES = (undone, done_already)
