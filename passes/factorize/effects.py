"""What an error in a layer does to the outputs: what noise does, and what some forms do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.passes.factorize.forms import Factoring
from redir.passes.factorize.solving import Seen
from redir.statistics.walk import Batches, Held, far, outputs, walk

_NOISE = 0.01  # of the variance of a layer's result
_ERRORS = (0.02, 0.1, 0.3)  # of a layer, at which what it does is measured

Ways = Mapping[Node, tuple[Factoring, Array]]
Made = Callable[[Value], Value]
"""What stands for a layer, on what it reads."""


@dataclass(frozen=True, eq=False)
class Effect:
    """How far the outputs go, in shares of their variance, for an error of one layer.

    ``noise`` is how far for each unit of error, as a little noise says; ``moved`` how far they were
    seen to go at some ``errors``, from 0 to 1.
    """

    noise: float
    errors: Array
    moved: Array

    def moved_by(self, error: float) -> float:
        """How far they go, by what was seen."""
        return float(np.interp(error, self.errors, self.moved))


def effects(
    graph: Graph, batches: Batches, ways: Ways, seen: Mapping[Node, Seen], seed: int
) -> dict[Node, Effect]:
    """What an error of each layer does; only what is behind it is run again.

    ``ways`` have a form of each layer, with what it loses at each rank.
    """
    plain, found = outputs(graph, batches), dict[Node, Effect]()

    def step(node: Node, _: list[list[Any]], held: Held) -> list[Sequence[Any]] | None:
        if node in ways:
            rng = np.random.default_rng([seed, len(found)])
            (form, errors), was, rest = ways[node], seen[node], Rest.behind(graph, node, held)
            noise = far(plain, rest.outputs(_noisy(node, was.spread, rng))) / _NOISE
            ranks = _ranks(errors)
            made = (form.rough(rank, was.moments) for rank in ranks)
            moved = [far(plain, rest.outputs(factors.on)) for factors in made]
            found[node] = _effect(noise, errors[ranks], moved)
        return None

    walk(graph, batches, step, "effects of errors")
    return found


def _effect(noise: float, errors: Array, moved: Sequence[float]) -> Effect:
    """The effect by what was seen, which grows, and is in proportion beyond the last."""
    last = moved[-1] / errors[-1] if moved else noise
    return Effect(noise, np.array([0, *errors, 1]), np.maximum.accumulate([0, *moved, last]))


def _ranks(errors: Array) -> list[int]:
    """The ranks at which a form loses about so much: the first loses least."""
    found = {int(np.sum(errors > error)) for error in _ERRORS}
    return sorted((n for n in found if n < len(errors) and 0 < errors[n] < 1), reverse=True)


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
        known = {value: Value(value.type) for value in self.held}
        env, (first, *others) = dict(known), self.nodes
        env[first.outputs[0]] = made(env[first.inputs[0]])
        for node in (node for node in others if node.inputs):
            new = node.on(env.get(v, v) for v in node.inputs)
            env.update(zip(node.outputs, new.outputs, strict=True))
        made_of = {name: env.get(v, v) for name, v in self.graph.outputs.items()}
        named = {f"held {place}": value for place, value in enumerate(self.held)}
        declared = {name: known[value] for name, value in named.items()}
        whole = replace(self.graph, inputs=declared, outputs=made_of, defaults={})
        read = {name: value for name, value in declared.items() if whole.uses[value]}
        arrays = ({name: self.held[named[name]] for name in read}).items()
        count = len(next(iter(self.held.values())))
        feeds = [{name: held[place] for name, held in arrays} for place in range(count)]
        return outputs(replace(whole, inputs=read), feeds)


def _noisy(node: Node, spread: Array, rng: np.random.Generator) -> Made:
    """A layer with noise in its result, the same for every example."""
    y = node.outputs[0].type
    shape = [1, *(y.size(axis) or 1 for axis in range(1, len(y.shape or ())))]
    along = [1] * len(shape)
    along[1 if node.op == ops.Conv else -1] = -1
    noise = rng.standard_normal(shape) * spread.reshape(along) * np.sqrt(_NOISE)
    added = ops.constant(noise.astype(y.dtype))
    return lambda x: ops.Add(node.on((x, *node.inputs[1:])).outputs[0], added)
