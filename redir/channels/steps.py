"""Widths of convolutions that runtimes are fast on."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from redir import ops
from redir.channels.coupling import Coupling
from redir.ir import Node

_WORK = 100_000  # multiply-adds of a layer that take as long as it takes to call one
_OPEN = 8  # what a size that is open counts as


def stepped(coupling: Coupling, groups: Collection[int], step: int) -> set[int]:
    """Those of ``groups`` that may go where widths of much work stay multiples of ``step``.

    So they do if they were, and no more than half of the channels go: convolutions in blocks of
    channels are not faster with fewer within a block, but without blocks they are much slower.
    """
    left = set(groups)
    if step == 1:
        return left
    for node in coupling.graph.nodes:
        if node.op == ops.Conv and _work(node) > _WORK:
            held = coupling.group((node.inputs[1], 0)).tolist()
            lost = [group for group in held if group in left]
            if len(held) % step == 0 and 2 * len(lost) < len(held):
                left.difference_update(lost[len(lost) // step * step :])
    return left


def _work(conv: Node) -> int:
    """About how many multiply-adds a Conv takes for an example."""
    weight, places = conv.inputs[1].type.static or (), (conv.outputs[0].type.shape or ())[2:]
    return prod(weight) * prod(size if isinstance(size, int) else _OPEN for size in places)
