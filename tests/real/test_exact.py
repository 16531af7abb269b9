"""The exact passes keep what real models compute, to within the rounding of their own sums."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from redir import ops
from redir.backends.onnx import save
from redir.check.guarantees import stored
from redir.errors import RedirError
from redir.ir import Graph
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.pipeline import Pipeline
from redir.pipeline.presets import preset
from redir.runtime.float64 import widened
from tests.real.inputs import (
    MODELS,
    Feeds,
    each,
    feeds_of,
    loaded,
    name_of,
    original,
    outputs_of,
    session,
)

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

EXACT = preset("exact")
UNKNOWN = {"cls-shufflenetv2-int8-onnxzoo", "test_gradient_of_add", "test_gradient_of_add_and_mul"}
SLACK = 3  # times the error of the original
ULPS = 8  # of the largest output

ACCEPTED = [path for path in MODELS if original(path) is not None]
each_model = each(MODELS)


@cache
def rewritten(path: Path) -> Graph:
    return EXACT(loaded(path))


@pytest.fixture
def after(path: Path, tmp_path: Path) -> Path:
    save(rewritten(path), tmp_path / "after.onnx")
    return tmp_path / "after.onnx"


@cache
def checks(path: Path) -> bool:
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError:
        return False
    return True


def reference(graph: Graph, feeds: Feeds) -> dict[str, Any]:
    wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in feeds.items()}
    with np.errstate(all="ignore"):
        return evaluate(widened(graph), wide)


def error(found: Array, exact: Array) -> float:
    """The largest distance; two equal infinities or NaN are at none."""
    same = (found == exact) | (np.isnan(found) & np.isnan(exact))
    return float(np.max(np.abs(np.where(same, 0, found - exact)), initial=0.0))


def scale(exact: Array) -> float:
    return float(np.max(np.abs(exact[np.isfinite(exact)]), initial=0.0))


def assert_within_rounding(found: Any, original: Any, exact: Any) -> None:
    """The distance of ``found`` to ``exact`` is about that of ``original``, or very small."""
    found, original = np.asarray(found), np.asarray(original)
    assert (found.dtype, found.shape) == (original.dtype, original.shape)
    if found.dtype.kind != "f":
        assert found.tolist() == original.tolist()
        return
    exact = np.asarray(exact, np.float64)
    allowed = SLACK * error(original, exact) + ULPS * np.finfo(found.dtype).eps * scale(exact)
    assert error(found, exact) <= allowed


@each(ACCEPTED)
def test_outputs_are_the_same_to_within_rounding(path: Path, after: Path) -> None:
    before, now, feeds = original(path), session(after), feeds_of(path)
    assert before is not None
    assert now is not None
    wanted, found = outputs_of(before, feeds), outputs_of(now, feeds)
    exact = wanted if name_of(path) in UNKNOWN else reference(loaded(path), feeds)
    assert list(found) == list(wanted)
    for name, arrays in wanted.items():
        assert_within_rounding(found[name], arrays, exact[name])


@pytest.mark.parametrize(
    "path", [p for p in MODELS if p not in ACCEPTED and name_of(p) not in UNKNOWN], ids=name_of
)
def test_what_onnxruntime_refuses_is_the_same_to_within_rounding(path: Path) -> None:
    feeds = feeds_of(path)
    wanted, found = evaluate(loaded(path), feeds), evaluate(rewritten(path), feeds)
    exact = reference(loaded(path), feeds)
    for name, arrays in wanted.items():
        assert_within_rounding(found[name], arrays, exact[name])


@pytest.mark.parametrize("path", [p for p in MODELS if name_of(p) in UNKNOWN], ids=name_of)
def test_what_is_not_understood_has_no_reference(path: Path) -> None:
    with pytest.raises(RedirError):
        reference(loaded(path), feeds_of(path))


@each_model
def test_the_checker_accepts_the_result(path: Path, after: Path) -> None:
    assert checks(after) >= checks(path)


@each_model
def test_no_more_numbers_are_stored(path: Path) -> None:
    assert stored(rewritten(path), sizes=False) <= stored(loaded(path))


def test_sizes_are_folded_into_constants(shared: Path) -> None:
    graph = loaded(shared / "models" / "cifar10-resnet20-bn.onnx")
    folded = Pipeline.parse("fold-constants")(graph)
    left = {node.op for node in folded.nodes}
    assert not left & {ops.Shape, ops.Gather, ops.ConstantOfShape}
