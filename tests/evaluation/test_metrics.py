"""Metrics: their numbers, worked out by hand, and what they refuse."""

from __future__ import annotations

from itertools import pairwise
from math import inf, log10
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir.errors import BadInput
from redir.evaluation import METRICS, metric
from redir.evaluation.metrics import LABELS, Part
from redir.evaluation.scales import SCALES, scale

SCORES = np.array([[5, 1, 2, 0, 0, 4], [3, 9, 1, 2, 5, 4], [0, 1, 2, 3, 4, 5]], np.float32)


def parts(
    output: Any, target: Any, name: str = "y", cuts: tuple[int, ...] = (0, 2, 3)
) -> list[Part]:
    """Examples of one output, cut into parts."""
    spans = [slice(a, b) for a, b in pairwise(cuts)]
    return [Part({"y": output[s]}, {name: target[s]}, s.stop - s.start) for s in spans]


@pytest.mark.parametrize("name", [*LABELS, "y"])
def test_the_first_output_is_that_of_labels(name: str) -> None:
    labels = np.array([0, 4, 0])
    assert METRICS["top1"].of(parts(SCORES, labels, name)) == 1 / 3
    assert METRICS["top5"].of(parts(SCORES, labels, name)) == 2 / 3


def test_scores_that_are_nan_are_no_answer() -> None:
    scores = np.where(SCORES == 5, np.nan, SCORES)
    assert METRICS["top1"].of(parts(scores, np.array([0, 4, 5]))) == 0


PIXELS = np.array([[[0, 0], [1, 1]], [[2, 2], [2, 1]], [[0, 0], [0, 0]]])
TRUTH = np.array([[[0, 1], [1, 1]], [[2, 2], [255, 0]], [[0, 0], [0, 255]]])
OVERLAP = (4 / 6 + 2 / 4 + 2 / 2) / 3


@pytest.mark.parametrize(
    "output",
    [PIXELS, np.eye(3, dtype=np.float32)[PIXELS], np.moveaxis(np.eye(3)[PIXELS], 3, 1)],
    ids=["classes", "last", "first"],
)
def test_miou_is_the_mean_over_classes_and_leaves_out_void_places(output: Any) -> None:
    assert METRICS["miou"].of(parts(output, TRUTH)) == pytest.approx(OVERLAP)


def test_a_class_that_is_only_guessed_counts() -> None:
    guess, truth = np.array([[0, 0, 1]]), np.array([[0, 0, 0]])
    assert METRICS["miou"].of(parts(guess, truth, cuts=(0, 1))) == pytest.approx((2 / 3 + 0) / 2)


A = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
B = np.array([[4.0, 3.0], [0.0, 0.0], [0.0, 2.0]], np.float32)


def test_cosine_is_the_mean_over_examples() -> None:
    assert METRICS["cosine"].of(parts(A, B)) == pytest.approx((24 / 25 + 1 + 0) / 3)


def test_mse_is_the_mean_over_outputs_of_theirs() -> None:
    both = [Part({"a": A, "b": 2 * A}, {"a": B, "b": A}, 3)]
    assert METRICS["mse"].of(parts(A, B)) == pytest.approx(7 / 6)
    assert METRICS["mse"].of(both) == pytest.approx((7 / 6 + 26 / 6) / 2)


def test_psnr_is_by_the_range_of_all_targets() -> None:
    assert METRICS["psnr"].of(parts(A, B)) == pytest.approx(10 * log10(16 / (7 / 6)))
    assert METRICS["psnr"].of(parts(A, A)) == inf


def test_psnr_of_bytes_is_by_255() -> None:
    a, b = np.array([[10], [0], [0]], np.uint8), np.zeros((3, 1), np.uint8)
    assert METRICS["psnr"].of(parts(a, b)) == pytest.approx(10 * log10(255**2 / (100 / 3)))


def test_whole_numbers_do_not_run_over() -> None:
    a, b = np.zeros((3, 1), np.uint8), np.full((3, 1), 255, np.uint8)
    assert METRICS["mse"].of(parts(a, b)) == 255**2


