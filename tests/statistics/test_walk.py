"""Running a graph node by node: how many examples at once."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph
from redir.statistics.walk import cut
from tests.helpers import const, placeholder


@pytest.mark.parametrize(("side", "sizes"), [(8, [32, 8]), (512, [2] * 20), (2048, [1] * 40)])
def test_as_many_examples_at_once_as_fit_into_memory(side: int, sizes: list[int]) -> None:
    x = placeholder("n", 1, side, side)
    graph = Graph({"x": x}, {"y": ops.Conv(x, const(np.ones((8, 1, 1, 1))))})
    batch = {"x": np.zeros((40, 1, side, side), np.float32)}
    assert [len(piece["x"]) for piece in cut(graph, [batch])] == sizes


def test_a_graph_that_says_how_many_it_takes_gets_them() -> None:
    x = placeholder(2, 3)
    graph = Graph({"x": x}, {"y": ops.Relu(x)})
    batches = [{"x": np.zeros((2, 3), np.float32)}] * 3
    assert cut(graph, batches) is batches
