"""Forms as passes of their own: who takes one, at which rank, and who stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import redir
from redir import ops
from redir.cost import macs
from redir.cost.models import Count
from redir.errors import BadPipeline, Skipped, Unchanged
from redir.ir import Graph, Value, evaluate
from redir.passes import Expand, LowRank, Narrower, Pivoted, Reduce, Spatial
from redir.passes.factorize.alone import Alone
from redir.pipeline import Pipeline
from redir.runtime.onnxruntime import runner
from redir.statistics import source
from redir.testing import check_pass
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
IMAGE, ROWS = placeholder("n", 6, 8, 7), placeholder("n", 16)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def near(rank: int, *shape: int) -> Value:
    """A matrix, nearly of a rank."""
    left, right = RNG.normal(size=(shape[0], rank)), RNG.normal(size=(rank, *shape[1:]))
    weights = np.tensordot(left, right, 1) + 1e-3 * RNG.normal(size=shape)
    return const(weights)


def separable(outputs: int, inputs: int) -> Value:
    """Kernels that are nearly 3 x 1, then 1 x 3, by way of 2 channels."""
    first, second = RNG.normal(size=(2, inputs, 3)), RNG.normal(size=(outputs, 2, 3))
    kernels = np.einsum("rih,orw->oihw", first, second)
    return const(kernels + 1e-3 * RNG.normal(size=kernels.shape))


def image(kernels: Value) -> Graph:
    y = ops.Conv(IMAGE, kernels, normal(12), pads=(1, 1, 1, 1))
    return Graph({"x": IMAGE}, {"y": ops.Relu(y)})


def inputs_mixed() -> Value:
    """Kernels that read 2 mixtures of their inputs."""
    mixed = np.einsum("ri,orhw->oihw", RNG.normal(size=(2, 6)), RNG.normal(size=(12, 2, 3, 3)))
    return const(mixed + 1e-3 * RNG.normal(size=mixed.shape))


def chain(*weights: Value) -> Graph:
    y: Value = ROWS
    for weight in weights[:-1]:
        y = ops.Relu(ops.Gemm(y, weight, normal(16)))
    return Graph({"x": ROWS}, {"y": ops.Gemm(y, weights[-1], normal(16))})


GRAPHS: Mapping[type[Alone], Graph] = {
    Spatial: image(separable(12, 6)),
    Reduce: image(inputs_mixed()),
    Expand: image(near(2, 12, 6, 3, 3)),
    LowRank: chain(near(2, 16, 16)),
    Pivoted: chain(near(2, 16, 16)),
    Narrower: chain(normal(16, 16), near(2, 16, 16)),
}
SHAPES = {
    kind: (4, 16) if graph.inputs["x"] is ROWS else (4, 6, 8, 7) for kind, graph in GRAPHS.items()
}
AGAIN = {**GRAPHS, Pivoted: chain(near(2, 16, 16), normal(16, 16))}
every = pytest.mark.parametrize("kind", GRAPHS)


def quick(kind: type[Alone], **options: Any) -> Alone:
    return kind(statistics="drawn", examples=64, **options)


def shapes(graph: Graph) -> list[tuple[Any, ...] | None]:
    """The shapes of the weights of layers."""
    return [node.inputs[1].type.shape for node in graph.nodes if node.has("layer")]


def off(graph: Graph, after: Graph) -> float:
    (feeds,) = source("drawn").batches(graph, 64, 1)
    old, new = (runner(g)(feeds)["y"] for g in (graph, after))
    return float(np.square(old - new).mean() / np.var(old))


BY_RANK = {
    Spatial: [(2, 6, 3, 1), (12, 2, 1, 3)],
    Reduce: [(2, 6, 1, 1), (12, 2, 3, 3)],
    Expand: [(2, 6, 3, 3), (12, 2, 1, 1)],
    LowRank: [(16, 2), (2, 16)],
    Pivoted: [(16, 2), (2, 14)],
    Narrower: [(16, 2), (2, 16)],
}


@every
def test_a_layer_takes_the_form_at_the_rank_that_is_given(kind: type[Alone]) -> None:
    assert shapes(quick(kind, rank=2)(GRAPHS[kind])) == BY_RANK[kind]


@pytest.mark.parametrize("kind", [Spatial, Reduce, Expand, LowRank, Pivoted])
def test_or_at_the_least_that_loses_little(kind: type[Alone]) -> None:
    after = quick(kind, error=0.01)(GRAPHS[kind])
    assert shapes(after) == BY_RANK[kind]
    assert off(GRAPHS[kind], after) < 0.02


@every
def test_less_error_leaves_more(kind: type[Alone]) -> None:
    left = [macs(quick(kind, error=e)(GRAPHS[kind])) for e in (0.5, 0.1, 1e-9)]
    assert left == sorted(left)
    assert left[0] < macs(GRAPHS[kind])


@every
def test_where_it_would_not_pay_a_layer_stays(kind: type[Alone]) -> None:
    graph = GRAPHS[kind]
    assert quick(kind, rank=16)(graph) is graph
    assert quick(kind, rank=1000)(graph) is graph
    assert quick(kind, error=1e-12)(graph) is graph


@every
def test_it_must_pay_in_the_cost_that_is_given(kind: type[Alone]) -> None:
    graph, nodes = GRAPHS[kind], Count("nodes", lambda graph: len(graph.nodes))
    assert quick(kind, rank=2, cost=nodes)(graph) is graph


def test_under_a_cost_that_is_measured_the_whole_must_pay() -> None:
    graph = GRAPHS[Spatial]
    faster, slower = (
        Count("time", lambda g, w=which: 1 + ((g is graph) == w), by_parts=False, measured=True)  # type: ignore[misc]
        for which in (True, False)
    )
    assert quick(Spatial, rank=2, cost=faster)(graph) is not graph
    with pytest.warns(Unchanged, match="leaves the model as it is: with other layers it would"):
        assert quick(Spatial, rank=2, cost=slower)(graph) is graph


def test_layers_that_are_ignored_stay() -> None:
    graph = GRAPHS[LowRank]
    assert quick(LowRank, rank=2, ignore="*")(graph) is graph
    with pytest.warns(Skipped, match="low-rank: no layer has a name like 'last'"):
        assert quick(LowRank, rank=2, ignore="last")(graph) is not graph


def test_why_a_layer_stays_is_said() -> None:
    grouped = ops.Conv(IMAGE, normal(6, 1, 3, 3), group=6)
    (why,) = Spatial().explain(Graph({"x": IMAGE}, {"y": grouped}))
    assert "it has groups" in why


def test_a_graph_that_cannot_be_run_stays() -> None:
    mystery = ops.opaque("Mystery", "custom", 1, [ROWS.type])(ROWS)
    graph = Graph({"x": ROWS}, {"y": ops.Gemm(mystery, near(2, 16, 16), normal(16))})
    with pytest.warns(Unchanged, match="it cannot be run"):
        assert quick(LowRank, rank=2)(graph) is graph


@every
def test_goes_through_both_backends(kind: type[Alone]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    after = quick(kind, rank=2)(GRAPHS[kind])
    x = RNG.normal(size=SHAPES[kind]).astype(np.float32)
    wanted = evaluate(after, {"x": x})["y"]
    np.testing.assert_allclose(runner(after)({"x": x})["y"], wanted, atol=1e-4)
    found = redir.to_torch(after)(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@every
def test_what_took_a_form_can_be_compressed_again(kind: type[Alone]) -> None:
    once = quick(kind, rank=4)(AGAIN[kind])
    assert macs(Pipeline.parse("prune{channel_ratio=0.3}")(once)) < macs(once)


SIZES = st.integers(6, 9)


def kernels(inputs: int, outputs: int) -> Graph:
    x = placeholder("n", inputs, 4, 5)
    return Graph({"x": x}, {"y": ops.Conv(x, normal(outputs, inputs, 3, 3))})


def matrices(inputs: int, outputs: int) -> Graph:
    x = placeholder("n", inputs)
    between = ops.Relu(ops.Gemm(x, normal(inputs, outputs)))
    return Graph({"x": x}, {"y": ops.Gemm(between, normal(outputs, inputs))})


@every
def test_keeps_its_promises(kind: type[Alone]) -> None:
    drawn = st.builds(kernels if kind in (Spatial, Reduce, Expand) else matrices, SIZES, SIZES)
    check_pass(kind(statistics="drawn", examples=16, error=0.5), drawn, max_examples=3)


@pytest.mark.parametrize(
    "spec", ["error=0", "error=1", "rank=-1", "rank=3,error=0.1", "examples=-1", "seed=-1"]
)
def test_refuses(spec: str) -> None:
    with pytest.raises(BadPipeline, match="low-rank"):
        Pipeline.parse(f"low-rank{{{spec}}}")


@pytest.mark.parametrize("spec", ["statistics=dreams", "cost=beauty"])
def test_refuses_what_there_is_not(spec: str) -> None:
    with pytest.raises(BadPipeline):
        Pipeline.parse(f"spatial{{{spec}}}")
