"""``--eval`` and ``--metric``: what compress and sweep judge by, and what they show of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir.io import models
from redir.ir import Graph
from redir.ops import Conv, Relu
from tests.commands import Done, Redir
from tests.helpers import const, placeholder

QUICK = "--statistics drawn --align 1 --examples 8 --no-timing"
SMALL = f"compress good.onnx out.onnx --macs 0.5 {QUICK}"
RNG = np.random.default_rng(0)


def network() -> Graph:
    x, shapes = placeholder("n", 3, 8, 8), ((6, 3, 3, 3), (4, 6, 3, 3))
    weights = [RNG.normal(size=shape) for shape in shapes]
    first = Relu(Conv(x, const(weights[0]), pads=(1, 1, 1, 1)))
    return Graph({"x": x}, {"y": Conv(first, const(weights[1]), pads=(1, 1, 1, 1)), "z": first})


OWN = """
def worst(outputs, targets):
    assert sorted(outputs) == ["y", "z"]
    return max(abs(outputs[name] - targets[name]).max() for name in targets)

worst.higher_is_better = False
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with a model, inputs, targets and a metric."""
    monkeypatch.chdir(tmp_path)
    graph = network()
    models.save(graph, "good.onnx")
    x = RNG.normal(size=(6, 3, 8, 8)).astype(np.float32)
    np.savez("inputs.npz", x=x)
    np.savez("targets.npz", x=x, y=RNG.normal(size=(6, 4, 8, 8)))
    np.savez("maps.npz", x=x, label=RNG.integers(0, 4, (6, 8, 8)))
    Path("own_worst.py").write_text(OWN, encoding="utf-8")


def judged(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = done.json["eval"]
    return found


@pytest.mark.parametrize(
    ("data", "metric", "better", "against"),
    [
        ("inputs.npz", "cosine", "higher", "original"),
        ("inputs.npz", "mse", "lower", "original"),
        ("targets.npz", "mse", "lower", "targets"),
        ("targets.npz", "psnr", "higher", "targets"),
        ("maps.npz", "miou", "higher", "targets"),
        ("inputs.npz", "own_worst:worst", "lower", "original"),
    ],
)
def test_compress_judges_by_a_metric(
    redir: Redir, data: str, metric: str, better: str, against: str
) -> None:
    done = redir(f"{SMALL} --eval {data} --metric {metric} --json -")
    found = judged(done)
    numbers = found.pop("before"), found.pop("after")
    assert found == {"metric": metric, "better": better, "against": against}
    assert numbers[0] != numbers[1]
    assert "accuracy" not in done.json


def test_images_are_data_too(redir: Redir) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    Path("photos").mkdir()
    for number in range(3):
        pixels = RNG.integers(0, 255, (8, 8, 3), np.uint8)
        image.fromarray(pixels).save(f"photos/{number}.png")
    exact = "compress good.onnx out.onnx --no-timing --eval photos --preprocess unit"
    found = judged(redir(f"{exact} --metric mse --json -"))
    assert (found["before"], found["after"]) == (0, 0)
    same = judged(redir(f"{exact} --metric psnr --json -"))
    assert (same["before"], same["after"]) == (None, None)


def test_the_table_has_the_metric_and_its_unit(redir: Redir) -> None:
    shown = redir(f"{SMALL} --eval targets.npz --metric psnr").out
    assert "PSNR" in shown.splitlines()[0]
    assert shown.count(" dB") == 2


def test_a_sweep_judges_each_point(redir: Redir) -> None:
    how = f"{QUICK} --eval inputs.npz --metric cosine"
    found = redir(f"sweep good.onnx --macs 0.4:0.8:0.4 {how} --json - --report out.html").json
    told = {"metric": "cosine", "better": "higher", "against": "original", "before": 1.0}
    assert (found["eval"], found["accuracy"]) == (told, None)
    low, high = (point["eval"] for point in found["points"])
    assert 0 < low < high <= 1
    page = Path("out.html").read_text(encoding="utf-8")
    assert page.count("<figcaption>Cosine</figcaption>") == 1
    assert f"{low:.6f}" in page


def test_a_sweep_is_resumed_for_the_same_metric_only(redir: Redir) -> None:
    how = f"sweep good.onnx --macs 0.5 {QUICK} --eval inputs.npz --json out.json"
    redir(f"{how} --metric mse")
    first = json.loads(Path("out.json").read_text(encoding="utf-8"))["points"][0]
    redir(f"{how} --metric mse --resume")
    again = json.loads(Path("out.json").read_text(encoding="utf-8"))["points"][0]
    redir(f"{how} --metric cosine --resume")
    other = json.loads(Path("out.json").read_text(encoding="utf-8"))["points"][0]
    assert again == first
    assert (other["key"], other["eval"]) != (first["key"], first["eval"])


@pytest.mark.parametrize(("metric", "drop"), [("cosine", 0.3), ("own_worst:worst", 60)])
def test_a_target_is_what_may_be_lost_of_a_metric(redir: Redir, metric: str, drop: float) -> None:
    how = f"--max-drop {drop} --eval inputs.npz --metric {metric} {QUICK}"
    done = redir(f"compress good.onnx out.onnx {how} --json -").json
    assert 0 < done["target"]["reached"] <= drop
    assert done["after"]["macs"] < done["before"]["macs"]


def test_the_report_says_what_was_judged_by(redir: Redir) -> None:
    assert redir(f"{SMALL} --eval inputs.npz --metric mse --report out.html").code == 0
    page = Path("out.html").read_text(encoding="utf-8")
    assert (
        "mean squared error is taken against the outputs of the original; lower is better" in page
    )


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("--metric cosine", "--metric cosine judges outputs on data: --eval names none"),
        ("--eval inputs.npz --metric f1", "no metric is called 'f1'"),
        ("--eval inputs.npz", "inputs.npz: top1 needs targets"),
        ("--eval targets.npz --metric miou", "targets.npz: labels are float64"),
        ("--eval maps.npz --metric mse", "maps.npz: output 'y' is [6, 4, 8, 8]"),
        ("--eval inputs.npz --metric nowhere:f1", "nowhere:f1: nowhere cannot be imported"),
        (
            f"--eval inputs.npz --metric psnr --max-drop 1 {QUICK}",
            "inputs.npz: psnr of the original is infinite: max_drop needs targets for it",
        ),
    ],
)
def test_what_cannot_be_judged_is_one_line(redir: Redir, how: str, why: str) -> None:
    done = redir(f"compress good.onnx out.onnx {how}")
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, "")
    assert why in done.err
    assert not Path("out.onnx").exists()
