"""How onnxruntime's own operators tie the axes of their operands to those of their results.

Heads are followed by the places of the channels in them: the channel at one place of every head is
kept or removed, so that heads stay of one size and their number is what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import numpy as np

from redir.ir import Kept, Link, Node, Port, Value
from redir.ir.builtin import is_absent, tensor_of
from redir.ir.tensor import Array
from redir.ops import mixing
from redir.ops.links import aligned, along, contracted, same_axes

_FLAT = 3  # axes: examples, places, channels


def biased(node: Node) -> Iterator[Link]:
    """Each axis of the first operand, and the vector that is added along the last."""
    x, *vectors = node.inputs
    (y,) = node.outputs
    if not x.rank:
        return
    yield from same_axes(x, y, range(x.rank - 1))
    yield from aligned([x, *(v for v in vectors if not is_absent(v))], y, x.rank - 1)


def skip_norm(node: Node) -> Iterator[Link]:
    """The axes before the one that is normalised."""
    x, skip = node.inputs[:2]
    for axis in range((x.rank or 1) - 1):
        for y in node.outputs:
            yield from aligned([x, skip], y, axis)


def rms_norm(node: Node) -> Iterator[Link]:
    """As of a norm of the standard, where only the result is asked for."""
    yield from mixing.rms_norm(node) if node.arity == 1 else mixing.layer_norm(node)


def skip_rms_norm(node: Node) -> Iterator[Link]:
    """As of a sum, and of a norm by the mean of its squares.

    No channel where the file names a result that says how large the mean is.
    """
    x, skip, gamma, *bias = node.inputs
    yield from skip_norm(node)
    last, given = (x.rank or 1) - 1, [v for v in bias if not is_absent(v)]
    plain = [y for y in node.outputs if y.index in _SUMS]
    means = (y for y in node.outputs if y.index not in _SUMS)
    if not all(map(_is_left_out, means)) or skip.rank != x.rank or tensor_of(gamma) is None:
        return
    for y in plain:
        yield from aligned([x, skip, *given, *([gamma] if y.index == 0 else [])], y, last)
    yield from _mixed(x, skip, *given)


_SUMS = (0, 3)  # results: of the norm, and of the sum that it is of


def _is_left_out(y: Value) -> bool:
    """Whether the file that a result is from gives it no name, so that nothing reads it."""
    source = None if y.node is None else y.node.source
    return source is not None and y.index < len(source.outputs) and not source.outputs[y.index]


def narrow_skip_rms_norm(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Divide by the root of a mean over so many channels as there were."""
    return mixing.narrow_mean_square(node, inputs, kept, 2, 1e-12)


def fused_matmul(node: Node) -> Iterator[Link]:
    """As of a MatMul, with the last two axes exchanged where an operand is transposed."""
    a, b = node.inputs
    (y,) = node.outputs
    if a.rank is None or b.rank is None or y.rank is None:
        return
    turned = [bool(node.attrs.get(name)) for name in ("transA", "transB")]
    rows, depth_a = (a.rank - 1, a.rank - 2) if turned[0] else (a.rank - 2, a.rank - 1)
    depth_b, columns = (b.rank - 1, b.rank - 2) if turned[1] else (b.rank - 2, b.rank - 1)
    for axis in range(y.rank - 2):
        yield from aligned((a, b), y, axis)
    yield from along(a, rows, y, y.rank - 2)
    yield from along(b, columns, y, y.rank - 1)
    yield from contracted(a, depth_a, b, depth_b)


def rotary(node: Node) -> Iterator[Link]:
    """Heads, and pairs of channels that are turned by one angle, where all are turned."""
    x, _, cos, sin = node.inputs
    interleaved = bool(node.attrs.get("interleaved"))
    if not node.attrs.get("rotary_embedding_dim"):
        yield from mixing.turned(x, node.outputs[0], (cos, sin), interleaved=interleaved)


