"""Prices in time: chains of layers, what forms save on a clock, and a speed that is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest

from redir import ops
from redir.cost import macs
from redir.errors import Unchanged
from redir.ir import Graph, Value, evaluate
from redir.passes.factorize import Factorize
from redir.passes.factorize.chains import Chain, savings
from redir.passes.factorize.study import Study, counted
from redir.passes.factorize.ways import DENSE
from tests.helpers import const, operators, placeholder

RNG = np.random.default_rng(0)


def layer(x: Value, outputs: int, size: int = 3) -> Value:
    weights = const(RNG.normal(size=(outputs, x.type.size(1) or 0, size, size)))
    bias = const(RNG.normal(size=outputs))
    return ops.Relu(ops.Conv(x, weights, bias, pads=(size // 2,) * 4))


def network() -> Graph:
    """Layers in a row, of which two are the branch of a sum, and a tiny one."""
    x = placeholder("n", 3, 8, 8)
    stem = layer(x, 16)
    branch = layer(layer(stem, 16), 16)
    wide = layer(ops.Relu(ops.Add(branch, stem)), 32, size=1)
    y = layer(layer(wide, 8, size=1), 1, size=1)
    return Graph({"x": x}, {"y": y})


GRAPH = network()
LAYERS = [node for node in GRAPH.nodes if node.op == ops.Conv]


@dataclass(frozen=True)
class Clock:
    """Takes as long as ``seconds`` says, and remembers the graphs that it was asked of."""

    seconds: Callable[[Graph], float] = macs
    asked: list[tuple[Graph, Graph]] = field(default_factory=list, compare=False)
    by_parts: bool = False
    zeros_free: bool = False
    measured: bool = True

    def ratio(self, before: Graph, after: Graph) -> float:
        self.asked.append((before, after))
        return self.seconds(after) / self.seconds(before)


def factorize(clock: Clock, **options: float) -> Factorize:
    return Factorize(statistics="drawn", examples=16, align=1, cost=clock, **options)  # type: ignore[arg-type]


@cache
def known() -> Study:
    found = factorize(Clock())._study(GRAPH)
    assert found is not None
    return found


def test_a_chain_ends_at_the_nearest_layers() -> None:
    chain = Chain.around(GRAPH, LAYERS[1])
    assert operators(chain.graph) == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    assert chain.node.attrs == LAYERS[1].attrs
    assert chain.node.inputs[1] is LAYERS[1].inputs[1]


def test_a_chain_goes_through_a_sum() -> None:
    found = Chain.around(GRAPH, LAYERS[3])
    behind = ["Relu", "Add", "Relu", "Conv", "Relu", "Conv"]
    assert operators(found.graph)[-len(behind) :] == behind
    assert len(found.graph.nodes) < len(GRAPH.nodes)


def test_a_chain_of_all_that_there_is_computes_the_same() -> None:
    x = placeholder("n", 3, 8, 8)
    middle = layer(layer(x, 4), 5)
    whole = Graph({"x": x}, {"y": layer(middle, 2)})
    assert middle.node is not None
    conv = middle.node.inputs[0].node
    assert conv is not None
    held = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    made = evaluate(Chain.around(whole, conv).graph, {"x0": held})["y0"]
    np.testing.assert_array_equal(np.maximum(made, 0), evaluate(whole, {"x": held})["y"])


def test_on_a_clock_of_multiply_adds_what_is_saved_is_their_share() -> None:
    study, counts = known(), counted("macs", macs(GRAPH))
    saving = savings(study, DENSE, 1, Clock())
    timed = [f for n in LAYERS[:5] for f in study.ways[n] if f.name in DENSE]
    ranks = {f: [r for r in study.ranks(f, 1) if counts(f, r) > 0] for f in timed}
    found = {(f, r): saving(f, r) for f in timed for r in ranks[f]}
    assert {f.name for f, _ in found} == {*DENSE} - {"heads"}
    assert found == pytest.approx({(f, r): counts(f, r) for f, r in found})


def test_what_is_saved_falls_as_the_rank_grows() -> None:
    study, rng = known(), np.random.default_rng(0)
    saving = savings(study, DENSE, 1, Clock(lambda graph: macs(graph) * rng.uniform(0.1, 10)))
    for form in (f for forms in study.ways.values() for f in forms):
        found = [saving(form, rank) for rank in study.ranks(form, 1)]
        assert found == sorted(found, reverse=True)


def test_the_smallest_layers_stay() -> None:
    study, clock = known(), Clock()
    saving = savings(study, DENSE, 1, clock)
    assert {saving(form, 1) for form in study.ways[LAYERS[-1]]} == {0.0}


def test_what_multiplies_more_is_no_gain() -> None:
    saving = savings(known(), DENSE, 1, Clock(lambda graph: 1 / macs(graph)))
    forms = [f for n in LAYERS[:5] for f in known().ways[n]]
    assert all(saving(f, f.full) == 0.0 for f in forms if f.name not in {"narrower", "gone"})


def test_a_speed_is_reached_on_the_clock_in_a_few_timings_for_each_rule() -> None:
    clock = Clock(lambda graph: 1e5 + macs(graph))
    step = factorize(clock, speed=1.3)
    after = step.run(GRAPH)
    assert 1 / 1.3 - 0.02 <= clock.ratio(GRAPH, after) <= 1 / 1.3
    wholes = [after for before, after in clock.asked if is_whole(before) and is_whole(after)]
    assert 3 <= len(wholes) <= 2 * 6 + 2  # those, the result, and ours


def is_whole(graph: Graph) -> bool:
    """Whether it is no chain."""
    return graph.inputs.keys() == GRAPH.inputs.keys()


def slow_kernels(graph: Graph) -> float:
    """Multiply-adds, but a kernel that is long along one axis takes ten times as long."""
    shapes = (n.inputs[1].type.shape for n in graph.nodes if n.op == ops.Conv)
    return macs(graph) * (1 + 10 * sum({1, 3} <= set(shape[2:]) for shape in shapes if shape))


@pytest.mark.parametrize("target", [{"speed": 1.3}, {"macs": 0.7}])
def test_forms_that_are_slow_are_not_taken(target: dict[str, float]) -> None:
    after = factorize(Clock(slow_kernels), **target).run(GRAPH)
    assert macs(after) < 0.9 * macs(GRAPH)
    assert slow_kernels(after) == macs(after)


def test_a_share_is_left_that_is_asked_also_where_time_counts() -> None:
    after = factorize(Clock(slow_kernels), macs=0.7).run(GRAPH)
    assert 0.66 < macs(after) / macs(GRAPH) <= 0.7


def slow_whole(graph: Graph) -> float:
    """Multiply-adds, but the whole takes a hundred times as long once it was changed."""
    return macs(graph) * (1 + 99 * (is_whole(graph) and macs(graph) != macs(GRAPH)))


SLOW: Mapping[str, tuple[Callable[[Graph], float], str]] = {
    "no form of a layer that is faster fits": (lambda graph: len(graph.nodes), "spatial+low-rank"),
    "factored it would not be faster": (slow_whole, "all"),
}


@pytest.mark.parametrize("why", SLOW)
@pytest.mark.parametrize("target", [{"speed": 1.5}, {"macs": 0.6}, {"error": 0.2}], ids=str)
def test_what_is_not_faster_stays_as_it_is(why: str, target: dict[str, float]) -> None:
    clock, forms = SLOW[why]
    step = replace(factorize(Clock(clock), **target), forms=forms)
    with pytest.warns(Unchanged, match=why):
        assert step.run(GRAPH) is GRAPH
