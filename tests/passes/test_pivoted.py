"""pivoted: rows that are stored make the others, which costs less than a product of two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.cost import Sizes, macs, parameters
from redir.ir import Graph, Value, evaluate
from redir.ir.tensor import Array
from redir.passes.factorize import Factorize
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.pivoted import Pivoted, pivots
from redir.passes.factorize.ways import factorings
from redir.runtime.onnxruntime import runner
from tests.helpers import check_backends, const, operators, placeholder

RNG = np.random.default_rng(0)
ROWS, IMAGE = placeholder("n", 9), placeholder("n", 9, 5, 4)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


LAYERS = {
    "matmul": ops.MatMul(ROWS, normal(9, 12)),
    "gemm": ops.Gemm(ROWS, normal(12, 9), normal(12), transB=1),
    "tokens": ops.MatMul(placeholder("n", 5, 9), normal(9, 12)),
    "pointwise": ops.Conv(IMAGE, normal(12, 9, 1, 1), strides=(2, 1), pads=(1, 0, 0, 1)),
}
every = pytest.mark.parametrize("kind", LAYERS)
SIZES = st.integers(1, 12)


def form_of(kind: str) -> Pivoted:
    node = LAYERS[kind].node
    assert node is not None
    graph = Graph({"x": node.inputs[0]}, {"y": node.outputs[0]})
    return next(form for form in factorings(Sizes.of(graph), node) if isinstance(form, Pivoted))


def graph_of(kind: str, rank: int, *, product: bool = False) -> Graph:
    """A layer of a rank: the form, or the product of two of which it is made."""
    form = form_of(kind)
    rng, (taps, outputs) = np.random.default_rng(rank), form.flat.shape
    first, second = rng.normal(size=(rank, taps)), rng.normal(size=(rank, 1, outputs))
    made = form._made(first, second, rng.normal(size=(outputs,)))
    plain = Factors(made.layer, made.mine, made.first, made.second, made.bias)
    return Graph({"x": form.layer.x}, {"y": (plain if product else made).on(form.layer.x)})


def drawn(graph: Graph) -> dict[str, Array]:
    shape = [6, *(graph.inputs["x"].type.size(a) for a in range(1, graph.inputs["x"].rank or 0))]
    return {"x": RNG.normal(size=[n or 1 for n in shape]).astype(np.float32)}


@every
@pytest.mark.parametrize("rank", [1, 4, 9])
def test_it_is_the_product(kind: str, rank: int) -> None:
    graph = graph_of(kind, rank)
    feeds = drawn(graph)
    wanted = evaluate(graph_of(kind, rank, product=True), feeds)["y"]
    np.testing.assert_allclose(evaluate(graph, feeds)["y"], wanted, atol=1e-4)


@every
@pytest.mark.parametrize("rank", [1, 4, 8])
def test_it_costs_less_by_the_square_of_the_rank(kind: str, rank: int) -> None:
    form, places = form_of(kind), form_of(kind).dense("macs") // (9 * 12)
    product = graph_of(kind, rank, product=True)
    assert macs(product) - macs(graph_of(kind, rank)) == places * rank**2
    assert form.cost(rank, "macs") == macs(graph_of(kind, rank)) < form.dense("macs")


@every
def test_its_parameters_are_those_that_are_counted(kind: str) -> None:
    assert form_of(kind).cost(4, "parameters") + 12 == parameters(graph_of(kind, 4))


@given(SIZES, SIZES, st.integers(0, 99))
def test_columns_are_sums_of_those_that_are_chosen(rank: int, more: int, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(rank, rank + more - 1))
    order, told = pivots(weights)
    assert sorted(order) == list(range(weights.shape[1]))
    np.testing.assert_allclose(weights[:, order[:rank]] @ told, weights[:, order[rank:]], atol=1e-8)
    assert np.abs(told).max(initial=0) <= 2


def test_columns_of_less_rank_are_too() -> None:
    weights = RNG.normal(size=(4, 2)) @ RNG.normal(size=(2, 9))
    order, told = pivots(weights)
    np.testing.assert_allclose(weights[:, order[:4]] @ told, weights[:, order[4:]], atol=1e-8)


def test_no_column_counts_much_where_pivoting_alone_lets_it() -> None:
    """Kahan's matrix: what is left of any column is as long as what is left of the next."""
    above = np.eye(12) - 0.5 * np.triu(np.ones((12, 12)), 1)
    kahan = np.diag(np.sqrt(0.75) ** np.arange(12)) @ above @ np.diag(0.999999 ** np.arange(12))
    assert np.abs(np.linalg.solve(kahan[:-1, :-1], kahan[:-1, -1])).max() > 20
    assert np.abs(pivots(kahan[:-1])[1]).max() <= 2


def test_without_an_order_to_undo_there_is_no_gather() -> None:
    first, second = np.eye(2, 9), np.concatenate([np.eye(2), 0.5 * np.ones((2, 10))], 1)
    made = form_of("matmul")._made(first, second[:, None], np.zeros(12))
    graph = Graph({"x": ROWS}, {"y": made.on(ROWS)})
    assert operators(graph) == ["MatMul", "Add", "MatMul", "Add", "Concat"]


def test_where_time_counts_it_is_not_chosen() -> None:
    assert "pivoted" in Factorize().allowed
    assert "pivoted" not in Factorize(cost="latency").allowed


def test_a_kernel_has_no_rows_to_choose() -> None:
    node = ops.Conv(IMAGE, normal(4, 9, 3, 3)).node
    assert node is not None
    found = factorings(Sizes.of(Graph({"x": IMAGE}, {"y": node.outputs[0]})), node)
    assert not any(isinstance(form, Pivoted) for form in found)


@pytest.mark.parametrize("opset", [9, 11, 17])
def test_it_goes_into_old_models(opset: int) -> None:
    conv = ops.lookup("Conv", opset)
    assert conv is not None
    graph = Graph({"x": IMAGE}, {"y": conv(IMAGE, normal(12, 9, 1, 1))}, opset={"": opset})
    quick = Factorize(macs=0.6, forms="pivoted", statistics="drawn", examples=16, align=1)
    after = quick(graph)
    assert "Gather" in operators(after)
    assert after.outputs["y"].type == graph.outputs["y"].type
    feeds = drawn(after)
    np.testing.assert_allclose(runner(after)(feeds)["y"], evaluate(after, feeds)["y"], atol=1e-4)


def first_outputs(form: str) -> int:
    """The rank that a layer gets in a form, for seven tenths of its multiply-adds."""
    step = Factorize(macs=0.7, forms=form, statistics="drawn", examples=16, align=1)
    after = step(Graph({"x": ROWS}, {"y": LAYERS["gemm"]}))
    return next(node.outputs[0].type.size(1) or 0 for node in after.nodes if node.has("layer"))


def test_the_rank_for_a_target_is_higher_than_that_of_a_product() -> None:
    assert first_outputs("pivoted") > first_outputs("low-rank")


@every
def test_goes_through_both_backends(kind: str) -> None:
    graph = graph_of(kind, 4)
    feeds = drawn(graph)
    check_backends(graph, feeds, atol=1e-4)
