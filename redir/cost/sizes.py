"""The sizes at which a graph is counted, where it leaves some of them open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from redir.errors import Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.tensor import TensorType, Type
from redir.runtime.concrete import Concrete, concrete_at
from redir.runtime.open_sizes import Shapes, fitting_shapes


def example_shapes(graph: Graph, input_shapes: Shapes | None = None) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs with which counts are made: of one example, and such as fit.

    Those in ``input_shapes`` stay. There are no others where none are found that fit.

    Raises:
        BadInput: a shape that is given contradicts the model.
    """
    if not input_shapes:
        return dict(graph.analysis(_fitting))  # which may take seconds to find
    return _fitting(graph, input_shapes)


def _fitting(graph: Graph, given: Shapes | None = None) -> dict[str, tuple[int, ...]]:
    try:
        return next(fitting_shapes(graph, given, single=True))
    except Unsupported:
        return {name: tuple(shape) for name, shape in (given or {}).items()}


@dataclass(frozen=True, eq=False)
class Sizes:
    """A graph whose inputs have some ``shapes``.

    The first size of an input is 1 where these leave it open.
    """

    graph: Graph
    shapes: Shapes

    @classmethod
    def of(cls, graph: Graph, shapes: Shapes | None = None) -> Sizes:
        """The graph at ``shapes``, by default those of ``example_shapes``."""
        return cls(graph, example_shapes(graph) if shapes is None else shapes)

    def nodes(self) -> Iterator[tuple[Node, Node]]:
        """Each node with the one that stands for it here, a constant if it is computed here."""
        for node in self.graph.walk():
            made = self._found.values.get(node.outputs[0])
            yield node, node if made is None or made.node is None else made.node

    def type(self, value: Value) -> Type:
        """What a value is here."""
        return self._found.values.get(value, value).type

    @cached_property
    def whole(self) -> Graph:
        """The graph at these sizes: itself where it leaves none open, or may take two branches."""
        return self._on(self._types, self._found)

    @cached_property
    def batched(self) -> Graph:
        """The graph at these sizes, but that of the batch stays open where it is."""
        inputs = self.graph.inputs
        types = {name: _open(here, inputs[name]) for name, here in self._types.items()}
        types = {name: here for name, here in types.items() if here != inputs[name].type}
        return self._on(types, concrete_at(self.graph, types))

    def node(self, node: Node) -> Node:
        """What stands for a node in ``whole``."""
        made = node.outputs[0] if self.whole is self.graph else self._found.values[node.outputs[0]]
        return made.node or node

    def _on(self, types: Mapping[str, Type], found: Concrete) -> Graph:
        if not types or found.misfit is not None:
            return self.graph
        inputs, outputs = (
            {name: found.values[value] for name, value in values.items()}
            for values in (self.graph.inputs, self.graph.outputs)
        )
        unmade = {value for value in found.values.values() if value.node is None}
        if not unmade.issubset(inputs.values()):  # of an If, of which no branch is known
            return self.graph
        return replace(self.graph, inputs=inputs, outputs=outputs)

    @cached_property
    def _types(self) -> Mapping[str, Type]:
        """The types of the inputs that are of another one here."""
        inputs = self.graph.inputs.items()
        at = {name: _at(value.type, self.shapes.get(name)) for name, value in inputs}
        return {name: at[name] for name, value in inputs if at[name] != value.type}

    @cached_property
    def _found(self) -> Concrete:
        return concrete_at(self.graph, self._types)


def _at(type_: Type, shape: tuple[int, ...] | None) -> Type:
    if not isinstance(type_, TensorType) or (shape is None and not type_.shape):
        return type_
    if shape is None and type_.shape and not isinstance(type_.shape[0], int):
        return TensorType(type_.dtype, (1, *type_.shape[1:]))
    return type_ if shape is None else TensorType(type_.dtype, tuple(shape))


def _open(here: Type, value: Value) -> Type:
    """The type that a value has here, but for a first size that is open."""
    if value.type.size(0) is not None or not value.rank:
        return here
    first = (value.type.shape or (None,))[0]
    return TensorType(here.dtype, (first, *(here.shape or ())[1:]))
