"""Tensors brought to so few values that a palette holds them, at the least squared error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from redir.ir.tensor import Array
from redir.layers.density import bandwidth_of, density
from redir.layers.palette import distinct

_STEPS = 100  # of Lloyd's iteration: what it gains after that is nothing


def reduced(weights: Array, count: int) -> Array:
    """``weights`` (any shape) with at most ``count`` > 1 distinct values; exact zeros stay.

    The values minimise the squared error: Lloyd's iteration (1957), from places spread by the cube
    root of the density (Panter and Dite, 1951), then rounded to the type of the weights. Those
    that are no more to begin with, or not finite, stay as they are. On sorted numbers a step takes
    ``count`` searches; scipy's ``kmeans2`` compares each number with each value.
    """
    (found,) = each_reduced(weights, (count,))
    return found


def each_reduced(weights: Array, counts: Iterable[int]) -> Iterator[Array]:
    """What ``reduced`` makes of weights, for each of several counts."""
    held, (order, some) = distinct(weights), _ordered(weights)
    zero = int(order.size < weights.size)
    if not np.isfinite(some).all():
        yield from (weights for _ in counts)
        return
    at, sums = _spread(some), np.zeros(some.size + 1)
    np.cumsum(some, out=sums[1:])
    for count in counts:
        if held <= count:
            yield weights
            continue
        values = _lloyd(some, sums, at((np.arange(count - zero) + 0.5) / (count - zero)))
        nearest = np.zeros(weights.size, weights.dtype)
        sizes = np.diff(_ends(some, values))
        nearest[order] = np.repeat(values.astype(weights.dtype), sizes)
        yield nearest.reshape(weights.shape)


def _ordered(weights: Array) -> tuple[Array, Array]:
    """Where the weights are that are not zero, in increasing order, and these in float64."""
    flat = weights.astype(np.float64).reshape(-1)
    order = np.argsort(flat)
    some = flat[order]
    return (order, some) if some.all() else (order[some != 0], some[some != 0])


def _lloyd(ordered: Array, sums: Array, values: Array) -> Array:
    """The values (k,), in order, nearest to numbers that are in order (n,), from ``values`` on.

    ``sums`` (n + 1,) are those of the numbers before each of them, and of all.
    """
    for _ in range(_STEPS):
        ends = _ends(ordered, values)
        held = np.diff(ends)
        means = np.where(held > 0, np.diff(sums[ends]) / np.maximum(held, 1), values)
        if np.array_equal(means, values):
            break
        values = means
    return values


def _ends(ordered: Array, values: Array) -> Array:
    """Where the numbers begin that are nearest to each value, and behind the last: (k + 1,)."""
    inner = np.searchsorted(ordered, (values[1:] + values[:-1]) / 2)
    return np.concatenate([[0], inner, [ordered.size]])


def _spread(ordered: Array) -> Callable[[Array], Array]:
    """Where to start, by shares (k,) of the cube root of the density of the numbers."""
    width = bandwidth_of(ordered, 0.3) if ordered.size > 1 else 0.0
    curve = density(ordered, width) if width > 0 else None
    if curve is None:
        return lambda shares: np.asarray(np.quantile(ordered, shares))
    mass = np.cumsum(np.cbrt(curve.values))
    return lambda shares: np.asarray(np.interp(shares, mass / mass[-1], curve.points))
