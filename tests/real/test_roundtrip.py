"""Real models come out of redir as they went in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from redir.backends.onnx import save
from redir.frontends.onnx import load
from redir.ir.interpreter import evaluate
from redir.text import parse, tensors
from tests.real.inputs import (
    MODELS,
    REPEATED,
    each,
    feeds_of,
    loaded,
    name_of,
    original,
    outputs_of,
    session,
)

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

DIGESTS = """
import hashlib, sys, tempfile
from pathlib import Path
from redir import compress, load, save
with tempfile.TemporaryDirectory() as folder:
    out = Path(folder, "out.onnx")
    for path in sys.stdin.read().splitlines():
        graph, held = load(path), b""
        for made in (graph, compress(graph), compress(graph, preset="red")):
            save(made, out)
            held += out.read_bytes() + str(made).encode()
        print(path, hashlib.sha256(held).hexdigest())
"""

REFUSED = [path for path in MODELS if original(path) is None]
LONG = {"aud-gtcrn-simple", "trk-vittrack-transformer-op14"}  # as text
each_model = each(MODELS)
each_accepted = each([path for path in MODELS if path not in REFUSED])
each_refused = pytest.mark.parametrize("path", REFUSED, ids=name_of)


def assert_bitwise(found: Any, wanted: Any) -> None:
    """The same bytes, or the same items where the two are sequences or strings."""
    a, b = np.asarray(found), np.asarray(wanted)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tolist() == b.tolist() if a.dtype == np.dtype(object) else a.tobytes() == b.tobytes()


@pytest.fixture
def written(path: Path, tmp_path: Path) -> Path:
    save(loaded(path), tmp_path / "written.onnx")
    return tmp_path / "written.onnx"


def test_the_shared_models_are_tried(shared: Path) -> None:
    assert set(shared.glob("models/*.onnx")) <= set(MODELS)


@each_accepted
def test_outputs_are_bitwise_the_same(path: Path, written: Path) -> None:
    before, after = original(path), session(written)
    assert before is not None
    assert after is not None
    feeds = feeds_of(path)
    found, wanted = outputs_of(after, feeds), outputs_of(before, feeds)
    assert list(found) == list(wanted)
    for name, arrays in wanted.items():
        assert_bitwise(found[name], arrays)


@each_refused
def test_what_onnxruntime_refuses_is_valid_still(path: Path, written: Path) -> None:
    onnx.checker.check_model(path)
    onnx.checker.check_model(written)


@pytest.mark.parametrize("path", [p for p in REFUSED if "gradient" not in name_of(p)], ids=name_of)
def test_what_onnxruntime_refuses_computes_the_same(path: Path, written: Path) -> None:
    feeds = feeds_of(path)
    wanted, found = evaluate(loaded(path), feeds), evaluate(load(written), feeds)
    assert list(found) == list(wanted)
    for name, arrays in wanted.items():
        assert_bitwise(found[name], arrays)


@pytest.mark.nightly
@each_model
def test_a_second_round_trip_changes_nothing(written: Path, tmp_path: Path) -> None:
    save(load(written), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == written.read_bytes()


@each(MODELS, REPEATED | LONG)
def test_the_text_parses_back(path: Path) -> None:
    text = repr(loaded(path))
    held = {tensor.digest: tensor.array for tensor in tensors(loaded(path))}
    assert repr(parse(text, lambda digest, _: held[digest])) == text


@pytest.mark.nightly  # tests/app/test_cli.py has one for every change
def test_the_hash_seed_changes_nothing() -> None:
    paths = "\n".join(map(str, MODELS))
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    )
    one, other = first.communicate(paths)[0], second.communicate(paths)[0]
    assert len(one.splitlines()) == len(MODELS)
    assert one == other
