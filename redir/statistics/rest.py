"""What is computed from one node of a graph on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redir.ir import Node, Value
from redir.ir.tensor import Array
from redir.statistics.stretches import Flows, Stretches, flows
from redir.statistics.walk import Held, running

Made = Callable[[Value], Value]
"""What stands for a layer, on what it reads."""


@dataclass(frozen=True, eq=False)
class Rest:
    """What is computed from a node of a graph on, by its place, of what is held just before it."""

    stretches: Stretches
    place: int
    held: Held

    @classmethod
    def behind(cls, stretches: Stretches, node: Node, held: Held) -> Rest:
        """What is computed from a node on."""
        known = {value: arrays for value, arrays in held.items() if flows(value)}
        return cls(stretches, stretches.graph.nodes.index(node), known)

    def outputs(self, made: Made) -> dict[str, Array]:
        """The outputs of the graph where ``made`` stands for the first node.

        They are those of all runs one after the other, as one row each.
        """
        known, first = self._known(), self.stretches.graph.nodes[self.place]
        return self._outputs(known, {first.outputs[0]: made(known[first.inputs[0]])})

    def outputs_with(self, new: Mapping[Value, Value]) -> dict[str, Array]:
        """The outputs of the graph where other constants stand for some."""
        return self._outputs(self._known(), new)

    def _known(self) -> dict[Value, Value]:
        return {value: Value(value.type) for value in self.held}

    def _outputs(
        self, known: Mapping[Value, Value], new: Mapping[Value, Value]
    ) -> dict[str, Array]:
        end, env = self._until(known, new)
        alive = self.stretches.alive(end)
        runs = self._first(known, {v: env[v] for v in alive if v in env and env[v] is not v})
        found = [self.stretches.outputs(end, run) for run in runs]
        return {n: np.concatenate([np.ravel(f[n]) for f in found]) for n in found[0]}

    def _until(
        self, known: Mapping[Value, Value], new: Mapping[Value, Value]
    ) -> tuple[int, dict[Value, Value]]:
        """Where what is behind is as it was, but for its numbers; and what is made up to there."""
        nodes, env, start = self.stretches.graph.nodes, {**known, **new}, self.place
        last = self.stretches.last_reader(v for v in new if not flows(v))
        while True:
            end = self.stretches.end(start)
            for node in nodes[start:end]:
                if node.inputs and node.outputs[0] not in new:
                    made = node.on(env.get(v, v) for v in node.inputs)
                    env.update(zip(node.outputs, made.outputs, strict=True))
            alike = all(_alike(v, env[v]) for v in self.stretches.alive(end) if v in env)
            if end == len(nodes) or (alike and last < end):
                return end, env
            start = end

    def _first(self, known: Mapping[Value, Value], made: Mapping[Value, Value]) -> Sequence[Flows]:
        """What is ``made`` of what is ``known``, for each run."""
        graph = self.stretches.graph
        named = {f"held {place}": value for place, value in enumerate(self.held)}
        declared = {name: known[value] for name, value in named.items()}
        results = {f"made {place}": value for place, value in enumerate(made.values())}
        whole = replace(graph, inputs=declared, outputs=results, defaults={})
        read = {name: value for name, value in declared.items() if whole.uses[value]}
        run = running(replace(whole, inputs=read))
        count = len(next(iter(self.held.values())))
        feeds = ({name: self.held[named[name]][place] for name in read} for place in range(count))
        return [dict(zip(made, run(feed).values(), strict=True)) for feed in feeds]


def _alike(value: Value, other: Value) -> bool:
    """Whether two values have the same sizes, as far as they are known."""
    pair = value.type.shape, other.type.shape
    if None in pair:
        return pair[0] == pair[1]
    a, b = ([d if isinstance(d, int) else None for d in shape or ()] for shape in pair)
    return a == b
