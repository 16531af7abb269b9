"""What is computed from one node of a graph on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
        place = stretches.graph.nodes.index(node)
        return cls(stretches.finer(place), place, known)

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
        alive = [v for v in self.stretches.alive(end) if v in env]
        made = {v: env[v] for v in alive if env[v] is not known.get(v)}
        kept = [v for v in alive if v not in made]
        runs = enumerate(self._first(known, made))
        firsts = ({**run, **{v: self.held[v][place] for v in kept}} for place, run in runs)
        found = [self.stretches.outputs(end, first) for first in firsts]
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
            pairs = ((v, env[v]) for v in self.stretches.alive(end) if v in env)
            alike = all(self._sizes(v) == self._sizes(new) for v, new in pairs)
            if end == len(nodes) or (alike and last < end):
                return end, env
            start = end

    def _sizes(self, value: Value) -> Sequence[int | str | None] | None:
        """The sizes of a value, as far as they are known: also what is open, if all runs agree."""
        shape, told = value.type.shape, self._told
        return None if shape is None else [told.get(d) if isinstance(d, str) else d for d in shape]

    @cached_property
    def _told(self) -> Mapping[str, int]:
        """The sizes that are open in the graph, and the same in all runs."""
        found = defaultdict[str, set[int]](set)
        for value, arrays in self.held.items():
            for axis, dim in enumerate(value.type.shape or ()):
                found[str(dim)].update(array.shape[axis] for array in arrays)
        return {dim: sizes.pop() for dim, sizes in found.items() if len(sizes) == 1}

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
