"""What is computed from one node of a graph on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.statistics.walk import Held, outputs

Made = Callable[[Value], Value]
"""What stands for a layer, on what it reads."""


@dataclass(frozen=True, eq=False)
class Rest:
    """What is computed from one node of a graph on, of what is held just before it."""

    graph: Graph
    nodes: Sequence[Node]
    held: Held

    @classmethod
    def behind(cls, graph: Graph, node: Node, held: Held) -> Rest:
        """What is computed from a node on."""
        flows = {v: arrays for v, arrays in held.items() if v.node is None or v.node.inputs}
        return cls(graph, graph.nodes[graph.nodes.index(node) :], flows)

    def outputs(self, made: Made) -> dict[str, Array]:
        """The outputs of the graph where ``made`` stands for the first node."""
        known, first = self._known(), self.nodes[0]
        return self._outputs(known, {first.outputs[0]: made(known[first.inputs[0]])})

    def outputs_with(self, new: Mapping[Value, Value]) -> dict[str, Array]:
        """The outputs of the graph where other constants stand for some."""
        return self._outputs(self._known(), new)

    def _known(self) -> dict[Value, Value]:
        return {value: Value(value.type) for value in self.held}

    def _outputs(
        self, known: Mapping[Value, Value], new: Mapping[Value, Value]
    ) -> dict[str, Array]:
        env = {**known, **new}
        for node in (node for node in self.nodes if node.inputs and node.outputs[0] not in new):
            made = node.on(env.get(v, v) for v in node.inputs)
            env.update(zip(node.outputs, made.outputs, strict=True))
        made_of = {name: env.get(v, v) for name, v in self.graph.outputs.items()}
        named = {f"held {place}": value for place, value in enumerate(self.held)}
        declared = {name: known[value] for name, value in named.items()}
        whole = replace(self.graph, inputs=declared, outputs=made_of, defaults={})
        read = {name: value for name, value in declared.items() if whole.uses[value]}
        arrays = ({name: self.held[named[name]] for name in read}).items()
        count = len(next(iter(self.held.values())))
        feeds = [{name: held[place] for name, held in arrays} for place in range(count)]
        return outputs(replace(whole, inputs=read), feeds)
