"""Which axis of an operand is, token by token, which axis of a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from redir import ops
from redir.cost.sizes import Sizes, example_shapes
from redir.ir import Graph, Node, Port, Value, width
from redir.ir.tensor import Tensor
from redir.ops import tensor_of
from redir.passes.merge_tokens.fused import parts_of


@dataclass(frozen=True)
class Tie:
    """Along ``axis`` of the operand at ``place`` stands what is along ``along`` of a result."""

    place: int
    axis: int
    result: int
    along: int


@dataclass(frozen=True, eq=False)
class Ties:
    """The axes of a graph that operators leave as they are, at the sizes that it has.

    Where it leaves the number of examples open there is one: tokens are followed through an axis of
    all tokens of all examples, too. Where sizes are known, two examples must tell the same.
    """

    graph: Graph
    sizes: Sizes
    more: Sizes
    _found: dict[Node, Sequence[Tie]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, graph: Graph) -> Ties:
        """Those of a graph."""
        one = dict(example_shapes(graph))
        two = {
            name: (2, *shape[1:]) if shape and graph.inputs[name].type.size(0) is None else shape
            for name, shape in one.items()
        }
        return cls(graph, Sizes.of(graph, one), Sizes.of(graph, two))

    def at(self, node: Node) -> Sequence[Tie]:
        """Those of one node."""
        if node not in self._found:
            parts = parts_of(node)
            queries = [Tie(parts.queries, parts.axis, 0, parts.axis)] if parts else []
            sure = _ties(self.more.node(node))
            found = _ties(self.sizes.node(node))
            flat = [t for t in found if t in sure or _is_open(node, t)]
            self._found[node] = [*flat, *queries]
        return self._found[node]

    def forth(self, node: Node, port: Port) -> list[Port]:
        """The axes of results along which is what is along one of an operand."""
        value, axis = port
        ties = (t for t in self.at(node) if node.inputs[t.place] is value and t.axis == axis)
        return [(node.outputs[t.result], t.along) for t in ties]

    def keeps(self, node: Node, port: Port) -> bool:
        """Whether each operand that is a value goes on along an axis of it."""
        ties = {t.place for t in self.at(node) if t.axis == port[1]}
        return ties.issuperset(i for i, v in enumerate(node.inputs) if v is port[0])

    def back(self, port: Port) -> list[Port]:
        """The axes of operands along which is what is along one of a result."""
        value, axis = port
        if value.node is None:
            return []
        ties = (t for t in self.at(value.node) if (t.result, t.along) == (value.index, axis))
        return [(value.node.inputs[t.place], t.axis) for t in ties]

    def summed(self, node: Node, port: Port) -> Port | None:
        """The axis of another operand, products with which a node adds up along an axis."""
        twin = self.sizes.node(node)
        here = [i for i, v in enumerate(node.inputs) if v is port[0]]
        for link in twin.op.links(twin) if twin.op != ops.Const and len(here) == 1 else ():
            ends = [(_place(twin, end[0]), end[1]) for end in (link.a, link.b)]
            if link.kind == "summed" and (here[0], port[1]) in ends:
                place, axis = ends[1 - ends.index((here[0], port[1]))]
                if place is not None and place != here[0]:
                    return node.inputs[place], axis
        return None

    def numbers(self, value: Value) -> Tensor | None:
        """What a value holds that is constant, or follows from sizes alone."""
        held = tensor_of(value)
        if held is None and value.node is not None:
            held = tensor_of(self.sizes.node(value.node).outputs[0]) if not value.index else None
        return held

    def even(self, value: Value) -> Tensor | None:
        """The one number that a constant value holds everywhere: as a tensor of sizes 1."""
        held = self.numbers(value)
        if held is None or not held.size or (held.array != held.array.flat[0]).any():
            return None
        return Tensor.take(held.array.flat[:1].reshape((1,) * held.array.ndim))


def _place(node: Node, value: Value) -> int | None:
    return node.inputs.index(value) if value in node.inputs else None


def _is_open(node: Node, tie: Tie) -> bool:
    """Whether an axis is of a size that depends on the number of examples."""
    ends = (node.inputs[tie.place], tie.axis), (node.outputs[tie.result], tie.along)
    return any(value.type.size(axis) is None for value, axis in ends)


def _ties(twin: Node) -> Sequence[Tie]:
    if twin.op == ops.Const:
        return ()
    found = dict[Tie, None]()
    for link in twin.op.links(twin):
        straight = np.array_equal(link.index, np.arange(width(link.b)))
        if link.kind != "same" or not straight or width(link.a) != width(link.b):
            continue
        for (x, axis), (y, along) in ((link.a, link.b), (link.b, link.a)):
            if y in twin.outputs and x not in twin.outputs:
                places = (i for i, v in enumerate(twin.inputs) if v is x)
                found.update((Tie(i, axis, y.index, along), None) for i in places)
    return list(found)
