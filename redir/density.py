"""The density of a layer's weights, its peaks, and the cells between its valleys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from redir.tensor import Array

RULES = ("silverman", "scott", "median-gap")
_STEPS = 16  # grid steps in one bandwidth: keeps the density within 1e-3 of its peak
_REACH = 6.0  # bandwidths after which the kernel is nothing
_POINTS = 1 << 23  # the finest grid


@dataclass(frozen=True)
class Density:
    """A Gaussian kernel density on a grid: ``values`` (n,) in 1/unit, from ``start`` on."""

    start: float
    step: float
    values: Array

    @property
    def points(self) -> Array:
        """The grid: (n,), increasing."""
        return self.start + self.step * np.arange(self.values.size)

    def place(self, weights: Array) -> Array:
        """Where weights lie on the grid, in steps from its start."""
        return (weights - self.start) / self.step


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
    grid = Density(low - step * margin, step, np.empty(0))
    place = grid.place(weights)
    left = place.astype(np.int64)
    share = place - left
    mass = np.bincount(left, 1 - share, count) + np.bincount(left + 1, share, count)
    smooth = gaussian_filter1d(mass, _STEPS, mode="constant", truncate=_REACH)
    return replace(grid, values=smooth / (weights.size * step))


@dataclass(frozen=True)
class Cells:
    """A partition of the line by a density: its peaks (k,) and, between them, valleys (k - 1,).

    Both are places on the grid of ``curve``.
    """

    curve: Density
    peaks: Array
    valleys: Array

    @property
    def centres(self) -> Array:
        """The peaks: (k,), in the unit of the weights."""
        return self.curve.points[self.peaks]

    @property
    def borders(self) -> Array:
        """The valleys: (k - 1,), in the unit of the weights."""
        return self.curve.points[self.valleys]

    def index(self, weights: Array) -> Array:
        """The cell of each weight; one on a border belongs to the cell above it."""
        last = self.curve.values.size - 1
        cell = np.searchsorted(self.valleys, np.arange(last + 1), side="right")
        found: Array = cell[np.clip(self.curve.place(weights).astype(np.int64), 0, last)]
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
    return Cells(curve, peaks, np.array(valleys, np.int64))
