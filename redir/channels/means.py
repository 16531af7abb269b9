"""Means over channels: they miss no zeros where a constant behind them can say how many there were.

Of C channels n are left, if the others are zero; then the mean over C is n / C times the mean over
n. What is computed from that is off by a power of C / n, up to a constant that takes the power:
in x / sqrt(mean(x^2) + e) g the numbers e and g do, which become e C / n and g sqrt(C / n).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from redir import ops
from redir.ir import Graph, Kept, Link, Node, Value, width
from redir.ops import tensor_of
from redir.ops.links import axes_of, contracted

Powers: TypeAlias = dict[tuple[Node, int], float]
"""Constant operands of nodes, each with the power of a factor that it takes."""


def averaged(graph: Graph, node: Node) -> Iterator[Link]:
    """The axis along which a ReduceMean adds up, where constants can say how many there were."""
    axis = _axis(node)
    if axis is not None and node in graph.analysis(means):
        yield from contracted(node.inputs[0], axis, node.inputs[0], axis)


def corrections(graph: Graph, kept: Kept) -> dict[Node, dict[int, float]]:
    """By node and place of an operand, what constants are multiplied by if ``kept`` is left."""
    found: dict[Node, dict[int, float]] = {}
    for value in dict.fromkeys(value for value, _ in kept):
        for mean in graph.readers.get(value, ()):
            axis = _axis(mean)
            left = None if axis is None else kept.get((value, axis))
            powers = graph.analysis(means).get(mean)
            if axis is None or left is None or powers is None:
                continue
            for (node, place), power in powers.items():
                factor = (width((value, axis)) / len(left)) ** power
                factors = found.setdefault(node, {})
                factors[place] = factors.get(place, 1.0) * factor
    return found


def corrected(inputs: Sequence[Value], factors: Mapping[int, float]) -> tuple[Value, ...]:
    """Operands with the constants at some places multiplied, in float64 and rounded once."""
    made = list(inputs)
    for place, factor in factors.items():
        tensor = tensor_of(inputs[place])
        assert tensor is not None
        array = tensor.array * np.float64(factor)
        made[place] = ops.constant(array.astype(tensor.array.dtype), inputs[place])
    return tuple(made)


def _axis(node: Node) -> int | None:
    """The one axis that a ReduceMean of floating-point numbers runs along, if it does."""
    rank = node.inputs[0].rank if node.op == ops.ReduceMean else None
    axes = axes_of(node, rank) if rank else None
    floats = bool(node.inputs) and node.inputs[0].type.dtype.kind == "f"
    return axes.pop() if axes is not None and len(axes) == 1 and floats else None


def means(graph: Graph) -> Mapping[Node, Powers]:
    """Each mean of which constants take a factor, with the power that each of them takes."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    found = {node: _taken(graph, node, order) for node in order if _axis(node) is not None}
    return {node: powers for node, powers in found.items() if powers is not None}


def _taken(graph: Graph, mean: Node, order: Mapping[Node, int]) -> Powers | None:
    flow = _Flow(graph)
    if not flow.reach(mean.outputs[0], 1.0):
        return None
    while flow.ahead:
        node = min(flow.ahead, key=order.__getitem__)
        flow.ahead.remove(node)
        if not flow.through(node):
            return None
    return flow.taken


@dataclass
class _Flow:
    """A factor on its way: ``of`` each value that it reaches the power of it."""

    graph: Graph
    of: dict[Value, float] = field(default_factory=dict)
    taken: Powers = field(default_factory=dict)
    ahead: set[Node] = field(default_factory=set)

    def reach(self, value: Value, power: float) -> bool:
        """Go on at the readers of ``value``; not where it leaves the graph."""
        self.of[value] = power
        self.ahead.update(self.graph.readers.get(value, ()))
        return value not in self.graph.outputs.values()

    def through(self, node: Node) -> bool:
        """Pass a node, or end in its constants, if that can be."""
        places = [i for i, v in enumerate(node.inputs) if v in self.of]
        terms = node.op.terms(node) if node.has("positively_homogeneous") else ()
        multiplied = {i for term in terms for i in term}
        if multiplied.issuperset(places):
            return self._multiplied(node, terms)
        powers = [(node.op.power(node, i), self.of[node.inputs[i]]) for i in places]
        total = [None if p is None else p * q for p, q in powers]
        return None not in total and self._on(node, sum(p for p in total if p is not None))

    def _multiplied(self, node: Node, terms: Sequence[tuple[int, ...]]) -> bool:
        """A sum of products: constants take all of it, or each term has the same power of it."""
        powers = {term: self._power(node, term) for term in terms}
        several = {i for i, n in Counter(i for term in terms for i in term).items() if n > 1}
        held = {term: self._constant(node, set(term) - several) for term in terms}
        met = [term for term, power in powers.items() if power]
        if not met:
            return True  # the powers of its factors cancel
        if all(held[term] is not None for term in met):
            return self._give(node, {held[term]: -powers[term] for term in met})
        wanted = {powers[term] for term in met}
        lacking = [term for term in terms if not powers[term]]
        if len(wanted) > 1 or any(held[term] is None for term in lacking):
            return False
        power = wanted.pop()
        return self._give(node, {held[t]: power for t in lacking}) and self._on(node, power)

    def _power(self, node: Node, term: tuple[int, ...]) -> float:
        return sum(self.of.get(node.inputs[i], 0.0) for i in term)

    def _constant(self, node: Node, places: Collection[int]) -> int | None:
        """The place of a constant, of those that are factors of one term alone."""
        tensors = {i: tensor_of(node.inputs[i]) for i in sorted(places)}
        floats = (i for i, t in tensors.items() if t is not None and t.array.dtype.kind == "f")
        return next(floats, None)

    def _give(self, node: Node, powers: Mapping[int | None, float]) -> bool:
        self.taken.update({(node, i): power for i, power in powers.items() if i is not None})
        return True

    def _on(self, node: Node, power: float) -> bool:
        return all(self.reach(value, power) for value in node.outputs)
