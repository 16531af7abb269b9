"""Small encoders of images, as graphs, and in numpy with tokens merged as in the paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from redir import ops
from redir.ir import Graph, Value
from redir.ir.tensor import Array, Dim
from tests.helpers import const, ints, placeholder

WIDTH, HEADS, EACH = 16, 2, 4
INNER = HEADS * EACH
Attend = Callable[[int, Value, Value, Value], Value]
"""Makes of a number of tokens, queries, keys and values what each token takes in."""


def _norm(x: Value) -> Value:
    return ops.LayerNormalization(x, const(np.ones(WIDTH)))


def _normed(x: Array) -> Array:
    less = x - x.mean(1, keepdims=True)
    normed: Array = less / np.sqrt((less**2).mean(1, keepdims=True) + 1e-5)
    return normed


def heads(x: Value, *perm: int) -> Value:
    """An axis of heads (examples, tokens, heads, channels), with the axes in another order."""
    return ops.Transpose(ops.Reshape(x, ints(0, 0, HEADS, EACH)), perm=perm)


def joined(x: Value) -> Value:
    """Heads (examples, heads, tokens, channels) side by side again."""
    return ops.Reshape(ops.Transpose(x, perm=(0, 2, 1, 3)), ints(0, 0, INNER))


def scores(q: Value, k: Value) -> Value:
    """How well queries and keys fit, for each head."""
    return ops.Mul(ops.MatMul(heads(q, 0, 2, 1, 3), heads(k, 0, 2, 3, 1)), const(EACH**-0.5))


def weights(q: Value, k: Value) -> Value:
    """What each head weighs tokens by."""
    return ops.Softmax(scores(q, k), axis=-1)


def weighed(found: Value, v: Value) -> Value:
    """What each token takes in."""
    return joined(ops.MatMul(found, heads(v, 0, 2, 1, 3)))


def split(_: int, q: Value, k: Value, v: Value) -> Value:
    """Attention with an axis of heads."""
    return weighed(weights(q, k), v)


def guarded(_: int, q: Value, k: Value, v: Value) -> Value:
    """As PyTorch exports it, with a mask that hides nothing, against NaN."""
    size = ops.Shape(q, start=1, end=2)
    shape = ops.Concat(ints(1, 1), size, size, axis=0)
    seen = ops.Expand(const(np.ones((1, 1, 1, 1)), bool), shape)
    mask = ops.Where(seen, const(0), const(-1e30))
    found = ops.Softmax(ops.Add(scores(q, k), mask), axis=-1)
    return weighed(ops.Where(ops.IsNaN(found), const(0), found), v)


def written(n: int, q: Value, k: Value, v: Value) -> Value:
    """With sizes written down, and all examples in one axis with the heads."""
    parts = [ops.Reshape(heads(x, 0, 2, 1, 3), ints(-1, n, EACH)) for x in (q, v)]
    keys = ops.Reshape(ops.Reshape(k, ints(-1, n, HEADS, EACH)), ints(-1, n, INNER))
    keys = heads(keys, 0, 2, 3, 1)
    queries, values = (ops.Reshape(x, ints(-1, HEADS, n, EACH)) for x in parts)
    found = ops.Softmax(ops.Mul(ops.MatMul(queries, keys), const(EACH**-0.5)), axis=-1)
    return ops.Reshape(joined(ops.MatMul(found, values)), ints(-1, n, INNER))


def tokens_first(n: int, q: Value, k: Value, v: Value) -> Value:
    """With the axis of tokens before that of examples, as torchvision has it."""
    turned = [ops.Transpose(x, perm=(1, 0, 2)) for x in (q, k, v)]
    parts = [ops.Reshape(x, ints(n, -1, EACH)) for x in turned]
    parts = [ops.Transpose(x, perm=(1, 0, 2)) for x in parts]
    queries, keys, values = (ops.Reshape(x, ints(-1, HEADS, n, EACH)) for x in parts)
    met = ops.MatMul(queries, ops.Transpose(keys, perm=(0, 1, 3, 2)))
    found = ops.Softmax(ops.Mul(met, const(EACH**-0.5)), axis=-1)
    taken = ops.Transpose(ops.MatMul(found, values), perm=(2, 0, 1, 3))
    flat = ops.Reshape(ops.Reshape(taken, ints(-1, INNER)), ints(n, -1, INNER))
    return ops.Transpose(flat, perm=(1, 0, 2))


def fused(_: int, q: Value, k: Value, v: Value) -> Value:
    """One node, which reads heads."""
    return joined(ops.Attention(*(heads(x, 0, 2, 1, 3) for x in (q, k, v))))


def flat(_: int, q: Value, k: Value, v: Value) -> Value:
    """One node, which reads heads side by side."""
    return ops.Attention(q, k, v, q_num_heads=HEADS, kv_num_heads=HEADS)


@dataclass
class Encoder:
    """An encoder of ``tokens``, the first ``places`` of which are read at the end.

    The others are read, too, if it ``pools``. ``attend`` makes of queries, keys and values
    (examples, tokens, heads times channels) what each token takes in.
    """

    tokens: int = 9
    places: int = 1
    layers: int = 3
    pools: bool = False
    batch: Dim = "batch"
    attend: Attend = split
    told: Callable[[Value], Value] = lambda x: x
    open: bool = False
    seed: int = 0
    weights: list[dict[str, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        sizes = {"q": INNER, "k": INNER, "v": INNER, "up": 2 * WIDTH}
        shapes = {name: (WIDTH, size) for name, size in sizes.items()}
        shapes |= {"o": (INNER, WIDTH), "down": (2 * WIDTH, WIDTH)}
        for _ in range(self.layers):
            self.weights.append(
                {n: rng.normal(0, s[0] ** -0.5, s).astype(np.float32) for n, s in shapes.items()}
            )

    def graph(self, end: Callable[[Value], Value] | None = None) -> Graph:
        """The encoder, with another ``end`` if one is given."""
        start = placeholder(self.batch, "tokens" if self.open else self.tokens, WIDTH)
        x = start if self.open else ops.Add(start, const(self.positions))
        for held in self.weights:
            y = _norm(x)
            q, k, v = (ops.MatMul(y, const(held[name])) for name in "qkv")
            x = ops.Add(x, ops.MatMul(self.attend(self.tokens, q, k, v), const(held["o"])))
            y = ops.Relu(ops.MatMul(_norm(self.told(x)), const(held["up"])))
            x = ops.Add(x, ops.MatMul(y, const(held["down"])))
        return Graph({"x": start}, {"y": (end or self.end)(_norm(x))}, opset={"": 23})

    def end(self, x: Value) -> Value:
        parts = [ops.Gather(x, const(i, np.int64), axis=1) for i in range(self.places)]
        if self.pools:
            others = ops.Slice(x, ints(self.places), ints(2**31 - 1), ints(1))
            parts.append(ops.ReduceMean(others, ints(1), keepdims=0))
        return ops.Concat(*parts, axis=1)

    @property
    def positions(self) -> Array:
        rng = np.random.default_rng(self.seed + 1)
        return rng.normal(0, 1, (self.tokens, WIDTH)).astype(np.float32)

    def merged(self, x: Array, *merged: int) -> Array:
        """What the paper makes of one example (tokens, channels), with so many merged by block."""
        x, size = x.astype(np.float64) + self.positions, np.ones(len(x))
        for held, number in zip(self.weights, merged, strict=True):
            y = _normed(x)
            q, k, v = ((y @ held[n]).reshape(-1, HEADS, EACH) for n in "qkv")
            taken = np.zeros_like(q)
            for head in range(HEADS):
                scores = q[:, head] @ k[:, head].T / EACH**0.5 + np.log(size)
                weight = np.exp(scores - scores.max(1, keepdims=True))
                taken[:, head] = weight / weight.sum(1, keepdims=True) @ v[:, head]
            x = x + taken.reshape(-1, INNER) @ held["o"]
            x, size = _merge(x, size, k.mean(1), number, self.places)
            x = x + np.maximum(_normed(x) @ held["up"], 0) @ held["down"]
        x, places = _normed(x), self.places
        mean = (x[places:] * size[places:, None]).sum(0) / size[places:].sum()
        parts = [*x[:places], *([mean] if self.pools else [])]
        return np.concatenate(parts)


def _merge(x: Array, size: Array, keys: Array, merged: int, places: int) -> tuple[Array, Array]:
    """Pairs of tokens (tokens, channels) become their mean; the first ``places`` stay."""
    if merged == 0:
        return x, size
    keys = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    going = np.arange(places + places % 2, len(x), 2)
    targets = np.arange(places + 1 - places % 2, len(x), 2)
    alike = keys[going] @ keys[targets].T
    order = np.argsort(-alike.max(1))
    total, count = x * size[:, None], size.copy()
    for i in order[:merged]:
        target = targets[alike[i].argmax()]
        total[target] += total[going[i]]
        count[target] += count[going[i]]
    left = np.concatenate([np.arange(places), going[order[merged:]], targets])
    return total[left] / count[left, None], count[left]
