"""Operators that mix the channels of some axes, and leave the others as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from math import sqrt
from typing import TypeAlias

import numpy as np

from redir.ir import Kept, Link, Node, Port, Value
from redir.ir.builtin import constant, is_absent, tensor_of
from redir.ir.tensor import Type
from redir.ops import schema
from redir.ops.links import aligned, along, contracted, has_vectors, remaining, same_axes


def as_first(node: Node) -> Sequence[Type]:
    """The type of the first operand, which onnx's own inference leaves open."""
    schema.infer(node)  # for its check of the operands
    return [node.inputs[0].type]


Axes: TypeAlias = "Callable[[Node], Collection[int] | None]"


def one_axis(default: int) -> Axes:
    """The axis that an attribute names."""
    return lambda node: (int(node.attrs.get("axis", default)),)


def named_axis(node: Node) -> Collection[int] | None:
    """The axis that an attribute names, if it does: else all are meant."""
    return (int(node.attrs["axis"]),) if "axis" in node.attrs else None


def given_axis(node: Node) -> Collection[int] | None:
    """The axis that the second operand holds, if it is constant."""
    axis = tensor_of(node.inputs[1])
    return None if axis is None else (int(axis.array.reshape(-1)[0]),)


def named_axes(default: Sequence[int] | None = None) -> Axes:
    """The axes that an attribute names, if it does or there is a default."""
    return lambda node: node.attrs.get("axes", default)


def sequence_axes(node: Node) -> Collection[int]:
    """The steps and the examples of a ReverseSequence."""
    return node.attrs.get("batch_axis", 1), node.attrs.get("time_axis", 0)


def all_but(axes: Axes) -> Callable[[Node], Iterator[Link]]:
    """Ties of the first operand to each result, for all axes but those that are mixed."""

    def links(node: Node) -> Iterator[Link]:
        x, mixed = node.inputs[0], axes(node)
        if not x.rank or mixed is None or any(not -x.rank <= a < x.rank for a in mixed):
            return
        left = set(range(x.rank)) - {a % x.rank for a in mixed}
        for y in node.outputs:
            yield from same_axes(x, y, left)

    return links


def arg(node: Node) -> Iterator[Link]:
    """The axes along which an ArgMax or ArgMin does not search."""
    x, y = node.inputs[0], node.outputs[0]
    if x.rank:
        axis = int(node.attrs.get("axis", 0)) % x.rank
        yield from remaining(x, y, {axis}, keep=bool(node.attrs.get("keepdims", 1)))


def layer_norm(node: Node) -> Iterator[Link]:
    """The axes before those that are normalised, along which there is one scale for all."""
    x, *scales = node.inputs
    if not x.rank:
        return
    axis = int(node.attrs.get("axis", -1)) % x.rank
    if all(is_absent(v) or (v.rank is not None and v.rank <= x.rank - axis) for v in scales):
        for y in node.outputs:
            yield from same_axes(x, y, range(axis))


def rms_norm(node: Node) -> Iterator[Link]:
    """As LayerNormalization; and zeros add nothing to a mean of squares along the last axis."""
    yield from layer_norm(node)
    x, scale = node.inputs
    (y,) = node.outputs
    last = (x.rank or 0) - 1
    along_last = last >= 0 and node.attrs.get("axis", -1) in {-1, last}
    if along_last and tensor_of(scale) is not None and scale.rank in {0, 1}:
        yield from aligned((x, scale), y, last)
        yield from contracted(x, last, x, last)


