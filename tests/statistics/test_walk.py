"""Running a graph node by node: how many examples at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Node, limits
from redir.statistics.walk import Held, applied, cut, walk
from tests.helpers import const, placeholder


@pytest.mark.parametrize(("side", "sizes"), [(8, [32, 8]), (512, [2] * 20), (2048, [1] * 40)])
def test_as_many_examples_at_once_as_fit_into_memory(side: int, sizes: list[int]) -> None:
    x = placeholder("n", 1, side, side)
    graph = Graph({"x": x}, {"y": ops.Conv(x, const(np.ones((8, 1, 1, 1))))})
    batch = {"x": np.zeros((40, 1, side, side), np.float32)}
    assert [len(piece["x"]) for piece in cut(graph, [batch])] == sizes


def test_what_is_kept_does_not_count_towards_what_a_run_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "limit", lambda: 2**25)
    x, seen = placeholder("n", 2**20), list[int]()
    graph = Graph({"x": x}, {"y": ops.Relu(ops.Sigmoid(x))})
    batches = [{"x": np.zeros((1, 2**20), np.float32)} for _ in range(16)]

    def step(_: Node, operands: list[list[Any]], __: Held) -> None:
        seen.append(len(operands))

    walk(graph, batches, step, "a test")
    assert seen == [16, 16]


@pytest.mark.parametrize("width", [4, 2**9])
def test_what_is_the_same_in_all_runs_is_held_once(width: int) -> None:
    x = placeholder("n", width)
    turned = ops.Transpose(const(np.eye(width) + 1), perm=(1, 0))
    graph = Graph({"x": x}, {"y": ops.MatMul(x, turned)})
    batches = [{"x": np.full((1, width), run, np.float32)} for run in range(3)]
    seen = dict[str, list[Any]]()

    def step(node: Node, operands: list[list[Any]], _: Held) -> list[Sequence[Any]]:
        seen[node.op.name] = operands
        return applied(graph, node, operands)

    walk(graph, batches, step, "a test")
    tables = [table for _, table in seen["MatMul"]]
    assert tables[0] is tables[1] is tables[2]
    assert [x[0, 0] for x, _ in seen["MatMul"]] == [0, 1, 2]


def test_a_graph_that_says_how_many_it_takes_gets_them() -> None:
    x = placeholder(2, 3)
    graph = Graph({"x": x}, {"y": ops.Relu(x)})
    batches = [{"x": np.zeros((2, 3), np.float32)}] * 3
    assert cut(graph, batches) is batches
