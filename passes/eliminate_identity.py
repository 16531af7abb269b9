"""Remove the operators that change nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import NO_DTYPE, TensorType
from redir.ops import tensor_of
from redir.ops.schema import trains
from redir.ops.slicing import takes_all
from redir.pipeline import Pass


@dataclass(frozen=True)
class EliminateIdentity(Pass):
    """Drop Identity, Dropout in inference, and what moves or casts nothing.

    A Reshape, Tile or the like to the shape it had, a Transpose in order, a Cast to the same type,
    a Pad by nothing, a Concat of one operand, a Split into one part, a Slice of all.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Let the operand stand for the result."""

        def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            masked = any(graph.uses[v] for v in node.outputs[1:])
            if not inputs or masked or not _is_identity(node):
                return None
            return [inputs[0]] * node.arity

        return transform(graph, visit)


def _is_identity(node: Node) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    match node.op.standard:
        case "Identity":
            return True
        case "Dropout":
            return not trains(node)
        case "Cast":
            return x.type.dtype != NO_DTYPE and x.type.dtype == y.type.dtype
        case "Concat":
            return len(node.inputs) == 1
        case "Split":
            return node.arity == 1
        case "Slice":
            return takes_all(node)
        case "Transpose":
            perm = node.attrs.get("perm")
            return perm is not None and perm == tuple(range(len(perm)))
        case "Pad":
            return _pads_nothing(node)
    known = isinstance(x.type, TensorType) and x.type.static is not None
    return known and x.type == y.type and node.has("identity_if_same_type")


def _pads_nothing(node: Node) -> bool:
    pads = node.attrs.get("pads", node.attrs.get("paddings"))
    if pads is not None:
        return not any(pads)
    given = tensor_of(node.inputs[1]) if len(node.inputs) > 1 else None
    return given is not None and not np.any(given.array)
