"""Remove the operators that change nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, in_branches, transform
from redir.ir.tensor import NO_DTYPE
from redir.ops import is_absent, tensor_of
from redir.ops.schema import trains
from redir.ops.slicing import takes_all
from redir.pipeline import Pass


@dataclass(frozen=True)
class EliminateIdentity(Pass):
    """Drop Identity, Dropout in inference, and what moves or casts nothing.

    A Reshape, Tile or the like to the shape it had, a Transpose in order, a Cast to the same type,
    a Pad by nothing, a Concat, Sum or Max of one operand, a Split into one part, a Slice of all;
    x + 0, x - 0, x * 1, x / 1, x ^ 1; a Clip without bounds; a Where that takes all from one.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Let the operand stand for the result."""
        graph = in_branches(graph, self.run)

        def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            masked = any(graph.uses[v] for v in node.outputs[1:])
            place = None if not inputs or masked else _same(node)
            return None if place is None else [inputs[place]] * node.arity

        return transform(graph, visit)


def _same(node: Node) -> int | None:
    """The place of the operand that the result is, if it is one."""
    match node.op.standard:
        case "Add":
            return next((place for place in (0, 1) if _has_beside(node, place, 0)), None)
        case "Mul":
            return next((place for place in (0, 1) if _has_beside(node, place, 1)), None)
        case "Sub":
            return 0 if _has_beside(node, 0, 0) else None
        case "Div" | "Pow":
            return 0 if _has_beside(node, 0, 1) else None
        case "Where":
            return _taken(node)
    return 0 if _is_identity(node) else None


def _has_beside(node: Node, place: int, number: int) -> bool:
    """Whether the other operand is all one number, and the result of the type of this one."""
    x, tensor = node.inputs[place], tensor_of(node.inputs[1 - place])
    if tensor is None or not np.all(tensor.array == number):
        return False
    fits = tensor.array.size == 1 and tensor.array.ndim <= (x.rank or 0)
    return _is_as(x, node.outputs[0]) or (fits and tensor.type.dtype == x.type.dtype)


def _is_as(x: Value, y: Value) -> bool:
    """Whether two values surely are of one type."""
    return x.type.static is not None and x.type == y.type


def _taken(where: Node) -> int | None:
    """The operand from which a Where takes all."""
    tensor = tensor_of(where.inputs[0])
    if tensor is None or not tensor.array.size or np.any(tensor.array != tensor.array.flat[0]):
        return None
    place = 1 if tensor.array.flat[0] else 2
    return place if _is_as(where.inputs[place], where.outputs[0]) else None


def _is_identity(node: Node) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    match node.op.standard:
        case "Identity":
            return True
        case "Dropout":
            return not trains(node)
        case "Cast":
            return x.type.dtype != NO_DTYPE and x.type.dtype == y.type.dtype
        case "Concat" | "Sum" | "Max" | "Min" | "Mean":
            return len(node.inputs) == 1
        case "Clip":
            return not {"min", "max"} & node.attrs.keys() and all(map(is_absent, node.inputs[1:]))
        case "Split":
            return node.arity == 1
        case "Slice":
            return takes_all(node)
        case "Transpose":
            return _is_in_order(node)
        case "Pad":
            return _pads_nothing(node)
    return _is_as(x, y) and node.has("identity_if_same_type")


def _is_in_order(transpose: Node) -> bool:
    """Whether it only exchanges axes of size 1, if any."""
    x, perm = transpose.inputs[0], transpose.attrs.get("perm")
    if not _is_as(x, transpose.outputs[0]):
        return perm is not None and perm == tuple(range(len(perm)))
    order = range((x.rank or 0) - 1, -1, -1) if perm is None else perm
    moved = [axis for axis in order if x.type.size(axis) != 1]
    return moved == sorted(moved)


def _pads_nothing(node: Node) -> bool:
    pads = node.attrs.get("pads", node.attrs.get("paddings"))
    if pads is not None:
        return not any(pads)
    given = tensor_of(node.inputs[1]) if len(node.inputs) > 1 else None
    return given is not None and not np.any(given.array)
