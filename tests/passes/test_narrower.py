"""narrower: channels go from a whole family, exactly, and the others take over what they can."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st

from redir import ops
from redir.cost import Sizes, macs
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import transform
from redir.ir.tensor import Array
from redir.passes.factorize import Factorize
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.narrower import Narrower
from redir.passes.factorize.solving import Choice, observed, rebuilt, solved
from redir.passes.factorize.ways import all_factorings, factorings, thinner
from redir.pipeline import Pipeline, Place
from redir.runtime.onnxruntime import runner
from redir.testing import check_pass
from tests.helpers import check_backends, const, placeholder

RNG = np.random.default_rng(0)
ONLY = Factorize(macs=0.7, forms="narrower", statistics="drawn", examples=32, align=1)
BATCHES = [{"x": RNG.normal(size=(32, 4, 6, 6)).astype(np.float32)}]


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def pointwise(x: Value, outputs: int) -> Value:
    return ops.Conv(x, normal(outputs, x.type.size(1) or 0, 1, 1))


def normed(x: Value) -> Value:
    size = x.type.size(1) or 0
    scale, var = (const(RNG.uniform(0.5, 2, size)) for _ in range(2))
    return ops.BatchNormalization(x, scale, normal(size), normal(size), var)


def relu6(x: Value) -> Value:
    return ops.Clip(x, const(0.0), const(6.0))


def inverted(x: Value, hidden: int = 12) -> Value:
    """A block of MobileNetV2."""
    wide = relu6(normed(pointwise(x, hidden)))
    deep = ops.Conv(wide, normal(hidden, 1, 3, 3), group=hidden, pads=(1, 1, 1, 1))
    return ops.Add(x, normed(pointwise(relu6(normed(deep)), x.type.size(1) or 0)))


IMAGE = placeholder("n", 4, 6, 6)
BLOCK = Graph({"x": IMAGE}, {"y": inverted(inverted(IMAGE))})
TOKENS = placeholder("n", 5, 6)


def perceptron(x: Value) -> Value:
    hidden = ops.Add(ops.MatMul(x, normal(6, 16)), normal(16))
    gelu = ops.Mul(hidden, ops.Sigmoid(hidden))
    return ops.Add(x, ops.Add(ops.MatMul(gelu, normal(16, 6)), normal(6)))


FFN = Graph({"x": TOKENS}, {"y": perceptron(TOKENS)})
GRAPHS: Mapping[str, tuple[Graph, tuple[int, ...]]] = {
    "block": (BLOCK, (32, 4, 6, 6)),
    "ffn": (FFN, (64, 5, 6)),
}


def narrowings(graph: Graph) -> dict[Node, Narrower]:
    found = all_factorings(Sizes.of(graph)).items()
    return {n: form for n, forms in found for form in forms if isinstance(form, Narrower)}


def drawn(shape: tuple[int, ...]) -> dict[str, Array]:
    return {"x": RNG.normal(size=shape).astype(np.float32)}


def lost(factors: Factors) -> Array:
    found: Array = np.abs(factors.first).sum(0) == 0
    return found


def off(graph: Graph, after: Graph, feeds: Mapping[str, Array]) -> float:
    old, new = (runner(g)(feeds)["y"] for g in (graph, after))
    return float(np.square(old - new).mean() / np.var(old))


def widths(graph: Graph, share: float) -> dict[Node, Choice]:
    found = narrowings(graph)
    return {node: Choice(form, max(1, int(share * form.full))) for node, form in found.items()}


@pytest.mark.parametrize("kind", GRAPHS)
def test_at_full_width_nothing_changes(kind: str) -> None:
    graph, shape = GRAPHS[kind]
    feeds = drawn(shape)
    seen = observed(graph, [feeds], narrowings(graph), 0)
    after = rebuilt(graph, solved(graph, [feeds], widths(graph, 1), seen))
    assert narrowings(graph)
    assert macs(after) > 0.8 * macs(graph)
    assert off(graph, after, feeds) < 1e-6


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_error_falls_as_channels_stay(kind: str) -> None:
    graph, shape = GRAPHS[kind]
    forms = narrowings(graph)
    seen = observed(graph, [drawn(shape)], forms, 0)
    for node, form in forms.items():
        errors = form.errors(seen[node].moments)
        assert errors[0] == 1
        assert errors[form.full] == pytest.approx(0, abs=1e-6)
        assert all(a >= b for a, b in pairwise(errors))


@pytest.mark.parametrize("kind", GRAPHS)
def test_what_is_said_to_be_lost_is_lost(kind: str) -> None:
    graph, shape = GRAPHS[kind]
    forms = narrowings(graph)
    seen = observed(graph, [drawn(shape)], forms, 0)
    for node, form in forms.items():
        moments = form.told(seen[node].moments)
        for rank in (1, 3, 5):
            factors = form.rough(rank, moments)
            weights = (factors.second[:, 0].T @ factors.first).T * form.metric.scale
            assert lost(factors).sum() >= form.full - rank
            assert moments.error(weights) == pytest.approx(form.errors(moments)[rank], abs=1e-2)


@pytest.mark.parametrize("kind", GRAPHS)
def test_those_that_stay_take_over(kind: str) -> None:
    graph, shape = GRAPHS[kind]
    forms = narrowings(graph)
    seen = observed(graph, [drawn(shape)], forms, 0)
    for node, form in forms.items():
        moments, original = form.told(seen[node].moments), form.flat
        factors = form.rough(form.full // 2, moments)
        solved_, cut = factors.second[:, 0].T @ factors.first, original * ~lost(factors)[:, None]
        assert moments.error(solved_.T * form.metric.scale) <= moments.error(cut)


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_channels_go_everywhere_and_exactly(kind: str) -> None:
    graph, shape = GRAPHS[kind]
    plan = widths(graph, 0.5)
    seen = observed(graph, [drawn(shape)], narrowings(graph), 0)
    after = rebuilt(graph, {n: c.form.rough(c.rank, seen[n].moments) for n, c in plan.items()})
    saved = sum(c.form.dense("macs") - c.form.cost(c.rank, "macs") for c in plan.values())
    assert saved > 0
    assert macs(graph) - macs(after) == saved


def test_half_of_the_channels_do_better_than_half_of_the_weights() -> None:
    feeds = drawn((64, 4, 6, 6))
    seen = observed(BLOCK, [feeds], narrowings(BLOCK), 0)
    after = rebuilt(BLOCK, solved(BLOCK, [feeds], widths(BLOCK, 0.5), seen))
    assert off(BLOCK, after, feeds) < off(BLOCK, Pipeline.parse("prune")(BLOCK), feeds)


def test_removal_is_exact() -> None:
    feeds = drawn((8, 4, 6, 6))
    node, form = next(iter(narrowings(BLOCK).items()))
    moments = observed(BLOCK, [feeds], {node: form}, 0)[node].moments
    factors = form.rough(5, moments)
    inner = Graph({"x": IMAGE}, {"y": node.outputs[0]})
    kept = Graph({"x": IMAGE}, {"y": factors.on(node.inputs[0])})
    less = rebuilt(inner, {node: factors})
    assert macs(less) < macs(kept)
    np.testing.assert_allclose(runner(less)(feeds)["y"], runner(kept)(feeds)["y"], atol=1e-5)


@pytest.mark.parametrize("kind", GRAPHS)
def test_channels_stay_that_the_form_of_another_layer_reads(kind: str) -> None:
    graph, shape = GRAPHS[kind]
    narrow, feeds = narrowings(graph), drawn(shape)
    each = {node: factorings(Sizes.of(graph), node) for node in all_factorings(Sizes.of(graph))}
    found = {node: forms for node, forms in each.items() if not isinstance(forms, str)}
    seen = observed(graph, [feeds], {n: forms[0] for n, forms in found.items()}, 0)
    others = [(n, form) for n, forms in found.items() for form in forms if n not in narrow]
    assert {form.name for _, form in others} >= {"low-rank", "pivoted"}
    for node, form in others:
        plan = {n: Choice(f, f.full // 2) for n, f in narrow.items()}
        plan[node] = Choice(form, max(form.ranks(1)) // 2)
        made = solved(graph, [feeds], plan, seen)
        whole = transform(graph, lambda n, x, m=made: m[n].on(x[0]) if n in m else None)  # type: ignore[misc]
        wanted, got = (runner(g)(feeds)["y"] for g in (whole, rebuilt(graph, made)))
        np.testing.assert_allclose(got, wanted, atol=1e-3)


@pytest.mark.parametrize("kind", GRAPHS)
def test_what_may_lose_channels_is_known(kind: str) -> None:
    graph, _ = GRAPHS[kind]
    found, narrow = all_factorings(Sizes.of(graph)), narrowings(graph)
    assert thinner(graph, found) == {node for node in found if node not in narrow}
    assert all("pivoted" in {form.name for form in forms} for forms in found.values())


@pytest.mark.parametrize("forms", ["pivoted", "pivoted+narrower"])
def test_it_is_not_pivoted_where_it_might(forms: str) -> None:
    graph, _ = GRAPHS["ffn"]
    taken = Factorize(macs=0.6, statistics="drawn", examples=16, align=1, forms=forms)
    found = taken.study(graph)
    assert found is not None
    plan = taken._choices(found, Place(graph))
    pivoted = {node for node, choice in plan.items() if choice.form.name == "pivoted"}
    assert pivoted.isdisjoint(found.thinned) == ("narrower" in forms)


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_target_is_met(kind: str) -> None:
    graph, _ = GRAPHS[kind]
    after = ONLY(graph)
    assert 0.5 * macs(graph) < macs(after) <= 0.7 * macs(graph)


def test_in_a_chain_each_layer_narrows_the_next() -> None:
    x = y = placeholder("n", 8)
    for inputs in (8, 16, 16):
        y = ops.Relu(ops.Gemm(y, normal(16, inputs), transB=1))
    graph = Graph({"x": x}, {"y": ops.Gemm(y, normal(4, 16), normal(4), transB=1)})
    after = Factorize(macs=0.4, forms="narrower", statistics="drawn", align=1)(graph)
    assert 0.3 * macs(graph) < macs(after) <= 0.4 * macs(graph)


WIDE = ops.Relu(pointwise(IMAGE, 8))
STAY = {
    "its input is the graph's": pointwise(IMAGE, 5),
    "another reads them": ops.Add(pointwise(WIDE, 5), pointwise(WIDE, 5)),
    "a kernel": ops.Conv(WIDE, normal(5, 8, 3, 3)),
    "an operator mixes them": pointwise(ops.Softmax(WIDE, axis=1), 5),
    "some go by twos": pointwise(
        ops.Concat(ops.Conv(WIDE, normal(6, 4, 1, 1), group=2), pointwise(IMAGE, 3), axis=1), 5
    ),
}


@pytest.mark.parametrize("why", STAY)
def test_stays_as_wide(why: str) -> None:
    assert not narrowings(Graph({"x": IMAGE}, {"y": STAY[why]}))


def test_what_goes_by_twos_does_so() -> None:
    twos = ops.Relu(ops.Conv(WIDE, normal(6, 4, 1, 1), group=2))
    graph = Graph({"x": IMAGE}, {"y": pointwise(twos, 5)})
    ((node, form),) = narrowings(graph).items()
    assert form.units.tolist() == [[0, 3], [1, 4], [2, 5]]
    feeds = drawn((256, 4, 6, 6))
    seen = observed(graph, [feeds], {node: form}, 0)
    errors = form.errors(seen[node].moments)
    for rank in (1, 2, 3):
        after = rebuilt(graph, {node: form.rough(rank, seen[node].moments)})
        weights = [n.inputs[1].type.size(0) for n in after.nodes if n.op == ops.Conv]
        assert weights == [8, 2 * rank, 5]
        old, new = (runner(g)(feeds)["y"] for g in (graph, after))
        lost = np.square(old - new).mean() / old.var((0, 2, 3)).mean()
        assert lost == pytest.approx(errors[rank], rel=0.05, abs=1e-5)


def test_what_an_output_holds_stays() -> None:
    assert not narrowings(Graph({"x": IMAGE}, {"y": pointwise(WIDE, 5), "z": WIDE}))


def two_layers(inputs: int, hidden: int, outputs: int) -> Graph:
    x = placeholder("n", inputs)
    between = ops.Relu(ops.Gemm(x, normal(hidden, inputs), transB=1))
    return Graph({"x": x}, {"y": ops.Gemm(between, normal(outputs, hidden), transB=1)})


def test_keeps_its_promises() -> None:
    sizes = st.integers(2, 8)
    check_pass(ONLY, st.builds(two_layers, sizes, sizes, sizes), max_examples=5)


@pytest.mark.parametrize("kind", GRAPHS)
def test_goes_through_both_backends(kind: str) -> None:
    graph, shape = GRAPHS[kind]
    after, feeds = ONLY(graph), drawn(shape)
    check_backends(after, feeds, atol=1e-3)


@pytest.mark.nightly
def test_what_is_narrower_can_become_narrower_still() -> None:
    once = ONLY(BLOCK)
    assert macs(ONLY(once)) <= 0.7 * macs(once)
