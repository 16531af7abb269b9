"""The density of a layer's weights, its peaks, and the cells between its valleys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from redir.ir.tensor import Array
from redir.layers.peaks import peaks_of

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
    if bandwidth == "median-gap":
        gaps = np.diff(np.unique(weights))
        return float(np.median(gaps)) if gaps.size else 0.0
    if bandwidth == "scott":
        return float(weights.size**-0.2 * float(np.std(weights, ddof=1)))
    (width,) = multiples_of(weights, [1.0 if bandwidth == "silverman" else float(bandwidth)])
    return width


def multiples_of(weights: Array, multiples: Iterable[float]) -> list[float]:
    """Multiples of the bandwidth that Silverman's rule gives for ``weights`` (n,), n > 1."""
    spread, n = float(np.std(weights, ddof=1)), weights.size
    return [float(multiple * (n * 3 / 4) ** -0.2 * spread) for multiple in multiples]


def density(weights: Array, width: float) -> Density | None:
    """The kernel density of ``weights`` (n,) with standard deviation ``width`` > 0.

    The weights are spread linearly over a grid, which is convolved with the kernel: the same as
    ``scipy.stats.gaussian_kde`` to 1e-3 of its peak at a cost that grows with n + points. None
    where the grid would need more than 2^23 points.
    """
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415 - slow, and workers do what needs it

    low, high = float(weights.min()), float(weights.max())
    step = width / _STEPS
    margin = int(_REACH * _STEPS) + 1
    if (high - low) / step > _POINTS - 2 * margin - 2:
        return None
    count = int((high - low) / step) + 2 * margin + 2
    grid = Density(low - step * margin, step, np.empty(0))
    smooth = gaussian_filter1d(
        _mass(weights, grid, count), _STEPS, mode="constant", truncate=_REACH
    )
    return replace(grid, values=smooth / (weights.size * step))


def _mass(weights: Array, grid: Density, count: int) -> Array:
    """How much of ``weights`` lies at each of ``count`` points, each shared by the nearest two."""
    if weights.size < count or np.any(weights[1:] < weights[:-1]):
        place = grid.place(weights)
        left = place.astype(np.int64)
        share = place - left
        return np.bincount(left, 1 - share, count) + np.bincount(left + 1, share, count)
    points = replace(grid, values=np.empty(count)).points
    starts = np.searchsorted(weights, points)
    many = np.diff(np.append(starts, weights.size))
    some, moved = np.flatnonzero(many), np.zeros(count + 1)  # to the point above
    sums = np.add.reduceat(weights, starts[some])
    moved[some + 1] = (sums - many[some] * points[some]) / grid.step
    mass: Array = many - np.diff(moved)
    return mass


@dataclass(frozen=True)
class Cells:
    """A partition of the line: ``centres`` (k,), and ``borders`` (k + 1,) around and between them.

    The outermost borders are the lowest and the highest weight. All are in the unit of the weights;
    those between lie on the grid of ``curve``.
    """

    centres: Array
    borders: Array
    curve: Density

    def index(self, weights: Array) -> Array:
        """The cell of each weight; one on a border belongs to the cell above it."""
        place = self.curve.place(weights).astype(np.int64)
        cell = self._nearly[np.clip(place, 0, self._nearly.size - 1)]
        inner = self.borders[1:-1]
        above, below = np.append(inner, np.inf), np.append(-np.inf, inner)
        found: Array = cell + (weights >= above[cell]) - (weights < below[cell])
        return found

    @cached_property
    def _nearly(self) -> Array:
        """The cell of each point of the grid: one search a point, not a weight."""
        found: Array = np.searchsorted(self.borders[1:-1], self.curve.points, side="right")
        return found

    def starts(self, ordered: Array) -> Array:
        """Where each cell begins among increasing weights (n,), and behind the last: (k + 1,)."""
        inner = np.searchsorted(ordered, self.borders[1:-1])
        return np.concatenate([[0], inner, [ordered.size]])

    @property
    def reach(self) -> Array:
        """The larger distance from each centre to the borders of its cell: (k,).

        No weight that becomes the centre of its cell moves further.
        """
        found: Array = np.maximum(self.centres - self.borders[:-1], self.borders[1:] - self.centres)
        return found


def cells(weights: Array, curve: Density, contrast: float = 0.0) -> Cells:
    """Centres at the maxima of the density of increasing ``weights`` (n,), borders at the minima.

    A maximum whose prominence is below ``contrast`` times the highest one is no centre. One that
    lies beyond the weights of its cell, pulled by those next to it, is moved to the nearest of
    them: that is nearer to all of them.
    """
    top = float(curve.values.max())
    noise = 1e-9 * top  # ripples of the arithmetic
    peaks = peaks_of(curve.values, max(contrast * top, noise))
    if not peaks.size:
        peaks = np.array([int(curve.values.argmax())])
    valleys = np.array([a + int(curve.values[a:b].argmin()) for a, b in pairwise(peaks)], np.int64)
    borders = np.concatenate([[weights.min()], curve.points[valleys], [weights.max()]])
    found = Cells(curve.points[peaks], borders, curve)
    return replace(found, centres=_among(weights, found))


def _among(weights: Array, found: Cells) -> Array:
    """The centres, each between the lowest and the highest weight of its cell."""
    starts = found.starts(weights)
    some, centres = np.flatnonzero(np.diff(starts)), found.centres.copy()
    low, high = weights[starts[some]], weights[starts[some + 1] - 1]
    centres[some] = np.clip(centres[some], low, high)
    return centres


def expected_distinct(shares: Array, draws: float) -> float:
    """How many of the values that have these ``shares`` (k,) turn up in so many draws, on average.

    The sum of 1 - (1 - p)^n over the shares p, as in the birthday problem. The shares may add up
    to less than 1: what is left is a value that does not count, such as zero.
    """
    return float(np.sum(1 - (1 - np.asarray(shares, np.float64)) ** draws))
