"""Peaks that stand out of a curve: those of ``scipy.signal``, which takes a second to import."""

from __future__ import annotations

import numpy as np

from redir.ir.tensor import Array


def peaks_of(values: Array, least: float) -> Array:
    """Where ``values`` (n,) have their peaks of a prominence of at least ``least`` > 0: (k,).

    The same as ``scipy.signal.find_peaks(values, prominence=least)``: a peak is a number, or the
    middle of several that are equal, with lower ones on both sides; its prominence is how far one
    has to go down, on the side where that is less, before the curve is higher or ends.
    """
    peaks = _maxima(values)
    if not peaks.size:
        return peaks
    lows = np.minimum.reduceat(values, np.append(0, peaks))  # before each peak, and behind the last
    heights = values[peaks]
    stands = heights - np.maximum(lows[:-1], lows[1:]) >= least
    for i in np.flatnonzero(~stands):
        stands[i] = _falls(heights[i::-1], lows[i::-1], least) and _falls(
            heights[i:], lows[i + 1 :], least
        )
    found: Array = peaks[stands]
    return found


def _maxima(values: Array) -> Array:
    """The middles of what is higher than its neighbours, increasing."""
    rises, falls = values[1:] > values[:-1], values[1:] < values[:-1]
    starts = np.flatnonzero(rises[:-1] & ~rises[1:]) + 1
    flat = ~falls[starts]
    if not flat.any():
        return starts
    steps = np.flatnonzero(rises | falls)
    places = np.searchsorted(steps, starts)  # of the steps that end what is equal
    inside = places < steps.size
    starts, ends = starts[inside], steps[places[inside]]
    found: Array = ((starts + ends) // 2)[falls[ends]]
    return found


def _falls(heights: Array, lows: Array, least: float) -> bool:
    """Whether a curve falls by ``least`` from the first of the peaks before it is higher.

    ``lows`` are the least numbers behind each of them, before the next.
    """
    for i, low in enumerate(lows):
        if heights[i] > heights[0]:
            return False
        if heights[0] - low >= least:
            return True
    return False
