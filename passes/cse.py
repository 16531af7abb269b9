"""Compute once what several nodes compute."""

from __future__ import annotations

from dataclasses import dataclass

from redir.check.guarantees import (
    NO_GROWTH,
    NO_MORE_PARAMETERS,
    SAME_INTERFACE,
    SAME_OUTPUTS,
    says_sizes,
)
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, in_branches, transform
from redir.ir.tensor import Tensor, TensorType
from redir.ops import is_absent, tensor_of
from redir.pipeline import Pass


@dataclass(frozen=True)
class Cse(Pass):
    """Common subexpression elimination: equal nodes on equal operands become one.

    Operands that are constants are compared by content. Of these themselves only single numbers and
    such as say sizes become one: to share the zero biases of two layers would tie their channels.
    Random and unknown operators, control flow and sequences are left alone.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Keep the first of each kind."""
        graph = in_branches(graph, self.run)
        seen: dict[object, Node] = {}

        def first(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            tensor = tensor_of(node.outputs[0])
            if tensor is not None and _is_free(graph, node.outputs[0], tensor):
                return seen.setdefault(tensor, node).outputs
            plain = all(isinstance(v.type, TensorType) for v in node.outputs)
            if not node.inputs or not node.repeatable or node.bodies or not plain:
                return None
            # 1, 1.0 and True are equal to Python, and so are 0.0 and -0.0.
            attrs = tuple((k, type(a), a, str(a)) for k, a in sorted(node.attrs.items()))
            operands = tuple(None if is_absent(v) else tensor_of(v) or v for v in inputs)
            key = (node.op, node.op.version, operands, attrs, node.arity)
            if key not in seen:
                seen[key] = node.on(inputs)
            return seen[key].outputs

        return transform(graph, first)


def _is_free(graph: Graph, value: Value, tensor: Tensor) -> bool:
    """Whether a constant has no channels that sharing it could tie."""
    return tensor.array.ndim == 0 or says_sizes(graph, value, tensor)
