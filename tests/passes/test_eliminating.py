"""In which order channels go: as if each step began anew."""

from __future__ import annotations

import numpy as np
import pytest

from redir.ir.tensor import Array
from redir.passes.factorize import eliminating
from redir.passes.factorize.eliminating import eliminated

RNG = np.random.default_rng(0)


def drawn(channels: int, outputs: int) -> tuple[Array, Array]:
    """A gram of channels that have to do with each other, and weights."""
    mixed = RNG.normal(size=(channels, channels)) + 2 * np.eye(channels)
    return mixed @ mixed.T / channels, RNG.normal(size=(channels, outputs))


def alone(channels: int) -> Array:
    """Units of one channel each."""
    return np.arange(channels)[:, None]


def missed(gram: Array, weights: Array, stays: list[int]) -> float:
    """What the best weights for the channels that stay miss of the results."""
    inner = gram[np.ix_(stays, stays)]
    left = np.linalg.solve(inner, gram[stays] @ weights) if stays else np.zeros((0, 1))
    kept = np.sum(left * (gram[stays] @ weights)) if stays else 0.0
    return float(np.sum(weights * (gram @ weights)) - kept)


@pytest.mark.parametrize("pending", [1, 3, 64])
def test_each_time_the_one_goes_without_which_least_is_missed(
    pending: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eliminating, "_PENDING", pending)
    gram, weights = drawn(9, 4)
    order, errors = eliminated(gram, weights, alone(9))
    left, before = list(range(9)), 0.0
    for gone, error in zip(order.tolist(), errors, strict=True):
        tried = {each: missed(gram, weights, [c for c in left if c != each]) for each in left}
        assert min(tried.values()) == pytest.approx(tried[gone], rel=1e-3)
        assert error == pytest.approx(tried[gone] - before, rel=1e-3, abs=1e-3)
        left.remove(gone)
        before = tried[gone]


def test_some_go_at_once_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eliminating, "_STEPS", 5)
    order, errors = eliminated(*drawn(23, 4), alone(23))
    assert sorted(order.tolist()) == list(range(23))
    assert len(set(errors.tolist())) <= 6


def test_units_go_whole_and_least_is_missed_without_them() -> None:
    gram, weights = drawn(12, 4)
    units = RNG.permutation(12).reshape(4, 3)
    order, errors = eliminated(gram, weights, units)
    left, before = list(range(4)), 0.0
    for gone, error in zip(order.tolist(), errors, strict=True):
        stays = {e: units[[u for u in left if u != e]].reshape(-1).tolist() for e in left}
        tried = {each: missed(gram, weights, channels) for each, channels in stays.items()}
        assert min(tried.values()) == pytest.approx(tried[gone], rel=1e-3)
        assert error == pytest.approx(tried[gone] - before, rel=1e-3, abs=1e-3)
        left.remove(gone)
        before = tried[gone]


@pytest.mark.parametrize("each", [1, 3])
def test_the_first_to_go_are_the_same_where_some_stay(each: int) -> None:
    gram, weights = drawn(12, 4)
    units = np.arange(12).reshape(-1, each)
    (whole, errors), (order, known) = (eliminated(gram, weights, units, n) for n in (0, 2))
    assert order[:-2].tolist() == whole[:-2].tolist()
    assert sorted(order.tolist()) == sorted(whole.tolist())
    np.testing.assert_allclose(known[:-2], errors[:-2])
    assert known[-2:].tolist() == [0, 0]
