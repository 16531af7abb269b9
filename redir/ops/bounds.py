"""Numbers that a value is never below, as far as the operators right before it tell.

A rule is given the node, and the bound of each operand. Where all of that is zero or more, so are
squares, roots and means; a number more, as norms add it, keeps what they divide by from zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, sqrt

import numpy as np

from redir.ir import Node, Value
from redir.ir.builtin import tensor_of

Rule = Callable[[Node, Sequence[float]], float]

_FAR = 12  # operators that are looked through


def least(value: Value, far: int = _FAR) -> float:
    """What no number of ``value`` is below; minus infinity where one cannot tell."""
    tensor, node = tensor_of(value), value.node
    if value.type.dtype.kind != "f":
        return -inf  # whole numbers wrap
    if tensor is not None:
        return float(np.min(tensor.array)) if tensor.array.size else -inf
    rule = None if node is None or not far else RULES.get(node.op.standard)
    if node is None or rule is None:
        return -inf
    bound = rule(node, [least(v, far - 1) for v in node.inputs])
    return -inf if np.isnan(bound) else bound


def _zero(_: Node, __: Sequence[float]) -> float:
    return 0.0


def _same(_: Node, bounds: Sequence[float]) -> float:
    return bounds[0]


def _sum(_: Node, bounds: Sequence[float]) -> float:
    return sum(bounds)


def _product(node: Node, bounds: Sequence[float]) -> float:
    square = node.inputs[0] is node.inputs[1]
    low, high = sorted(bounds)
    return low * high if low >= 0 else 0.0 if square else -inf


def _power(node: Node, bounds: Sequence[float]) -> float:
    exponent = tensor_of(node.inputs[1])
    number = float(exponent.array.reshape(-1)[0]) if exponent and exponent.array.size == 1 else None
    return 0.0 if number is not None and (number % 2 == 0 or bounds[0] >= 0) else -inf


def _root(_: Node, bounds: Sequence[float]) -> float:
    return sqrt(max(bounds[0], 0.0))


def _largest(_: Node, bounds: Sequence[float]) -> float:
    return max(bounds)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Abs", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Relu", "Sigmoid"), _zero),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin"), _same),
    "Add": _sum,
    "Max": _largest,
    "Mul": _product,
    "Pow": _power,
    "Sqrt": _root,
}
