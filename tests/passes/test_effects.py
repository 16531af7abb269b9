"""Effects: what an error of a layer does to the outputs, and how plans are chosen by it."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.cost import Sizes, macs
from redir.ir import Graph, Node, Value, evaluate
from redir.ir.tensor import Array
from redir.passes.factorize import Factorize
from redir.passes.factorize.effects import effects
from redir.passes.factorize.forms import Factoring
from redir.passes.factorize.solving import observed
from redir.passes.factorize.study import RULES, Study, counted, study
from redir.passes.factorize.ways import all_factorings
from redir.pipeline import Place
from redir.statistics import source
from redir.statistics.judge import judge
from redir.statistics.moments import Moments
from redir.statistics.rest import Rest
from redir.statistics.stretches import Stretches
from redir.statistics.walk import walk
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
IMAGE = placeholder("n", 3, 6, 6)


def conv(x: Value, size: int, scale: float = 1.0) -> Value:
    weights = const(scale * RNG.normal(size=(6, x.type.size(1) or 0, size, size)))
    return ops.Conv(x, weights, pads=(size // 2,) * 4)


def network() -> Graph:
    """A loud branch and a quiet one, and a sum."""
    stem = ops.Relu(conv(IMAGE, 3))
    loud, quiet = ops.Relu(conv(stem, 3)), ops.Relu(conv(stem, 3, 1e-3))
    return Graph({"x": IMAGE}, {"y": ops.Add(loud, quiet), "z": stem})


GRAPH = network()
LAYERS = [node for node in GRAPH.nodes if node.op == ops.Conv]
BATCHES = [{"x": RNG.normal(size=(n, 3, 6, 6)).astype(np.float32)} for n in (8, 4)]


def known() -> Study:
    found = study(GRAPH, source("drawn"), 64, 0, "")
    assert found is not None
    return found


@pytest.mark.parametrize("place", range(3))
def test_the_rest_of_a_graph_computes_the_same(place: int) -> None:
    made, layer = list[dict[str, Array]](), LAYERS[place]

    def step(node: Node, _: object, held: object) -> None:
        rest = [Rest.behind(Stretches(GRAPH), node, held)] * (node is layer)  # type: ignore[arg-type]
        made.extend(r.outputs(lambda x: node.on((x, *node.inputs[1:])).outputs[0]) for r in rest)

    walk(GRAPH, BATCHES, step, "what flows")
    wanted = [evaluate(GRAPH, batch) for batch in BATCHES]
    for name in GRAPH.outputs:
        whole = np.concatenate([np.ravel(w[name]) for w in wanted])
        np.testing.assert_allclose(made[0][name], whole, atol=1e-4)


def test_more_error_moves_the_outputs_further() -> None:
    for effect in known().effects.values():
        moved = [effect.moved_by(error) for error in np.linspace(0, 1, 21)]
        assert moved[0] == 0
        assert moved == sorted(moved)
        assert moved[-1] > 0


@pytest.mark.parametrize("rule", RULES)
def test_a_quiet_layer_counts_less(rule: str) -> None:
    _, loud, quiet = (known().effects[layer] for layer in LAYERS)
    assert RULES[rule](quiet, 0.1) < 0.01 * RULES[rule](loud, 0.1)


def test_what_is_measured_is_what_the_form_does() -> None:
    ways = {n: forms[0] for n, forms in all_factorings(Sizes.of(GRAPH)).items()}
    seen = observed(GRAPH, BATCHES, ways, 0)
    losses = {n: (form, form.errors(seen[n].moments)) for n, form in ways.items()}
    found = effects(judge(GRAPH, GRAPH, BATCHES), losses, {}, seen, 0, {})
    last = LAYERS[1]  # its error is the error of the output, but for a Relu
    error = found[last].errors[1]
    assert found[last].moved[1] == pytest.approx(error, rel=1)


def test_of_two_plans_the_one_that_deviates_least_is_taken() -> None:
    half, found = Factorize(macs=0.5, statistics="drawn", examples=64), known()
    saving = half._saving(found)
    plans = [half._by(found, Place(GRAPH), saving, rule, half.allowed) for rule in RULES]
    least = min(found.deviation(plan) for plan in plans)
    assert found.deviation(half._choices(found, Place(GRAPH))) == least


def test_a_plan_that_changes_little_deviates_little() -> None:
    found, formed = known(), ("reduce", "spatial")
    planned = found.planner(counted("macs", macs(GRAPH)), formed, 1)
    slight, harsh = map(planned, (0.01, 0.7))
    assert 0 < found.deviation(slight) < 0.1 < found.deviation(harsh)


def test_plans_are_judged_on_a_quarter_of_the_examples() -> None:
    found = known()
    assert sum(len(batch["x"]) for batch in found.judge.batches) == 16
    assert np.array_equal(found.judge.batches[0]["x"], found.batches[0]["x"][:16])


def test_what_plans_are_judged_on_is_not_in_the_moments() -> None:
    ways = {n: forms[0] for n, forms in all_factorings(Sizes.of(GRAPH)).items()}
    apart, alone = observed(GRAPH, BATCHES, ways, 0, 1), observed(GRAPH, BATCHES[1:], ways, 0)
    layer = LAYERS[0]
    assert np.allclose(apart[layer].moments.gram, alone[layer].moments.gram, rtol=1e-4)
    assert sum(len(places[0]) for places in apart[layer].places) == 12 * 36


def test_how_much_directions_matter_is_known_without_them() -> None:
    found = known()
    for node, forms in found.ways.items():
        moments = found.seen[node].moments
        for form in (form for form in forms if form.rounds):
            _, values = form._directions(moments)
            np.testing.assert_allclose(form._values(moments), values, atol=1e-6 * values[0])


def test_only_layers_are_looked_at_that_may_take_a_form() -> None:
    y = ops.Conv(LAYERS[0].outputs[0], const(RNG.normal(size=(4, 6, 1, 1))))
    graph, drawn = Graph({"x": IMAGE}, {"y": y}), source("drawn")
    found = study(graph, drawn, 16, 0, "", (), ("low-rank",))
    assert found is not None
    assert list(found.ways) == list(found.seen) == [y.node]
    assert study(graph, drawn, 16, 0, "", (), ("uneven-depthwise",)) is not None
    assert study(graph, drawn, 16, 0, "", (), ("narrower",)) is not None
    assert study(GRAPH, drawn, 16, 0, "", (), ("pivoted",)) is None


def test_directions_are_found_once_for_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = known(), list[Factoring]()
    form, plain = found.ways[LAYERS[1]][0], Factoring._directions

    def directions(form: Factoring, moments: Moments) -> tuple[Array, Array]:
        asked.append(form)
        return plain(form, moments)

    monkeypatch.setattr(Factoring, "_directions", directions)
    for rank in (1, 2, 3):
        form.rough(rank, found.seen[LAYERS[1]].moments)
    assert asked == [form]
