"""An operator behind itself, or behind one of its kind."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from redir.ir import Node
from redir.ops import is_absent, tensor_of
from redir.passes.simplify.rules import Around, Found, rule

_INTEGER, _NUMBERS = "iu", "biuf"  # kinds of types


@rule("undone", "Neg", "Not", "BitwiseNot")
def undone(node: Node, _: Around) -> Found:
    """Done twice it is undone."""
    inner = node.inputs[0].node
    return inner.inputs[0] if inner is not None and inner.op == node.op else None


@rule("done already", "Relu", "Abs", "Ceil", "Floor", "Round", "Sign")
def done_already(node: Node, _: Around) -> Found:
    """To do it again changes nothing."""
    inner = node.inputs[0].node
    return node.inputs[0] if inner is not None and inner.op == node.op else None


@rule("Cast of a Cast", "Cast")
def cast_of_cast(node: Node, _: Around) -> Found:
    """The second alone, or nothing, where the first loses nothing."""
    inner = node.inputs[0].node
    if inner is None or inner.op.standard != "Cast":
        return None
    x, y, z = (v.type.dtype for v in (inner.inputs[0], node.inputs[0], node.outputs[0]))
    plain = all(dtype.isbuiltin == 1 and dtype.kind in _NUMBERS for dtype in (x, y, z))
    if not plain or not _holds(y, x):
        return "the first may lose something"
    if x == z:
        return inner.inputs[0]
    wraps = z.kind in _INTEGER and not _holds(z, x)
    if wraps and not x.kind == y.kind in _INTEGER:
        return "runtimes differ in what they make of numbers that are too large"
    return node.on(inner.inputs).outputs[0]


def _holds(wide: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether a type has all numbers of another."""
    digits = np.iinfo(narrow).bits if narrow.kind in _INTEGER else 0
    exact = wide.kind != "f" or digits <= np.finfo(wide).nmant
    return bool(np.can_cast(narrow, wide)) and exact


@rule("bounded again", "Relu", "Clip")
def bounded_again(node: Node, around: Around) -> Found:
    """The narrower of two that keep numbers between bounds."""
    inner = node.inputs[0].node
    if inner is None or inner.op.standard not in {"Relu", "Clip"}:
        return None
    first, second = bounds(inner), bounds(node)
    if first is None or second is None:
        return "the bounds are not constant, or cross"
    both = tuple(min(max(bound, second[0]), second[1]) for bound in first)
    if both == first:
        return node.inputs[0]
    if both != second:
        return "neither has the bounds of both"
    if not around.alone(node.inputs[0]):
        return "the one before it is read by others too"
    return node.on((inner.inputs[0], *node.inputs[1:])).outputs[0]


def bounds(node: Node) -> tuple[float, float] | None:
    """The least and the largest number of a Relu or Clip."""
    if node.op.standard == "Relu":
        return 0, inf
    bounds = [node.attrs.get("min", -inf), node.attrs.get("max", inf)]
    for place, value in enumerate(node.inputs[1:]):
        tensor = tensor_of(value)
        if not is_absent(value):
            bounds[place] = nan if tensor is None else tensor.array.item()
    low, high = bounds
    return (low, high) if low <= high else None


RULES = (undone, done_already, cast_of_cast, bounded_again)
