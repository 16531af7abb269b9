"""--statistics with images: what is said of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import redir as api
from redir.io import models
from redir.ir import Graph
from redir.ops import Conv, Relu
from tests.commands import Redir
from tests.helpers import const, placeholder

Image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RNG = np.random.default_rng(0)
QUICK = "--macs 0.5 --align 1 --examples 8"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with ``good.onnx``, and a folder ``photos`` of images."""
    monkeypatch.chdir(tmp_path)
    x = placeholder("n", 3, 8, 8)
    y = Relu(Conv(x, const(RNG.normal(size=(12, 3, 3, 3)))))
    z = Relu(Conv(y, const(RNG.normal(size=(8, 12, 3, 3)))))
    models.save(Graph({"x": x}, {"y": z}), "good.onnx")
    (tmp_path / "photos").mkdir()
    (tmp_path / "empty").mkdir()
    for number in range(9):
        Image.fromarray(RNG.integers(0, 256, (9, 9, 3), np.uint8)).save(f"photos/{number}.png")
    return tmp_path


def test_it_is_said_what_is_usual(redir: Redir) -> None:
    done = redir(f"plan good.onnx {QUICK} --statistics photos")
    assert done.code == 0
    assert (
        "of photos, preprocessed as imagenet (the usual; --preprocess names another)\n" in done.err
    )


def test_it_is_said_what_was_asked(redir: Redir) -> None:
    done = redir(f"compress good.onnx out.onnx {QUICK} --statistics photos --preprocess unit+bgr")
    assert done.code == 0
    assert "redir: statistics from images of photos, preprocessed as unit+bgr\n" in done.err
    assert done.out.splitlines()[5].endswith("statistics: photos")


def test_preprocessing_matters(redir: Redir) -> None:
    plans = [
        redir(f"plan good.onnx {QUICK} --statistics photos --preprocess {how} --json -").json
        for how in ("unit", "unit", "mean=0:0:1000")
    ]
    assert plans[0] == plans[1] != plans[2]


def test_python_takes_the_same() -> None:
    plan = api.plan("good.onnx", macs=0.5, align=1, statistics="photos", preprocess="unit")
    assert plan.as_dict()["statistics"] == "photos"


def test_what_is_skipped_is_said_in_a_line(redir: Redir) -> None:
    Path("photos/a.jpg").write_text("hello")
    said = "redir: warning: photos: 1 of 10 files skipped, first a.jpg (broken, or no image)\n"
    command = f"compress good.onnx out.onnx {QUICK} --examples 20 --statistics photos"
    assert said in redir(command).err
    assert redir(f"{command} --quiet --no-timing --macs 0.6").err == ""


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("--statistics none", "no source of statistics is called 'none'"),
        ("--statistics none.zip", "none.zip: No such file"),
        ("--statistics empty", "empty: no image (.jpg"),
        ("--statistics photos --preprocess caffe", "'caffe' is not one of imagenet, unit"),
        ("--statistics synthetic --preprocess unit", "is for images, and synthetic are none"),
        ("--statistics drawn --preprocess caffe", "'caffe' is not one of imagenet, unit"),
        ("--statistics photos --examples -1", "examples is 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(redir: Redir, given: str, why: str) -> None:
    done = redir(f"compress good.onnx out.onnx --macs 0.5 {given}")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("redir: error:")
    assert why in done.err
