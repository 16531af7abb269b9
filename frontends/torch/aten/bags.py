"""Rules for what adds up as many numbers as the input says: bags of embeddings, and histograms."""

from __future__ import annotations

import numpy as np

from redir.frontends.torch.call import BOOL, END, INT64, Call, aten
from redir.ir import Value
from redir.ops import tensor_of

_SUM, _MEAN, _MAX = range(3)


@aten("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(
    c: Call,
    weight: Value,
    ids: Value,
    starts: Value,
    _by_frequency: bool = False,
    mode: int = _SUM,
    _sparse: bool = False,
    factors: Value | None = None,
    last_is_end: bool = False,
    padding: int | None = None,
) -> tuple[Value | None, ...]:
    rows = c.op("Gather", weight, ids)
    c.shapes[rows] = (*c.shape(ids), *c.shape(weight)[1:])
    if factors is not None:
        rows = c.like(rows, c.op("Mul", rows, c.unsqueeze(factors, 1)))
    each = _each(c, ids, starts)
    if each and not last_is_end and padding in {None, -1}:
        name = ("ReduceSum", "ReduceMean", "ReduceMax")[mode]
        bags = c.reshape(rows, (c.size(ids, 0) // each, each, c.size(rows, 1)))
        found = c.main(name, bags, c.const([1]), keepdims=0)
    else:
        members = _members(c, ids, starts, last_is_end=last_is_end)
        if padding not in {None, -1}:
            real = c.op("Not", c.op("Equal", ids, c.operand(padding, ids.type.dtype)))
            members = c.like(members, c.op("And", members, real))
        found = _reduced(c, rows, members, mode)
    return (found, *[None] * (len(c.results) - 1))


def _each(c: Call, ids: Value, starts: Value) -> int | None:
    """How many ids each bag has, where that is known and the same."""
    held, (count,) = tensor_of(starts), c.shape(ids)
    if held is None or not isinstance(count, int) or not held.array.size:
        return None
    each = count // held.array.size
    same = np.array_equal(held.array, np.arange(held.array.size) * each)
    return each if same and each * held.array.size == count else None


def _members(c: Call, ids: Value, starts: Value, *, last_is_end: bool) -> Value:
    """Which ids each bag holds: a row of truth values for each bag."""
    starts, count = c.cast(starts, INT64), c.size_of(ids, 0)
    ends = c.op("Slice", starts, c.const([1]), c.const([END]), c.const([0]))
    if last_is_end:
        starts = c.op("Slice", starts, c.const([0]), c.const([-1]), c.const([0]))
    else:
        ends = c.op("Concat", ends, count, axis=0)
    numbers = c.op("Range", c.const(0), c.op("Squeeze", count, c.const([0])), c.const(1))
    behind = c.const([1])
    begun = c.op("GreaterOrEqual", numbers, c.op("Unsqueeze", starts, behind))
    ended = c.op("GreaterOrEqual", numbers, c.op("Unsqueeze", ends, behind))
    members = c.op("And", begun, c.op("Not", ended))
    c.shapes[members] = (c.dims[0], *c.shape(ids))
    return members


def _reduced(c: Call, rows: Value, members: Value, mode: int) -> Value:
    """What the rows of each bag are together; a bag without any is 0."""
    one, inside = c.const([1]), c.unsqueeze(members, 2)
    lowest = -np.inf if mode == _MAX else 0
    parts = c.op("Where", inside, rows, c.const(lowest, c.dtype))
    count = c.op("ReduceSum", c.cast(members, INT64), one)
    if mode == _MAX:
        some = c.op("Greater", count, c.const(0))
        largest = c.op("ReduceMax", parts, one, keepdims=0)
        return c.main("Where", some, largest, c.const(0, c.dtype))
    if mode == _SUM:
        return c.main("ReduceSum", parts, one, keepdims=0)
    total = c.op("ReduceSum", parts, one, keepdims=0)
    return c.main("Div", total, c.cast(c.op("Max", count, one), c.dtype))


@aten("histc")
def _histc(c: Call, x: Value, bins: int = 100, low: float = 0, high: float = 0) -> Value:
    """How many numbers lie between two edges; the last edge belongs to the last bin."""
    edges = _edges(c, x, bins, low, high)
    flat = c.op("Reshape", x, c.const([-1]))
    above = c.op("GreaterOrEqual", flat, c.cut(edges, 0, 0, bins))
    ends = c.cut(edges, 0, 1, bins + 1)
    below = c.op("Less", flat, ends)
    last = c.op("LessOrEqual", flat, c.cut(edges, 0, bins, bins + 1))
    in_last = c.const(np.arange(bins)[:, None] == bins - 1, BOOL)
    inside = c.op("And", above, c.op("Or", below, c.op("And", last, in_last)))
    c.shapes[inside] = (bins, None)
    return c.main("ReduceSum", c.cast(inside, c.dtype), c.const([1]), keepdims=0)


def _edges(c: Call, x: Value, bins: int, low: float, high: float) -> Value:
    """The edges of the bins, as torch counts them from both ends; by default the data's."""
    if low != high:
        start, end = c.const(low, c.dtype), c.const(high, c.dtype)
    else:
        least, most = (c.op(name, x, keepdims=0) for name in ("ReduceMin", "ReduceMax"))
        apart = c.cast(c.op("Equal", least, most), c.dtype)
        start, end = c.op("Sub", least, apart), c.op("Add", most, apart)
    step = c.op("Div", c.op("Sub", end, start), c.const(bins, c.dtype))
    number = np.arange(bins + 1)[:, None]
    first = c.const(number < (bins + 1) // 2, BOOL)
    forward = c.op("Add", start, c.op("Mul", step, c.const(number, c.dtype)))
    backward = c.op("Sub", end, c.op("Mul", step, c.const(bins - number, c.dtype)))
    return c.op("Where", first, forward, backward)
