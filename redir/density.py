"""The density of a layer's weights, its peaks, and the cells between its valleys."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from redir.ir import Array

RULES = ("silverman", "scott", "median-gap")
_STEPS = 16  # grid steps in one bandwidth: keeps the density within 1e-3 of its peak
_REACH = 6.0  # bandwidths after which the kernel is nothing
_POINTS = 1 << 23  # the finest grid


@dataclass(frozen=True)
class Density:
    """A Gaussian kernel density on a grid: ``points`` (n,) and ``values`` (n,) in 1/unit."""

    points: Array
    values: Array


def bandwidth_of(weights: Array, bandwidth: float | str) -> float:
    """The standard deviation of the kernel for ``weights`` (n,), n > 1, in their unit.

    A number is a multiple of Silverman's rule, (3 n / 4)^(-1/5) times the standard deviation
    (Silverman, Density Estimation, 1986); ``scott`` is n^(-1/5) times it; ``median-gap`` is the
    median distance of neighbours among the distinct sorted weights.
    """
    spread, n = float(np.std(weights, ddof=1)), weights.size
    if bandwidth == "median-gap":
        gaps = np.diff(np.unique(weights))
        return float(np.median(gaps)) if gaps.size else 0.0
    if bandwidth == "scott":
        return float(n**-0.2 * spread)
    multiple = 1.0 if bandwidth == "silverman" else float(bandwidth)
    return float(multiple * (n * 3 / 4) ** -0.2 * spread)


def density(weights: Array, width: float) -> Density | None:
    """The kernel density of ``weights`` (n,) with standard deviation ``width`` > 0.

    The weights are spread linearly over a grid, which is convolved with the kernel: the same as
    ``scipy.stats.gaussian_kde`` to 1e-3 of its peak at a cost that grows with n + points. None
    where the grid would need more than 2^23 points.
    """
    low, high = float(weights.min()), float(weights.max())
    step = width / _STEPS
    margin = int(_REACH * _STEPS) + 1
    if (high - low) / step > _POINTS - 2 * margin - 2:
        return None
    count = int((high - low) / step) + 2 * margin + 2
    place = (weights - low) / step
    left = place.astype(np.int64)
    share = place - left
    left += margin
    mass = np.bincount(left, 1 - share, count) + np.bincount(left + 1, share, count)
    smooth = gaussian_filter1d(mass, _STEPS, mode="constant", truncate=_REACH)
    points = low + step * (np.arange(count) - margin)
    return Density(points, smooth / (weights.size * step))


@dataclass(frozen=True)
class Cells:
    """A partition of the line: ``centres`` (k,) and the ``borders`` (k - 1,) between them."""

    centres: Array
    borders: Array

    def index(self, weights: Array) -> Array:
        """The cell of each weight; one on a border belongs to the cell above it."""
        found: Array = np.searchsorted(self.borders, weights, side="right")
        return found


def cells(curve: Density, contrast: float = 0.0) -> Cells:
    """Centres at the local maxima of a density, borders at the lowest points between them.

    A maximum whose prominence is below ``contrast`` times the highest one is no centre.
    """
    top = float(curve.values.max())
    noise = 1e-9 * top  # ripples of the arithmetic
    peaks, _ = find_peaks(curve.values, prominence=max(contrast * top, noise))
    if not peaks.size:
        peaks = np.array([int(curve.values.argmax())])
    valleys = [a + int(curve.values[a:b].argmin()) for a, b in pairwise(peaks)]
    return Cells(curve.points[peaks], curve.points[valleys])
