"""What errors of layers count by what they do to the outputs, as gradients tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from redir import ops
from redir.errors import MissingExtra
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import transform
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.passes.factorize import Factorize
from redir.passes.factorize.behind import behind
from redir.passes.factorize.curvature import curvatures, share_of_nat
from redir.passes.factorize.metric import Metric
from redir.passes.factorize.study import Study
from redir.passes.factorize.weighed import weighed
from redir.pipeline import Place
from redir.runtime.onnxruntime import runner
from redir.statistics import slopes
from redir.statistics.walk import Batches
from tests.helpers import const, ints, placeholder

pytest.importorskip("torch")
RNG = np.random.default_rng(0)
WIDTH, HIDDEN, WORDS = 12, 24, 80


def drawn(*shape: int) -> Value:
    return const(RNG.normal(size=shape) / np.sqrt(shape[0]))


def product(x: Value, outputs: int, inputs: int = WIDTH) -> Value:
    return ops.MatMul(x, drawn(inputs, outputs))


def block(x: Value) -> Value:
    """A residual block whose hidden units go through a gate, behind a norm."""
    read = ops.LayerNormalization(x, const(np.ones(WIDTH)))
    gate, up = ops.Sigmoid(product(read, HIDDEN)), product(read, HIDDEN)
    return ops.Add(x, product(ops.Mul(gate, up), WIDTH, HIDDEN))


IDS = placeholder("n", "length", dtype=np.int64)
STREAM = block(block(ops.Gather(drawn(WORDS, WIDTH), IDS)))
NORMED = ops.LayerNormalization(STREAM, const(np.ones(WIDTH)))
NETWORK = Graph({"x": IDS}, {"y": product(NORMED, WORDS)}, opset={"": 20})


def layers(graph: Graph) -> dict[Node, Linear]:
    found = {n: linear(n) for n in graph.nodes if n.op == ops.MatMul}
    return {n: layer for n, layer in found.items() if isinstance(layer, Linear)}


def inputs(count: int, seed: int = 1) -> Mapping[str, Array]:
    rng = np.random.default_rng(seed)
    return {"x": rng.integers(0, WORDS, (count, 6))}


def curved(graph: Graph, batches: Batches) -> Mapping[Node, Array]:
    sites = {n: (layer, behind(graph, layer)) for n, layer in layers(graph).items()}
    return curvatures(graph, "y", batches, sites, 0)


def nats(before: Array, after: Array) -> float:
    a, b = (special.log_softmax(each.astype(np.float64), -1) for each in (before, after))
    return float(np.sum(np.exp(a) * (a - b), -1).mean())


@given(st.integers(0, 2**32 - 1))
def test_a_metric_is_undone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, half = rng.normal(size=(3, 2, 5)), rng.normal(size=(4, 5))
    metric = Metric(rng.uniform(0.5, 2, 5)).curved(half.T @ half)
    np.testing.assert_allclose(metric.undone(metric.of(rows)), rows, atol=1e-9)


def test_a_metric_counts_by_curvature() -> None:
    half = RNG.normal(size=(9, 5))
    metric, row = Metric(np.ones(5)).curved(half.T @ half), RNG.normal(size=5)
    wanted = np.square(half @ row).sum()
    least = 0.01 * np.square(half).sum() / 5 * np.square(row).sum()
    assert np.square(metric.of(row)).sum() == pytest.approx(wanted + least)


def test_without_curvature_a_metric_stays() -> None:
    metric = Metric(np.ones(5))
    assert metric.curved(np.zeros((5, 5))) is metric


def test_a_layer_has_the_curvature_of_the_words_that_follow() -> None:
    x, second = placeholder("n", WIDTH), drawn(4, 5)
    graph = Graph({"x": x}, {"y": ops.MatMul(product(x, 4), second)}, opset={"": 20})
    batches = [{"x": RNG.normal(size=(50, WIDTH)).astype(np.float32)} for _ in range(200)]
    first, last = layers(graph)
    weights = layers(graph)[last].weight[0][:, :, 0].T.astype(np.float64)
    told = np.concatenate([special.softmax(runner(graph)(b)["y"], -1) for b in batches])
    fisher = np.diag(told.mean(0)) - told.T.astype(np.float64) @ told / len(told)
    wanted = weights @ fisher @ weights.T / 2
    np.testing.assert_allclose(
        curved(graph, batches)[first], wanted, atol=0.05 * np.abs(wanted).max()
    )


def test_how_far_words_go_is_told_by_how_far_logits_go() -> None:
    logits = 0.01 * RNG.normal(size=(100, 2, 500))
    assert share_of_nat(logits) == pytest.approx(2 / logits.var(), rel=0.05)
    assert share_of_nat(np.ones((4, 3))) == 0


@pytest.mark.parametrize("place", range(7))
def test_it_says_how_far_words_go(place: int) -> None:
    batches = [inputs(16, seed) for seed in range(40)]
    node, layer = list(layers(NETWORK).items())[place]
    rng, (feed,) = np.random.default_rng(3), [inputs(400, 99)]
    mixed = rng.normal(size=(layer.outputs,) * 2) * 0.005
    moved = Graph(NETWORK.inputs, _with(NETWORK, node, mixed).outputs, opset={"": 20})
    before, after = (runner(g)(feed)["y"] for g in (NETWORK, moved))
    y = runner(Graph(NETWORK.inputs, {"y": layer.y}, opset={"": 20}))(feed)["y"]
    errors = (y.reshape(-1, layer.outputs) @ mixed).astype(np.float64)
    flows = behind(NETWORK, layer)
    if flows.normed:
        end = runner(Graph(NETWORK.inputs, {"y": flows.end}, opset={"": 20}))(feed)["y"]
        counts = flows.counts(end.reshape(-1, layer.outputs))
        assert counts is not None
        errors *= np.sqrt(counts / counts.mean())[:, None]
    told = float(np.einsum("ni,ij,nj->", errors, curved(NETWORK, batches)[node], errors))
    assert told / len(errors) == pytest.approx(nats(before, after), rel=0.35)


def _with(graph: Graph, node: Node, mixed: Array) -> Graph:
    def visit(other: Node, given: tuple[Value, ...]) -> Any:
        if other is not node:
            return None
        (y,) = node.on(given).outputs
        return [ops.Add(y, ops.MatMul(y, const(mixed)))]

    return transform(graph, visit)


def test_probabilities_are_taken_for_logits_that_tell_them() -> None:
    x = placeholder("n", WIDTH)
    y = product(x, 5)
    each = [Graph({"x": x}, {"y": made}, opset={"": 20}) for made in (y, ops.Softmax(y))]
    batches = [{"x": RNG.normal(size=(8, WIDTH)).astype(np.float32)}]
    (logits,), (told,) = (curved(graph, batches).values() for graph in each)
    np.testing.assert_allclose(told, logits, rtol=1e-3, atol=1e-6)


def test_what_tells_no_numbers_is_not_weighed() -> None:
    x = placeholder("n", WIDTH)
    graph = Graph({"x": x}, {"y": ops.Sqrt(product(x, 5))}, opset={"": 20})
    assert curved(graph, [{"x": RNG.normal(size=(8, WIDTH)).astype(np.float32)}]) == {}


def test_what_is_too_large_for_a_copy_is_not_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redir.passes.factorize.weighed._LARGEST", 100)
    assert not _study(NETWORK, macs=0.6, seed=6).curved


def test_what_no_word_hangs_on_counts_nothing() -> None:
    x = placeholder("n", WIDTH)
    ends = (ints(0), ints(3), ints(1))
    few = ops.Slice(product(x, 8), *ends)
    graph = Graph({"x": x}, {"y": ops.MatMul(few, drawn(3, 5))}, opset={"": 20})
    found = list(curved(graph, [{"x": RNG.normal(size=(8, WIDTH)).astype(np.float32)}]).values())
    assert np.any(found[0][:3, :3])
    assert not np.any(found[0][3:])
    assert not np.any(found[0][:, 3:])


def _study(graph: Graph, **options: Any) -> Study:
    found = Factorize(statistics="tokens", examples=64, **options).study(graph)
    assert found is not None
    return found


def test_matrices_are_weighed() -> None:
    study = _study(NETWORK, macs=0.7)
    assert study.curved == set(layers(NETWORK)) == set(study.effects)
    roots = {id(form.metric.root) for forms in study.ways.values() for form in forms}
    assert len(roots) == len(study.ways)


def test_matrices_at_several_places_are_not_weighed() -> None:
    held = drawn(WIDTH, WIDTH)
    x = ops.Gather(drawn(WORDS, WIDTH), IDS)
    for _ in range(2):
        x = ops.Tanh(ops.MatMul(x, held))
    study = _study(Graph({"x": IDS}, {"y": product(x, WORDS)}, opset={"": 20}), macs=0.7)
    (shared,) = (n for n in study.ways if n.inputs[1] is held)
    assert shared not in study.curved
    assert study.curved


def test_less_is_lost_than_without() -> None:
    lost = []
    for curvature in (True, False):
        made = Factorize(statistics="tokens", examples=64, params=0.8, curvature=curvature)
        feed, graphs = inputs(200, 7), (NETWORK, made.run(NETWORK))
        lost.append(nats(*(runner(graph)(feed)["y"] for graph in graphs)))
    assert lost[0] < 0.8 * lost[1]


def test_without_curvature_nothing_is_weighed() -> None:
    assert not _study(NETWORK, macs=0.7, curvature=False).curved


def _missing(*_: Any) -> Any:
    raise MissingExtra("gradients", "torch")


def test_without_torch_nothing_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slopes, "Slopes", _missing)
    assert not _study(NETWORK, macs=0.6, seed=5).curved


def test_other_models_are_not_weighed() -> None:
    x = placeholder("n", 5, WIDTH)
    graph = Graph({"x": x}, {"y": product(block(x), 6)}, opset={"": 20})
    found = Factorize(statistics="drawn", examples=64, macs=0.6).study(graph)
    assert found is not None
    assert not found.curved


def test_what_is_clipped_is_not_weighed() -> None:
    hidden = ops.Relu(product(ops.Gather(drawn(WORDS, WIDTH), IDS), HIDDEN))
    graph = Graph({"x": IDS}, {"y": product(hidden, WORDS, HIDDEN)}, opset={"": 20})
    assert _study(graph, macs=0.6).curved == {list(layers(graph))[-1]}


def test_forms_that_keep_others_from_being_pivoted_are_left_where_those_move_words_less() -> None:
    options: dict[str, Any] = {"statistics": "tokens", "examples": 64, "params": 0.8}
    found = Factorize(**options).study(NETWORK)
    assert found is not None
    assert found.thinned
    plans = {}
    for forms in ("all", "low-rank+pivoted", "low-rank+narrower+gone+heads"):
        given = Factorize(**options, forms=forms)
        plans[forms] = found.drift(given._choices(found, Place(NETWORK)))
    assert plans["all"] <= 1.001 * min(plans.values())


def test_a_study_stays_where_its_norms_were_fitted() -> None:
    study = _study(NETWORK, macs=0.5, curvature=False)
    other = replace(study, graph=replace(study.graph))
    assert weighed(other) is other
