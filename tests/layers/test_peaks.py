"""Peaks that stand out are those that scipy finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.signal import find_peaks

from redir.ir.tensor import Array
from redir.layers.peaks import peaks_of

STEPS = arrays.arrays(np.int8, st.integers(3, 60), elements=st.integers(-2, 2))


@given(steps=STEPS, least=st.sampled_from([0.1, 1, 2, 3, 5]))
def test_peaks_are_those_of_scipy(steps: Array, least: float) -> None:
    values = np.cumsum(steps, dtype=np.float64)
    assert peaks_of(values, least).tolist() == find_peaks(values, prominence=least)[0].tolist()


@pytest.mark.parametrize("least", [1e-9, 0.01, 0.3])
def test_peaks_of_a_rough_curve_are_those_of_scipy(least: float) -> None:
    values = np.random.default_rng(0).random(10**4)
    assert peaks_of(values, least).tolist() == find_peaks(values, prominence=least)[0].tolist()


@pytest.mark.parametrize("values", [[0.0], [0, 1], [1, 1, 1], [0, 1, 1], [2, 1, 0], [0, 0, 1]])
def test_a_curve_without_a_peak_has_none(values: list[float]) -> None:
    assert not peaks_of(np.array(values, np.float64), 0.5).size
