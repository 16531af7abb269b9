"""Slice: the channels that it takes, and how it follows a narrower operand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from redir.ir import Kept, Link, Node, Value
from redir.ir.builtin import constant, is_absent, tensor_of
from redir.ir.tensor import Array, Dim, TensorType, Type
from redir.ops import schema, symbols
from redir.ops.layout import like
from redir.ops.links import same_axes
from redir.ops.sizes import of

_END = 2**31 - 1  # of any axis


@dataclass(frozen=True)
class Cut:
    """What a Slice takes: starts, ends and steps, each for one of the axes."""

    axes: list[int]
    starts: list[int]
    ends: list[int]
    steps: list[int]

    @property
    def runs(self) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """Each axis with its start, end and step."""
        each = zip(self.starts, self.ends, self.steps, strict=True)
        return zip(self.axes, each, strict=True)


def infer(node: Node) -> Sequence[Type]:
    """The result's type, where an axis that is not cut has the size that it had."""
    (found,), axes, shape = schema.infer(node), _axes_of(node), node.inputs[0].type.shape
    if cut_of(node) is not None or axes is None or shape is None:
        return [found]
    ends = _ends(node)
    dims = enumerate(shape)
    left = tuple(_left(d, ends.get(axis)) if axis in axes else d for axis, d in dims)
    return [TensorType(found.dtype, left)]


def _ends(node: Node) -> dict[int, Dim]:
    """The ends that are told for the axes that are cut from their start on, in single steps."""
    told = [None if is_absent(v) else of(v) for v in node.inputs[1:]]
    if any(t is None for t in told[:3]):
        return {}
    starts, ends, axes, *steps = ([] if t is None else [s.dim for s in t.flat] for t in told)
    one = [1] * len(axes) if not any(steps) else steps[0]
    runs = zip(axes, starts, ends, one, strict=True)
    rank = node.inputs[0].rank or 1
    return {
        int(axis or 0) % rank: end for axis, start, end, step in runs if (start, step) == (0, 1)
    }


def _left(size: Dim, end: Dim) -> Dim:
    """The size of an axis that is cut at an open end."""
    if isinstance(size, str) or not isinstance(end, str):
        return size if size == end else None
    return symbols.least(size, end) if size else None


def cut_of(node: Node) -> Cut | None:
    """The literals of a Slice, if they are constant."""
    rank = node.inputs[0].rank
    if rank is None:
        return None
    if "starts" in node.attrs:
        starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
        axes = node.attrs.get("axes", range(len(starts)))
        return Cut([a % rank for a in axes], starts, ends, [1] * len(starts))
    given = [None if is_absent(v) else tensor_of(v) for v in node.inputs[1:]]
    if any(t is None and not is_absent(v) for t, v in zip(given, node.inputs[1:], strict=True)):
        return None
    starts, ends, *rest = ([] if t is None else t.array.tolist() for t in given)
    axes = (rest and rest[0]) or list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 and rest[1] else [1] * len(starts)
    return Cut([a % rank for a in axes], starts, ends, steps)


def _axes_of(node: Node) -> set[int] | None:
    """The axes that a Slice cuts, which may be known where values say from where to where."""
    cut, rank = cut_of(node), node.inputs[0].rank
    if cut is not None or rank is None or len(node.inputs) < 4:  # noqa: PLR2004 - axes are given
        return None if cut is None else set(cut.axes)
    axes = tensor_of(node.inputs[3])
    return None if axes is None else {int(axis) % rank for axis in axes.array.reshape(-1)}


def takes_all(node: Node) -> bool:
    """Whether a Slice surely takes the whole of its operand, in order."""
    cut, x = cut_of(node), node.inputs[0]
    return cut is not None and all(
        step == 1
        and (start == 0 or start <= -(x.type.size(axis) or _END))
        and end >= (x.type.size(axis) or _END)
        for axis, (start, end, step) in cut.runs
    )


