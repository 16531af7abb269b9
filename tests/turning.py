"""Small models whose stream can be turned, and some whose cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import DTypeLike

from redir import ops
from redir.ir import Graph, Value
from redir.passes import CanonicalNorms
from tests.helpers import const, ints, placeholder
from tests.streams import IDS, PARTS, Stream, layer_norm


def rms(x: Value, scale: Value) -> Value:
    return ops.RMSNormalization(x, scale, epsilon=0.5)


def tied(norm: Callable[[Value, Value], Value] = rms) -> Graph:
    """A language model whose last layer is the table of words."""
    stream = Stream(norm)
    table = stream.written(10)
    x = stream.gated(ops.Add(ops.Gather(table, IDS), stream.written(6)))
    logits = ops.MatMul(stream.normed(x), ops.Transpose(table, perm=(1, 0)))
    return Graph({"ids": IDS}, {"logits": logits}, opset={"": 23})


def rotary() -> Graph:
    """Queries and keys that are turned by their places, as in Llama."""
    stream = Stream(rms)
    x = ops.Gather(stream.written(10), IDS)
    y = stream.normed(x)
    q, k, v = (ops.Reshape(stream.linear(y, 4), ints(0, 0, 2, 2)) for _ in range(3))
    q, k, v = (ops.Transpose(each, perm=(0, 2, 1, 3)) for each in (q, k, v))
    angles = np.arange(6)[:, None] * np.ones(1)
    caches = [const(f(angles)) for f in (np.cos, np.sin)]
    places = ops.Expand(const(np.arange(6)[None], np.int64), ops.Shape(IDS))
    q, k = (ops.RotaryEmbedding(each, *caches, places) for each in (q, k))
    scores = ops.Softmax(ops.MatMul(q, ops.Transpose(k, perm=(0, 1, 3, 2))))
    joined = ops.Transpose(ops.MatMul(scores, v), perm=(0, 2, 1, 3))
    x = ops.Add(x, stream.back(ops.Reshape(joined, ints(0, 0, 4))))
    logits = stream.linear(stream.normed(stream.gated(x)), 7)
    return Graph({"ids": IDS}, {"logits": logits}, opset={"": 23})


def image(norm: Callable[[Value, Value], Value] = layer_norm) -> Graph:
    """A ViT: patches by a convolution, a token of the class, places."""
    stream = Stream(norm, bias=True)
    pixels = placeholder("batch", 3, 4, 4)
    patches = ops.Conv(
        pixels, const(stream.numbers(8, 3, 2, 2)), const(stream.numbers(8)), strides=(2, 2)
    )
    tokens = ops.Transpose(ops.Reshape(patches, ints(0, 8, -1)), perm=(0, 2, 1))
    shape = ops.Concat(ops.Shape(pixels, start=0, end=1), ints(1, 8), axis=0)
    first = ops.Expand(stream.written(1, 1), shape)
    x = ops.Add(ops.Concat(first, tokens, axis=1), stream.written(1, 5))
    x = stream.gated(stream.attention(x))
    told = ops.Gather(stream.normed(x), const(0, np.int64), axis=1)
    y = stream.linear(told, 3)
    return CanonicalNorms()(Graph({"pixels": pixels}, {"y": y}, opset={"": 23}))


End = Callable[[Stream, Value], Value]


def of(end: End, norm: Callable[[Value, Value], Value] = rms, **more: End) -> Graph:
    """A stream of words, and what becomes of it behind a block."""
    stream = Stream(norm)
    x = stream.gated(stream.embedded())
    outputs = {name: each(stream, x) for name, each in {"y": end, **more}.items()}
    return Graph({"ids": IDS}, outputs, opset={"": 23})


def shifted(stream: Stream, x: Value) -> Value:
    """A layer that reads what is scaled and then moved: the scale cannot be taken."""
    return stream.linear(ops.Add(stream.normed(x), const(np.arange(8) / 8)), 3)


def again(stream: Stream, x: Value) -> Value:
    """What is scaled is normed once more, which no scale goes through."""
    return stream.linear(rms(stream.normed(x), const(np.ones(8))), 3)


def shared(stream: Stream, x: Value) -> Value:
    """Two norms with scales of their own, read by one layer's weights."""
    held = const(stream.numbers(8, 5))
    y = ops.MatMul(ops.Relu(ops.MatMul(stream.normed(x), held)), stream.written(5))
    return ops.Relu(ops.MatMul(stream.normed(ops.Add(x, y)), held))


