"""Norms that newer operator sets have, from their parts."""

from __future__ import annotations

import numpy as np

from redir.ir import Node, Value
from redir.ops import tensor_of
from redir.passes.simplify.fused import maker, number_of
from redir.passes.simplify.rules import Around, Found, rule


@rule("LayerNormalization from its parts", "Add")
def layer_norm(node: Node, around: Around) -> Found:
    """One node, where the operator set has it."""
    for scaled, bias in (node.inputs, node.inputs[::-1]):
        mul = maker(scaled, "Mul", around)
        for value, scale in () if mul is None else (mul.inputs, mul.inputs[::-1]):
            x, epsilon = _normed(value, around) or (None, 0.0)
            if x is not None and _fits(x, node, scale, bias):
                return _made(around, "LayerNormalization", x, scale, bias, epsilon=epsilon)
    return None


@rule("RMSNormalization from its parts", "Mul")
def rms_norm(node: Node, around: Around) -> Found:
    """One node, where the operator set has it."""
    for value, scale in (node.inputs, node.inputs[::-1]):
        x, squares, epsilon = _rooted(value, around) or (None, None, 0.0)
        mean = None if squares is None else _mean(squares, around)
        if x is None or mean is None or not _squares(mean, x, around):
            continue
        if _fits(x, node, scale) and _normed(value, around) is None:  # else a part of another norm
            return _made(around, "RMSNormalization", x, scale, epsilon=epsilon)
    return None


def _made(around: Around, name: str, *operands: Value, epsilon: float) -> Found:
    op = around.op(name)
    return f"the operator set has no {name}" if op is None else op(*operands, epsilon=epsilon)


def _fits(x: Value, node: Node, *held: Value) -> bool:
    """Whether there is a constant number for each place of the last axis, and the type stays."""
    shapes = [None if (t := tensor_of(v)) is None else t.array.shape for v in held]
    along = all(shape == (x.type.size(-1),) for shape in shapes)
    return along and x.type == node.outputs[0].type and x.type.dtype == np.float32


def _normed(value: Value, around: Around) -> tuple[Value, float] | None:
    """What is normed along its last axis, and what is added to the variance."""
    centred, squares, epsilon = _rooted(value, around) or (None, None, 0.0)
    sub = None if centred is None else centred.node
    variance = None if squares is None else _mean(squares, around)
    if centred is None or variance is None or sub is None or sub.op.standard != "Sub":
        return None
    mean, reads = _mean(sub.inputs[1], around), _squares(variance, centred, around)
    fits = mean is sub.inputs[0] and reads == around.uses[centred] - 1
    return (sub.inputs[0], epsilon) if fits else None


def _rooted(value: Value, around: Around) -> tuple[Value, Value, float] | None:
    """What is divided by the root of what and a number."""
    div, mul = maker(value, "Div", around), maker(value, "Mul", around)
    pairs = [div.inputs] if div else [mul.inputs, mul.inputs[::-1]] if mul else []
    for x, other in pairs:
        under = _root(other if div else _turned(other, around), around)
        added = None if under is None else maker(under, "Add", around)
        for squares, epsilon in () if added is None else (added.inputs, added.inputs[::-1]):
            number = number_of(epsilon)
            if number is not None:
                return x, squares, number
    return None


def _turned(value: Value, around: Around) -> Value | None:
    """What a value is 1 by."""
    one, by = maker(value, "Reciprocal", around), maker(value, "Div", around)
    if one is not None:
        return one.inputs[0]
    return by.inputs[1] if by is not None and number_of(by.inputs[0]) == 1 else None


def _root(value: Value | None, around: Around) -> Value | None:
    """What a value is the root of."""
    root = None if value is None else maker(value, "Sqrt", around)
    return None if root is None else root.inputs[0]


def _squares(value: Value, x: Value, around: Around) -> int:
    """How often a square of x reads that; 0 if the value is none."""
    node = value.node
    if node is None or not around.alone(value):
        return 0
    if node.op.standard == "Mul":
        return 2 if node.inputs[0] is node.inputs[1] is x else 0
    power = node.op.standard == "Pow" and node.inputs[0] is x
    return int(power and number_of(node.inputs[1]) == 2)  # noqa: PLR2004


def _mean(value: Value, around: Around) -> Value | None:
    """What a value is the mean of along the last axis, which stays."""
    node = maker(value, "ReduceMean", around)
    if node is None or not node.attrs.get("keepdims", 1):
        return None
    given = tensor_of(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = tuple(node.attrs.get("axes", () if given is None else given.array.tolist()))
    last = {(-1,), ((node.inputs[0].rank or 0) - 1,)}
    return node.inputs[0] if axes in last else None


RULES = (layer_norm, rms_norm)
