"""Hashing the weights of ResNet-50, next to the density that scipy evaluates point by point."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from math import prod

import numpy as np
import pytest
from scipy.stats import gaussian_kde

from redir.app import tables
from redir.ir.tensor import Array
from redir.layers.density import bandwidth_of, density
from redir.passes.hash import Hash
from redir.passes.hash.cells import hashed

FASTER = 100
RUNS = 3
OFF = 1e-3  # of the density's peak
POINTS = 512
MIDDLE = (256, 256, 3, 3)
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width of the 3x3 convolution, blocks


def shapes() -> Iterator[tuple[int, ...]]:
    """The weights of ResNet-50's 53 convolutions and of its classifier (He et al., 2015)."""
    yield (64, 3, 7, 7)
    read = 64
    for width, blocks in STAGES:
        yield (4 * width, read, 1, 1)
        for _ in range(blocks):
            yield from ((width, read, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
            read = 4 * width
    yield (1000, 2048)


def drawn(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(0.02)


def spent(weights: list[Array]) -> float:
    """The seconds that hashing takes."""
    start = time.perf_counter()
    for w in weights:
        hashed(w)
    return time.perf_counter() - start


@pytest.mark.bench
def test_hash_is_faster_than_a_density_by_points_and_as_good() -> None:
    weights = [drawn(shape, seed) for seed, shape in enumerate(shapes())]
    numbers = sum(w.size for w in weights)
    assert (len(weights), numbers) == (54, 25_502_912)

    ours = statistics.median(spent(weights) for _ in range(RUNS))
    middle = next(w for w in weights if w.shape == MIDDLE).reshape(-1).astype(np.float64)
    width = bandwidth_of(middle, Hash.bandwidth)
    places = np.linspace(middle.min(), middle.max(), POINTS)
    start = time.perf_counter()
    theirs = gaussian_kde(middle, bw_method=width / float(np.std(middle, ddof=1)))(places)
    layer = time.perf_counter() - start
    whole = layer * numbers / prod(MIDDLE)

    curve = density(middle, width)
    assert curve is not None
    found = np.interp(places, curve.points, curve.values)
    off = float(np.max(np.abs(found - theirs)) / theirs.max())

    print()
    tables.write_table(
        ("", "seconds"),
        [
            (f"hash, {numbers:,} weights, median of {RUNS}", f"{ours:.2f}"),
            (f"gaussian_kde, {prod(MIDDLE):,} weights at {POINTS} points", f"{layer:.2f}"),
            (f"gaussian_kde, {numbers:,} weights, extrapolated", f"{whole:.1f}"),
            ("times faster", f"{whole / ours:.1f}"),
            ("difference as a share of the peak", f"{off:.1e}"),
        ],
    )
    assert off <= OFF
    assert whole >= FASTER * ours
