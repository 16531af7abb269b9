"""Giving a layer other weights: whether it may be, and what then stands for the result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from redir.ir import Node, Value
from redir.ir.tensor import Array, DType
from redir.layers.linear import CONVS, Linear
from redir.ops import tensor_of
from redir.passes.simplify.rules import Around, Found

_ROOM = 2.0**20  # times that numbers can grow before what they lost is seen beside the largest


def obstacle(layer: Linear, around: Around) -> str | None:
    """Why the weights of a layer cannot be others."""
    if not layer.place == layer.alpha == layer.beta == layer.node.attrs.get("beta", 1.0) == 1:
        return "the layer has factors, or its weights on the left"
    return unalterable(layer, around)


def unalterable(layer: Linear, around: Around) -> str | None:
    """Why the numbers of a layer cannot be others, whatever it does with them."""
    if layer.array.dtype.kind != "f" or layer.bias is None:
        return "the weights are not floating-point numbers, or the bias is not constant"
    if not around.alone(layer.held) or not (layer.added is None or around.alone(layer.added)):
        return "the weights or the bias are read by others too"
    if not stays_inside(layer, around):
        return "what is multiplied is read without its bias too"
    return None


def stays_inside(layer: Linear, around: Around) -> bool:
    """Whether nothing but the Add behind it reads what a layer multiplies, if there is one."""
    return layer.behind is None or around.alone(layer.node.outputs[0])


def trained_alike(a: Linear, b: Linear) -> bool:
    """Whether of two layers both are frozen, or neither."""
    sources = (layer.held.node.source for layer in (a, b) if layer.held.node is not None)
    return len({source is not None and source.frozen for source in sources}) == 1


def has_border(layer: Linear) -> bool:
    """Whether a layer reads zeros that nothing gives."""
    attrs = layer.node.attrs
    padded = any(attrs.get("pads", ())) or str(attrs.get("auto_pad", "")).startswith("SAME")
    return layer.node.op in CONVS and padded


def freed(around: Around, values: Iterable[Value]) -> int:
    """How many numbers go with what alone reads these constants."""
    held = [tensor_of(v) for v in values if around.alone(v)]
    return sum(tensor.size for tensor in held if tensor is not None)


def made(
    layer: Linear, node: Node, weight: Array, bias: Array, room: int = 0, like: Value | None = None
) -> Found:
    """The layer with other weights, giving the result of ``node``, if these can be held.

    ``room`` is how many numbers may be stored beside as many as the layer has. The bias is named
    ``like`` another, or as it was.
    """
    dtype = layer.array.dtype
    if not is_held(weight, dtype) or not is_held(bias, dtype):
        return f"{dtype} cannot hold the weights in full"
    new, biased = layer.with_weight(weight), layer.added is not None or bool(bias.any())
    before = layer.array.size + (0 if layer.added is None else _size(layer.added))
    if weight.size + biased * bias.size > before + room:
        return "more numbers would be stored"
    new = new.with_bias(bias, like) if biased else new
    found, source = new.y.node, node.source
    assert found is not None
    mine = layer.node.source if found is new.node else source
    return replace(found, source=mine and source and mine.named_as(source)).outputs[0]


def _size(value: Value) -> int:
    tensor = tensor_of(value)
    return 0 if tensor is None else int(tensor.size)


def is_held(numbers: Array, dtype: DType) -> bool:
    """Whether a type of floats holds numbers, none too large and not all too small."""
    limits, most = np.finfo(dtype), np.abs(numbers).max(initial=0.0)
    return bool(most <= limits.max and (most == 0 or most >= _ROOM * float(limits.tiny)))
