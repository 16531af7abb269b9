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
from redir.pipeline import Pipeline, compress, instruments
from redir.pipeline.instruments import Outputs, promises
from redir.pipeline.runner import Ran, run
from redir.runtime import onnxruntime

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
    package = pytest.importorskip("onnxruntime")
    made: list[bytes] = []
    real = package.InferenceSession

    def session(model: bytes, *rest: Any) -> Any:
        made.append(model)
        return real(model, *rest)

    monkeypatch.setattr(package, "InferenceSession", session)
    result = compress.run(normed(), NORMED)
    assert [step.changed for step in result.steps] == [True, True, False]
    assert result.times is not None
    assert len(made) == len(set(made)) >= 3


class Doubles(redir.Pass):
    """Promises the same outputs, and doubles them."""

    guarantees = redir.passes.Cse.guarantees

    def run(self, graph: Graph) -> Graph:
        return graph.computing({n: ops.Add(v, v) for n, v in graph.outputs.items()})


@pytest.fixture
def _all_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "_LARGE", 0)


@pytest.mark.usefixtures("_all_is_large")
def test_passes_on_a_large_model_are_checked_together() -> None:
    result = compress.run(normed(), NORMED)
    assert [step.moved[:3] for step in result.steps] == ["see", result.steps[1].moved[:3], "unc"]
    assert [step.verdict for step in result.steps] == [None, "pass", "pass"]
    assert result.verdict == "pass"


@pytest.mark.usefixtures("_all_is_large")
def test_of_passes_that_are_checked_together_the_one_that_broke_its_promise_is_named() -> None:
    steps = Pipeline((*NORMED.passes, Doubles(), *BOTH.passes))
    with pytest.raises(Broken, match="doubles changed the outputs and was stopped"):
        compress.run(normed(), steps)


@pytest.mark.usefixtures("_all_is_large")
def test_what_waits_is_checked_before_a_pass_that_promises_less() -> None:
    result = compress.run(normed(), Pipeline.parse("eliminate-identity,hash"))
    assert [step.waits for step in result.steps] == [False, False]
    assert result.steps[0].verdict == "pass"


def test_each_pass_on_a_large_model_is_checked_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(instruments, "_LARGE", 0)
    check = Outputs(each=True)
    run(normed(), NORMED, check)
    assert [step.verdict for step in check.steps] == ["pass", "pass", "pass"]


def test_of_a_huge_model_one_weight_at_a_time_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxruntime, "_HUGE", 0)
    monkeypatch.setattr(onnxruntime, "session", pytest.fail)
    result = compress.run(normed(), NORMED)
    assert (result.verdict, result.times) == ("pass", None)
    assert (result.before.distinct, result.after.multiplications) == (None, None)
    assert result.after.parameters < result.before.parameters
    assert compress.run(normed(), Pipeline.parse("hash{multiplications=0.9}")).after.multiplications
