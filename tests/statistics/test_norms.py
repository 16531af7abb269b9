"""Norms that are fitted to made-up inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Value
from redir.ir.builtin import tensor_of
from redir.ir.interpreter import values
from redir.ir.tensor import Array
from redir.passes.factorize import Factorize
from redir.statistics import source
from redir.statistics.norms import fitted, is_norm
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
X = placeholder("n", 3, 8, 8)
FEEDS = [{"x": RNG.normal(3, 2, size=(6, 3, 8, 8)).astype(np.float32)} for _ in range(2)]


def block(x: Value, outputs: int) -> Value:
    """A convolution, a norm that knows nothing of what comes, and a ReLU."""
    weight = const(RNG.normal(size=(outputs, x.type.size(1) or 0, 3, 3)))
    y = ops.Conv(x, weight, pads=(1, 1, 1, 1))
    scale, shift, mean = (const(RNG.normal(size=outputs)) for _ in range(3))
    return ops.Relu(ops.BatchNormalization(y, scale, shift, mean, const(np.ones(outputs))))


def net(y: Value) -> Graph:
    return Graph({"x": X}, {"y": y})


def test_norms_give_the_moments_that_they_gave_in_training() -> None:
    graph = fitted(net(block(block(X, 8), 6)), FEEDS)
    whole = np.concatenate([feeds["x"] for feeds in FEEDS])
    for node in filter(is_norm, graph.nodes):
        (made,) = values(graph, {"x": whole}, [node.outputs[0]])
        scale, shift = (t.array for v in node.inputs[1:3] if (t := tensor_of(v)))
        np.testing.assert_allclose(made.mean((0, 2, 3)), shift, atol=1e-3)
        np.testing.assert_allclose(made.std((0, 2, 3)), np.abs(scale), rtol=1e-3)


def test_all_else_stays_and_in_order() -> None:
    graph = net(block(block(X, 8), 6))
    after = fitted(graph, FEEDS)
    pairs = zip(*([n for n in g.nodes if n.inputs] for g in (graph, after)), strict=True)
    for old, new in pairs:
        assert old.op == new.op
        stays = slice(1, 3) if is_norm(old) else slice(1, None)
        same, held = ([tensor_of(v) for v in node.inputs[stays]] for node in (new, old))
        assert same == held


def test_a_channel_that_sleeps_is_not_woken() -> None:
    x = placeholder("n", 1, 4)
    still = ops.Conv(x, const(np.full((1, 1, 1), 1e-4)))
    norm = ops.BatchNormalization(still, *map(const, ([1.0], [0.0], [0.0], [4.0])))
    graph = fitted(Graph({"x": x}, {"y": norm}), [{"x": RNG.normal(size=(9, 1, 4)).astype("f4")}])
    (var,) = (t.array for n in graph.nodes if is_norm(n) if (t := tensor_of(n.inputs[4])))
    assert var == pytest.approx([4e-3])


def test_a_graph_without_norms_stays() -> None:
    graph = net(ops.Relu(X))
    assert fitted(graph, FEEDS) is graph


def test_what_is_compressed_keeps_its_own_norms() -> None:
    graph = net(block(block(X, 8), 6))
    after = Factorize(macs=0.6, statistics="drawn", examples=16, align=1, forms="spatial")(graph)
    norms = ([n for n in g.nodes if is_norm(n)] for g in (graph, after))
    old, new = ([tensor_of(v) for n in found for v in n.inputs[1:]] for found in norms)
    assert len(after.nodes) > len(graph.nodes)
    assert old == new


@dataclass(frozen=True, eq=False)
class Given:
    """Inputs that are taken for real ones."""

    held: Sequence[Mapping[str, Array]]

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        del graph, count, seed
        return self.held


def off(after: Graph, graph: Graph, feeds: dict[str, np.ndarray]) -> float:
    old, new = (values(g, feeds, [g.outputs["y"]])[0] for g in (graph, after))
    return float(np.square(old - new).mean() / old.var())


def test_fitted_norms_make_up_for_inputs_that_are_unlike() -> None:
    real = {"x": RNG.normal(3, 5, size=(32, 3, 8, 8)).astype(np.float32)}
    graph = fitted(net(block(block(block(X, 12), 12), 6)), [real])
    drawn = source("drawn").batches(graph, 32, 0)

    steps = (
        Factorize(macs=0.5, statistics=s, examples=32, align=1) for s in ("drawn", Given(drawn))
    )
    fit, plain = (off(step(graph), graph, real) for step in steps)
    assert fit < plain