@pytest.mark.parametrize(
    ("name", "output", "target", "why"),
    [
        ("top1", SCORES, np.zeros(3), "labels are float64: expected whole numbers"),
        ("top1", SCORES, np.zeros((3, 2), int), r"labels are \[2, 2\]: expected one for each"),
        ("top1", SCORES, np.array([0, 6, 1]), "labels go up to 6, and output 'y' has scores of 6"),
        ("miou", PIXELS, TRUTH[:, :1], r"output 'y' is \[2, 2, 2\], and its target \[2, 1, 2\]"),
        ("miou", PIXELS, 1.0 * TRUTH, "labels are float64"),
        ("miou", np.eye(2)[PIXELS % 2], TRUTH, "the targets have a class 2, and output 'y' scores"),
        ("miou", PIXELS, np.full((3, 2, 2), 255), "no place of the targets belongs to a class"),
        ("cosine", A, B[:, :1], r"output 'y' is \[2, 2\], and its target \[2, 1\]"),
        ("psnr", A, np.ones((3, 2)), "the targets of 'y' are all the same"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, output: Any, target: Any, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        METRICS[name].of(parts(output, target))


def test_a_target_of_no_output_is_refused() -> None:
    with pytest.raises(BadInput, match="the model has no input or output 'z': it gives 'y'"):
        METRICS["mse"].of(parts(A, B, "z"))


# functions of the user's own

OWN = """
def heard(outputs, targets):
    heard.seen.append((outputs["y"], targets["words"]))
    return len(outputs["y"])

def fails(outputs, targets):
    return outputs["nothing"]

def undecided(outputs, targets):
    return 0.0

heard.higher_is_better, fails.higher_is_better, heard.seen = True, False, []
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metrics.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own")
def test_a_function_gets_all_arrays_by_name() -> None:
    found = metric("own_metrics:heard")
    assert (found.name, found.higher) == ("own_metrics:heard", True)
    assert found.of(parts(A, B, "words")) == 3
    (outputs, targets) = __import__("own_metrics").heard.seen[-1]
    assert (outputs.tolist(), targets.tolist()) == (A.tolist(), B.tolist())


@pytest.mark.usefixtures("own")
def test_arrays_of_other_sizes_are_a_list() -> None:
    boxes = [Part({"y": np.ones((n, 4))}, {"words": np.ones((1, 2))}, 1) for n in (2, 0, 5)]
    metric("own_metrics:heard").of(boxes)
    (outputs, targets) = __import__("own_metrics").heard.seen[-1]
    assert [array.shape for array in outputs] == [(2, 4), (0, 4), (5, 4)]
    assert targets.shape == (3, 2)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("own_metrics:undecided", "undecided.higher_is_better = True, or False"),
        ("own_metrics:OWN", "own_metrics has no OWN"),
        ("own_metrics:heard.seen", "expected a function"),
        ("nowhere:f", "nowhere cannot be imported"),
        ("f1", "no metric is called 'f1'; there are top1, top5"),
    ],
)
def test_what_is_no_metric_is_refused(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        metric(name)


@pytest.mark.usefixtures("own")
def test_a_function_that_fails_is_named() -> None:
    with pytest.raises(BadInput, match="own_metrics:fails fails with KeyError: 'nothing'"):
        metric("own_metrics:fails").of(parts(A, B))


# how numbers are written


def test_each_metric_has_a_scale() -> None:
    assert set(SCALES) == set(METRICS)


@pytest.mark.parametrize(
    ("name", "value", "text", "change"),
    [
        ("top1", 0.75, "75.00%", "-25.00"),
        ("psnr", 31.25, "31.25 dB", "-0.25"),
        ("psnr", None, "inf", "-"),
        ("cosine", 0.99996, "0.999960", "-0.250000"),
        ("mse", 1.25e-5, "1.25e-05", "-0.25"),
        ("own_metrics:heard", 2.5, "2.5", "-0.25"),
    ],
)
def test_numbers_are_written_as_is_usual(
    name: str, value: float | None, text: str, change: str
) -> None:
    assert (scale(name).text(value), scale(name).change(1.0, None)) == (text, "-")
    assert scale(name).change(value, value and value - 0.25) == change
