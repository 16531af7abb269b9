"""Parts of a value that are put together, and parts of what was put together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from redir.ir import Node, Value
from redir.ops.slicing import Cut, cut_of, cutting, run_of
from redir.passes.simplify.rules import Around, Found, rule


@rule("Concat of a Concat", "Concat")
def concat_of_concat(node: Node, around: Around) -> Found:
    """One Concat of all."""
    axis, parts = _axis(node), list[Value]()
    for value in node.inputs:
        inner = value.node
        fits = inner is not None and inner.op.standard == "Concat" and _axis(inner) == axis
        parts += inner.inputs if inner is not None and fits and around.alone(value) else [value]
    if axis is None or tuple(parts) == node.inputs:
        met = any(v.node is not None and v.node.op.standard == "Concat" for v in node.inputs)
        return "the one before it is along another axis, or read by others too" if met else None
    return node.on(parts).outputs[0]


@rule("parts that are joined again", "Concat")
def parts_joined(node: Node, around: Around) -> Found:
    """What a Split was of, and the larger part that Slices are of."""
    axis = _axis(node)
    if axis is None:
        return None
    left = _without_splits(node.inputs, axis)
    joined = left[:1]
    for value in left[1:]:
        both = _neighbours(joined[-1], value, axis, around)
        joined[-1:] = [joined[-1], value] if both is None else [both]
    if len(joined) == len(node.inputs):
        return None
    return joined[0] if len(joined) == 1 else node.on(joined).outputs[0]


@rule("Slice of a Concat", "Slice")
def slice_of_concat(node: Node, _: Around) -> Found:
    """A Slice of the part in which it falls."""
    inner, cut = node.inputs[0].node, cut_of(node)
    axis = None if inner is None or inner.op.standard != "Concat" else _axis(inner)
    if inner is None or axis is None or cut is None or axis not in cut.axes:
        return None
    sizes = [v.type.size(axis) for v in inner.inputs]
    if None in sizes:
        return "the sizes of the parts are open"
    runs = dict(cut.runs)
    ends = np.cumsum([size or 0 for size in sizes])
    places = np.arange(ends[-1])[slice(*runs[axis])]
    met = np.unique(np.searchsorted(ends, places, "right"))
    if met.size != 1:
        return "it falls in no part, or in several"
    before = ends[met[0]] - (sizes[met[0]] or 0)
    runs[axis] = run_of(places - before) or runs[axis]
    starts, stops, steps = (list(numbers) for numbers in zip(*runs.values(), strict=True))
    return cutting(node, inner.inputs[met[0]], Cut(list(runs), starts, stops, steps))


def _axis(node: Node) -> int | None:
    """The axis of a Concat or Split, from the front."""
    rank, axis = node.inputs[0].rank, node.attrs.get("axis", 0)
    return None if rank is None else int(axis) % rank


def _without_splits(values: tuple[Value, ...], axis: int) -> list[Value]:
    """The values, with what was split in place of all its parts in a row."""
    left = list[Value]()
    for value in values:
        left.append(value)
        node = value.node
        if node is not None and node.op.standard == "Split" and _axis(node) == axis:
            whole = tuple(left[-node.arity :]) == node.outputs
            left[-node.arity :] = [node.inputs[0]] if whole else left[-node.arity :]
    return left


def _neighbours(one: Value, other: Value, axis: int, around: Around) -> Value | None:
    """The Slice that takes what two take, one behind the other."""
    if not around.alone(one) or not around.alone(other) or one.node is None or other.node is None:
        return None
    first, second = _run(one.node, axis), _run(other.node, axis)
    if first is None or second is None or first[1] != second[0]:
        return None
    if one.node.inputs[0] is not other.node.inputs[0]:
        return None
    cut = Cut([axis], [first[0]], [second[1]], [1])
    return cutting(replace(one.node, source=None), one.node.inputs[0], cut)


def _run(node: Node, axis: int) -> tuple[int, int] | None:
    """From where to where a node takes a part along one axis, and of no other."""
    cut = cut_of(node) if node.op.standard == "Slice" else None
    if cut is None or cut.axes != [axis] or cut.steps != [1]:
        return None
    (start,), (end,), size = cut.starts, cut.ends, node.inputs[0].type.size(axis)
    if size is not None:
        start, end, _ = slice(start, end).indices(size)
    return (start, end) if 0 <= start <= end else None


RULES = (concat_of_concat, parts_joined, slice_of_concat)