def _together(port: Port, index: Array) -> Link:
    return Link(port, port, index, kind="together")


def _mixed(*values: Value) -> Iterator[Link]:
    """The last axes of operands that are added up only behind something else: zeros are no loss.

    So nothing may be added to a channel, and one goes only if it is zero in each of these.
    """
    for x in values:
        yield from contracted(x, (x.rank or 1) - 1, x, (x.rank or 1) - 1)


def multi_head(node: Node) -> Iterator[Link]:
    """What queries and keys are multiplied along, and the channels of values; with their biases.

    Nothing where heads are given out, or stand beside others from before.
    """
    q, k, v, *rest = node.inputs
    y, heads = node.outputs[0], int(node.attrs["num_heads"])
    sizes = [x.type.size(2) if x.rank == _FLAT else None for x in (q, k, v)]
    if node.arity > 1 or not all(map(is_absent, rest[3:])) or None in sizes:
        return
    width, _, wide = (size or 0 for size in sizes)
    yield _together((q, 2), np.arange(width) % (width // heads))
    yield _together((y, 2), np.arange(wide) % (wide // heads))
    yield from along(v, 2, y, 2)
    if not rest or is_absent(rest[0]):
        yield from contracted(q, 2, k, 2)
        return
    yield from along(q, 2, k, 2)
    yield from _mixed(q, k, rest[0])
    start = 0
    for x, size in ((q, width), (k, width), (v, wide)):
        yield Link((x, 2), (rest[0], 0), start + np.arange(size))
        start += size


def narrow_heads(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """State the scale that followed from the number of channels."""
    port = (node.inputs[0], 2)
    if port not in kept or node.attrs.get("scale"):
        return node.on(inputs)
    each = (port[0].type.size(2) or 1) // int(node.attrs["num_heads"])
    return node.on(inputs, scale=1 / sqrt(each))


def attention(node: Node) -> Iterator[Link]:
    """What the layer in it reads; queries, keys and values are all along one axis of its weights.

    Nothing of these where heads are given out, or stand beside others from before.
    """
    x, weights, *rest = node.inputs
    heads, y = int(node.attrs["num_heads"]), node.outputs[0]
    total, wide = weights.type.size(1) if weights.rank else None, _last(y)
    yield from contracted(x, 2, weights, 0)
    past = any(not is_absent(v) for place, v in enumerate(rest) if place in _PAST)
    if total is None or wide is None or node.arity > 1 or past:
        return
    width = (total - wide) // 2
    score, value = np.arange(width) % (width // heads), np.arange(wide) % (wide // heads)
    yield _together((weights, 1), np.concatenate([score, score, 2 * width + value]))
    yield Link((y, 2), (weights, 1), 2 * width + np.arange(wide))
    yield from _mixed(weights)
    for bias in rest[:1]:
        if not is_absent(bias):
            yield from along(bias, 0, weights, 1)
            yield from _mixed(bias)


_PAST = (2, 4)  # operands behind the weights


def _last(value: Value) -> int | None:
    return value.type.size(value.rank - 1) if value.rank else None


def narrow_attention(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """State how many channels are left for queries, keys and values, and the scale there was."""
    weights, wide = node.inputs[1], node.outputs[0].type.size(2) or 0
    left = kept.get((weights, 1))
    if left is None:
        return node.on(inputs)
    width = ((weights.type.size(1) or 0) - wide) // 2
    scores = int((left < width).sum())
    each = width // int(node.attrs["num_heads"])
    scale = node.attrs.get("scale") or 1 / sqrt(each)
    sizes = (scores, scores, left.size - 2 * scores)
    return node.on(inputs, qkv_hidden_sizes=sizes, scale=scale)


def grouped_query(node: Node) -> Iterator[Link]:
    """Examples: the channels of queries, keys and values are all of one head's size."""
    q, *_ = node.inputs
    yield from same_axes(q, node.outputs[0], (0, 1))
