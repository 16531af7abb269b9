"""Where channels of two layers meet in heads: scores of queries and keys, and weighed values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from redir import ops
from redir.cost import Sizes
from redir.errors import RedirError
from redir.ir import Node, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear, whole
from redir.ops import is_absent, tensor_of

_LARGE = 2**24  # numbers of a result whose channels are followed


@dataclass(frozen=True, eq=False)
class Heads:
    """Channels of two layers that meet, each head's in any basis, as long as both have it.

    ``left`` and ``right`` (heads, size) are channels of ``first`` and of ``second``; those at one
    place meet. They are results of both, products of which are summed over each head: scores. Or,
    if the second layer ``reads`` them, results of the first and inputs of the second, which have
    been weighed in between: values. Heads that have a channel in common have all, on one side.
    """

    first: Linear
    second: Linear
    left: Array
    right: Array
    reads: bool


@dataclass(frozen=True, eq=False)
class _End:
    """What reads channels of a layer, moved: ``numbers`` says which stands where in ``value``.

    There is no ``node`` where the graph gives them out.
    """

    layer: Linear
    node: Node | None
    value: Value
    numbers: Array

    @property
    def once(self) -> bool:
        """Whether a node reads the value, and as one operand alone."""
        return self.node is not None and self.node.inputs.count(self.value) == 1

    def has(self, layer: Linear, channels: Array) -> bool:
        """Whether it reads any of some results of a layer."""
        return self.layer.node is layer.node and bool(np.isin(channels, self.numbers).any())


def heads(sizes: Sizes, layers: Sequence[Linear]) -> list[Heads]:
    """The heads in which results of ``layers`` meet, if nothing else reads these.

    Axes are followed at ``sizes``.
    """
    ends = [end for layer in layers for end in _ends(sizes, whole(sizes.graph, layer))]
    return [*_scores(sizes, ends), *_values(sizes, ends, {layer.node for layer in layers})]


def _ends(sizes: Sizes, layer: Linear) -> Iterator[_End]:
    shape = sizes.type(layer.y).static
    if shape is not None and prod(shape) < _LARGE:
        numbers = np.broadcast_to(_lined(np.arange(layer.outputs), layer.y_axis), shape)
        for node, value, held in _followed(sizes, layer.y, numbers):
            yield _End(layer, node, value, held)


def _lined(numbers: Array, axis: int) -> Array:
    """Numbers along an axis, counted from the end."""
    return numbers.reshape(-1, *[1] * (-1 - axis))


def _followed(
    sizes: Sizes, start: Value, numbers: Array
) -> Iterator[tuple[Node | None, Value, Array]]:
    """What reads a value, where others have moved it, each with the numbers that it finds there."""
    graph, flowing = sizes.graph, [(start, numbers)]
    for value, held in flowing:
        for node in graph.readers.get(value, ()):
            moved = _moved(sizes, node, value, held)
            flowing += zip(node.outputs, moved, strict=False)
            if not moved and node.op != ops.Shape:
                yield node, value, held
        if value in graph.outputs.values():
            yield None, value, held


def _moved(sizes: Sizes, node: Node, value: Value, held: Array) -> Sequence[Array]:
    """The numbers in the results of a node that moves them, or multiplies all by one number."""
    if node.inputs.count(value) > 1:
        return ()
    others = [v for v in node.inputs if v is not value]
    if node.has("elementwise") and _multiplies(node, value):
        single = all(v.type.static is not None and prod(v.type.static) == 1 for v in others)
        return [held] if single and held.shape == sizes.type(node.outputs[0]).static else ()
    if not node.has("moves_data") or list(node.op.terms(node)) != [(0,)]:
        return ()
    tensors = [tensor_of(v) for v in sizes.node(node).inputs[1:]]
    if value is not node.inputs[0] or any(tensor is None for tensor in tensors):
        return ()
    try:
        return compute(sizes.node(node), [held, *(t.array for t in tensors if t is not None)])
    except RedirError:
        return ()


def _multiplies(node: Node, value: Value) -> bool:
    """Whether a node multiplies a value by others, and adds nothing."""
    terms = node.op.terms(node)
    return node.has("linear") and len(terms) == 1 and node.inputs.index(value) in terms[0]


def _weighs(node: Node, value: Value) -> bool:
    """Whether a node multiplies a value by what flows too, as pooling and resizing do not."""
    others = (v for v in node.inputs if v is not value and not is_absent(v))
    return _multiplies(node, value) and any(tensor_of(v) is None for v in others)


def _scores(sizes: Sizes, ends: Sequence[_End]) -> Iterator[Heads]:
    """Results of two layers, of which a node sums products."""
    once = [end for end in ends if end.once]
    for first in once:
        for second in (e for e in once if e.node is first.node and e is not first):
            axes = _summed(first, second)
            if axes is not None:
                left, right = _apart(sizes, first, axes[0]), _apart(sizes, second, axes[1])
                yield from _met(first.layer, second.layer, left, right, (first, second), ends)


def _summed(first: _End, second: _End) -> tuple[int, int] | None:
    """The axes of two operands of a node along which it sums up their products.

    Not those along which it sums up those of each part by themselves, as of heads side by side.
    """
    assert first.node is not None
    links = list(first.node.op.links(first.node))
    parts = {k.a for k in links if k.kind == "together" and not _distinct(k.index)}
    summed = ((k.a, k.b) for k in links if k.kind == "summed" and parts.isdisjoint((k.a, k.b)))
    found = ((a, b) for a, b in summed if a[0] is first.value and b[0] is second.value)
    return next(((a[1], b[1]) for a, b in found), None)


def _values(sizes: Sizes, ends: Sequence[_End], layers: set[Node]) -> Iterator[Heads]:
    """Results of a layer that are weighed, alike in each head, before another layer reads them."""
    for end in (e for e in ends if e.once and e.node and _weighs(e.node, e.value)):
        assert end.node is not None
        axes = _kept_apart(sizes, end)
        left = None if axes is None else _apart(sizes, end, axes[0])
        shape = sizes.type(end.node.outputs[0]).static
        if axes is None or left is None or shape is None or prod(shape) >= _LARGE:
            continue
        count, size = prod(left.shape[:-1]), left.shape[-1]
        places = _lined(np.arange(size), axes[1] - len(shape))
        codes = np.arange(count).reshape(left.shape[:-1]) * size + places
        readers = list(_followed(sizes, end.node.outputs[0], np.broadcast_to(codes, shape)))
        second = linear(readers[0][0]) if len(readers) == 1 and readers[0][0] in layers else ""
        if isinstance(second, Linear) and second.x is readers[0][1]:
            second = whole(sizes.graph, second)
            right = _read(second, readers[0][2], count * size)
            right = None if right is None else right.reshape(*left.shape)
            yield from _met(end.layer, second, left, right, (end,), ends)


def _kept_apart(sizes: Sizes, end: _End) -> tuple[int, int] | None:
    """The last axis of an operand, and of the result, of which channels are multiplied alike."""
    assert end.node is not None
    place, twin = end.node.inputs.index(end.value), sizes.node(end.node)
    x, y = twin.inputs[place], twin.outputs[0]
    links = twin.op.links(twin)
    many = Counter(axis for link in links for value, axis in (link.a, link.b) if value is y)
    straight = ((a, b) for a, b, index in _tied(twin, x) if np.all(np.diff(index) == 1))
    return max(((a, b) for a, b in straight if many[b] == 1), default=None)


def _tied(node: Node, x: Value) -> Iterator[tuple[int, int, Array]]:
    """Axes of an operand and of the result, and which channel of the one each of the other has.

    Not those of the result on which there is more, as there is where it is padded.
    """
    y = node.outputs[0]
    for link in (k for k in node.op.links(node) if k.kind == "same"):
        if link.a[0] is y and link.b[0] is x:
            yield link.b[1], link.a[1], link.index
        elif link.a[0] is x and link.b[0] is y and len(link.index) == y.type.size(link.b[1]):
            yield link.a[1], link.b[1], np.argsort(link.index)


def _apart(sizes: Sizes, end: _End, axis: int) -> Array | None:
    """The channels of each head: (1 or the size of each axis of the result, channels).

    Heads lie along the axes on which the channels depend, but ``axis``.
    """
    assert end.node is not None
    twin = sizes.node(end.node)
    tied = {a: (b, i) for a, b, i in _tied(twin, twin.inputs[end.node.inputs.index(end.value)])}
    held, shape = np.moveaxis(end.numbers, axis, -1), [1] * (twin.outputs[0].rank or 0)
    others = [a for a in range(end.numbers.ndim) if a != axis]
    varying = [a for place, a in enumerate(others) if _varies(held, place)]
    if not tied.keys() >= set(varying):
        return None
    held = held[tuple(slice(None) if a in varying else 0 for a in others)].astype(np.int64)
    for place, a in enumerate(varying):
        held = held.take(tied[a][1], place)
        shape[tied[a][0]] = held.shape[place]
    order = np.argsort([tied[a][0] for a in varying])
    return held.transpose(*order, len(order)).reshape(*shape, -1)


def _varies(numbers: Array, axis: int) -> bool:
    return bool((numbers != numbers.take([0], axis)).any())


def _read(layer: Linear, numbers: Array, count: int) -> Array | None:
    """The input of a layer at which each of ``count`` numbers stands, if each does at one."""
    lined = np.moveaxis(numbers, layer.x_axis, -1).reshape(-1, layer.channels).astype(np.int64)
    same = np.array_equal(np.sort(lined[0]), np.arange(count)) and (lined == lined[0]).all()
    return np.argsort(lined[0]) if same else None


def _met(
    first: Linear,
    second: Linear,
    left: Array | None,
    right: Array | None,
    used: Sequence[_End],
    ends: Sequence[_End],
) -> Iterator[Heads]:
    """The heads in which channels meet, if nothing but those ``used`` reads them."""
    if left is None or right is None:
        return
    left, right = (a.reshape(-1, a.shape[-1]) for a in np.broadcast_arrays(left, right))
    results = [(first, left)] if len(used) == 1 else [(first, left), (second, right)]
    others = [end for end in ends if end not in used]
    free = not any(end.has(*each) for end in others for each in results)
    apart = first.node is not second.node or not np.isin(left, right).any()
    fits = (_distinct(left) and _whole(right)) or (_distinct(right) and _whole(left))
    if free and apart and fits:
        yield Heads(first, second, left, right, reads=len(used) == 1)


def _distinct(channels: Array) -> bool:
    """Whether no channel is there twice."""
    return len(np.unique(channels)) == channels.size


def _whole(channels: Array) -> bool:
    """Whether heads that have a channel in common have all, in the same order."""
    return _distinct(np.unique(channels, axis=0))
