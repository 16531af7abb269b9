"""What is added to, or multiplied with, each channel of what a layer gives or reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.ir import Node, Value
from redir.ir.tensor import Array
from redir.layers.linear import Linear, lies_along, linear
from redir.ops import tensor_of
from redir.ops.schema import trains
from redir.passes.simplify.rules import Around, Found, rule
from redir.passes.simplify.weights import freed, has_border, is_held, made, obstacle, unalterable

_BROADCASTING = 7  # the operator set from which operators of two operands broadcast untold
_OPERANDS = 2


@dataclass(frozen=True)
class Affine:
    """A node makes scale * x + shift of its operand at ``place``: of all, or channel by channel.

    Both numbers lie along the axes of x as they are broadcast.
    """

    node: Node
    place: int
    scale: Array
    shift: Array

    @property
    def x(self) -> Value:
        """The operand that flows."""
        return self.node.inputs[self.place]

    @property
    def held(self) -> tuple[Value, ...]:
        """The constants that say the numbers."""
        return tuple(v for i, v in enumerate(self.node.inputs) if i != self.place)

    def along(self, axis: int, size: int) -> tuple[Array, Array] | None:
        """The scale and the shift of each channel along an axis, if they are one for each."""
        numbers = self.scale, self.shift
        fits = all(lies_along(a, axis, size) and a.ndim <= (self.x.rank or 0) for a in numbers)
        if not fits:
            return None
        scale, shift = (np.broadcast_to(a.reshape(-1), size) for a in numbers)
        return scale, shift


@rule("numbers behind a layer", "Add", "Sub", "Mul", "Div", "BatchNormalization")
def behind_layer(node: Node, around: Around) -> Found:
    """The weights and the bias are those of both."""
    found = affine(node)
    if found is None or found.x.node is None or isinstance(layer := linear(found.x.node), str):
        return None
    bare = layer.node.op.standard == "MatMul" and layer.added is None
    if bare and found.shift.any() and node.op.standard != "BatchNormalization":
        return None  # the bias of a MatMul would be an Add again
    if not around.alone(layer.y):
        return "the layer is read by others too"
    numbers, why = found.along(layer.y_axis, layer.outputs), obstacle(layer, around)
    if why is not None or numbers is None:
        return why or "it is not one number for each channel"
    scale, shift = numbers
    assert layer.bias is not None
    weight = layer.weight * scale.reshape(layer.groups, -1, 1, 1)
    bias = layer.bias.astype(np.float64) * scale + shift
    return made(layer, node, weight, bias, freed(around, found.held))


@rule("numbers before a layer", "Conv", "Gemm", "MatMul")
def before_layer(node: Node, around: Around) -> Found:
    """The weights and the bias are those of both, but where a border of zeros is read."""
    layer = linear(node)
    if isinstance(layer, str) or layer.x.node is None or (found := affine(layer.x.node)) is None:
        return None
    if not around.alone(layer.x):
        return "what it reads is read by others too"
    numbers, why = found.along(layer.x_axis, layer.channels), obstacle(layer, around)
    if why is not None or numbers is None:
        return why or "it is not one number for each channel"
    scale, shift = numbers
    if shift.any() and has_border(layer):
        return "what is added is not added to its border"
    along = (layer.groups, 1, -1, 1)
    assert layer.bias is not None
    bias = layer.bias + (layer.weight * shift.reshape(along)).sum((2, 3)).reshape(-1)
    weight, room = layer.weight * scale.reshape(along), freed(around, found.held)
    return made(reading(layer, found.x), node, weight, bias, room)


@rule("numbers in a row", "Add", "Sub", "Mul", "Div")
def in_a_row(node: Node, around: Around) -> Found:
    """One Add, or one Mul, of the numbers of both."""
    second = affine(node)
    first = None if second is None or second.x.node is None else affine(second.x.node)
    name = None if first is None else _KINDS.get(first.node.op.standard)
    if second is None or first is None or name is None or name != _KINDS[node.op.standard]:
        return None
    if not around.alone(second.x):
        return "the one before it is read by others too"
    numbers = _joined(first, second, name)
    if isinstance(numbers, str):
        return numbers
    if numbers.size > freed(around, (*first.held, *second.held)):
        return "more numbers would be stored"
    dtype, op = second.x.type.dtype, around.op(name)
    if op is None or not is_held(numbers, dtype):
        return f"{dtype} cannot hold the numbers in full"
    return op(first.x, ops.constant(numbers.astype(dtype)))


_KINDS = {"Add": "Add", "Sub": "Add", "Mul": "Mul", "Div": "Mul"}


def _joined(first: Affine, second: Affine, name: str) -> Array | str:
    """What both add or multiply, or why it is not what one could."""
    if name == "Mul":
        return first.scale * second.scale
    if np.any(first.scale != 1) or np.any(second.scale != 1):
        return "something is subtracted from"
    numbers, most = first.shift + second.shift, np.maximum(abs(first.shift), abs(second.shift))
    return "what is added cancels, which may round" if np.any(2 * abs(numbers) < most) else numbers


@rule("factors of a Gemm", "Gemm")
def factors(node: Node, around: Around) -> Found:
    """The weights and the bias hold them, so that other rules may change these."""
    layer = linear(node)
    if isinstance(layer, str) or layer.alpha == layer.beta == 1:
        return None
    if (why := unalterable(layer, around)) is not None:
        return why
    assert layer.bias is not None
    weight = layer.weight.astype(np.float64) * layer.alpha
    bias = layer.bias.astype(np.float64) * layer.beta
    rest = {name: attr for name, attr in node.attrs.items() if name not in {"alpha", "beta"}}
    return made(replace(layer, node=replace(node, attrs=rest)), node, weight, bias)


def reading(layer: Linear, x: Value) -> Linear:
    """The same layer of another operand."""
    inputs = (x if v is layer.x else v for v in layer.node.inputs)
    return replace(layer, node=layer.node.on(inputs))


def affine(node: Node) -> Affine | None:
    """What a node adds and multiplies, if by constants."""
    if node.op.version < _BROADCASTING:
        return None
    if node.op.standard == "BatchNormalization":
        return _norm(node)
    if not node.has("elementwise") or len(node.inputs) != _OPERANDS:
        return None
    held = [tensor_of(v) for v in node.inputs]
    place = next((i for i, t in enumerate(held) if t is None), None)
    if place is None or (tensor := held[1 - place]) is None or tensor.type.dtype.kind != "f":
        return None
    number = tensor.array.astype(np.float64)
    match node.op.standard:
        case "Add":
            return Affine(node, place, np.ones(1), number)
        case "Sub":
            sign = 1.0 if place == 0 else -1.0
            return Affine(node, place, np.full(1, sign), -sign * number)
        case "Mul":
            return Affine(node, place, number, np.zeros(1))
        case "Div" if place == 0 and number.all():
            return Affine(node, place, 1 / number, np.zeros(1))
    return None


def _norm(node: Node) -> Affine | None:
    held, rank = [tensor_of(v) for v in node.inputs[1:]], node.inputs[0].rank
    by_place = node.attrs.get("spatial", 1) != 1
    if rank is None or node.arity > 1 or by_place or trains(node) or None in held:
        return None
    scale, bias, mean, var = (t.array.astype(np.float64) for t in held if t is not None)
    with np.errstate(all="ignore"):
        ratio = scale / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        shape = (-1, *[1] * (rank - 2))
        return Affine(node, 0, ratio.reshape(shape), (bias - mean * ratio).reshape(shape))


RULES = (in_a_row, factors, behind_layer, before_layer)
