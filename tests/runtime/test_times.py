"""Timing: on one thread it is the work of that thread that counts."""

from __future__ import annotations

from itertools import accumulate, cycle

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph
from redir.runtime import onnxruntime
from tests.helpers import placeholder

pytestmark = pytest.mark.skipif(not onnxruntime.installed(), reason="onnxruntime is not installed")

X = placeholder(2)
GRAPH = Graph({"x": X}, {"y": ops.Relu(X)})
FEEDS = {"x": np.zeros(2, np.float32)}


@pytest.mark.parametrize(("threads", "clock"), [(1, "thread_time"), (2, "perf_counter")])
def test_the_ratio_is_that_of_what_a_clock_says(
    threads: int, clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = accumulate(cycle([0, 1, 0, 3]))  # one second for a run of the first, three for the next
    first, second = (onnxruntime.session(GRAPH, threads) for _ in range(2))
    monkeypatch.setattr(f"redir.runtime.onnxruntime.time.{clock}", lambda: next(ticks))
    assert onnxruntime.pair_ratio(first, second, FEEDS) == 3


def test_the_second_may_read_other_inputs() -> None:
    other = Graph({"z": X}, {"y": ops.Relu(X)})
    first, second = onnxruntime.session(GRAPH), onnxruntime.session(other)
    assert onnxruntime.pair_ratio(first, second, FEEDS, {"z": FEEDS["x"]}, seconds=0) > 0
