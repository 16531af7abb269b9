"""Times: a difference counts outside the spread only, and what did not change is not timed."""

from __future__ import annotations

from itertools import count

import pytest

from redir import ops
from redir.ir import Graph
from redir.pipeline import Pipeline, compress
from redir.runtime import onnxruntime
from redir.runtime.onnxruntime import Times, installed, time_pairs
from tests.helpers import placeholder

PAIRS = {
    "faster": [(1.0, 0.8), (1.1, 0.9), (1.0, 0.7), (1.0, 1.2), (1.0, 0.9)],
    "slower": [(1.0, 1.2), (1.0, 1.3), (1.0, 0.9), (1.0, 1.2), (1.0, 1.1)],
    "same": [(1.0, 0.8), (1.0, 1.2), (1.0, 0.9), (1.0, 1.1), (1.0, 0.84)],
}


@pytest.mark.parametrize("verdict", PAIRS)
def test_a_difference_counts_outside_the_spread(verdict: str) -> None:
    assert Times.of(PAIRS[verdict]).verdict == verdict


def test_medians_and_quartiles() -> None:
    found = Times.of([(2.0, 1.0), (2.0, 2.0), (4.0, 6.0)])
    assert (found.before, found.after) == (2, 2)
    assert (found.low, found.ratio, found.high) == (0.75, 1, 1.25)


@pytest.mark.parametrize(("seconds", "pairs"), [(0.01, 15), (0.3, 9), (1.0, 9)])
def test_what_takes_long_is_timed_less_often(
    seconds: float, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = count()
    monkeypatch.setattr(onnxruntime, "_seconds", lambda *_: seconds + 0 * next(seen))
    assert time_pairs(dict, dict, {}).ratio == 1
    assert next(seen) == 2 + 2 * pairs


def model() -> Graph:
    x = placeholder(2, 3)
    return Graph({"x": x}, {"y": ops.Relu(ops.Identity(x))}, opset={"": 21})


def test_what_did_not_change_is_not_timed() -> None:
    assert compress.run(model(), Pipeline.parse("cse")).times is None


@pytest.mark.skipif(not installed(), reason="onnxruntime is not installed")
def test_what_changed_is_timed_unless_nobody_wants_to_know() -> None:
    pipeline = Pipeline.parse("eliminate-identity")
    assert compress.run(model(), pipeline).times is not None
    assert compress.run(model(), pipeline, timing=False).times is None
