"""Accuracy on labelled examples: what is right, and batches that fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from redir.errors import TooLarge
from redir.evaluation import accuracy
from redir.ir.tensor import Array

SCORES = np.random.default_rng(0).normal(size=(70, 5)).astype(np.float32)
LABELS = np.where(np.arange(70) % 7 < 4, SCORES.argmax(1), SCORES.argmin(1))


def of_at_most(size: int, seen: list[int]) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """What a model gives that takes so many examples, and remembers how many it was given."""

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        seen.append(len(feeds["x"]))
        if len(feeds["x"]) > size:
            raise TooLarge("too many")
        return {"y": feeds["x"]}

    return run


@pytest.mark.parametrize("size", [1, 3, 70, 1000])
def test_what_is_right_is_counted_in_batches_that_fit(size: int) -> None:
    seen = list[int]()
    found = accuracy(of_at_most(size, seen), {"x": SCORES}, LABELS)
    assert found == 4 / 7
    assert sum(n for n in seen if n <= size) == 70


def test_one_example_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge):
        accuracy(of_at_most(0, []), {"x": SCORES}, LABELS)
