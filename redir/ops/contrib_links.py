"""How onnxruntime's own operators tie the axes of their operands to those of their results.

Heads are followed by the places of the channels in them: the channel at one place of every head is
kept or removed, so that heads stay of one size and their number is what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import numpy as np

from redir.ir import Kept, Link, Node, Port, Value
from redir.ir.builtin import is_absent
from redir.ir.tensor import Array
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
    """Heads: channels are turned in pairs, by an angle for the place in the example."""
    x, (y,) = node.inputs[0], node.outputs
    if (x.rank or 0) > _FLAT:
        yield from same_axes(x, y, (1,))


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