def narrow_rms_norm(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Divide by the root of a mean over so many channels as there were."""
    return narrow_mean_square(node, inputs, kept, 1, _EPSILON)


def narrow_mean_square(
    node: Node, inputs: tuple[Value, ...], kept: Kept, place: int, usual: float
) -> Node:
    """A norm by the mean of squares that has its scale at ``place``, and by default ``usual``.

    x / sqrt(sum / C + e) is sqrt(C / n) x / sqrt(sum / n + e C / n).
    """
    x, scale = node.inputs[0], tensor_of(inputs[place])
    left = kept.get((x, (x.rank or 0) - 1))
    if left is None or scale is None:
        return node.on(inputs)
    more = (x.type.size(-1) or 0) / len(left)
    epsilon = float(node.attrs.get("epsilon", usual)) * more
    grown = constant((scale.array * np.float64(sqrt(more))).astype(scale.type.dtype), inputs[place])
    return node.on((*inputs[:place], grown, *inputs[place + 1 :]), epsilon=epsilon)


_EPSILON = 1e-5  # of an RMSNormalization that states none
_PER_CHANNEL = 21  # the version of GroupNormalization that scales each channel, not each group


def group_norm_type(node: Node) -> Sequence[Type]:
    """The type of the first operand; onnx's own inference refuses the older version."""
    if node.op.version >= _PER_CHANNEL:
        return as_first(node)
    newer = replace(node, op=replace(node.op, version=_PER_CHANNEL))
    return [newer.outputs[0].type]


def group_norm(node: Node) -> Iterator[Link]:
    """A channel is made from all those that it is normalised with."""
    x, *vectors = node.inputs
    (y,) = node.outputs
    groups, channels = int(node.attrs["num_groups"]), x.type.size(1)
    if channels is None or channels % groups or groups == 1:
        return
    each, places = channels // groups, np.arange(channels)
    scaled = 1 if node.op.version >= _PER_CHANNEL else each  # how many channels have one scale
    if y.type.size(1) != channels or not has_vectors(vectors, channels // scaled):
        return
    yield from same_axes(x, y, (0,))
    for place in range(each):
        yield Link((y, 1), (x, 1), places - places % each + place)
    for vector in vectors:
        yield Link((y, 1), (vector, 0), places // scaled)


def narrow_group_norm(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Count the groups that are left."""
    x, groups = node.inputs[0], int(node.attrs["num_groups"])
    left = kept.get((x, 1))
    if left is None:
        return node.on(inputs)
    return node.on(inputs, num_groups=len(left) * groups // (x.type.size(1) or 1))


def _meeting(ports: Sequence[Port], end: Port) -> Iterator[Link]:
    """Tie all of ``ports`` to ``end``, if they have as many channels."""
    sizes = {value.type.size(axis) for value, axis in (*ports, end)}
    if len(sizes) == 1:
        for port in ports:
            yield from along(*port, *end)


def grid_sample(node: Node) -> Iterator[Link]:
    """Channels, examples, and the places of the grid."""
    x, grid = node.inputs
    (y,) = node.outputs
    if x.rank is None or grid.rank != x.rank:
        return
    yield from along(x, 1, y, 1)
    yield from _meeting([(x, 0), (grid, 0)], (y, 0))
    for axis in range(1, x.rank - 1):
        yield from along(grid, axis, y, axis + 1)


def regions(node: Node) -> Iterator[Link]:
    """Channels, and the regions that a RoiAlign takes; examples are looked up."""
    x, *each = node.inputs
    (y,) = node.outputs
    yield from along(x, 1, y, 1)
    yield from _meeting([(v, 0) for v in each], (y, 0))


def gather_nd(node: Node) -> Iterator[Link]:
    """The axes behind those that are looked up, and those of the indices."""
    x, indices = node.inputs
    (y,) = node.outputs
    batch, depth = int(node.attrs.get("batch_dims", 0)), _depth(indices)
    if x.rank is None or indices.rank is None or depth is None:
        return
    for place, axis in enumerate(range(batch + depth, x.rank), indices.rank - 1):
        yield from along(x, axis, y, place)
    yield from same_axes(indices, y, range(batch, indices.rank - 1))


def scatter_nd(node: Node) -> Iterator[Link]:
    """The axes behind those that are looked up."""
    x, indices, updates = node.inputs
    (y,) = node.outputs
    depth = _depth(indices)
    if x.rank is None or indices.rank is None or depth is None:
        return
    for place, axis in enumerate(range(depth, x.rank), indices.rank - 1):
        yield from _meeting([(x, axis), (updates, place)], (y, axis))


def _depth(indices: Value) -> int | None:
    """How many axes each index looks up."""
    return indices.type.size(indices.rank - 1) if indices.rank else None


def rotary(node: Node) -> Iterator[Link]:
    """Heads, and pairs of channels that are turned by one angle, where all are turned."""
    x, cos, sin = node.inputs[:3]
    if not node.attrs.get("rotary_embedding_dim"):
        interleaved = bool(node.attrs.get("interleaved"))
        yield from turned(x, node.outputs[0], (cos, sin), interleaved=interleaved)


def turned(x: Value, y: Value, angles: Sequence[Value], *, interleaved: bool) -> Iterator[Link]:
    """Tie what is turned to the cosines and sines that pairs of its channels have.

    The two of a pair are neighbours, or stand half of a head apart. They go together. On three axes
    heads lie side by side, as many as there is room for.
    """
    if x.rank == _HEADS:
        yield from same_axes(x, y, (1,))
    last, pairs = (x.rank or 1) - 1, {_last(v) for v in angles}
    size, count = _last(x), pairs.pop()
    flat = x.rank is not None and x.rank < _HEADS
    if pairs or not size or not count or (size % (2 * count) if flat else size != 2 * count):
        return
    places = np.arange(size)
    within = places % (2 * count)
    other = places ^ 1 if interleaved else places - within + (within + count) % (2 * count)
    for of in (places, other):
        yield Link((y, last), (x, last), of)
    for v in angles:
        index = within // 2 if interleaved else within % count
        yield Link((y, last), (v, (v.rank or 1) - 1), index)


_HEADS = 4  # axes: examples, heads, places, channels


def _last(value: Value) -> int | None:
    return value.type.size(value.rank - 1) if value.rank else None


def attention(node: Node) -> Iterator[Link]:
    """Examples, heads, what queries and keys are multiplied along, and the channels of values.

    A head of keys and values goes with all heads of queries that read it.
    """
    q, k, v, *rest = node.inputs
    y, four = node.outputs[0], 4
    more = node.arity > 1 or "q_num_heads" in node.attrs or not all(map(is_absent, rest[1:]))
    if more or any(value.rank != four for value in (q, k, v, y)):
        return
    operands = [q, k, v, *(mask for mask in rest if not is_absent(mask))]
    for axis in (0, 1):
        if len({value.type.size(axis) for value in (q, k, v, y)}) == 1:
            yield from aligned(operands, y, axis)
    yield from _shared(q, k, v, y, rest[:1])
    yield from contracted(q, 3, k, 3)
    yield from along(v, 3, y, 3)


def _shared(q: Value, k: Value, v: Value, y: Value, mask: Sequence[Value]) -> Iterator[Link]:
    """Heads of queries, several of which read one of keys and values."""
    many, few = q.type.size(1), k.type.size(1)
    alone = all(is_absent(m) or (m.rank or 0) < _HEADS - 1 or m.type.size(-3) == 1 for m in mask)
    if not many or not few or few == many or many % few or v.type.size(1) != few or not alone:
        return
    heads = np.arange(many)
    yield from along(q, 1, y, 1)
    for x in (k, v):
        yield Link((y, 1), (x, 1), heads // (many // few))


def narrow_attention(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """State the scale that followed from the number of channels."""
    port = (node.inputs[0], 3)
    if port not in kept or "scale" in node.attrs:
        return node.on(inputs)
    return node.on(inputs, scale=1 / sqrt(port[0].type.size(3) or 1))