def slice_(node: Node) -> Iterator[Link]:
    """The channels from a constant start to a constant end; axes that are not cut stay."""
    x, y, cut, axes = node.inputs[0], node.outputs[0], cut_of(node), _axes_of(node)
    if axes is None or x.rank is None or y.rank != x.rank:
        return
    yield from same_axes(x, y, (a for a in range(x.rank) if a not in axes))
    for axis, (start, end, step) in () if cut is None else cut.runs:
        size = x.type.size(axis)
        if size is not None:
            taken = np.arange(size)[start:end:step]
            if taken.size == y.type.size(axis) and taken.size:
                yield Link((y, axis), (x, axis), taken)


def narrow_slice(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Cut where the channels that are left are now; gather those that stand unevenly."""
    from redir import ops  # noqa: PLC0415 - which imports this module

    cut = cut_of(node)
    if cut is None:
        return node.on(inputs)
    axes = [axis for axis in cut.axes if (node.inputs[0], axis) in kept]
    places = {axis: _met(node, cut, axis, kept) for axis in axes}
    uneven = {axis: met for axis, met in places.items() if run_of(met) is None}
    runs = {axis: run_of(met) or (0, _END, 1) for axis, met in places.items()}
    found = _recut(node, inputs, cut, runs)
    gather_ = ops.lookup("Gather", node.op.version)
    assert gather_ is not None
    for axis, met in uneven.items():
        indices = constant(met)
        found = Node(gather_, (found.outputs[0], indices), {"axis": axis}, source=node.source)
    return found


def _met(node: Node, cut: Cut, axis: int, kept: Kept) -> Array:
    """The places that the channels which are left of a result have in the operand now."""
    x, y, place = node.inputs[0], node.outputs[0], cut.axes.index(axis)
    start, end, step = cut.starts[place], cut.ends[place], cut.steps[place]
    taken, before = np.arange(x.type.size(axis) or 0)[start:end:step], kept[x, axis]
    left = kept.get((y, axis), np.arange(taken.size))
    if step == 1:
        return int((before < taken[0]).sum()) + np.arange(left.size)
    return np.searchsorted(before, taken[left])


def run_of(places: Array) -> tuple[int, int, int] | None:
    """The start, end and step of a cut that takes ``places``, if they stand evenly."""
    first = int(places[0])
    step = int(places[1]) - first if places.size > 1 else 1
    end = first + step * places.size
    even = step != 0 and bool(np.all(np.diff(places) == step))
    return (first, end if end >= 0 else -_END, step) if even else None


def _recut(
    node: Node, inputs: tuple[Value, ...], cut: Cut, runs: dict[int, tuple[int, int, int]]
) -> Node:
    """The Slice ``node`` with other starts, ends and steps for some of its axes."""
    new = [runs.get(axis, run) for axis, run in cut.runs]
    starts, ends, steps = (list(numbers) for numbers in zip(*new, strict=True))
    if "starts" in node.attrs:
        return node.on(inputs, starts=tuple(starts), ends=tuple(ends))
    given = list(inputs)
    for place, numbers, before in (
        (1, starts, cut.starts),
        (2, ends, cut.ends),
        (4, steps, cut.steps),
    ):
        if numbers != before:
            given[place] = like(node.inputs[place], numbers)
    return node.on(given)


def joined(inner: Node, first: Cut, second: Cut) -> Cut | None:
    """What is left where ``second`` cuts what ``first`` left; None where a size is not known."""
    runs = dict(first.runs)
    for axis, (start, end, step) in second.runs:
        if axis not in runs:
            runs[axis] = start, end, step
            continue
        size = inner.inputs[0].type.size(axis)
        places = np.arange(size or 0)[slice(*runs[axis])][start:end:step]
        run = run_of(places) if places.size else None
        if run is None:
            return None
        runs[axis] = run
    columns = (list(numbers) for numbers in zip(*runs.values(), strict=True))
    return Cut(list(runs), *columns)


def cutting(node: Node, x: Value, cut: Cut) -> Value:
    """The Slice ``node`` of ``x``, taking another part."""
    if "starts" in node.attrs:
        attrs = {"axes": tuple(cut.axes), "starts": tuple(cut.starts), "ends": tuple(cut.ends)}
        return node.on((x,), **attrs).outputs[0]
    steps = [cut.steps] if set(cut.steps) != {1} else []
    parts = (np.array(part, np.int64) for part in (cut.starts, cut.ends, cut.axes, *steps))
    return node.on((x, *map(constant, parts))).outputs[0]
