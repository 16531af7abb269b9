"""Activations that newer operator sets have, from their parts."""

from __future__ import annotations

from math import nan, pi, sqrt
from typing import Any

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
        found = _named(gate, x, number, around) if same else None
        if found is not None:
            name, attrs = found
            op = around.op(name)
            return f"the operator set has no {name}" if op is None else op(x, **attrs)
    return None


def _product(node: Node, around: Around) -> tuple[list[Value], float]:
    """The values that a product is of, and the number; what only it reads is looked into."""
    values, number = list[Value](), 1.0
    for place, value in enumerate(node.inputs):
        held, inner, divides = (
            number_of(value),
            value.node,
            node.op.standard == "Div" and place == 1,
        )
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


def _named(
    gate: Value, x: Value, number: float, around: Around
) -> tuple[str, dict[str, Any]] | None:
    """The activation that x times a gate times a number is, with its attributes."""
    node = gate.node
    if node is None or not around.alone(gate):
        return None
    match node.op.standard:
        case "Add" if _is(number, 0.5, x):
            return _gelu(_beside(node, 1.0), x, around)
        case "Clip" if _is(number, 1 / 6, x) and bounds(node) == (0, 6):
            return ("HardSwish", {}) if _is_shifted(node.inputs[0], x, around) else None
        case "HardSigmoid" if number == 1 and node.inputs[0] is x:
            slope = node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5)
            return ("HardSwish", {}) if _is(slope[0], 1 / 6, x) and slope[1] == 0.5 else None  # noqa: PLR2004
        case "Tanh" if number == 1:
            soft = maker(node.inputs[0], "Softplus", around)
            return ("Mish", {}) if soft is not None and soft.inputs[0] is x else None
    return None


def _gelu(value: Value | None, x: Value, around: Around) -> tuple[str, dict[str, Any]] | None:
    """The Gelu of which a value and 1 are the gate."""
    if value is None:
        return None
    erf, tanh = maker(value, "Erf", around), maker(value, "Tanh", around)
    if erf is not None:
        values, number = _factors(erf.inputs[0], around)
        return ("Gelu", {}) if values == [x] and _is(number, sqrt(0.5), x) else None
    if tanh is not None and _is_cubic(tanh.inputs[0], x, around):
        return "Gelu", {"approximate": "tanh"}
    return None


def _factors(value: Value, around: Around) -> tuple[list[Value], float]:
    """The values that a value is the product of, and the number."""
    node = maker(value, "Mul", around) or maker(value, "Div", around)
    return ([value], 1.0) if node is None else _product(node, around)


def _is_cubic(value: Value, x: Value, around: Around) -> bool:
    """Whether a value is √(2/π) (x + 0.044715 x³), or that with x in front."""
    values, number = _factors(value, around)
    inner = [v for v in values if v is not x]
    add = maker(inner[0], "Add", around) if len(inner) == 1 else None
    if add is None or not _is(number, sqrt(2 / pi), x):
        return False
    front = len(values) - 1
    rest = _beside(add, 1.0) if front == 1 else _other(add, x)
    if rest is None or front > 1:
        return False
    powers, factor = _factors(rest, around)
    degree = sum(_degree(v, x, around) for v in powers)
    return degree == 3 - front and _is(factor, 0.044715, x)


def _degree(value: Value, x: Value, around: Around) -> float:
    """Which power of x a value is; no number if it is none."""
    power = maker(value, "Pow", around)
    if value is x or power is None or power.inputs[0] is not x:
        return 1 if value is x else nan
    exponent = number_of(power.inputs[1])
    return nan if exponent is None else exponent


def _other(add: Node, x: Value) -> Value | None:
    """What is beside x in an Add."""
    first, second = add.inputs
    return second if first is x else first if second is x else None


def _is_shifted(value: Value, x: Value, around: Around) -> bool:
    """Whether a value is x and 3."""
    add = maker(value, "Add", around)
    return add is not None and _beside(add, 3.0) is x


def _beside(add: Node, number: float) -> Value | None:
    """What is beside a number in an Add."""
    first, second = add.inputs
    pairs = ((first, second), (second, first))
    return next((value for value, held in pairs if number_of(held) == number), None)


def maker(value: Value, name: str, around: Around) -> Node | None:
    """The node of an operator that makes a value for one reader."""
    node = value.node
    return node if node is not None and node.op.standard == name and around.alone(value) else None


def number_of(value: Value) -> float | None:
    """The one number that a constant holds."""
    tensor = tensor_of(value)
    return float(tensor.array.item()) if tensor is not None and tensor.size == 1 else None


def _is(number: float, wanted: float, like: Value) -> bool:
    """Whether a number is another one up to the last digits of a type."""
    return bool(abs(number - wanted) <= _EXACTLY * wanted * np.finfo(like.type.dtype).eps)


RULES = (activation,)
