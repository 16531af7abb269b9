"""Rules for what is looked up or written by index, and for writing to a part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redir.frontends.torch.call import (
    BOOL,
    END,
    INT64,
    RULES,
    Call,
    NotLowered,
    Operand,
    Size,
    aten,
    whole,
)
from redir.ir import Value


@aten("one_hot")
def _one_hot(c: Call, x: Value, count: Size = -1) -> Value:
    if count == -1:
        raise NotLowered
    classes = c.op("Range", c.const(0), c.operand(count, INT64), c.const(1))
    return c.cast(c.op("Equal", c.unsqueeze(x, c.rank(x)), classes), INT64)


@aten("masked_select")
def _masked_select(c: Call, x: Value, mask: Value) -> Value:
    if c.shape(x)[: c.rank(mask)] != c.shape(mask):
        raise NotLowered
    return c.main("GatherND", x, c.op("Transpose", c.op("NonZero", mask), perm=(1, 0)))


@aten("index.Tensor", "_unsafe_index.Tensor")
def _index(c: Call, x: Value, places: Sequence[Value | None]) -> Value:
    named = [(axis, p) for axis, p in enumerate(places) if p is not None]
    (first, index), *more = named
    if index.type.dtype == BOOL:
        if more or first:
            raise NotLowered
        return _masked_select(c, x, index)
    if not more:
        return c.main("Gather", x, c.cast(index, INT64), axis=first)
    return _index_several(c, x, [axis for axis, _ in named], [p for _, p in named])


def _index_several(c: Call, x: Value, axes: list[int], places: list[Value]) -> Value:
    """The axes that are looked up come first, and go back to where they stood if side by side."""
    if any(p.type.dtype == BOOL for p in places):
        raise NotLowered
    rest = [a for a in range(c.rank(x)) if a not in axes]
    found = c.main("GatherND", c.transpose(x, [*axes, *rest]), _together(c, places))
    wide = max(c.rank(p) for p in places)
    before = [a for a in rest if a < axes[0]]
    if axes[-1] - axes[0] >= len(axes) or not before:
        return found
    behind = range(wide + len(before), wide + len(rest))
    return c.op("Transpose", found, perm=(*range(wide, wide + len(before)), *range(wide), *behind))


def _together(c: Call, places: Sequence[Value]) -> Value:
    """Indices of several axes, broadcast to one shape, side by side in a new last axis."""
    wide = [c.cast(p, INT64) for p in places]
    if len({c.shape(p) for p in wide}) > 1:
        total = wide[0]
        for p in wide[1:]:
            total = c.op("Add", total, p)
        shape = c.op("Shape", total)
        wide = [c.op("Expand", p, shape) for p in wide]
    last = c.const([-1])
    return c.op("Concat", *(c.op("Unsqueeze", p, last) for p in wide), axis=-1)


@aten("index_put", "_unsafe_index_put")
def _index_put(
    c: Call, x: Value, places: Sequence[Value | None], new: Value, accumulate: bool = False
) -> Value:
    axes = [axis for axis, p in enumerate(places) if p is not None]
    named = [p for p in places if p is not None]
    if named[0].type.dtype == BOOL:
        if axes != [0] or c.rank(new) or accumulate:
            raise NotLowered
        mask = c.unsqueeze(named[0], *range(c.rank(named[0]), c.rank(x)))
        return c.main("Where", mask, c.cast(new, c.dtype), x)
    if any(p.type.dtype == BOOL for p in named):
        raise NotLowered
    rest = [a for a in range(c.rank(x)) if a not in axes]
    turned, indices = c.transpose(x, [*axes, *rest]), _together(c, named)
    wide = max(c.rank(p) for p in named)
    before = [a for a in rest if a < axes[0]] if axes[-1] - axes[0] < len(axes) else []
    shape = [c.op("Shape", indices, end=-1), c.op("Shape", turned, start=len(axes))]
    if before:
        count = len(axes) + len(before)
        shape = [c.op("Shape", turned, start=len(axes), end=count), shape[0]]
        shape += [c.op("Shape", turned, start=count)]
    new = c.op("Expand", c.cast(new, c.dtype), c.op("Concat", *shape, axis=0))
    if before:
        lead, behind = len(before), range(len(before) + wide, wide + len(rest))
        new = c.op("Transpose", new, perm=(*range(lead, lead + wide), *range(lead), *behind))
    reduction = "add" if accumulate else None
    found = c.main("ScatterND", turned, indices, new, reduction=reduction)
    return c.transpose(c.like(turned, found), [int(i) for i in np.argsort([*axes, *rest])])


@aten("scatter.src")
def _scattered(
    c: Call, x: Value, axis: int, places: Value, new: Value, reduction: str | None = None
) -> Value:
    if c.shape(new) != c.shape(places):
        sizes = [(c.const([0]), c.size_of(places, a), c.const([a])) for a in range(c.rank(places))]
        for start, end, along in sizes:
            new = c.op("Slice", new, start, end, along)
    new = c.cast(new, c.dtype)
    return c.main("ScatterElements", x, places, new, axis=c.axis(x, axis), reduction=reduction)


@aten("scatter.value")
def _scatter_value(c: Call, x: Value, axis: int, places: Value, held: Operand) -> Value:
    new = c.like(places, c.op("Expand", c.operand(held, c.dtype), c.shape_of(places)))
    return _scattered(c, x, axis, places, new)


@aten("scatter_reduce.two")
def _scatter_reduce(
    c: Call, x: Value, axis: int, places: Value, new: Value, reduce: str, include: bool = True
) -> Value:
    known = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}
    if reduce not in known or not include:
        raise NotLowered
    return _scattered(c, x, axis, places, new, known[reduce])


# Writing to a part: what an assignment to a slice becomes


@aten("slice_scatter")
def slice_scatter(
    c: Call,
    x: Value,
    new: Value,
    axis: int = 0,
    start: Size | None = None,
    end: Size | None = None,
    step: int = 1,
) -> Value:
    """``x`` with ``new`` in place of what a slice takes."""
    return written(c, x, new, axis, start or 0, END if end is None else end, step)


@aten("select_scatter")
def select_scatter(c: Call, x: Value, new: Value, axis: int, place: Size) -> Value:
    """``x`` with ``new`` in one place of an axis."""
    axis, place = c.axis(x, axis), whole(place)
    end = place + 1 if place != -1 else END
    return written(c, x, c.unsqueeze(new, axis), axis, place, end)


def written(
    c: Call, x: Value, new: Value, axis: int, start: Size, end: Size, step: int = 1
) -> Value:
    """``x`` with ``new`` in place of what a cut along ``axis`` takes."""
    axis = c.axis(x, axis)
    new, size = c.cast(new, x.type.dtype), c.shape(x)[axis]
    if step != 1:
        return c.like(x, _interleaved(c, x, new, axis, (start, end, step)))
    parts = [new]
    if start != 0:
        parts.insert(0, c.cut(x, axis, 0, start))
    if end != END and not (isinstance(size, int) and isinstance(end, int) and end >= size):
        parts.append(c.cut(x, axis, end, END))
    return c.like(x, c.op("Concat", *parts, axis=axis) if len(parts) > 1 else new)


def _interleaved(c: Call, x: Value, new: Value, axis: int, cut: tuple[Size, Size, int]) -> Value:
    size = c.size(x, axis)
    places = np.arange(size)
    taken = places[slice(*map(whole, cut))]
    places[taken] = size + np.arange(taken.size)
    return c.op("Gather", c.op("Concat", x, new, axis=axis), c.const(places), axis=axis)


RULES |= {
    "embedding": lambda c, weight, ids, *_: c.main("Gather", weight, ids),
    "gather": lambda c, x, axis, places, *_: c.main(
        "GatherElements", x, places, axis=c.axis(x, axis)
    ),
    "index_select": lambda c, x, axis, places: c.main("Gather", x, places, axis=c.axis(x, axis)),
    "nonzero": lambda c, x: c.main("Transpose", c.op("NonZero", x), perm=(1, 0)),
    "scatter_add": lambda c, x, axis, places, new: _scattered(c, x, axis, places, new, "add"),
}
