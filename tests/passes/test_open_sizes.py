"""factorize on models that leave the sizes of images open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.cost import Sizes, macs, total
from redir.ir import Graph, Value, evaluate
from redir.ir.tensor import Array
from redir.passes.factorize import Factorize
from redir.passes.factorize.ways import all_factorings
from redir.pipeline import Pipeline, Place
from redir.pipeline.compress import run
from tests.helpers import const, one_of_three, placeholder

SIZES = {"x": (1, 3, 24, 16)}


def network(*sizes: int | str, batch: int | str = "n") -> Graph:
    """Two layers, of which the second needs less where the first steps; then each row alone."""
    rng, x = np.random.default_rng(0), placeholder(batch, 3, *sizes)

    def normal(*shape: int) -> Value:
        return const(rng.normal(size=shape))

    y = ops.Relu(ops.Conv(x, normal(12, 3, 3, 3), strides=(2, 1), pads=(1, 1, 1, 1)))
    y = ops.Relu(ops.Conv(y, normal(10, 12, 3, 3), pads=(1, 1, 1, 1)))
    rows = ops.Transpose(y, perm=(0, 2, 3, 1))
    return Graph({"x": x}, {"y": ops.MatMul(rows, normal(10, 8))})


OPEN, STATIC = network("h", "w"), network(24, 16)


def quick(**options: Any) -> Factorize:
    return Factorize(statistics="drawn", examples=8, align=1, **options)


def test_costs_are_those_at_the_shapes_that_are_given() -> None:
    free, held = (
        {
            n.name or str(n.op): [(f.name, f.dense("macs"), f.cost(1, "macs")) for f in forms]
            for n, forms in all_factorings(Sizes.of(graph, SIZES)).items()
        }
        for graph in (OPEN, STATIC)
    )
    assert free == held != {}


def test_the_plan_is_that_of_the_model_at_these_sizes() -> None:
    free, held = (quick(macs=0.5).planned(g, Place(g, shapes=SIZES)) for g in (OPEN, STATIC))
    assert free.lines == held.lines
    assert (free.before, free.after) == (held.before, held.after)
    assert free.after.macs <= 0.5 * free.before.macs


@pytest.mark.parametrize("target", one_of_three([{"macs": 0.5}, {"params": 0.5}, {"error": 0.3}]))
def test_what_comes_out_takes_all_sizes(target: dict[str, float]) -> None:
    after = quick(**target)(OPEN)
    assert after is not OPEN
    assert after.inputs["x"].type == OPEN.inputs["x"].type
    x = np.random.default_rng(0).normal(size=(2, 3, 31, 9)).astype(np.float32)
    wanted, found = (evaluate(graph, {"x": x})["y"] for graph in (OPEN, after))
    assert found.shape == wanted.shape
    assert np.var(found - wanted) < 0.5 * np.var(wanted)


def test_what_is_made_is_what_the_same_model_of_fixed_sizes_becomes() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 24, 16)).astype(np.float32)
    steps = Pipeline((quick(macs=0.5),))
    made = (run(g, steps, input_shapes=SIZES, timing=False).graph for g in (OPEN, STATIC))
    free, held = (evaluate(graph, {"x": x})["y"] for graph in made)
    np.testing.assert_allclose(free, held, atol=1e-4)


def test_a_share_is_left_at_the_sizes_that_are_asked_for() -> None:
    wide = {"x": (1, 3, 8, 300)}
    result = run(OPEN, Pipeline((quick(macs=0.6),)), input_shapes=wide, timing=False)
    assert 0.55 < result.after.macs / result.before.macs <= 0.6
    assert result.before.macs == macs(OPEN, wide) == total(network(8, 300), None).macs


def test_images_of_several_sizes_may_be_given() -> None:
    class Given:
        def batches(self, graph: Graph, count: int, seed: int) -> list[dict[str, Array]]:
            del graph, count
            rng = np.random.default_rng(seed)
            shapes = [(4, 3, 9, 20), (4, 3, 30, 11)]
            return [{"x": rng.normal(size=shape).astype(np.float32)} for shape in shapes]

    after = Factorize(statistics=Given(), macs=0.5, align=1)(OPEN)
    assert macs(after, SIZES) < 0.55 * macs(OPEN, SIZES)


def test_where_no_sizes_fit_all_stays() -> None:
    x = placeholder("n", 3, "h", "w")
    flat = ops.Reshape(ops.Relu(x), ops.constant(np.array([-1, 7 * 10**9], np.int64)))
    graph = Graph({"x": x}, {"y": ops.Conv(x, const(np.ones((4, 3, 3, 3)))), "z": flat})
    assert quick(macs=0.5)(graph) is graph
    assert "not known" in next(iter(quick().explain(graph)))


def test_a_layer_that_reads_what_may_be_of_any_rank_stays() -> None:
    x, shape = placeholder("n", 6), placeholder("k", dtype=np.int64)
    y = ops.MatMul(ops.Reshape(x, shape), const(np.ones((6, 4))))
    graph = Graph({"x": x, "shape": shape}, {"y": y})
    found = all_factorings(Sizes(graph, {"x": (2, 6), "shape": (2,)}))
    assert not found


def test_a_layer_whose_rank_is_told_only_at_some_sizes_stays() -> None:
    x = placeholder("n", 5, "h", 6)
    y = ops.MatMul(ops.Squeeze(x), const(np.ones((6, 4))))
    sizes = Sizes(Graph({"x": x}, {"y": y}), {"x": (2, 5, 4, 6)})
    assert sizes.type(y).static == (2, 5, 4, 4)
    assert not all_factorings(sizes)
