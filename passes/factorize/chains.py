"""What forms of layers save in time, as measured in short chains of a layer and its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from redir.channels.coupling import Coupling
from redir.cost import Sizes, macs
from redir.cost.models import CostModel
from redir.ir import Graph, Node, Value
from redir.layers.linear import linear
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.forms import MULTIPLY_ADDS, Factoring
from redir.passes.factorize.gone import Gone
from redir.passes.factorize.narrower import Narrower, narrower
from redir.passes.factorize.saved import Savings
from redir.passes.factorize.solving import rebuilt
from redir.passes.factorize.study import Saving, Study, counted
from redir.progress import progress
from redir.statistics.moments import Moments

_AROUND = 5  # nodes on each side, at most: as far as to the layer before a sum and a ReLU
_LITTLE = 0.03  # of the multiply-adds: the smallest layers, that have so much together, stay


@dataclass(frozen=True, eq=False)
class Chain:
    """A layer among its neighbours: ``node`` stands for it in ``graph``."""

    graph: Graph
    node: Node

    @classmethod
    def around(cls, graph: Graph, node: Node) -> Chain:
        """What is around a layer, up to the nearest layers before it and behind it, and these."""
        before, behind = _nearest(node, _makers), _nearest(node, partial(_readers, graph))
        env, inside = dict[Value, Value](), {node, *before, *behind}
        for each in (n for n in graph.nodes if n in inside):
            flows = (v for v in each.inputs if v.node is None or v.node.inputs)
            env.update({v: Value(v.type) for v in flows if v not in env})
            made = each.on(env.get(v, v) for v in each.inputs)
            env.update(zip(each.outputs, made.outputs, strict=True))
        given = [new for new in env.values() if new.node is None]
        ends = [v for v in env if v.node in inside and inside.isdisjoint(graph.readers.get(v, ()))]
        inputs = {f"x{place}": value for place, value in enumerate(given)}
        outputs = {f"y{place}": env[value] for place, value in enumerate(ends)}
        twin = env[node.outputs[0]].node
        assert twin is not None
        return cls(Graph(inputs, outputs, opset=graph.opset), twin)

    def having(self, made: Factors) -> Graph:
        """The chain with factors in place of the layer."""
        return rebuilt(self.graph, {self.node: made})

    def shows(self, form: Factoring) -> bool:
        """Whether all that a form changes is there."""
        if not isinstance(form, Narrower):
            return not isinstance(form, Gone)
        if form.units.shape[1] > 1:
            return False
        layer = linear(self.node)
        assert not isinstance(layer, str)
        here, savings = replace(form, layer=layer, also=()), Savings(Sizes(self.graph, {}))
        return not isinstance(narrower(self.graph.analysis(Coupling), here, savings), str)


@dataclass(frozen=True, eq=False)
class Timed:
    """A chain that takes a ``share`` of the time of a whole."""

    chain: Chain
    share: float
    moments: Moments
    clock: CostModel

    def saved(self, form: Factoring, rank: int) -> float:
        """What a form of its layer saves of the time of the whole."""
        after = self.chain.having(form.guess(rank, self.moments))
        return self.share * (1 - self.clock.ratio(self.chain.graph, after))


def savings(study: Study, forms: Sequence[str], align: int, clock: CostModel) -> Saving:
    """The share of the time of the whole that a form of a layer saves at a rank.

    It is timed at two ranks, in a chain. What no chain shows is judged by its multiply-adds, and
    the smallest layers save nothing.
    """
    whole, lines = study.sizes.whole, dict[Factoring, Saving]()
    chains = {node: Chain.around(whole, study.sizes.node(node)) for node in _large(study)}
    counts = counted(MULTIPLY_ADDS, of=macs(whole))
    for node, chain in progress(chains.items(), "times of layers"):
        first = next(iter(chains.values())).graph
        share = clock.ratio(whole, first) * clock.ratio(first, chain.graph)
        share *= len(study.ways[node][0].alike)
        timed = Timed(chain, share, study.seen[node].moments, clock)
        for form in (f for f in study.ways[node] if f.name in forms):
            ranks = [r for r in study.ranks(form, align) if counts(form, r) > 0]
            if ranks:
                lines[form] = _line(form, timed.saved if chain.shows(form) else counts, ranks)

    def saving(form: Factoring, rank: int) -> float:
        held = form in lines and counts(form, rank) > 0
        return max(lines[form](form, rank), 0.0) if held else 0.0

    return saving


def _large(study: Study) -> list[Node]:
    """The layers but for the smallest, the largest first."""
    sizes = {node: forms[0].dense(MULTIPLY_ADDS) for node, forms in study.ways.items()}
    ordered = sorted(sizes, key=lambda node: sizes[node])
    behind = np.cumsum([sizes[node] for node in ordered]) > _LITTLE * macs(study.sizes.whole)
    return [node for node, counts in zip(ordered, behind, strict=True) if counts][::-1]


def _line(form: Factoring, saved: Saving, ranks: Sequence[int]) -> Saving:
    """A line through what is saved at two of the ranks, which falls as the rank grows."""
    low, high = ranks[len(ranks) // 4], ranks[3 * len(ranks) // 4]
    first, last = saved(form, low), saved(form, high)
    slope = min(last - first, 0) / max(high - low, 1)
    return lambda _, rank: (first + last) / 2 + slope * (rank - (low + high) / 2)


def _nearest(node: Node, flow: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """The nodes that are nearest in one direction, no further than to layers."""
    found, ends = list[Node](), [node]
    while ends and len(found) < _AROUND:
        new = [n for n in flow(ends.pop(0)) if n not in found]
        found += new
        ends += [n for n in new if not _sums(n)]
    return found


def _sums(node: Node) -> bool:
    """Whether a node adds up over all channels that it reads, as most layers do."""
    layer = linear(node) if node.has("layer") else ""
    return not isinstance(layer, str) and layer.groups == 1


def _makers(node: Node) -> Iterable[Node]:
    return (v.node for v in node.inputs if v.node is not None and v.node.inputs)


def _readers(graph: Graph, node: Node) -> Iterable[Node]:
    return (reader for v in node.outputs for reader in graph.readers.get(v, ()))
