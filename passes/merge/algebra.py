"""What operators make of multiples and of sums of channels."""

from __future__ import annotations

from redir.ir import Node
from redir.ops import is_absent


def terms(node: Node) -> list[tuple[int, ...]]:
    """The places of the operands that are multiplied, for each term of the sum that a node is.

    Where each product is made k times as large, for a positive k, so is the result. Operands that
    are in no product must stay the same for that. There are none where the node is no such sum.
    """
    given = [v for v in node.inputs if not is_absent(v)]
    if node.has("layer") and len(set(given)) < len(given):
        return []  # which of its operands a link is meant for, it does not say
    return list(node.op.terms(node)) if node.has("positively_homogeneous") else []


def is_linear(node: Node) -> bool:
    """Whether the sum of two results is that of the sums, factor by factor, of their ``terms``."""
    return bool(terms(node)) and node.has("linear")
