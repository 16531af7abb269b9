"""How many products a layer is expected to need, from how often its weights have each value."""

from __future__ import annotations

import numpy as np

from redir.ir.tensor import Array
from redir.layers.density import expected_distinct
from redir.layers.products import by_channel

_STEP = 0.005  # of the logarithms that shares are added up in
_RARE = 1e-12  # expected draws below which a kernel is never drawn twice


def expected_split_ratio(weights: Array, groups: int = 1) -> float:
    """The ``split_ratio`` of weights that are drawn from the distribution of their values.

    ``weights`` are (outputs, inputs / groups, ...). Each kernel is taken as independent draws, as
    in the birthday problem, but for channels that training has silenced: where all weights of an
    output, or of an input, are one value, its kernels are counted as what they are.
    """
    kernels = by_channel(weights, groups)
    found = sum(map(_products, np.split(kernels, groups)))
    return float(found / max(kernels.shape[0] * kernels.shape[1], 1))


def expected_kernels(shares: Array, draws: int, numbers: int) -> float:
    """How many kernels turn up in so many draws, on average, if each number is drawn by itself.

    ``shares`` (k,) are those of the values, which add up to 1. The sum of 1 - (1 - q)^n over the
    k^numbers kernels, q being a product of shares, is taken over a histogram of log q.
    """
    if numbers == 1:
        return expected_distinct(shares, draws)
    mass, low = _logarithms(shares, numbers)
    chance = np.exp(np.minimum((low + np.arange(mass.size)) * _STEP, 0.0))
    often = chance * draws > _RARE
    each = np.full(mass.size, float(draws))  # what a kernel adds, by its chance
    each[often] = (1 - (1 - chance[often]) ** draws) / chance[often]
    return float(mass @ each)


def _logarithms(shares: Array, numbers: int) -> tuple[Array, int]:
    """How probable each logarithm of the chance of a kernel is, and the least, both in steps."""
    from scipy import fft  # noqa: PLC0415 - slow, and few commands count

    place = np.log(shares[shares > 0]) / _STEP
    left = np.floor(place).astype(np.int64)
    low, rest = int(left.min()), place - left
    single = np.bincount(left - low, shares[shares > 0] * (1 - rest), int(-low) + 2)
    single += np.bincount(left + 1 - low, shares[shares > 0] * rest, int(-low) + 2)
    mass = single
    for _ in range(numbers - 1):
        size = mass.size + single.size - 1
        enough = fft.next_fast_len(size, real=True)
        product = fft.rfft(mass, enough) * fft.rfft(single, enough)
        mass = np.maximum(fft.irfft(product, enough)[:size], 0.0)
    return mass, low * numbers


def _products(kernels: Array) -> float:
    """The products expected of one group: (inputs, outputs, numbers of a kernel)."""
    outputs = _silent(kernels[~_silent(kernels)].swapaxes(0, 1))
    inputs = _silent(kernels[:, ~outputs])
    drawn = kernels[~inputs][:, ~outputs]
    counted = _counted(kernels[inputs]) + _counted(kernels[~inputs][:, outputs])
    return counted + len(drawn) * _expected(drawn) if drawn.size else counted


def _expected(drawn: Array) -> float:
    """The products of one input channel."""
    values, counts = np.unique(drawn, return_counts=True)
    shares, (_, draws, numbers) = counts / drawn.size, drawn.shape
    nothing = float(shares[values == 0].sum()) ** numbers  # a kernel of zeros has no product
    return expected_kernels(shares, draws, numbers) - expected_distinct(np.array([nothing]), draws)


def _silent(kernels: Array) -> Array:
    """Which entries of the first axis hold a single value."""
    flat = kernels.reshape(len(kernels), -1)
    found: Array = (flat == flat[:, :1]).all(1)
    return found


def _counted(kernels: Array) -> float:
    """The distinct kernels other than zero, each known by its first number."""
    ordered = np.sort(kernels[..., 0].astype(np.float64), axis=1)
    new = np.diff(ordered, axis=1, prepend=np.nan) != 0
    return float(np.count_nonzero(new & (ordered != 0)))
