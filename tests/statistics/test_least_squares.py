"""Least squares by moments: never worse than doing nothing, whatever the moments are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir.statistics.least_squares import root, solve
from redir.statistics.moments import Moments

RNG = np.random.default_rng(0)


def test_what_is_linear_is_found() -> None:
    read, weights = RNG.normal(size=(200, 5)), RNG.normal(size=(5, 3))
    moments = Moments.of(read, read @ weights + 2)
    assert np.allclose(solve(moments.gram, moments.cross, 0 * weights, 0), weights)


@given(
    st.integers(1, 30), st.integers(1, 12), st.sampled_from([0.0, 0.1, 10.0]), st.integers(0, 99)
)
def test_it_misses_no_more_than_the_prior(samples: int, size: int, ridge: float, seed: int) -> None:
    """Also of fewer samples than features, and of features that never vary."""
    rng = np.random.default_rng(seed)
    read = rng.normal(size=(samples, size)) * (rng.random(size) < 0.7)
    moments = Moments.of(read, rng.normal(size=(samples, 2)))
    prior = rng.normal(size=(size, 2))
    found = solve(moments.gram, moments.cross, prior, ridge)
    assert np.isfinite(found).all()
    assert moments.error(found) <= moments.error(prior) + 1e-9


def test_what_the_moments_say_nothing_of_stays() -> None:
    moments = Moments.of(np.zeros((9, 3)), RNG.normal(size=(9, 2)))
    prior = RNG.normal(size=(3, 2))
    assert solve(moments.gram, moments.cross, prior, 0.1) is prior


def test_a_root_is_one_and_its_inverse_too() -> None:
    rows = RNG.normal(size=(50, 4))
    matrix = rows.T @ rows
    whole, inverse = root(matrix)
    assert np.allclose(whole @ whole, matrix)
    assert np.allclose(whole @ inverse, np.eye(4))


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.ones((3, 3))])
def test_the_root_of_a_matrix_without_inverse_is_finite(matrix: np.ndarray) -> None:
    assert all(np.isfinite(part).all() for part in root(matrix))
