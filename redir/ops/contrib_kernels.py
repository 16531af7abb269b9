"""What onnxruntime's own operators compute, in whatever precision the operands have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from redir.ir import Node
from redir.ir.tensor import Array


def gelu(x: Any) -> Any:
    """Half of x times 1 + erf(x / sqrt(2))."""
    from scipy import special  # noqa: PLC0415 - slow, and not every model has one

    half, root = x.dtype.type(0.5), x.dtype.type(math.sqrt(0.5))
    return half * x * (1 + special.erf(x * root)).astype(x.dtype)


def fast_gelu(x: Any) -> Any:
    """The approximation by tanh."""
    half, scale, cubic = (x.dtype.type(n) for n in (0.5, math.sqrt(2 / math.pi), 0.044715))
    return half * x * (1 + np.tanh(scale * (x + cubic * x * x * x)))


def biased_gelu(node: Node, x: Any, bias: Any = None) -> Sequence[Any]:
    """A Gelu of an operand to which a vector may be added first."""
    made = fast_gelu if node.op.name == "FastGelu" else gelu
    return [made(x if bias is None else x + bias)]


def quick_gelu(node: Node, x: Any) -> Sequence[Any]:
    """The operand times the sigmoid of alpha times it."""
    alpha = x.dtype.type(node.attrs.get("alpha", 1.702))
    with np.errstate(over="ignore"):
        return [x / (1 + np.exp(-alpha * x))]


def fused_matmul(node: Node, a: Any, b: Any) -> Sequence[Any]:
    """Alpha times a product of matrices, of which either may be transposed first."""
    pairs = ((a, "transA"), (b, "transB"))
    left, right = (x.swapaxes(-1, -2) if node.attrs.get(name) else x for x, name in pairs)
    return [np.asarray(a.dtype.type(node.attrs.get("alpha", 1.0)) * (left @ right))]


def rms_norm(node: Node, x: Any, scale: Any) -> Sequence[Any]:
    """The operand over the root of its mean square along the last axes, and one over that root."""
    axis = int(node.attrs.get("axis", -1)) % x.ndim
    y, inverse = _rooted(x, x.dtype.type(node.attrs.get("epsilon", 1e-5)), axis)
    return [y * scale, inverse][: node.arity]


def _rooted(x: Any, epsilon: Any, axis: int) -> tuple[Any, Any]:
    square = np.mean(x * x, tuple(range(axis, x.ndim)), keepdims=True)
    inverse = 1 / np.sqrt(square + epsilon)
    return x * inverse, inverse


def skip_norm(node: Node, *arrays: Any) -> Sequence[Any]:
    """A norm of a sum; also its mean, one over its deviation, and the sum."""
    simple = node.op.name.startswith("SkipSimplified")
    x, skip, gamma, *rest = arrays
    beta, bias = [*([None] if simple else []), *rest, None, None][:2]
    total = x + skip if bias is None else x + skip + bias
    mean = np.zeros((), x.dtype) if simple else total.mean(-1, keepdims=True)
    epsilon = x.dtype.type(node.attrs.get("epsilon", 1e-12))
    normed, inverse = _rooted(total - mean, epsilon, x.ndim - 1)
    y = normed * gamma + (0 if beta is None else beta)
    return [y, np.broadcast_to(mean, inverse.shape), inverse, total][: node.arity]


def embed_norm(node: Node, *arrays: Any) -> Sequence[Any]:
    """A norm of the sum of rows of tables; also the lengths of the examples, and the sum."""
    ids, segments, words, places, kinds, gamma, beta, mask, positions = [*arrays, None, None][:9]
    where = np.arange(ids.shape[1])[None] if positions is None else positions
    which = 0 if segments is None else segments
    total = words[ids] + places[where] + (0 if kinds is None else kinds[which])
    mean = total.mean(-1, keepdims=True)
    epsilon = total.dtype.type(node.attrs.get("epsilon", 1e-12))
    normed, _ = _rooted(total - mean, epsilon, total.ndim - 1)
    counted = np.zeros(len(ids)) if mask is None else mask.sum(1)
    return [normed * gamma + beta, counted.astype(np.int32), total][: node.arity]


def rotary(node: Node, x: Any, positions: Any, cos: Any, sin: Any) -> Sequence[Any]:
    """Pairs of channels turned by an angle for their place."""
    flat, width = x.ndim == 3, int(node.attrs.get("rotary_embedding_dim", 0))  # noqa: PLR2004
    heads = int(node.attrs.get("num_heads", 0)) if width else 0
    each = x.shape[-1] // heads if heads else 2 * cos.shape[1] if flat else x.shape[-1]
    apart = _apart(x, each) if flat else x
    rows = positions + (np.arange(apart.shape[2])[None] if positions.ndim == 1 else 0)
    alternate = bool(node.attrs.get("interleaved"))
    turned = turn(apart, cos[rows][:, None], sin[rows][:, None], alternate)
    return [_joined(turned) if flat else turned]


def turn(x: Any, cos: Any, sin: Any, alternate: bool) -> Any:  # noqa: FBT001 - an attribute
    """Turn the first channels of (batch, heads, length, channels) as neighbours or halves."""
    width = 2 * cos.shape[-1]
    y, part = x.copy(), x[..., :width]
    pairs = (slice(0, width, 2), slice(1, width, 2)) if alternate else _halves(width)
    a, b = (part[..., place] for place in pairs)
    y[..., pairs[0]], y[..., pairs[1]] = a * cos - b * sin, a * sin + b * cos
    return y


def _halves(width: int) -> tuple[slice, slice]:
    return slice(0, width // 2), slice(width // 2, width)


def _apart(x: Array, each: int) -> Array:
    """(batch, length, heads * each) as (batch, heads, length, each)."""
    return x.reshape(*x.shape[:2], -1, each).swapaxes(1, 2)


def _joined(x: Array) -> Array:
    """(batch, heads, length, each) as (batch, length, heads * each)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def attention(node: Node, *arrays: Any) -> Sequence[Any]:
    """Heads that read what a layer in the operator makes of the operand."""
    x, weights, bias, mask, past, added, _ = [*arrays, *[None] * 5][:7]
    heads, total = int(node.attrs["num_heads"]), weights.shape[1]
    sizes = node.attrs.get("qkv_hidden_sizes") or (total // 3,) * 3
    made = x @ weights + (0 if bias is None else bias)
    parts = np.split(made, np.cumsum(sizes)[:2], -1)
    q, k, v = (_apart(p, size // heads) for p, size in zip(parts, sizes, strict=True))
    if past is not None:
        k, v = (np.concatenate([old, new], 2) for old, new in zip(past, (k, v), strict=True))
    hidden = _hidden(node, mask, q, k, 0 if past is None else past.shape[3])
    y, _ = _attended(node, q, k, v, hidden + (0 if added is None else added))
    return [_joined(y), np.stack([k, v])] if node.arity > 1 else [_joined(y)]


def multi_head(node: Node, *arrays: Any) -> Sequence[Any]:
    """Heads that read queries, keys and values."""
    q, k, v, bias, mask, added, *past = [*arrays, *[None] * 9][:8]
    heads = int(node.attrs["num_heads"])
    if q.ndim != 3 or any(a is None or a.ndim != 3 for a in (k, v)):  # noqa: PLR2004
        raise ValueError("packed operands are not known")
    if bias is not None:
        cuts = np.cumsum([q.shape[2], k.shape[2]])
        q, k, v = (a + b for a, b in zip((q, k, v), np.split(bias, cuts), strict=True))
    q, k, v = (_apart(a, a.shape[2] // heads) for a in (q, k, v))
    if past[0] is not None:
        k, v = (np.concatenate([old, new], 2) for old, new in zip(past, (k, v), strict=True))
    hidden = _hidden(node, mask, q, k, 0 if past[0] is None else past[0].shape[2])
    y, scores = _attended(node, q, k, v, hidden + (0 if added is None else added))
    return [_joined(y), k, v, scores][: node.arity]


def _attended(node: Node, q: Any, k: Any, v: Any, added: Any) -> tuple[Any, Any]:
    """What queries see of values by keys, and the scores."""
    scale = q.dtype.type(node.attrs.get("scale", 0.0) or 1 / math.sqrt(q.shape[-1]))
    scores = scale * (q @ k.swapaxes(-1, -2))
    cap = q.dtype.type(node.attrs.get("softcap", 0.0))
    scores = (cap * np.tanh(scores / cap) if cap else scores) + added
    rows = np.exp(scores - scores.max(-1, keepdims=True))
    return rows / rows.sum(-1, keepdims=True) @ v, scores


def _hidden(node: Node, mask: Any, q: Any, k: Any, before: int) -> Any:
    """What is added to scores, where keys are hidden: (batch, 1, length, total).

    If it is causal, a query sees no key behind its own place, and ``before`` keys are in front of
    the first place; but the last one sees all, as onnxruntime has it where there are more keys.
    """
    filler = q.dtype.type(node.attrs.get("mask_filter_value", -10000.0))
    places, seen = np.arange(k.shape[2]), np.ones((len(q), 1, 1, k.shape[2]), bool)
    if mask is not None and mask.ndim == 1:
        seen = _between(mask, places, len(q))[:, None, None]
    elif mask is not None and mask.ndim in {2, 3}:
        seen = (mask > 0)[:, None] if mask.ndim == 3 else (mask > 0)[:, None, None]  # noqa: PLR2004
    elif mask is not None:
        raise ValueError("a mask of four axes is not known")
    added = np.where(seen, q.dtype.type(0), filler)
    if not node.attrs.get("unidirectional"):
        return added
    late = places > np.arange(q.shape[2])[:, None] + before
    late[-1] = False
    return np.where(late, -q.dtype.type(np.finfo(np.float32).max), added)


def _between(mask: Array, places: Array, batch: int) -> Array:
    """Which places are before the end of an example, and not before its start, if it has one.

    Where queries are packed, a mask holds the ends, and then where the examples begin.
    """
    seen = places < mask[:batch, None]
    if len(mask) == 2 * batch:
        seen &= places >= np.minimum(mask[batch:], len(places))[:, None]
    return seen


def grouped_query(node: Node, *arrays: Any) -> Sequence[Any]:
    """Heads of which several read one set of keys and values; each sees none behind itself."""
    q, k, v, *past, ends, total, cos, sin = [*arrays, None, None][:9]
    if any(a is not None for a in arrays[9:]):
        raise ValueError("its last operands are not known")
    heads, shared = int(node.attrs["num_heads"]), int(node.attrs["kv_num_heads"])
    if k is None:
        each = q.shape[2] // (heads + 2 * shared)
        q, k, v = np.split(q, [heads * each, (heads + shared) * each], 2)
    q, k, v = (_apart(a, q.shape[2] // heads) for a in (q, k, v))
    length, most = q.shape[2], int(np.reshape(total, ()))
    before = ends.astype(np.int64) + 1 - length if length < most else np.zeros(len(q), np.int64)
    if node.attrs.get("do_rotary"):
        rows = np.minimum(before[:, None] + np.arange(length), len(cos) - 1)
        alternate = bool(node.attrs.get("rotary_interleaved"))
        q, k = (turn(a, cos[rows][:, None], sin[rows][:, None], alternate) for a in (q, k))
    room = max(most, 0 if past[0] is None else past[0].shape[2])
    k, v = (_cached(old, new, before, room) for old, new in zip(past, (k, v), strict=True))
    keys, values = (np.repeat(a, heads // shared, 1) for a in (k, v))
    y, _ = _attended(node, q, keys, values, _behind(node, before, length, room, q.dtype))
    return [_joined(y), k, v][: node.arity]


def _cached(past: Any, new: Any, before: Array, room: int) -> Any:
    """The keys or values of before with the new ones behind them, in a buffer."""
    held = np.zeros((*new.shape[:2], room, new.shape[3]), new.dtype)
    for example, start in enumerate(before):
        if past is not None:
            held[example, :, :start] = past[example, :, :start]
        held[example, :, start : start + new.shape[2]] = new[example]
    return held


def _behind(node: Node, before: Array, length: int, room: int, dtype: Any) -> Any:
    """What hides the keys behind each query, and those before its window."""
    own, places = before[:, None, None] + np.arange(length)[:, None], np.arange(room)
    window = int(node.attrs.get("local_window_size", -1))
    seen = (places <= own) & ((places > own - window) if window > 0 else True)
    return np.where(seen, dtype.type(0), -dtype.type(np.finfo(np.float32).max))[:, None]
