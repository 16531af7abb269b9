"""How operators tie the axes of their operands to those of their results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from redir.ir import Kept, Link, Node, Value
from redir.ir.builtin import is_absent, tensor_of
from redir.ops.schema import trains


def along(a: Value, axis_a: int, b: Value, axis_b: int) -> Iterator[Link]:
    """Tie two axes channel by channel, if their sizes are known and equal."""
    size = a.type.size(axis_a)
    if size is not None and size == b.type.size(axis_b):
        yield Link((a, axis_a), (b, axis_b), np.arange(size))


def same_axes(x: Value, y: Value, axes: Iterable[int]) -> Iterator[Link]:
    """Tie axis i of ``x`` to axis i of ``y`` for each of ``axes``."""
    for axis in axes:
        yield from along(x, axis, y, axis)


def broadcast(node: Node) -> Iterator[Link]:
    """An elementwise operator ties each axis of each operand, aligned at the right."""
    (y,) = node.outputs
    old = node.op.version < 7  # noqa: PLR2004 - operands did not align at the right
    if old and any(x.type != y.type for x in node.inputs):
        return
    for axis in range(y.rank or 0):
        yield from aligned(node.inputs, y, axis)


def division(node: Node) -> Iterator[Link]:
    """As any elementwise operator, but for a constant 0 below: the sign of that counts."""
    below = tensor_of(node.inputs[1])
    if below is None or not np.any(below.array == 0):
        yield from broadcast(node)


def aligned(operands: Sequence[Value], y: Value, axis: int) -> Iterator[Link]:
    """Tie ``axis`` of ``y`` to that of each operand that is not 1 there, aligned at the right.

    All or nothing: where the size of one operand is open, nobody knows which channels meet.
    """
    places = [(x, axis + (x.rank or 0) - (y.rank or 0)) for x in operands if not is_absent(x)]
    if y.rank is None or any(x.rank is None for x, _ in places):
        return
    sizes = {x: x.type.size(place) if place >= 0 else 1 for x, place in places}
    if None in sizes.values():
        return
    for x, place in places:
        if place >= 0:
            yield from along(x, place, y, axis)


def has_vectors(vectors: Iterable[Value], size: int | None) -> bool:
    """Whether each operand that is given is a vector with a number for each channel."""
    return all(is_absent(v) or v.type.static == (size,) for v in vectors)


def first_operand(node: Node) -> Iterator[Link]:
    """Tie every axis of the first operand; the others are scalars and options."""
    x, y = node.inputs[0], node.outputs[0]
    if x.rank is not None and x.rank == y.rank:
        yield from same_axes(x, y, range(x.rank))


def inference_only(node: Node) -> Iterator[Link]:
    """A Dropout that is off is the identity."""
    if not trains(node) and node.arity == 1:
        yield from first_operand(node)


def channelwise(node: Node) -> Iterator[Link]:
    """A pooling: each channel of axis 1, and each example, on its own.

    The second result of a MaxPool counts places through all channels, so it pins them.
    """
    x, y = node.inputs[0], node.outputs[0]
    if node.arity == 1 and x.rank is not None and x.rank == y.rank:
        yield from same_axes(x, y, (0, 1))


def batch_norm(node: Node) -> Iterator[Link]:
    """In inference, each channel of axis 1 with its own scale, bias, mean and variance."""
    x, *vectors = node.inputs
    y = node.outputs[0]
    plain = not trains(node) and node.arity == 1 and node.attrs.get("spatial", 1) == 1
    if not plain or x.rank is None or x.rank < 2 or not has_vectors(vectors, x.type.size(1)):  # noqa: PLR2004
        return
    yield from same_axes(x, y, range(x.rank))
    for vector in vectors:
        yield from along(vector, 0, y, 1)


def instance_norm(node: Node) -> Iterator[Link]:
    """Each channel is normalised on its own."""
    x, scale, bias = node.inputs
    (y,) = node.outputs
    if x.rank is None or not has_vectors((scale, bias), x.type.size(1)):
        return
    yield from same_axes(x, y, (0, 1))
    yield from along(scale, 0, y, 1)
    yield from along(bias, 0, y, 1)


def axes_of(node: Node, rank: int, operand: int = 1) -> set[int] | None:
    """The axes that an attribute or a constant operand names; None if it is not constant."""
    if "axes" in node.attrs:
        axes: Sequence[int] = node.attrs["axes"]
    elif len(node.inputs) > operand and not is_absent(node.inputs[operand]):
        given = tensor_of(node.inputs[operand])
        if given is None:
            return None
        axes = given.array.reshape(-1).tolist()
    else:
        axes = ()
    return {int(a) % rank for a in axes}


def reduction(node: Node) -> Iterator[Link]:
    """The axes that are not reduced stay as they are; a sum does not miss zeros."""
    x, y = node.inputs[0], node.outputs[0]
    axes = None if x.rank is None else axes_of(node, x.rank)
    if axes is None or x.rank is None:
        return
    if not axes:
        axes = set() if node.attrs.get("noop_with_empty_axes") else set(range(x.rank))
    yield from remaining(x, y, axes, keep=bool(node.attrs.get("keepdims", 1)))
    if node.op.name in _SUMS:
        for axis in axes:
            yield from contracted(x, axis, x, axis)


def remaining(x: Value, y: Value, gone: Collection[int], *, keep: bool) -> Iterator[Link]:
    """Tie the axes of ``x`` that are not ``gone``, of which ``keep`` leaves one of size 1 each."""
    left = [a for a in range(x.rank or 0) if a not in gone]
    for place, axis in enumerate(left):
        yield from along(x, axis, y, axis if keep else place)


_SUMS = frozenset({"ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare"})


def all_but_axis(default: int) -> object:
    """Ties for a Softmax or its like: every axis but the one it runs along."""

    def links(node: Node) -> Iterator[Link]:
        x, y = node.inputs[0], node.outputs[0]
        if x.rank is None or node.op.version < 13:  # noqa: PLR2004 - it flattened before
            return
        axis = int(node.attrs.get("axis", default)) % x.rank
        yield from same_axes(x, y, (a for a in range(x.rank) if a != axis))

    return links


def conv(node: Node) -> Iterator[Link]:
    """Weight rows with outputs; inputs with weight columns, which are summed."""
    x, w, *bias = node.inputs
    yield from convolved(node, x, w, bias)


def convolved(node: Node, x: Value, w: Value, vectors: Sequence[Value]) -> Iterator[Link]:
    """Tie ``x`` and ``w``, and what is given for each output, to the result of a convolution.

    In a depthwise convolution an output goes with its input instead. With groups in between, the
    channels at one place of each group go together, so that the groups stay of one size.
    """
    (y,) = node.outputs
    channels, per_group, out = x.type.size(1), w.type.size(1), w.type.size(0)
    if channels is None or per_group is None or out is None:
        return
    if "group" in node.attrs or not has_vectors(vectors, out):
        return
    if channels > per_group == 1 and out % channels == 0:
        yield Link((y, 1), (x, 1), np.arange(out) // (out // channels))
    elif channels % per_group == 0 and out % (groups := channels // per_group) == 0:
        yield Link((x, 1), (w, 1), np.arange(channels) % per_group, kind="summed")
        if groups > 1:
            yield Link((y, 1), (y, 1), np.arange(out) % (out // groups), kind="together")
    else:
        return
    yield from along(w, 0, y, 1)
    for vector in vectors:
        yield from along(vector, 0, y, 1)


def deformed(node: Node) -> Iterator[Link]:
    """As a Conv, where all channels are read at the same places; of groups of such all stay."""
    x, w, _, *bias = node.inputs
    if int(node.attrs.get("offset_group", 1)) == 1:
        yield from convolved(node, x, w, [v for v in bias[:1] if not is_absent(v)])


def contracted(a: Value, axis_a: int, b: Value, axis_b: int) -> Iterator[Link]:
    """Tie two axes that are multiplied and summed over; a constant's holds what is added."""
    if tensor_of(a) is not None:
        (a, axis_a), (b, axis_b) = (b, axis_b), (a, axis_a)
    for link in along(a, axis_a, b, axis_b):
        yield replace(link, kind="summed")


