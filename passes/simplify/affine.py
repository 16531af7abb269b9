"""What is added to, or multiplied with, each channel of what a layer gives or reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from redir.ir import Node
from redir.ir.tensor import Array
from redir.layers.linear import CONVS, Linear, lies_along, linear
from redir.ops import tensor_of
from redir.passes.simplify.rules import Around, Found, rule

_BROADCASTING = 7  # the operator set from which operators of two operands broadcast untold
_OPERANDS = 2
_ROOM = 2.0**20  # times that numbers can grow before what they lost is seen beside the largest


@dataclass(frozen=True)
class Affine:
    """A node makes scale * x + shift of its operand at ``place``: of all, or channel by channel."""

    place: int
    scale: Array
    shift: Array


@rule("numbers behind a layer", "Add", "Sub", "Mul", "Div")
def behind_layer(node: Node, around: Around) -> Found:
    """The weights and the bias are those of both."""
    found = _affine(node)
    if found is None or (inner := node.inputs[found.place].node) is None:
        return None
    layer = linear(inner)
    if isinstance(layer, str):
        return None
    if found.shift.any() and layer.node.op.standard == "MatMul" and layer.added is None:
        return None  # a MatMul has no bias but an Add behind it
    if not around.alone(layer.y):
        return "the layer is read by others too"
    why = _obstacle(layer, around) or _apart(found, node, layer.y_axis, layer.outputs)
    if why is not None:
        return why
    scale, shift = (np.broadcast_to(a, layer.outputs) for a in (found.scale, found.shift))
    assert layer.bias is not None
    weight = layer.weight * scale.reshape(layer.groups, -1, 1, 1)
    bias = layer.bias.astype(np.float64) * scale + shift
    return _made(layer, node, weight, bias, room=found.shift.size)


@rule("numbers before a layer", "Conv", "Gemm", "MatMul")
def before_layer(node: Node, around: Around) -> Found:
    """The weights and the bias are those of both, but where a border of zeros is read."""
    layer = linear(node)
    if isinstance(layer, str) or layer.x.node is None:
        return None
    inner = layer.x.node
    found = _affine(inner)
    if found is None:
        return None
    if not around.alone(layer.x):
        return "what it reads is read by others too"
    why = _obstacle(layer, around) or _apart(found, inner, layer.x_axis, layer.channels)
    if why is not None:
        return why
    if found.shift.any() and _has_border(layer):
        return "what is added is not added to its border"
    scale, shift = (np.broadcast_to(a, layer.channels) for a in (found.scale, found.shift))
    along = (layer.groups, 1, -1, 1)
    assert layer.bias is not None
    bias = layer.bias + (layer.weight * shift.reshape(along)).sum((2, 3)).reshape(-1)
    x = inner.inputs[found.place]
    moved = replace(layer, node=node.on(x if v is layer.x else v for v in node.inputs))
    return _made(moved, node, layer.weight * scale.reshape(along), bias, room=found.shift.size)


def _affine(node: Node) -> Affine | None:
    """What a node adds and multiplies, if by a constant."""
    if not node.has("elementwise") or len(node.inputs) != _OPERANDS:
        return None
    held = [tensor_of(v) for v in node.inputs]
    place = next((i for i, t in enumerate(held) if t is None), None)
    if place is None or (tensor := held[1 - place]) is None or tensor.array.dtype.kind != "f":
        return None
    number = tensor.array.astype(np.float64).reshape(-1)
    match node.op.standard:
        case "Add":
            return Affine(place, np.ones(1), number)
        case "Sub":
            sign = 1.0 if place == 0 else -1.0
            return Affine(place, np.full(1, sign), -sign * number)
        case "Mul":
            return Affine(place, number, np.zeros(1))
        case "Div" if place == 0 and number.all():
            return Affine(place, 1 / number, np.zeros(1))
    return None


def _apart(found: Affine, node: Node, axis: int, size: int) -> str | None:
    """Why the numbers are not one for each channel along an axis of what flows."""
    held = tensor_of(node.inputs[1 - found.place])
    x = node.inputs[found.place]
    assert held is not None
    fits = node.op.version >= _BROADCASTING and lies_along(held.array, axis, size)
    if not fits or x.rank is None or held.array.ndim > x.rank:
        return "it is not one number for each channel"
    return None


def _obstacle(layer: Linear, around: Around) -> str | None:
    """Why the weights of a layer cannot be others."""
    if not layer.place == layer.alpha == layer.beta == 1:
        return "the layer has factors, or its weights on the left"
    if layer.array.dtype.kind != "f" or layer.bias is None:
        return "the weights are not floating-point numbers, or the bias is not constant"
    if not around.alone(layer.held) or not (layer.added is None or around.alone(layer.added)):
        return "the weights or the bias are read by others too"
    return None


def _has_border(layer: Linear) -> bool:
    """Whether a layer reads zeros that nothing gives."""
    attrs = layer.node.attrs
    padded = any(attrs.get("pads", ())) or str(attrs.get("auto_pad", "")).startswith("SAME")
    return layer.node.op in CONVS and padded


def _made(layer: Linear, node: Node, weight: Array, bias: Array, room: int) -> Found:
    """The layer with other weights, giving the result of ``node``, if these can be held.

    ``room`` is how many numbers a bias that was not there may take.
    """
    if not _is_held(weight, layer) or not _is_held(bias, layer):
        return f"{layer.array.dtype} cannot hold the weights in full"
    new = layer.with_weight(weight)
    if layer.added is not None or bias.any():
        if layer.added is None and len(bias) > room:
            return "a bias would come on top"
        new = new.with_bias(bias)
    made, source = new.y.node, node.source
    assert made is not None
    mine = layer.node.source if made is new.node else source
    return replace(made, source=mine and source and mine.named_as(source)).outputs[0]


def _is_held(numbers: Array, layer: Linear) -> bool:
    """Whether the type of the weights holds numbers, none too large and not all too small."""
    limits, most = np.finfo(layer.array.dtype), np.abs(numbers).max(initial=0.0)
    return bool(most <= limits.max and (most == 0 or most >= _ROOM * float(limits.tiny)))


RULES = (behind_layer, before_layer)
