"""Operators behind which tokens are no more: what they take from them, if they can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from redir import ops
from redir.channels.sizes import taken
from redir.ir import Node, Port
from redir.ir.tensor import Tensor
from redir.ops import is_absent
from redir.ops.links import axes_of
from redir.passes.merge_tokens.fused import Parts, parts_of
from redir.passes.merge_tokens.stages import Refused, Stages

_AVERAGES = (ops.ReduceMean, ops.GlobalAveragePool)
_SUMS = (*_AVERAGES, ops.ReduceSum)


def ended(stages: Stages, node: Node, port: Port) -> bool:
    """Note what a node takes from tokens along an axis; False where it is not known.

    Raises:
        Refused: it takes what is another number for tokens that are merged.
    """
    return any(end(stages, node, port) for end in _ENDS)


def averages(node: Node) -> bool:
    """Whether what a node makes of tokens is their mean."""
    return node.op in _AVERAGES


def attend(stages: Stages, node: Node, parts: Parts) -> None:
    """Let an Attention weigh keys and values by their sizes.

    Raises:
        Refused: they are of different tokens, or some are hidden.
    """
    read = [stages.along.get((node.inputs[i], parts.axis)) for i in (parts.keys, parts.values)]
    mask = node.inputs[parts.mask] if len(node.inputs) > parts.mask else None
    held = None if mask is None or is_absent(mask) else stages.ties.even(mask)
    if mask is not None and not is_absent(mask) and not _hides_none(held):
        raise Refused(f"{node} has a mask")
    if read[0] != read[1]:
        raise Refused(f"{node} reads keys and values of other tokens")
    if read[0] is not None and node.inputs[parts.queries].type.size(parts.axis) is None:
        raise Refused(f"{node} asks for an open number of tokens")
    if read[0] is not None:
        stages.biased[node] = stages.counted(node, parts.keys, parts.axis)


def _hides_none(mask: Tensor | None) -> bool:
    """Whether a mask is the same everywhere, and lets all tokens be seen."""
    return mask is not None and (mask.type.dtype.kind == "f" or bool(mask.array.all()))


def _attended(stages: Stages, node: Node, port: Port) -> bool:
    """The keys and values of an Attention."""
    parts = parts_of(node)
    return parts is not None and node in stages.biased and port[1] == parts.axis


def _weighs(stages: Stages, node: Node, port: Port) -> bool:
    """A Softmax over tokens: each counts as often as tokens went into it."""
    value, axis = port
    if node.op != ops.Softmax or int(node.attrs.get("axis", -1)) % (value.rank or 1) != axis:
        return False
    stages.biased[node] = stages.counted(node, 0, axis)
    stages.along[node.outputs[0], axis] = replace(stages.along[port], kind="weights")
    return True


def _sums(stages: Stages, node: Node, port: Port) -> bool:
    """A sum over tokens of products with weights that count sizes."""
    other = stages.ties.summed(node, port)
    if other is None:
        return False
    pair = [stages.along.get(p) for p in (port, other)]
    found = [t for t in pair if t is not None]
    if len(found) < len(pair) or found[0].at != found[1].at:
        raise Refused(f"{node} adds up over tokens something else of each")
    if sorted(t.kind for t in found) != ["plain", "weights"]:
        raise Refused(f"{node} adds up over tokens, but not as attention does")
    return True


def _asks(stages: Stages, node: Node, port: Port) -> bool:
    """Sizes that only say how other values are to be shaped."""
    return node.op == ops.Shape and port not in taken(stages.graph, node)


def _picks(stages: Stages, node: Node, port: Port) -> bool:
    """A Gather of the first tokens."""
    value, axis = port
    if node.op != ops.Gather or node.inputs[0] is not value or node.inputs[1] is value:
        return False
    places = stages.ties.numbers(node.inputs[1])
    if int(node.attrs.get("axis", 0)) % (value.rank or 1) != axis or places is None:
        return False
    if not places.size or places.array.min() < 0:
        return False
    most = stages.along[port].skipped + int(places.array.max()) + 1
    stages.places = max(stages.places, most)
    return True


def _cuts(stages: Stages, node: Node, port: Port) -> bool:
    """A Slice of the first tokens, or of all but these."""
    value, axis = port
    given = [stages.ties.numbers(v) for v in node.inputs[1:]]
    if node.op != ops.Slice or any(t is None for t in given):
        return False
    starts, ends, *rest = [t.array.reshape(-1).tolist() for t in given if t is not None]
    axes = [a % (value.rank or 1) for a in (rest[0] if rest else range(len(starts)))]
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    if axes.count(axis) != 1:
        return False
    start, end, step = (each[axes.index(axis)] for each in (starts, ends, steps))
    tokens, size = stages.along[port], value.type.size(axis) or 0
    if step != 1 or start < 0 or end <= start:
        return False
    stages.places = max(stages.places, tokens.skipped + (start if end >= size else end))
    if end >= size:
        further = replace(tokens, skipped=tokens.skipped + start)
        stages.along[node.outputs[0], axis] = further
    return True


def _pools(stages: Stages, node: Node, port: Port) -> bool:
    """A mean or a sum over tokens."""
    value, axis = port
    if node.op not in _SUMS or node in stages.pooled:
        return False
    if node.op != ops.GlobalAveragePool:
        axes = axes_of(stages.ties.sizes.node(node), value.rank or 0)
        if axes is None or (axes and axis not in axes):
            return False
    stages.pooled[node] = stages.counted(node, 0, axis)
    return True


_ENDS: tuple[Callable[[Stages, Node, Port], bool], ...] = (
    _attended,
    _weighs,
    _sums,
    _asks,
    _picks,
    _cuts,
    _pools,
)
