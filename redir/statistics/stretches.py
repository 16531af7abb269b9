"""A graph in stretches: what is behind a node is run again and again, and made but once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isqrt
from typing import NamedTuple

from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.runtime.onnxruntime import Run
from redir.statistics.walk import running

Flows = Mapping[Value, Array]
"""Arrays of one run, of what is not the same in all."""


def flows(value: Value) -> bool:
    """Whether a value is none that a node without operands gives."""
    return value.node is None or bool(value.node.inputs)


class _Stretch(NamedTuple):
    """What some nodes read and give by name, and what computes that."""

    reads: Mapping[str, Value]
    gives: Mapping[str, Value]
    run: Run


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of a graph, wherever its stretches end."""

    graph: Graph

    @cached_property
    def layers(self) -> Sequence[int]:
        """The places of layers."""
        return [place for place, node in enumerate(self.graph.nodes) if node.has("layer")]

    @cached_property
    def flowing(self) -> Sequence[tuple[Value, int]]:
        """What flows, and the place of the node that makes it: -1 where that is given."""
        made = ((v, place) for place, n in enumerate(self.graph.nodes) for v in n.outputs)
        given = ((v, -1) for v in self.graph.inputs.values())
        return [*given, *((v, place) for v, place in made if flows(v))]

    @cached_property
    def last(self) -> Mapping[Value, int]:
        """The place of the last node that reads each value."""
        return {v: place for place, node in enumerate(self.graph.nodes) for v in node.inputs}

    @cached_property
    def fixed(self) -> Mapping[str, Array]:
        """The outputs that do not flow."""
        given = {name: v for name, v in self.graph.outputs.items() if not flows(v)}
        return running(replace(self.graph, inputs={}, outputs=given, defaults={}))({})


@dataclass(frozen=True, eq=False)
class Stretches:
    """The nodes of a graph in stretches, about as many as there are layers in each.

    Each is run by itself. So to run what is behind a node, with something else in its place, takes
    a new graph for one stretch only: of one layer, where the stretch was asked to be ``finer``.
    ``inner`` are the ends within that, and ``whole`` the stretches of the graph without them.
    """

    graph: Graph
    inner: Sequence[int] = ()
    whole: Stretches | None = None
    _made: dict[tuple[int, int], _Stretch] = field(default_factory=dict)
    _alive: dict[int, Sequence[Value]] = field(default_factory=dict)
    _finer: dict[int, Stretches] = field(default_factory=dict)

    @cached_property
    def ends(self) -> Sequence[int]:
        """Before which nodes stretches end, by their places."""
        if self.whole is not None:
            return sorted({*self.whole.ends, *self.inner})
        layers = self._known.layers
        each = max(isqrt(len(layers)), 1)
        return [*layers[each::each], len(self.graph.nodes)]

    def finer(self, place: int) -> Stretches:
        """The same, but each layer by itself in the stretch that a node is in, by its place.

        That is held until another one is asked for.
        """
        end = self.end(place)
        if end not in self._finer:
            start = max((other for other in self.ends if other < end), default=0)
            inner = [layer for layer in self._known.layers if start < layer < end]
            self._finer.clear()  # else all weights are held twice
            self._finer[end] = Stretches(self.graph, inner, self)
        return self._finer[end]

    def end(self, place: int) -> int:
        """The end of the stretch that a node is in, by its place."""
        return self.ends[bisect_right(self.ends, place)]

    def last_reader(self, values: Iterable[Value]) -> int:
        """The place of the last node that reads any of some values, -1 if none does."""
        return max((self._known.last.get(value, -1) for value in values), default=-1)

    def alive(self, end: int) -> Sequence[Value]:
        """What flows, is made before one of the ``ends``, and read behind it or given out."""
        if end not in self._alive:
            known, given = self._known, set(self.graph.outputs.values())
            made = (v for v, at in known.flowing if at < end)
            self._alive[end] = [v for v in made if known.last.get(v, -1) >= end or v in given]
        return self._alive[end]

    def outputs(self, end: int, held: Flows) -> dict[str, Array]:
        """The outputs of the graph, of what is ``alive`` at one of the ``ends``."""
        found, start = dict(held), end
        while start < len(self.graph.nodes):
            end = self.end(start)
            found = self._run(start, end, found)
            start = end
        given = self.graph.outputs.items()
        return {name: found[v] if flows(v) else self._known.fixed[name] for name, v in given}

    def _run(self, start: int, end: int, held: Flows) -> dict[Value, Array]:
        reads, gives, run = self._stretch(start, end)
        found = run({name: held[value] for name, value in reads.items()})
        alive = {v: held[v] for v in self.alive(end) if v in held}
        return {**alive, **{value: found[name] for name, value in gives.items()}}

    @cached_property
    def _known(self) -> _Known:
        return _Known(self.graph) if self.whole is None else self.whole._known  # noqa: SLF001

    def _stretch(self, start: int, end: int) -> _Stretch:
        """What is computed from a place to the end of the stretch that begins there."""
        if self.whole is not None and {start, end} <= {0, *self.whole.ends}:
            return self.whole._stretch(start, end)  # noqa: SLF001
        if (start, end) not in self._made:
            self._made[start, end] = self._compiled(self.graph.nodes[start:end], self.alive(end))
        return self._made[start, end]

    def _compiled(self, nodes: Sequence[Node], alive: Sequence[Value]) -> _Stretch:
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
        return _Stretch({name: read[name] for name in used}, gives, run)
