"""What a change does to the outputs, judged on made-up inputs."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.builtin import tensor_of
from redir.statistics.judge import judge
from redir.statistics.norms import fitted, is_norm
from redir.statistics.rest import Made
from redir.statistics.walk import outputs
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
X = placeholder("n", 3, 4, 4)
REAL, MADE_UP = (
    [{"_0": RNG.normal(shift, spread, size=(8, 3, 4, 4)).astype(np.float32)} for _ in range(2)]
    for shift, spread in ((1, [[[2.0]], [[1.0]], [[0.1]]]), (-3, [[[0.1]], [[0.3]], [[0.1]]]))
)


def conv(x: Value) -> Value:
    return ops.Conv(x, const(RNG.normal(size=(3, 3, 1, 1))))


def norm(x: Value) -> Value:
    return ops.BatchNormalization(x, *(const(n) for n in RNG.uniform(0.5, 2, (4, 3))))


def trained(y: Value) -> Graph:
    """A graph whose norms remember the real inputs; what it reads is called as odd as may be."""
    return fitted(Graph({"_0": X}, {"y": y}), REAL)


def layers(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op == ops.Conv]


def shifted(node: Node) -> Made:
    """A layer and a constant on top of what it gives."""
    rest = node.inputs[1:]
    return lambda x: ops.Add(node.on((x, *rest)).outputs[0], const(0.3))


GRAPH = trained(norm(conv(norm(conv(conv(X))))))
FITTED = fitted(GRAPH, MADE_UP)


def test_outputs_are_those_that_fitted_norms_give() -> None:
    (made,) = judge(GRAPH, FITTED, MADE_UP).plain.values()
    (plain,) = outputs(FITTED, MADE_UP).values()
    np.testing.assert_allclose(made, plain, atol=1e-4)
    assert plain.std() > 0.5


def test_a_change_is_amplified_no_more_than_in_the_original() -> None:
    pairs = (GRAPH, GRAPH, REAL), (GRAPH, FITTED, MADE_UP)
    gone = []
    for original, graph, batches in pairs:
        made, (first, *_) = judge(original, graph, batches), layers(graph)
        (moved,), (plain,) = made.moved({first: shifted(first)}).values(), made.plain.values()
        gone.append(moved * plain.var())
    assert gone[1] == pytest.approx(gone[0], rel=1e-3)


def stretched(graph: Graph, node: Node) -> Made:
    """A layer whose results are a tenth further from their mean, which the norm behind it holds."""
    (behind,), rest = graph.readers[node.outputs[0]], node.inputs[1:]
    mean = tensor_of(behind.inputs[3])
    assert mean is not None
    off = const(-0.1 * mean.array.reshape(-1, 1, 1))
    return lambda x: ops.Add(ops.Mul(node.on((x, *rest)).outputs[0], const(1.1)), off)


def test_what_a_layer_errs_counts_in_shares_of_what_it_gave_in_training() -> None:
    graph = trained(norm(conv(X)))
    made_up = fitted(graph, MADE_UP)
    (real,), (layer,) = layers(graph), layers(made_up)
    (wanted,) = judge(graph, graph, REAL).moved({real: stretched(graph, real)}).values()
    made = judge(graph, made_up, MADE_UP).moved({layer: stretched(made_up, layer)})
    np.testing.assert_allclose(list(made.values()), wanted, rtol=1e-3)


def test_without_norms_that_are_fitted_the_graph_is_judged_itself() -> None:
    assert judge(GRAPH, GRAPH, REAL).graph is GRAPH
    assert any(is_norm(node) for node in GRAPH.nodes)
    assert not any(is_norm(node) for node in judge(GRAPH, FITTED, MADE_UP).graph.nodes)


def test_a_norm_whose_scale_is_computed_stays_as_it_was_fitted() -> None:
    scale = placeholder(3)
    y = ops.BatchNormalization(conv(X), scale, *(const(n) for n in RNG.uniform(0.5, 2, (3, 3))))
    graph = Graph({"_0": X, "scale": scale}, {"y": y})
    batches = [{**batch, "scale": np.ones(3, np.float32)} for batch in MADE_UP]
    made_up = fitted(graph, batches)
    made, (layer,) = judge(graph, made_up, batches), layers(made_up)
    (moved,) = made.moved({layer: shifted(layer)}).values()
    assert made.graph is made_up
    assert moved > 0
