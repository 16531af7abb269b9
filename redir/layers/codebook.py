"""Tensors brought to so few values that a palette holds them, at the least squared error."""

from __future__ import annotations

import numpy as np

from redir.ir.tensor import Array
from redir.layers.density import bandwidth_of, density
from redir.layers.palette import split

_STEPS = 100  # of Lloyd's iteration: what it gains after that is nothing


def reduced(weights: Array, count: int) -> Array:
    """``weights`` (any shape) with at most ``count`` > 1 distinct values; exact zeros stay.

    The values minimise the squared error: Lloyd's iteration (1957), from places spread by the cube
    root of the density (Panter and Dite, 1951), then rounded to the type of the weights. Those
    that are no more to begin with, or not finite, stay as they are. On sorted numbers a step takes
    ``count`` searches; scipy's ``kmeans2`` compares each number with each value.
    """
    flat = weights.astype(np.float64).reshape(-1)
    some = np.sort(flat[flat != 0])
    if split(weights)[0].size <= count or not np.isfinite(some).all():
        return weights
    values = _lloyd(some, count - int(some.size < flat.size))
    nearest = values[np.searchsorted((values[1:] + values[:-1]) / 2, flat)]
    return np.where(flat == 0, 0.0, nearest).astype(weights.dtype).reshape(weights.shape)


def _lloyd(ordered: Array, count: int) -> Array:
    """The ``count`` values (k,), in order, nearest to numbers that are in order (n,)."""
    values, sums = _spread(ordered, count), np.append(0.0, np.cumsum(ordered))
    for _ in range(_STEPS):
        inner = np.searchsorted(ordered, (values[1:] + values[:-1]) / 2)
        ends = np.concatenate([[0], inner, [ordered.size]])
        held = np.diff(ends)
        means = np.where(held > 0, np.diff(sums[ends]) / np.maximum(held, 1), values)
        if np.array_equal(means, values):
            break
        values = means
    return values


def _spread(ordered: Array, count: int) -> Array:
    """Where to start: as dense as the cube root of the density of the numbers."""
    shares = (np.arange(count) + 0.5) / count
    width = bandwidth_of(ordered, 0.3)
    curve = density(ordered, width) if width > 0 else None
    if curve is None:
        return np.quantile(ordered, shares)
    mass = np.cumsum(np.cbrt(curve.values))
    return np.interp(shares, mass / mass[-1], curve.points)
