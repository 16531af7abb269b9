"""Running a graph node by node: how many examples at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Node, limits
from redir.statistics.walk import Held, cut, walk
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
    batches = [{"x": np.zeros((1, 2**20), np.float32)}] * 16

    def step(_: Node, operands: list[list[Any]], __: Held) -> None:
        seen.append(len(operands))

    walk(graph, batches, step, "a test")
    assert seen == [16, 16]


def test_a_graph_that_says_how_many_it_takes_gets_them() -> None:
    x = placeholder(2, 3)
    graph = Graph({"x": x}, {"y": ops.Relu(x)})
    batches = [{"x": np.zeros((2, 3), np.float32)}] * 3
    assert cut(graph, batches) is batches
