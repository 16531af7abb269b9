"""Compute once what several nodes compute."""

from __future__ import annotations

from dataclasses import dataclass

from redir.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Node, Value
from redir.ops import is_absent, tensor_of
from redir.pipeline import Pass
from redir.rewrite import Outputs, transform


@dataclass(frozen=True)
class Cse(Pass):
    """Common subexpression elimination: equal nodes on equal operands become one.

    Operands that are constants are compared by content, but stay apart themselves: to share the
    zero biases of two layers would tie their channels. Random and unknown operators, and control
    flow, are left alone.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Keep the first of each kind."""
        seen: dict[object, Node] = {}

        def first(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            if not node.inputs or not node.repeatable or node.bodies:
                return None
            attrs = tuple(
                sorted(((k, type(a), a) for k, a in node.attrs.items()), key=lambda a: a[0])
            )
            operands = tuple(None if is_absent(v) else tensor_of(v) or v for v in inputs)
            key = (node.op, node.op.version, operands, attrs, node.arity)
            if key not in seen:
                seen[key] = node.on(inputs)
            return seen[key].outputs

        return transform(graph, first)
