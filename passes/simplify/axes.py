"""Operators that only give axes other places or shapes, one behind the other."""

from __future__ import annotations

import numpy as np

from redir import ops
from redir.ir import Node, Value
from redir.ops import is_absent, tensor_of
from redir.passes.simplify.rules import Around, Found, rule

_RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_SHAPES = 5  # the operator set from which a Reshape reads the shape
_NUMBERS = 13  # the operator set from which a Squeeze reads its axes


@rule("axes in a row", "Squeeze", "Unsqueeze")
def axes_in_a_row(node: Node, around: Around) -> Found:
    """A Squeeze of a Squeeze, an Unsqueeze of an Unsqueeze."""
    inner = node.inputs[0].node
    if inner is None or inner.op != node.op or not around.alone(node.inputs[0]):
        return None
    first, second = _axes(inner), _axes(node)
    if first is None or second is None:
        return "the axes are not known"
    if node.op.standard == "Squeeze":
        left = [a for a in range(inner.inputs[0].rank or 0) if a not in first]
        both = [*first, *(left[a] for a in second)]
    else:
        left = [a for a in range(node.outputs[0].rank or 0) if a not in second]
        both = [*second, *(left[a] for a in first)]
    return _with_axes(node, inner.inputs[0], sorted(both))


@rule("there and back", "Squeeze", "Unsqueeze")
def there_and_back(node: Node, _: Around) -> Found:
    """A Squeeze of the Unsqueeze of the same axes, or the other way round."""
    inner = node.inputs[0].node
    if inner is None or {inner.op.standard, node.op.standard} != {"Squeeze", "Unsqueeze"}:
        return None
    first, second = _axes(inner), _axes(node)
    if first is None or second is None:
        return "the axes are not known"
    return inner.inputs[0] if first == second else None


def _axes(node: Node) -> list[int] | None:
    """The axes that come or go, counted from the front."""
    wide = node.inputs[0] if node.op.standard == "Squeeze" else node.outputs[0]
    held = node.attrs.get("axes")
    if held is None and len(node.inputs) > 1 and not is_absent(node.inputs[1]):
        tensor = tensor_of(node.inputs[1])
        held = None if tensor is None else tensor.array.reshape(-1).tolist()
    if held is None or wide.rank is None:
        return None
    return sorted(int(axis) % wide.rank for axis in held)


def _with_axes(node: Node, x: Value, axes: list[int]) -> Value:
    if node.op.version < _NUMBERS:
        return node.on((x,), axes=tuple(axes)).outputs[0]
    return node.on((x, ops.constant(np.array(axes, np.int64)))).outputs[0]


@rule("Transpose of a Transpose", "Transpose")
def transpose_of_transpose(node: Node, around: Around) -> Found:
    """Both at once, or nothing."""
    inner, rank = node.inputs[0].node, node.inputs[0].rank
    if inner is None or inner.op.standard != "Transpose" or rank is None:
        return None
    first, second = _perm(inner, rank), _perm(node, rank)
    both = tuple(first[axis] for axis in second)
    if both == tuple(range(rank)):
        return inner.inputs[0]
    if not around.alone(node.inputs[0]):
        return "the one before it is read by others too"
    return node.on(inner.inputs, perm=both).outputs[0]


def _perm(node: Node, rank: int) -> tuple[int, ...]:
    return tuple(node.attrs.get("perm", range(rank - 1, -1, -1)))


@rule("Reshape of what is in the same order", "Reshape")
def reshape_in_order(node: Node, around: Around) -> Found:
    """Of a Reshape, or of what moved or made axes of size 1: these need not be done."""
    inner = node.inputs[0].node
    if inner is None or len(node.inputs) < 2 or not _keeps_order(inner):  # noqa: PLR2004
        return None
    goal = tensor_of(node.inputs[1])
    if goal is None or 0 in goal.array:
        return _reshaped(node, around)
    return node.on((inner.inputs[0], node.inputs[1])).outputs[0]


@rule("moves that keep the order", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
def moves_in_order(node: Node, around: Around) -> Found:
    """One Reshape, or nothing."""
    inner = node.inputs[0].node
    if inner is None or not _keeps_order(inner) or not _keeps_order(node):
        return None
    return _reshaped(node, around)


def _reshaped(node: Node, around: Around) -> Found:
    """What a node and the one before it make, as one Reshape."""
    inner, op, shape = node.inputs[0].node, around.op("Reshape"), node.outputs[0].type.shape
    assert inner is not None
    if not around.alone(node.inputs[0]):
        return "the one before it is read by others too"
    if inner.inputs[0].type.static is not None and inner.inputs[0].type == node.outputs[0].type:
        return inner.inputs[0]
    if shape is None or 0 in shape or op is None or op.version < _SHAPES:
        return "the shape that it gives is not known"
    goal = [size if isinstance(size, int) else -1 for size in shape]
    if goal.count(-1) > 1:
        return "more than one size that it gives is open"
    return op(inner.inputs[0], ops.constant(np.array(goal, np.int64)))


def _keeps_order(node: Node) -> bool:
    """Whether the numbers of the result surely stand in the order in which the node read them."""
    if node.op.standard in _RESHAPING:
        return True
    shape = node.inputs[0].type.shape if node.op.standard == "Transpose" else None
    if shape is None:
        return False
    moved = [axis for axis in _perm(node, len(shape)) if shape[axis] != 1]
    return moved == sorted(moved)


RULES = (axes_in_a_row, there_and_back, transpose_of_transpose, reshape_in_order, moves_in_order)
