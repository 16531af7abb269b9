"""Outputs of fewer numbers go as far as those of a last layer that makes many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.statistics.brief import Brief
from redir.statistics.judge import Judge
from redir.statistics.rest import Rest
from redir.statistics.stretches import Stretches
from redir.statistics.walk import Held, far, walk
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
WIDTH, MANY = 6, 40
BATCHES = [{"x": RNG.normal(size=(n, WIDTH)).astype(np.float32)} for n in (7, 5)]


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def network(kind: str) -> Graph:
    x = placeholder("n", WIDTH)
    y = ops.Tanh(ops.MatMul(x, normal(WIDTH, WIDTH)))
    last: dict[str, Callable[[], Value]] = {
        "words": lambda: ops.MatMul(y, normal(WIDTH, MANY)),
        "tied": lambda: ops.MatMul(y, ops.Transpose(normal(MANY, WIDTH), perm=(1, 0))),
        "turned": lambda: ops.Gemm(y, normal(MANY, WIDTH), transB=1, alpha=0.5),
        "few": lambda: ops.MatMul(y, normal(WIDTH, 2 * WIDTH)),
        "biased": lambda: ops.Gemm(y, normal(WIDTH, MANY), normal(MANY)),
        "bent": lambda: ops.Relu(ops.MatMul(y, normal(WIDTH, MANY))),
        "made": lambda: ops.MatMul(ops.Transpose(y, perm=(1, 0)), y),
        "alike": lambda: ops.MatMul(y, const(np.zeros((WIDTH, MANY)))),
    }
    return Graph({"x": x}, {"logits": last[kind](), "state": y})


def judge(graph: Graph) -> Judge:
    return Judge(graph, BATCHES[:1], {node: node for node in graph.nodes})


def first(graph: Graph) -> Node:
    return next(node for node in graph.nodes if node.has("layer"))


NOISE = const(RNG.normal(size=WIDTH) / 3)


def moved(graph: Graph) -> dict[str, Array]:
    """The outputs where something is added to the first layer."""
    found, layer, stretches = list[dict[str, Array]](), first(graph), Stretches(graph)

    def step(node: Node, _: list[list[Any]], held: Held) -> None:
        if node is layer:
            rest = Rest.behind(stretches, node, held)
            found.append(
                rest.outputs(lambda x: ops.Add(node.on((x, node.inputs[1])).outputs[0], NOISE))
            )

    walk(graph, BATCHES[:1], step, "a test")
    return found[0]


@pytest.mark.parametrize("kind", ["words", "tied", "turned"])
def test_brief_outputs_go_as_far(kind: str) -> None:
    graph = network(kind)
    whole = judge(graph)
    brief = Brief.of(whole, [first(graph)])
    assert brief.graph.outputs["logits"].type.size(1) == WIDTH
    assert brief.graph.outputs["state"] is graph.outputs["state"]
    assert brief.far(moved(brief.graph)) == pytest.approx(far(whole.plain, moved(graph)), rel=1e-4)


@pytest.mark.parametrize("kind", ["few", "biased", "bent", "made", "alike"])
def test_other_outputs_stay(kind: str) -> None:
    graph = network(kind)
    assert Brief.of(judge(graph), [first(graph)]).graph is graph


def test_a_last_layer_that_is_to_change_stays() -> None:
    graph = network("words")
    assert Brief.of(judge(graph), [n for n in graph.nodes if n.has("layer")]).graph is graph
