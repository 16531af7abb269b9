"""Activations and norms that newer operator sets have, from their parts."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np

from redir.ir import Node, Value
from redir.ops import tensor_of
from redir.passes.simplify.rules import Around, Found, rule
from redir.passes.simplify.twice import bounds

_TYPES = (np.float16, np.float32)  # that runtimes have kernels for
_EXACTLY = 4  # times the last digit that a number may be off


@rule("activation from its parts", "Mul", "Div")
def activation(node: Node, around: Around) -> Found:
    """A Gelu, HardSwish or Mish, where the operator set has it."""
    values, number = _product(node, around)
    if len(values) != 2 or node.outputs[0].type.dtype not in _TYPES:  # noqa: PLR2004
        return None
    for x, gate in (values, values[::-1]):
        same = x.rank is not None and x.type == node.outputs[0].type
        name = _named(gate, x, number, around) if same else None
        if name is not None:
            op = around.op(name)
            return f"the operator set has no {name}" if op is None else op(x)
    return None


def _product(node: Node, around: Around) -> tuple[list[Value], float]:
    """The values that a product is of, and the number; what only it reads is looked into."""
    values, number = list[Value](), 1.0
    for place, value in enumerate(node.inputs):
        held, inner, divides = _number(value), value.node, node.op.standard == "Div" and place == 1
        if held is not None:
            number *= 1 / held if divides and held else held
        elif divides:
            return [], nan
        elif inner is not None and inner.op.standard in {"Mul", "Div"} and around.alone(value):
            more, factor = _product(inner, around)
            values, number = [*values, *more], number * factor
        else:
            values.append(value)
    return values, number


def _named(gate: Value, x: Value, number: float, around: Around) -> str | None:
    """The activation that x times a gate times a number is."""
    node = gate.node
    if node is None or not around.alone(gate):
        return None
    match node.op.standard:
        case "Add" if _is(number, 0.5, x):
            return "Gelu" if _is_erf(_beside(node, 1.0), x, around) else None
        case "Clip" if _is(number, 1 / 6, x) and bounds(node) == (0, 6):
            return "HardSwish" if _is_shifted(node.inputs[0], x, around) else None
        case "HardSigmoid" if number == 1 and node.inputs[0] is x:
            slope = node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5)
            return "HardSwish" if _is(slope[0], 1 / 6, x) and slope[1] == 0.5 else None  # noqa: PLR2004
        case "Tanh" if number == 1 and around.alone(node.inputs[0]):
            inner = node.inputs[0].node
            soft = inner is not None and inner.op.standard == "Softplus"
            return "Mish" if inner is not None and soft and inner.inputs[0] is x else None
    return None


def _is_erf(value: Value | None, x: Value, around: Around) -> bool:
    """Whether a value is Erf of x by the root of two."""
    erf = None if value is None or not around.alone(value) else value.node
    scaled = None if erf is None or erf.op.standard != "Erf" else erf.inputs[0]
    if scaled is None or scaled.node is None or not around.alone(scaled):
        return False
    if scaled.node.op.standard not in {"Mul", "Div"}:
        return False
    values, number = _product(scaled.node, around)
    return values == [x] and _is(number, sqrt(0.5), x)


def _is_shifted(value: Value, x: Value, around: Around) -> bool:
    """Whether a value is x and 3."""
    node = value.node
    shifted = node is not None and node.op.standard == "Add" and around.alone(value)
    return node is not None and shifted and _beside(node, 3.0) is x


def _beside(add: Node, number: float) -> Value | None:
    """What is beside a number in an Add."""
    first, second = add.inputs
    pairs = ((first, second), (second, first))
    return next((value for value, held in pairs if _number(held) == number), None)


def _number(value: Value) -> float | None:
    """The one number that a constant holds."""
    tensor = tensor_of(value)
    return float(tensor.array.item()) if tensor is not None and tensor.array.size == 1 else None


def _is(number: float, wanted: float, like: Value) -> bool:
    """Whether a number is another one up to the last digits of a type."""
    return bool(abs(number - wanted) <= _EXACTLY * wanted * np.finfo(like.type.dtype).eps)


@rule("LayerNormalization from its parts", "Add")
def layer_norm(node: Node, around: Around) -> Found:
    """One node, where the operator set has it."""
    for scaled, bias in (node.inputs, node.inputs[::-1]):
        found = _scaled(scaled, around)
        if found is None:
            continue
        normed, scale = found
        x, epsilon = _normed(normed, around) or (None, 0.0)
        size = None if x is None else x.type.size(-1)
        held = [tensor_of(v) for v in (scale, bias)]
        along = all(t is not None and t.array.shape == (size,) for t in held)
        if x is None or x.type != node.outputs[0].type or not along:
            continue
        op = around.op("LayerNormalization")
        name = "the operator set has no LayerNormalization"
        return name if op is None else op(x, scale, bias, epsilon=epsilon)
    return None


def _scaled(value: Value, around: Around) -> tuple[Value, Value] | None:
    """A value and what it is multiplied by, which is constant."""
    node = value.node
    if node is None or node.op.standard != "Mul" or not around.alone(value):
        return None
    first, second = node.inputs
    return (first, second) if tensor_of(second) is not None else (second, first)


def _normed(value: Value, around: Around) -> tuple[Value, float] | None:
    """What is normed along its last axis, and what is added to the variance."""
    div = _of(value, "Div", around)
    root = None if div is None else _of(div.inputs[1], "Sqrt", around)
    added = None if root is None else _of(root.inputs[0], "Add", around)
    if div is None or added is None:
        return None
    held = [_number(v) for v in added.inputs]
    place = next((i for i, number in enumerate(held) if number is not None), None)
    if place is None:
        return None
    variance, centred = _mean(added.inputs[1 - place], around), div.inputs[0]
    sub = centred.node
    if variance is None or sub is None or sub.op.standard != "Sub":
        return None
    mean, reads = _mean(sub.inputs[1], around), _squares(variance, centred, around)
    fits = mean is sub.inputs[0] and reads == around.uses[centred] - 1
    fits = fits and sub.inputs[0].type.dtype == np.float32
    epsilon = held[place]
    return (sub.inputs[0], epsilon) if fits and epsilon is not None else None


def _of(value: Value, name: str, around: Around) -> Node | None:
    """The node of an operator that makes a value for one reader."""
    node = value.node
    return node if node is not None and node.op.standard == name and around.alone(value) else None


def _squares(value: Value, x: Value, around: Around) -> int:
    """How often a square of x reads that; 0 if the value is none."""
    node = value.node
    if node is None or not around.alone(value):
        return 0
    if node.op.standard == "Mul":
        return 2 if node.inputs[0] is node.inputs[1] is x else 0
    power = node.op.standard == "Pow" and node.inputs[0] is x
    return int(power and _number(node.inputs[1]) == 2)  # noqa: PLR2004


def _mean(value: Value, around: Around) -> Value | None:
    """What a value is the mean of along the last axis, which stays."""
    node = _of(value, "ReduceMean", around)
    if node is None or not node.attrs.get("keepdims", 1):
        return None
    given = tensor_of(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = tuple(node.attrs.get("axes", () if given is None else given.array.tolist()))
    last = {(-1,), ((node.inputs[0].rank or 0) - 1,)}
    return node.inputs[0] if axes in last else None


RULES = (activation, layer_norm)