def conv_transpose(node: Node) -> Iterator[Link]:
    """As for Conv, with the channels of the weight swapped: groups share columns, not rows."""
    x, w, *bias = node.inputs
    (y,) = node.outputs
    groups, channels, each = int(node.attrs.get("group", 1)), x.type.size(1), w.type.size(1)
    if channels is None or each is None or w.type.size(0) != channels or channels % groups:
        return
    out = np.arange(groups * each)
    if y.type.size(1) != out.size or not has_vectors(bias, out.size):
        return
    if channels == groups > 1:
        yield Link((y, 1), (x, 1), out // each)
        yield Link((y, 1), (w, 0), out // each)
    else:
        yield from contracted(x, 1, w, 0)
        yield Link((y, 1), (w, 1), out % each)
        if groups > 1:
            place = np.arange(channels) % (channels // groups)
            yield Link((x, 1), (x, 1), place, kind="together")
    for b in bias:
        yield from along(b, 0, y, 1)


def narrow_conv_transpose(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """A depthwise one has a group for each channel that is left."""
    x, groups = node.inputs[0], node.attrs.get("group", 1)
    left = kept.get((x, 1))
    if left is None or groups == 1 or x.type.size(1) != groups:
        return node.on(inputs)
    return node.on(inputs, group=len(left))


def gemm(node: Node) -> Iterator[Link]:
    """Rows and columns, exchanged by transA and transB."""
    a, b, *c = node.inputs
    (y,) = node.outputs
    rows, depth_a = (1, 0) if node.attrs.get("transA") else (0, 1)
    depth_b, columns = (1, 0) if node.attrs.get("transB") else (0, 1)
    if any(v.type.static is None for v in c):
        return
    yield from along(a, rows, y, 0)
    yield from along(b, columns, y, 1)
    yield from contracted(a, depth_a, b, depth_b)
    for axis in (0, 1):
        yield from aligned([v for v in c if not is_absent(v)], y, axis)


def matmul(node: Node) -> Iterator[Link]:
    """The last axis of one operand and the last but one of the other are summed over."""
    yield from multiplied(*node.inputs, *node.outputs)


def multiplied(a: Value, b: Value, y: Value) -> Iterator[Link]:
    """Tie the axes of a product of matrices."""
    if a.rank is None or b.rank is None or y.rank is None or min(a.rank, b.rank) < 2:  # noqa: PLR2004
        return
    for axis in range(y.rank - 2):
        yield from aligned((a, b), y, axis)
    yield from along(a, a.rank - 2, y, y.rank - 2)
    yield from along(b, b.rank - 1, y, y.rank - 1)
    yield from contracted(a, a.rank - 1, b, b.rank - 2)
