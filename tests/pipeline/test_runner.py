"""The runner: what it tells instruments, progress and the log, and how often it runs a graph."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import redir
from redir import ops
from redir.errors import BadInput, Broken
from redir.ir import Graph, Value
from redir.ir.tensor import TensorType
from redir.pipeline import Pipeline, compress
from redir.pipeline.instruments import promises
from redir.pipeline.runner import Ran, run

BOTH = Pipeline.parse("eliminate-identity,cse")
NORMED = Pipeline.parse("eliminate-identity,fold-batchnorm,eliminate-identity")


def model() -> Graph:
    x = Value(TensorType(np.dtype(np.float32), (2, 3)))
    return Graph({"x": x}, {"y": ops.Relu(ops.Identity(x))}, opset={"": 21})


def normed() -> Graph:
    """Two passes change it: an Identity goes, and a norm into the layer before it."""
    rng = np.random.default_rng(0)
    x = Value(TensorType(np.dtype(np.float32), (2, 3)))
    shapes = ((3, 4), (4,), (4,), (4,), (4,), (4,))
    w, b, *norm = (ops.constant(rng.random(s).astype(np.float32) + 1) for s in shapes)
    y = ops.BatchNormalization(ops.Gemm(ops.Identity(x), w, b), *norm)
    return Graph({"x": x}, {"y": y}, opset={"": 21})


def test_an_instrument_is_told_of_each_pass_in_order() -> None:
    told: list[Ran] = []
    after, records = run(model(), BOTH, told.append)
    assert [str(r.step) for r in told] == ["eliminate-identity", "cse"]
    assert [r.changed for r in told] == [True, False]
    assert told == records
    assert records[-1].after is after


def test_progress_is_told_of_each_pass_before_it_runs() -> None:
    told: list[Any] = []
    run(model(), BOTH, progress=lambda *now: told.append(now))
    assert told == [("eliminate-identity", 0, 2), ("cse", 1, 2), ("", 2, 2)]


def test_progress_is_told_by_the_functions_of_the_package() -> None:
    told: list[Any] = []
    redir.compress(model(), pipeline=BOTH, progress=lambda name, *_: told.append(name))
    compress.run(model(), BOTH, timing=False, progress=lambda name, *_: told.append(name))
    assert told == ["eliminate-identity", "cse", ""] * 2


def test_each_pass_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "redir"):
        run(model(), BOTH)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("eliminate-identity: 0.0")
    assert second.endswith("s, unchanged")


def test_nan_is_refused_before_anything_runs() -> None:
    x = Value(TensorType(np.dtype(np.float32), (2,)))
    held = ops.constant(np.array([np.nan, 1], np.float32))
    told: list[Ran] = []
    with pytest.raises(BadInput, match="holds NaN"):
        run(Graph({"x": x}, {"y": ops.Add(x, held)}), BOTH, told.append)
    assert told == []


class Grows(redir.Pass):
    guarantees = redir.passes.Cse.guarantees

    def run(self, graph: Graph) -> Graph:
        return graph.computing({n: ops.Identity(v) for n, v in graph.outputs.items()})


def test_a_broken_promise_stops_the_run() -> None:
    told: list[Ran] = []
    with pytest.raises(Broken, match="grows breaks its promise 'no growth'"):
        run(model(), Pipeline((Grows(),)), promises(numeric=False), told.append)
    assert told == []


def test_no_graph_is_run_in_two_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    made: list[bytes] = []
    real = onnxruntime.InferenceSession

    def session(model: bytes, *rest: Any) -> Any:
        made.append(model)
        return real(model, *rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    result = compress.run(normed(), NORMED)
    assert [step.changed for step in result.steps] == [True, True, False]
    assert result.times is not None
    assert len(made) == len(set(made)) >= 3
