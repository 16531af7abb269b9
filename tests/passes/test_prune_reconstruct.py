"""prune{reconstruct=true}: what stays says what it can of what goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given

from redir import ops
from redir.check.outputs import verify
from redir.cost import macs, parameters
from redir.importance import Evidence, Family
from redir.ir import Graph, Value, evaluate
from redir.ir.tensor import Array
from redir.passes.prune import Prune
from redir.pipeline import Pipeline
from redir.runtime.onnxruntime import runner
from redir.testing import check_pass, graphs
from tests.helpers import const, operators, placeholder

RNG = np.random.default_rng(0)
X, TOKENS = placeholder("n", 4, 6, 6), placeholder("n", 5, 6)
SHAPES = {X: (64, 4, 6, 6), TOKENS: (64, 5, 6)}


class Last:
    """The last channel goes first."""

    def scores(self, family: Family, evidence: Evidence) -> Array:
        del evidence
        return -np.arange(len(family.channels))


class Given:
    """Inputs that are drawn alike."""

    def __init__(self, x: Value) -> None:
        self.x = x

    def batches(self, graph: Graph, count: int, seed: int) -> list[dict[str, Array]]:
        del graph, count
        drawn = np.random.default_rng(seed).normal(size=SHAPES[self.x])
        return [{"x": drawn.astype(np.float32)}]


def pruned(graph: Graph, ratio: float = 0.25, **options: object) -> Graph:
    x = graph.inputs["x"]
    return Prune(
        ratio,
        Last(),
        reconstruct=True,
        statistics=Given(x),
        **options,  # type: ignore[arg-type]
    )(graph)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def summed(*shape: int) -> Value:
    """Weights of which the last output is the sum of the first two."""
    rows = RNG.normal(size=shape)
    rows[-1] = rows[0] + rows[1]
    return const(rows)


def conv_bias(x: Value) -> Value:
    return ops.Conv(ops.Conv(x, summed(4, 4, 3, 3), normal(4)), normal(3, 4, 3, 3), normal(3))


def conv_without(x: Value) -> Value:
    return ops.Conv(ops.Conv(x, summed(4, 4, 1, 1), normal(4)), normal(3, 4, 1, 1))


def conv_norm(x: Value) -> Value:
    y = conv_without(x)
    return ops.BatchNormalization(y, normal(3), normal(3), normal(3), const([1.0, 2.0, 3.0]))


def grouped(x: Value) -> Value:
    first = RNG.normal(size=(8, 4, 1, 1))
    first[3], first[7] = first[0] + first[1], first[4] - first[5]
    return ops.Conv(ops.Conv(x, const(first), normal(8)), normal(4, 4, 3, 3), group=2)


def gemm(x: Value) -> Value:
    flat = ops.Flatten(ops.GlobalAveragePool(x))
    return ops.Gemm(ops.Gemm(flat, summed(4, 4), normal(4), transB=1), normal(4, 3), normal(3))


def matmul(x: Value) -> Value:
    first = RNG.normal(size=(6, 4))
    first[:, 3] = first[:, 0] + first[:, 1]
    return ops.MatMul(ops.Add(ops.MatMul(x, const(first)), normal(4)), normal(4, 3))


def matmul_add(x: Value) -> Value:
    return ops.Add(matmul(x), normal(3))


EXACT: dict[str, tuple[Value, Callable[[Value], Value]]] = {
    "a bias": (X, conv_bias),
    "no bias": (X, conv_without),
    "a norm": (X, conv_norm),
    "groups": (X, grouped),
    "gemm": (X, gemm),
    "matmul": (TOKENS, matmul),
    "matmul and add": (TOKENS, matmul_add),
}


@pytest.mark.parametrize(("x", "make"), EXACT.values(), ids=EXACT)
def test_a_channel_that_others_say_is_not_missed(x: Value, make: Callable[[Value], Value]) -> None:
    graph = Graph({"x": x}, {"y": make(x)})
    after = pruned(graph)
    assert macs(after) < macs(graph)
    feeds = {"x": RNG.normal(size=SHAPES[x]).astype(np.float32)}
    before, found = (runner(g)(feeds)["y"] for g in (graph, after))
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))[: before.ndim]
    np.testing.assert_allclose(found[inside], before[inside], rtol=0, atol=2e-3 * before.std())


@pytest.mark.parametrize("make", [conv_norm, conv_bias])
def test_a_norm_or_a_bias_takes_what_is_missing(make: Callable[[Value], Value]) -> None:
    graph = Graph({"x": X}, {"y": make(X)})
    after = pruned(graph)
    assert operators(after) == operators(graph)
    assert parameters(after) < parameters(graph)
    (last,) = (node for node in after.nodes if node.outputs[0] is after.outputs["y"])
    assert len(last.inputs) == (5 if make is conv_norm else 3)


@pytest.mark.parametrize(("make", "added"), [(matmul, 1), (matmul_add, 0)])
def test_a_sum_takes_what_is_missing(make: Callable[[Value], Value], added: int) -> None:
    graph = Graph({"x": TOKENS}, {"y": make(TOKENS)})
    assert operators(pruned(graph)) == operators(graph) + ["Add"] * added


def deep() -> Graph:
    x = X
    for width in (24, 24, 24):
        rows = RNG.normal(size=(width, x.type.size(1) or 0, 3, 3))
        x = ops.Relu(ops.Conv(x, const(rows), normal(width), pads=(1,) * 4))
    return Graph({"x": X}, {"y": ops.Conv(x, normal(3, 24, 1, 1))})


def far(graph: Graph, after: Graph) -> float:
    feeds = {"x": np.random.default_rng(7).normal(size=(50, 4, 6, 6)).astype(np.float32)}
    a, b = (runner(g)(feeds)["y"] for g in (graph, after))
    return float(np.square(a - b).mean() / np.var(a))


def test_it_errs_less() -> None:
    graph = deep()
    assert far(graph, pruned(graph)) < 0.6 * far(graph, Prune(0.25, Last())(graph))


@given(graphs("conv", "batchnorm", "residual", "grouped", "concat", "gemm"))
def test_removing_is_the_same_as_silencing(graph: Graph) -> None:
    options = {"reconstruct": True, "statistics": "drawn", "examples": 4}
    small, silent = (Prune(0.5, compact=c, **options)(graph) for c in (True, False))  # type: ignore[arg-type]
    assert verify(silent, small).verdict in {"pass", "vacuous"}


def test_keeps_its_promises() -> None:
    step = Pipeline.parse("prune{reconstruct=true,statistics=drawn,examples=4}").passes[0]
    check_pass(step, graphs("conv", "residual"))


def shared(x: Value) -> Value:
    w = normal(4, 4, 1, 1)
    return ops.Conv(ops.Relu(ops.Conv(ops.Conv(x, normal(4, 4, 1, 1)), w)), w)


SOLVED_NONE: dict[str, Callable[[Value], Value]] = {
    "weights read twice": shared,
    "transposed": lambda x: ops.ConvTranspose(ops.Conv(x, normal(4, 4, 1, 1)), normal(4, 3, 1, 1)),
    "pads that follow sizes": lambda x: ops.Conv(
        ops.Conv(x, normal(4, 4, 1, 1)), normal(3, 4, 3, 3), auto_pad="SAME_UPPER"
    ),
    "a factor": lambda x: ops.Gemm(
        ops.Gemm(ops.Flatten(ops.GlobalAveragePool(x)), normal(4, 4)), normal(4, 3), alpha=2.0
    ),
    "a bias that is computed": lambda x: ops.Gemm(
        ops.Gemm(f := ops.Flatten(ops.GlobalAveragePool(x)), normal(4, 4)),
        normal(4, 3),
        ops.Gemm(f, normal(4, 3)),
    ),
}


@pytest.mark.parametrize("make", SOLVED_NONE.values(), ids=SOLVED_NONE)
def test_what_cannot_be_solved_is_as_without(make: Callable[[Value], Value]) -> None:
    graph = Graph({"x": X}, {"y": make(X)})
    assert repr(pruned(graph)) == repr(Prune(0.25, Last())(graph))


def test_what_is_not_finite_is_left() -> None:
    hidden = ops.Conv(ops.Log(X), normal(4, 4, 1, 1))
    graph = Graph({"x": X}, {"y": ops.Conv(hidden, normal(3, 4, 1, 1))})
    with np.errstate(all="ignore"):
        assert repr(pruned(graph)) == repr(Prune(0.25, Last())(graph))


def test_names_stay() -> None:
    graph = Graph({"x": X}, {"y": conv_norm(X)})
    after = pruned(graph)
    assert list(evaluate(after, {"x": np.ones((1, 4, 6, 6), np.float32)})) == ["y"]
