"""Attention that one node does: where its operands are, and why tokens of it cannot be merged."""

from __future__ import annotations

from dataclasses import dataclass

from redir import ops
from redir.ir import Node
from redir.ops import is_absent

_SPLIT, _FLAT = 4, 3  # axes, with heads in one of their own or side by side


@dataclass(frozen=True)
class Parts:
    """The places of the operands, the axis of tokens in these, and the heads side by side."""

    axis: int
    heads: int
    queries: int = 0
    keys: int = 1
    values: int = 2
    mask: int = 3


def parts_of(node: Node) -> Parts | None:
    """What an Attention reads; None of any other node, and of one that hides or keeps tokens."""
    if node.op != ops.Attention or node.arity > 1 or node.attrs.get("is_causal"):
        return None
    ranks = {v.rank for v in node.inputs[:3]}
    if len(ranks) > 1 or not all(map(is_absent, node.inputs[4:])):
        return None
    if ranks == {_SPLIT}:
        return Parts(2, 1)
    return Parts(1, int(node.attrs["kv_num_heads"])) if ranks == {_FLAT} else None