def huge(stream: Stream, x: Value) -> Value:
    """Weights that would be infinite with the scale."""
    y = stream.norm(x, const(np.linspace(1e30, 1e31, 8)))
    return ops.Mul(ops.MatMul(y, const(stream.numbers(8, 3) * 1e8)), const(1e-38))


def alike(stream: Stream, x: Value) -> Value:
    """How well places fit each other: both sides of the product are of the stream."""
    y = stream.norm(x, const(np.ones(8)))
    return stream.linear(ops.MatMul(y, ops.Transpose(y, perm=(0, 2, 1))), 3)


def decoder(end: End, opset: int = 23) -> Graph:
    """A stream with LayerNorms, the last of which ``canonical-norms`` leaves."""
    stream = Stream(layer_norm, bias=True, opset=opset)
    y = end(stream, stream.normed(stream.gated(stream.embedded())))
    return CanonicalNorms()(Graph({"ids": IDS}, {"y": y}, opset={"": opset}))


def halved(dtype: DTypeLike) -> Graph:
    """A stream of numbers of half precision."""
    stream = Stream(rms)
    table, up, down, end = (stream.numbers(*s) for s in ((10, 8), (8, 5), (5, 8), (8, 3)))
    x = ops.Gather(const(table, dtype), IDS)
    y = ops.MatMul(rms(x, const(np.linspace(0.5, 2, 8), dtype)), const(up, dtype))
    x = ops.Add(x, ops.MatMul(ops.Relu(y), const(down, dtype)))
    y = ops.MatMul(rms(x, const(np.ones(8), dtype)), const(end, dtype))
    return Graph({"ids": IDS}, {"y": y}, opset={"": 23})


def many(stream: Stream, y: Value) -> Value:
    """A last layer without a bias, which would have more numbers than that of the norm."""
    return ops.MatMul(y, const(stream.numbers(8, 20)))


MODELS = {
    **{name: Stream(norm).graph(layers=2) for name, norm in PARTS.items()},
    "biases": Stream(rms, bias=True).graph(),
    "LayerNorm": CanonicalNorms()(Stream(layer_norm, bias=True).graph(layers=2)),
    "LayerNorm, before it was an operator": CanonicalNorms()(
        Stream(layer_norm, bias=True, opset=17).graph()
    ),
    "a tied table": tied(),
    "a last LayerNorm before many words": decoder(many),
    "a last LayerNorm before many words, older": decoder(many, 17),
    "a last LayerNorm that is given out": decoder(lambda _, y: y),
    "rotary": rotary(),
    "images": image(),
    "a norm that is given out": of(Stream.normed),
    "a scale before something is added": of(shifted),
    "a norm of a norm": of(again),
    "weights that two norms share": of(shared),
    "weights that are large": of(huge),
    "products of the stream with itself": of(alike),
    "a mean over places": of(lambda s, x: s.linear(ops.ReduceMean(s.normed(x), ints(1)), 3)),
}
# What keeps a stream as it is


def read(stream: Stream, x: Value) -> Value:
    return stream.linear(stream.normed(x), 3)


def entered(stream: Stream, x: Value) -> Value:
    """What is added is scaled by channel, as by LayerScale."""
    y = ops.Mul(stream.back(ops.Relu(stream.linear(stream.normed(x), 4))), const(np.arange(1, 9)))
    return stream.linear(stream.normed(ops.Add(x, y)), 3)


def unread(stream: Stream, _: Value) -> Value:
    """Nothing but the size of what a norm gives is read."""
    y = stream.norm(stream.embedded(), const(np.ones(8)))
    return ops.Mul(ops.ReduceMean(ops.Mul(y, y), ints(-1)), const(2))


