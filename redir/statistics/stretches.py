"""A graph in stretches: what is behind a node is run again and again, and made but once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt

from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.runtime.onnxruntime import Run
from redir.statistics.walk import running

Flows = Mapping[Value, Array]
"""Arrays of one run, of what is not the same in all."""


def flows(value: Value) -> bool:
    """Whether a value is none that a node without operands gives."""
    return value.node is None or bool(value.node.inputs)


@dataclass(frozen=True, eq=False)
class Stretches:
    """The nodes of a graph in stretches, about as many as there are layers in each.

    Each is run by itself. So to run what is behind a node, with something else in its place, takes
    a new graph for one stretch only.
    """

    graph: Graph

    @cached_property
    def ends(self) -> Sequence[int]:
        """Before which nodes stretches end, by their places."""
        nodes = self.graph.nodes
        layers = [place for place, node in enumerate(nodes) if node.has("layer")]
        each = max(isqrt(len(layers)), 1)
        return [*layers[each::each], len(nodes)]

    def end(self, place: int) -> int:
        """The end of the stretch that a node is in, by its place."""
        return self.ends[bisect_right(self.ends, place)]

    def last_reader(self, values: Iterable[Value]) -> int:
        """The place of the last node that reads any of some values, -1 if none does."""
        return max((self._last.get(value, -1) for value in values), default=-1)

    def alive(self, end: int) -> Sequence[Value]:
        """What flows, is made before one of the ``ends``, and read behind it or given out."""
        return self._alive[self.ends.index(end)]

    def outputs(self, end: int, held: Flows) -> dict[str, Array]:
        """The outputs of the graph, of what is ``alive`` at one of the ``ends``."""
        found = dict(held)
        for stretch in range(self.ends.index(end) + 1, len(self.ends)):
            found = self._run(stretch, found)
        given = self.graph.outputs.items()
        return {name: found[v] if flows(v) else self._fixed[name] for name, v in given}

    def _run(self, stretch: int, held: Flows) -> dict[Value, Array]:
        reads, gives, run = self._made[stretch]
        found = run({name: held[value] for name, value in reads.items()})
        alive = {v: held[v] for v in self._alive[stretch] if v in held}
        return {**alive, **{value: found[name] for name, value in gives.items()}}

    @cached_property
    def _alive(self) -> Sequence[Sequence[Value]]:
        nodes, given = self.graph.nodes, set(self.graph.outputs.values())
        made = [(v, place) for place, node in enumerate(nodes) for v in node.outputs if flows(v)]
        whole = [*((v, -1) for v in self.graph.inputs.values()), *made]
        return [
            [v for v, at in whole if at < end and (self._last.get(v, -1) >= end or v in given)]
            for end in self.ends
        ]

    @cached_property
    def _fixed(self) -> Mapping[str, Array]:
        """The outputs that do not flow."""
        given = {name: v for name, v in self.graph.outputs.items() if not flows(v)}
        return running(replace(self.graph, inputs={}, outputs=given, defaults={}))({})

    @cached_property
    def _made(self) -> Sequence[tuple[Mapping[str, Value], Mapping[str, Value], Run]]:
        starts = [0, *self.ends]
        return [
            self._stretch(self.graph.nodes[start:end], alive)
            for start, end, alive in zip(starts, self.ends, self._alive, strict=False)
        ]

    def _stretch(
        self, nodes: Sequence[Node], alive: Sequence[Value]
    ) -> tuple[Mapping[str, Value], Mapping[str, Value], Run]:
        """What some nodes read and give by name, and what computes that."""
        made = {v for node in nodes for v in node.outputs}
        reads = dict.fromkeys(v for n in nodes for v in n.inputs if flows(v) and v not in made)
        read = {f"x{place}": value for place, value in enumerate(reads)}
        gives = {f"y{place}": value for place, value in enumerate(v for v in alive if v in made)}
        env = {value: Value(value.type) for value in reads}
        inputs = {name: env[value] for name, value in read.items()}
        for node in (node for node in nodes if node.inputs):
            again = node.on(env.get(v, v) for v in node.inputs)
            env.update(zip(node.outputs, again.outputs, strict=True))
        outputs = {name: env[value] for name, value in gives.items()}
        whole = replace(self.graph, inputs=inputs, outputs=outputs, defaults={})
        used = {name: value for name, value in inputs.items() if whole.uses[value]}
        run = running(replace(whole, inputs=used))
        return {name: read[name] for name in used}, gives, run

    @cached_property
    def _last(self) -> Mapping[Value, int]:
        """The place of the last node that reads each value."""
        return {v: place for place, node in enumerate(self.graph.nodes) for v in node.inputs}
