"""Where channels of two layers meet in heads: scores of queries and keys, and weighed values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from redir.channels.coupling import Coupling
from redir.cost import Sizes
from redir.ir import Node, Port, Value, width
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear, whole
from redir.ops import is_absent, tensor_of
from redir.passes.factorize.following import LARGE, End, ends, followed, lined, tied, varies


@dataclass(frozen=True, eq=False)
class Operand:
    """What a node reads: which columns of ``value`` are channels, if ``axes`` are made one.

    ``columns`` (heads, size) stand as the channels of ``Heads``.
    """

    value: Value
    axes: tuple[int, ...]
    columns: Array


@dataclass(frozen=True, eq=False)
class Heads:
    """Channels of two layers that meet, each head's in any basis, as long as both have it.

    ``left`` and ``right`` (heads, size) are channels of ``first`` and of ``second``; those at one
    place meet. They are results of both, products of which are summed over each head: scores. Or,
    if the second layer ``reads`` them, results of the first and inputs of the second, which have
    been weighed in between: values. Heads that have a channel in common have all, on one side.
    ``node`` multiplies what meets.

    Queries and keys that are turned by their place, or of which each has a factor, are in a basis:
    only ``each`` so many of them, side by side here, may all be multiplied by one number, and that
    they meet is seen at the ``operands`` of the node. The nodes ``aside`` have what turns them.
    Heads of layers that read the same weights are ``also`` to stay like these.
    """

    first: Linear
    second: Linear
    left: Array
    right: Array
    reads: bool
    node: Node
    each: int = 1
    operands: tuple[Operand, Operand] | None = None
    aside: Sequence[Node] = ()
    also: Sequence[Heads] = ()


def heads(sizes: Sizes, layers: Sequence[Linear]) -> list[Heads]:
    """The heads in which results of ``layers`` meet, if nothing else reads these.

    Axes are followed at ``sizes``.
    """
    found = [end for layer in layers for end in ends(sizes, whole(sizes.graph, layer))]
    return [*_scores(sizes, found), *_values(sizes, found, {layer.node for layer in layers})]


def products(sizes: Sizes, layers: Sequence[Linear]) -> Mapping[Node, int]:
    """The nodes that sum products over channels of layers, none of which is a constant.

    Each is given with how many of the two are results of ``layers`` as heads could be of.
    """
    found = [end for layer in layers for end in ends(sizes, whole(sizes.graph, layer))]
    read, coupling = {(end.node, end.value) for end in found}, sizes.graph.analysis(Coupling)
    made = coupling.groups_of([layer.y_port for layer in layers])
    sums = ((node, k) for node, k in coupling.contracted if k.a[0] is not k.b[0])
    ours = {n: (k.a, k.b) for n, k in sums if not made.isdisjoint(coupling.groups_of((k.a, k.b)))}
    return {node: sum((node, v) in read for v, _ in pair) for node, pair in ours.items()}


def _multiplies(node: Node, value: Value) -> bool:
    """Whether a node multiplies a value by others, and adds nothing."""
    terms = node.op.terms(node)
    return node.has("linear") and len(terms) == 1 and node.inputs.index(value) in terms[0]


def _weighs(node: Node, value: Value) -> bool:
    """Whether a node multiplies a value by what flows too, as pooling and resizing do not."""
    others = (v for v in node.inputs if v is not value and not is_absent(v))
    return _multiplies(node, value) and any(tensor_of(v) is None for v in others)


def _scores(sizes: Sizes, ends: Sequence[End]) -> Iterator[Heads]:
    """Results of two layers, of which a node sums products."""
    once = [end for end in ends if end.once]
    for first in once:
        for second in (e for e in once if e.node is first.node and e is not first):
            axes = _summed(first, second)
            if axes is None:
                continue
            assert first.node is not None
            parts = _beside(first.node, (first.value, axes[0]), (second.value, axes[1]))
            rows = [
                _rows(sizes, end, a, parts) for end, a in zip((first, second), axes, strict=True)
            ]
            if first.free and second.free:
                yield from _met(first.layer, second.layer, rows, (first, second), ends)
            else:
                yield from _in_basis(sizes, (first, second), axes, rows, ends)


def _in_basis(
    sizes: Sizes,
    used: tuple[End, End],
    axes: tuple[int, int],
    rows: Sequence[Array | None],
    ends: Sequence[End],
) -> Iterator[Heads]:
    """Scores of channels that go with those that have the same number."""
    assert used[0].node is not None
    pairs = list(zip(used, axes, strict=True))
    parts = _beside(used[0].node, *((end.value, axis) for end, axis in pairs))
    columns = [_columns(sizes, end, axis, parts) for end, axis in pairs]
    places = [each.columns for each in columns if each is not None]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or len(places) < len(columns):
        return
    arrays = np.broadcast_arrays(*known, *places)
    flat = [array.reshape(-1, array.shape[-1]) for array in arrays]
    order = np.argsort(flat[0], 1, kind="stable")
    left, right, *places = (np.take_along_axis(each, order, 1) for each in flat)
    each = _each(left, used[0].alike)
    if each and each == _each(right, used[1].alike):
        met = [_members(r, e.alike, each) for r, e in zip((left, right), used, strict=True)]
        operands = [replace(c, columns=p) for c, p in zip(columns, places, strict=True) if c]
        aside = [node for end in used for node in end.aside]
        for found in _met(used[0].layer, used[1].layer, met, used, ends):
            yield replace(found, each=each, operands=(operands[0], operands[1]), aside=aside)


def _each(numbers: Array, alike: Array) -> int:
    """How many channels have one number, if it is the same of all, and they stand side by side."""
    count = int((numbers[0] == numbers[0, 0]).sum())
    if numbers.shape[1] % count or (np.bincount(alike)[numbers] != count).any():
        return 0
    parts = numbers.reshape(len(numbers), -1, count)
    apart = all(_distinct(row) for row in parts[:, :, 0])
    return count if apart and (parts == parts[:, :, :1]).all() else 0


def _members(numbers: Array, alike: Array, each: int) -> Array:
    """The channels that have the numbers."""
    order = np.argsort(alike, kind="stable")
    starts = np.searchsorted(alike[order], numbers[:, ::each])
    found: Array = order[starts[:, :, None] + np.arange(each)].reshape(numbers.shape)
    return found


def _columns(sizes: Sizes, end: End, axis: int, parts: Array | None) -> Operand | None:
    """Where the channels of each head stand."""
    axes = [a for a in range(end.numbers.ndim) if a != axis and varies(end.numbers, a)] + [axis]
    shape = [end.numbers.shape[a] for a in axes]
    places = np.arange(prod(shape)).reshape(shape).transpose(np.argsort(axes))
    others = [a for a in range(end.numbers.ndim) if a not in axes]
    spread = np.broadcast_to(np.expand_dims(places, others), end.numbers.shape)
    found = _rows(sizes, replace(end, numbers=spread), axis, parts)
    return None if found is None else Operand(end.value, tuple(axes), found)


def _summed(first: End, second: End) -> tuple[int, int] | None:
    """The axes of two operands of a node along which it sums up products of the same channels."""
    assert first.node is not None
    sums = (k for k in first.node.op.links(first.node) if k.kind == "summed")
    same = ((k.a, k.b) for k in sums if np.array_equal(k.index, np.arange(width(k.b))))
    found = ((a, b) for a, b in same if a[0] is first.value and b[0] is second.value)
    return next(((a[1], b[1]) for a, b in found), None)


def _beside(node: Node, *ports: Port) -> Array | None:
    """Of heads side by side along an axis of a node, which channel of its own each is."""
    links = (k for k in node.op.links(node) if k.kind == "together" and k.a in ports)
    return next((k.index for k in links if not _distinct(k.index)), None)


def _rows(sizes: Sizes, end: End, axis: int, parts: Array | None) -> Array | None:
    """The channels of each head, which lie along axes of their own, or side by side in parts."""
    if parts is None:
        return _apart(sizes, end, axis)
    lines = np.moveaxis(end.numbers, axis, -1).reshape(-1, end.numbers.shape[axis])
    order = _by_head(parts)
    alike = lines.shape[1] == parts.size and (lines == lines[0]).all()
    return lines[0][order].astype(np.int64) if alike and order is not None else None


def _by_head(parts: Array) -> Array | None:
    """Where the channels of each head stand that are side by side: (heads, channels)."""
    counts = np.bincount(parts)
    order = np.argsort(parts, kind="stable")
    return order.reshape(counts.size, -1).T if len(set(counts.tolist())) == 1 else None


def _values(sizes: Sizes, ends: Sequence[End], layers: set[Node]) -> Iterator[Heads]:
    """Results of a layer that are weighed, alike in each head, before another layer reads them."""
    for end in (e for e in ends if e.free and e.once and e.node and _weighs(e.node, e.value)):
        assert end.node is not None
        axes, y = _kept_apart(sizes, end), end.node.outputs[0]
        parts = None if axes is None else _beside(end.node, (y, axes[1]))
        left = None if axes is None else _rows(sizes, end, axes[0], parts)
        shape = sizes.type(y).static
        if axes is None or left is None or shape is None or prod(shape) >= LARGE:
            continue
        count, size = prod(left.shape[:-1]), left.shape[-1]
        order = None if parts is None else _by_head(parts)
        if order is None:
            codes = np.arange(count).reshape(left.shape[:-1]) * size
            codes = codes + lined(np.arange(size), axes[1] - len(shape))
        else:
            codes = lined(np.argsort(order, None), axes[1] - len(shape))
        way = followed(sizes, y, np.broadcast_to(codes, shape))
        (node, value, held), *more = way.found
        second = linear(node) if not more and node is not None and node in layers else ""
        if isinstance(second, Linear) and second.x is value and held.free:
            second = whole(sizes.graph, second)
            right = _read(second, held.numbers, count * size)
            right = None if right is None else right.reshape(*left.shape)
            yield from _met(end.layer, second, (left, right), (end,), ends)


def _kept_apart(sizes: Sizes, end: End) -> tuple[int, int] | None:
    """The last axis of an operand, and of the result, of which channels are multiplied alike."""
    assert end.node is not None
    place, twin = end.node.inputs.index(end.value), sizes.node(end.node)
    x, y = twin.inputs[place], twin.outputs[0]
    links = twin.op.links(twin)
    apart = (k for k in links if k.kind != "together")
    many = Counter(axis for link in apart for value, axis in (link.a, link.b) if value is y)
    straight = ((a, b) for a, b, index in tied(twin, x) if np.all(np.diff(index) == 1))
    return max(((a, b) for a, b in straight if many[b] == 1), default=None)


def _apart(sizes: Sizes, end: End, axis: int) -> Array | None:
    """The channels of each head: (1 or the size of each axis of the result, channels).

    Heads lie along the axes on which the channels depend, but ``axis``.
    """
    assert end.node is not None
    twin = sizes.node(end.node)
    lies = {a: (b, i) for a, b, i in tied(twin, twin.inputs[end.node.inputs.index(end.value)])}
    held, shape = np.moveaxis(end.numbers, axis, -1), [1] * (twin.outputs[0].rank or 0)
    others = [a for a in range(end.numbers.ndim) if a != axis]
    varying = [a for place, a in enumerate(others) if varies(held, place)]
    if not lies.keys() >= set(varying):
        return None
    held = held[tuple(slice(None) if a in varying else 0 for a in others)].astype(np.int64)
    for place, a in enumerate(varying):
        held = held.take(lies[a][1], place)
        shape[lies[a][0]] = held.shape[place]
    order = np.argsort([lies[a][0] for a in varying])
    return held.transpose(*order, len(order)).reshape(*shape, -1)


def _read(layer: Linear, numbers: Array, count: int) -> Array | None:
    """The input of a layer at which each of ``count`` numbers stands, if each does at one."""
    lined = np.moveaxis(numbers, layer.x_axis, -1).reshape(-1, layer.channels).astype(np.int64)
    same = np.array_equal(np.sort(lined[0]), np.arange(count)) and (lined == lined[0]).all()
    return np.argsort(lined[0]) if same else None


def _met(
    first: Linear,
    second: Linear,
    rows: Sequence[Array | None],
    used: Sequence[End],
    ends: Sequence[End],
) -> Iterator[Heads]:
    """The heads in which channels meet, if nothing but those ``used`` reads them."""
    known = [row for row in rows if row is not None]
    if len(known) < len(rows):
        return
    left, right = (a.reshape(-1, a.shape[-1]) for a in np.broadcast_arrays(*known))
    results = [(first, left)] if len(used) == 1 else [(first, left), (second, right)]
    others = [end for end in ends if end not in used]
    free = not any(end.has(*each) for end in others for each in results)
    apart = first.node is not second.node or not np.isin(left, right).any()
    fits = (_distinct(left) and _whole(right)) or (_distinct(right) and _whole(left))
    if free and apart and fits:
        assert used[0].node is not None
        yield Heads(first, second, left, right, reads=len(used) == 1, node=used[0].node)


def _distinct(channels: Array) -> bool:
    """Whether no channel is there twice."""
    return len(np.unique(channels)) == channels.size


def _whole(channels: Array) -> bool:
    """Whether heads that have a channel in common have all, in the same order."""
    return _distinct(np.unique(channels, axis=0))