def first_axis(stream: Stream, x: Value) -> Value:
    """Channels along another axis than the last, scaled there."""
    turned = ops.Transpose(x, perm=(0, 2, 1))
    root = ops.Sqrt(ops.Add(ops.ReduceMean(ops.Mul(turned, turned), ints(1)), const(0.5)))
    y = ops.Mul(ops.Div(turned, root), const(np.arange(1, 9)[:, None]))
    return stream.linear(ops.Transpose(y, perm=(0, 2, 1)), 3)


def twice(stream: Stream, x: Value) -> Value:
    """Numbers that are added, and by which others are multiplied."""
    held = const(np.arange(1, 9))
    return stream.linear(stream.norm(ops.Add(x, held), held), 3)


def counted(stream: Stream, x: Value) -> Value:
    """The number of channels is computed with."""
    size = ops.Cast(ops.Shape(x, start=2, end=3), to=1)
    return ops.Div(stream.linear(stream.normed(x), 3), size)


def post(stream: Stream, x: Value) -> Value:
    """Norms whose results are added to, as in the first transformers."""
    for _ in range(2):
        x = stream.normed(ops.Add(x, stream.back(ops.Relu(stream.linear(x, 4)))))
    return stream.linear(x, 3)


def normed(change: Callable[[Value], Value]) -> End:
    """A stream that is changed before it is normed."""
    return lambda stream, x: stream.linear(stream.normed(change(x)), 3)


def beside(change: Callable[[Value], Value]) -> Graph:
    """A stream that something else reads, too."""
    return of(read, z=lambda _, x: change(x))


def given_out() -> Graph:
    stream = Stream(rms)
    x = stream.gated(stream.embedded())
    outputs = {"y": stream.linear(stream.normed(x), 3), "x": x}
    return Graph({"ids": IDS}, outputs, opset={"": 23})


def given_in() -> Graph:
    stream, x = Stream(rms), placeholder("batch", 6, 8)
    y = stream.linear(stream.normed(stream.gated(x)), 3)
    return Graph({"x": x}, {"y": y}, opset={"": 23})


LEFT = {
    "an input": (given_in(), "an input of the graph is added to it"),
    "an output": (given_out(), "the graph gives it out"),
    "LayerNorm": (Stream(layer_norm).graph(), "takes a mean off"),
    "LayerNorm before a tied table": (CanonicalNorms()(tied(layer_norm)), "takes a mean off"),
    "what is bent": (of(normed(ops.Relu)), "does not add up whole channels"),
    "another reader": (beside(ops.Relu), "does not add up whole channels"),
    "the same number for all channels": (
        of(normed(lambda x: ops.Add(x, const(1)))),
        "does not add up whole channels",
    ),
    "some channels": (beside(lambda x: ops.Slice(x, ints(0), ints(3), ints(2))), "moves them"),
    "channels in another order": (
        beside(lambda x: ops.Relu(ops.Gather(x, ints(*range(7, -1, -1)), axis=2))),
        "moves them",
    ),
    "heads": (beside(lambda x: ops.Reshape(x, ints(0, 0, 2, 4))), "moves them"),
    "groups": (
        of(
            lambda s, x: ops.Conv(
                ops.Transpose(s.norm(x, const(np.ones(8))), perm=(0, 2, 1)),
                const(np.ones((4, 4, 1))),
                group=2,
            )
        ),
        "moves them",
    ),
    "what is added is scaled": (of(entered), "scales what is added to it"),
    "a scale along another axis": (of(first_axis), "along another axis than the last"),
    "a scale that is added": (of(twice), "that is added to it, too"),
    "no layer": (of(unread), "no layer reads it"),
    "a size": (of(counted), "how many channels there are"),
    "norms behind sums": (of(post), "more multiply-adds than"),
    "half precision of another kind": (halved(bfloat16), "is bfloat16"),
    "few channels": (Stream(rms, width=7).graph(), "all of its channels are to stay"),
}
