"""Small transformers whose norms read a stream of channels that every layer adds to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from redir import ops
from redir.ir import Graph, Value
from redir.ir.tensor import Array
from tests.helpers import const, ints, placeholder

Norm = Callable[[Value, Value], Value]
IDS = placeholder("batch", 6, dtype=np.int64)


@dataclass
class Stream:
    """Draws weights; what writes to the ``width`` channels writes zeros to those that are ``dead``.

    With ``balanced`` what is written adds up to 0 over the channels, in eighths.
    """

    norm: Norm
    width: int = 8
    dead: Sequence[int] = ()
    balanced: bool = False
    bias: bool = False
    opset: int = 23
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def numbers(self, *shape: int) -> Array:
        return self.rng.integers(-3, 4, shape).astype(np.float32) / 8

    def written(self, *shape: int) -> Value:
        """Weights of which the last axis is that of the stream."""
        array = self.numbers(*shape, self.width)
        live = np.setdiff1d(np.arange(self.width), self.dead)
        array[..., list(self.dead)] = 0
        if self.balanced:
            array[..., live[0]] -= array.sum(-1)
        return const(array)

    def linear(self, x: Value, outputs: int) -> Value:
        y = ops.MatMul(x, const(self.numbers(x.type.size(-1) or 0, outputs)))
        return ops.Add(y, const(self.numbers(outputs))) if self.bias else y

    def back(self, x: Value) -> Value:
        y = ops.MatMul(x, self.written(x.type.size(-1) or 0))
        return ops.Add(y, self.written()) if self.bias else y

    def normed(self, x: Value) -> Value:
        return self.norm(x, const(self.rng.uniform(0.5, 2, self.width)))

    def embedded(self) -> Value:
        return ops.Add(ops.Gather(self.written(10), IDS), self.written(6))

    def attention(self, x: Value) -> Value:
        y = self.normed(x)
        q, k, v = (self.linear(y, 4) for _ in range(3))
        scores = ops.Softmax(ops.MatMul(q, ops.Transpose(k, perm=(0, 2, 1))))
        return ops.Add(x, self.back(ops.MatMul(scores, v)))

    def gated(self, x: Value) -> Value:
        y = self.normed(x)
        gate, up = (self.linear(y, 5) for _ in range(2))
        return ops.Add(x, self.back(ops.Mul(ops.Mul(gate, ops.Sigmoid(gate)), up)))

    def graph(self, layers: int = 1) -> Graph:
        x = self.embedded()
        for _ in range(layers):
            x = self.gated(self.attention(x))
        logits = self.linear(self.normed(x), 7)
        return Graph({"ids": IDS}, {"logits": logits}, opset={"": self.opset})


def squares(x: Value) -> Value:
    """The mean of squares along the last axis, and a number more."""
    mean = ops.ReduceMean(ops.Pow(x, const(2)), ints(-1))
    return ops.Add(mean, const(0.5))


PARTS: dict[str, Norm] = {
    "divided": lambda x, g: ops.Mul(ops.Div(x, ops.Sqrt(squares(x))), g),
    "a reciprocal": lambda x, g: ops.Mul(ops.Mul(x, ops.Reciprocal(ops.Sqrt(squares(x)))), g),
    "1 by it": lambda x, g: ops.Mul(g, ops.Mul(x, ops.Div(const(1), ops.Sqrt(squares(x))))),
    "a power": lambda x, g: ops.Mul(ops.Mul(ops.Pow(squares(x), const(-0.5)), x), g),
    "scaled first": lambda x, g: ops.Div(ops.Mul(x, g), ops.Sqrt(squares(x))),
    "no scale": lambda x, _: ops.Div(x, ops.Sqrt(squares(x))),
    "one node": lambda x, g: ops.RMSNormalization(x, g, epsilon=0.5),
}
"""Norms by the root of a mean of squares, as exporters write them."""


def layer_norm(x: Value, scale: Value) -> Value:
    """A LayerNormalization with a bias."""
    return ops.LayerNormalization(x, scale, const(np.arange(scale.type.size(0) or 0) % 3 - 1))
