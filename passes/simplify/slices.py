"""A Slice of a Slice."""

from __future__ import annotations

from redir.ir import Node
from redir.ops.slicing import cut_of, cutting, joined
from redir.passes.simplify.rules import Around, Found, rule


@rule("Slice of a Slice", "Slice")
def slice_of_slice(node: Node, around: Around) -> Found:
    """Both at once."""
    inner = node.inputs[0].node
    if inner is None or inner.op.standard != "Slice":
        return None
    if not around.alone(node.inputs[0]):
        return "the one before it is read by others too"
    first, second = cut_of(inner), cut_of(node)
    if first is None or second is None or inner.op != node.op:
        return "what it takes is not constant"
    both = joined(inner, first, second)
    if both is None:
        return "the sizes that it takes a part of are open"
    return cutting(node, inner.inputs[0], both)


RULES = (slice_of_slice,)
