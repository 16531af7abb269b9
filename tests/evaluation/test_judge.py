"""Judging models on data: what runs at once, what is compared, and what is refused."""

from __future__ import annotations

import pickle
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.errors import BadInput
from redir.evaluation import METRICS, Judge, Judged
from redir.ir import Graph, Value
from redir.ir.tensor import Array
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 3)).astype(np.float32)
WEIGHT = RNG.normal(size=(3, 4)).astype(np.float32)


def scaled(batch: int | str = "n", factor: float = 1.0) -> Graph:
    """A linear layer and a sum of its input, for so many examples at once."""
    x = placeholder(batch, 3)
    two = {"y": ops.MatMul(x, const(factor * WEIGHT)), "total": ops.Mul(x, const([factor]))}
    return Graph({"x": x}, two)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def data(**held: Array) -> str:
    np.savez("data.npz", **held)  # type: ignore[arg-type]
    return "data.npz"


@pytest.mark.parametrize("batch", ["n", 1, 2, 5])
def test_a_model_runs_on_as_many_as_it_takes(batch: int | str) -> None:
    path = data(x=X, label=(X @ WEIGHT).argmax(1))
    found = Judge.of(scaled(batch), path)(scaled(batch, -1.0))
    assert (found.before, found.after, found.against) == (1.0, 0.0, "targets")


@pytest.mark.parametrize("batch", ["n", 2])
def test_without_targets_the_original_is_compared_with(batch: int | str) -> None:
    found = Judge.of(scaled(batch), data(x=X), "mse")(scaled(batch, 1.5))
    squares = np.mean([np.square(made).mean() for made in (0.5 * X @ WEIGHT, 0.5 * X)])
    assert (found.before, found.against, found.higher) == (0.0, "original", False)
    assert found.after == pytest.approx(squares, rel=1e-5)
    assert found.lost == found.after


def test_a_target_names_its_output() -> None:
    found = Judge.of(scaled(), data(x=X, total=2 * X), "mse")(scaled(factor=2.0))
    assert found.before == pytest.approx(np.square(X).mean())
    assert found.after == 0


def test_what_is_infinite_is_null_in_json() -> None:
    found = Judge.of(scaled(), data(x=X), "psnr")(scaled(factor=1.1))
    assert found.before == inf
    told = found.as_dict()
    assert told.pop("after") == found.after
    assert told == {"metric": "psnr", "better": "higher", "against": "original", "before": None}


def judged(name: str, before: float, after: float) -> float:
    return Judged(name, METRICS[name].higher, "targets", before, after).lost


def test_what_is_lost_is_in_points_of_a_share() -> None:
    assert judged("top1", 0.9, 0.875) == pytest.approx(2.5)
    assert judged("psnr", 30.0, 29.5) == pytest.approx(0.5)
    assert judged("mse", 0.5, 0.75) == pytest.approx(0.25)


def found_only(x: Value) -> Graph:
    """A detector: of each example the numbers above 0, with their places."""
    places = ops.Transpose(ops.NonZero(ops.Relu(x)), perm=(1, 0))
    return Graph({"x": x}, {"places": places})


OWN = """
import numpy as np

def places(outputs, targets):
    assert [a.shape for a in outputs["places"]] == [a.shape for a in targets["places"]]
    return len(outputs["places"])

places.higher_is_better = True
"""


@pytest.mark.parametrize("batch", ["n", 1])
def test_examples_run_alone_where_outputs_do_not_tell_them_apart(
    batch: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_places.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(".")
    graph = found_only(placeholder(batch, 3))
    found = Judge.of(graph, data(x=X), "own_places:places")(graph)
    assert found.after == 5


def test_a_judge_travels_to_other_processes() -> None:
    judge = Judge.of(scaled(), data(x=X, label=np.zeros(5, int)), "top5")
    assert pickle.loads(pickle.dumps(judge)).before == judge.before  # noqa: S301 - ours


@pytest.mark.parametrize(
    ("held", "metric", "why"),
    [
        ({"x": X}, "top1", "top1 needs targets, expected an array 'label' .*; --metric psnr, cosi"),
        ({"x": X}, "miou", "miou needs targets"),
        ({"x": X, "label": np.zeros(4, int)}, "top1", "5 examples, but 'label' is "),
        ({"x": X[:0]}, "mse", r"0 examples, but 'x' is \[0, 3\]"),
        ({"x": X[:, :2]}, "mse", "'x' is "),
        ({"label": np.zeros(5, int)}, "top1", r"it holds \['label'\], and the model reads 'x'"),
        ({"x": X, "y": X}, "cosine", r"data.npz: output 'y' is \[5, 4\], and its target \[5, 3\]"),
        ({"x": X, "y": np.full((5, 4), np.nan)}, "mse", "mse of the outputs is NaN"),
    ],
)
def test_what_cannot_be_judged_by_is_refused(held: Any, metric: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        _ = Judge.of(scaled(), data(**held), metric).before


def test_inputs_that_are_no_examples_are_refused() -> None:
    x, state = placeholder(1, 3), placeholder(2, 3)
    graph = Graph({"x": x, "state": state}, {"y": ops.Add(x, state)})
    with pytest.raises(BadInput, match="first axes of 1 and 2: these are no examples"):
        _ = Judge.of(graph, data(x=X, state=X), "mse").before
