"""Remove the operators that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, in_branches, transform
from redir.ir.tensor import NO_DTYPE, TensorType, shapes_agree
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
            place = _found(graph, node)
            return [inputs[place]] * node.arity if isinstance(place, int) else None

        return transform(graph, visit)

    def explain(self, graph: Graph) -> Iterator[str]:
        """What nearly changes nothing, and the first condition that it fails."""
        for node in graph.nodes:
            why = _found(graph, node)
            if isinstance(why, str):
                yield f"{node}: {why}"


def _found(graph: Graph, node: Node) -> int | str | None:
    """The place of the operand that the result is, or why it is none; or nothing to say."""
    place = _same(node) if node.inputs else None
    if isinstance(place, int) and any(graph.uses[v] for v in node.outputs[1:]):
        return "another of its results is read"
    return place


def _same(node: Node) -> int | str | None:
    """The place of the operand that the result is, as far as one node tells."""
    match node.op.standard:
        case "Add":
            return _beside(node, 0, 0, 1)
        case "Mul":
            return _beside(node, 1, 0, 1)
        case "Sub":
            return _beside(node, 0, 0)
        case "Div" | "Pow":
            return _beside(node, 1, 0)
        case "Where":
            return _taken(node)
    if _is_identity(node):
        return 0
    return _obstacle(node)


def _beside(node: Node, number: int, *places: int) -> int | str | None:
    """Which of these operands stays, if the other one is all one number."""
    held = [place for place in places if _is_all(node.inputs[1 - place], number)]
    fits = [place for place in held if _stays(node, place)]
    if held and not fits:
        return "the result may be wider, or of another type"
    return fits[0] if fits else None


def _is_all(value: Value, number: int) -> bool:
    """Whether a constant is one number over and over."""
    tensor = tensor_of(value)
    return tensor is not None and bool(np.all(tensor.array == number))


def _stays(node: Node, place: int) -> bool:
    """Whether the result surely is of the type of an operand, beside a constant."""
    x, tensor = node.inputs[place], tensor_of(node.inputs[1 - place])
    assert tensor is not None
    fits = tensor.size == 1 and tensor.array.ndim <= (x.rank or 0)
    return _is_as(x, node.outputs[0]) or (fits and tensor.type.dtype == x.type.dtype)


def _is_as(x: Value, y: Value) -> bool:
    """Whether two values surely are of one type."""
    return x.type.static is not None and x.type == y.type


def _taken(where: Node) -> int | str | None:
    """The operand from which a Where takes all."""
    tensor = tensor_of(where.inputs[0])
    if tensor is None or not tensor.size or np.any(tensor.array != tensor.array.flat[0]):
        return None
    place = 1 if tensor.array.flat[0] else 2
    fits = _is_as(where.inputs[place], where.outputs[0])
    return place if fits else "the result may be wider than what it takes"


def _obstacle(node: Node) -> str | None:
    """Why a node of an operator that may change nothing is not known to."""
    x, y = node.inputs[0].type, node.outputs[0].type
    if node.op.standard == "Dropout":
        return "it is in training mode, or may be"
    if node.op.standard == "Pad" and len(node.inputs) > 1 and tensor_of(node.inputs[1]) is None:
        return "its pads are not constant"
    tensors = isinstance(x, TensorType) and isinstance(y, TensorType)
    if not tensors or y.static or node.op.standard in {"Concat", "Split"}:
        return None
    alike = node.has("identity_if_same_type") and shapes_agree(x.shape, y.shape)
    return "it is not known that the result has its operand's shape" if alike else None


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
