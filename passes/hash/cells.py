"""The cells of a layer's weights, and what becomes of the weights in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from redir.ir.tensor import Array, DType
from redir.layers.density import Cells, bandwidth_of, cells, density, multiples_of

_AT_ONCE = 2**15  # weights that a processor keeps at hand
_MULTIPLES = (2.0 ** (np.arange(-32, 1) / 4)).tolist()  # of Silverman's rule: those to try


def hashed(weights: Array, bandwidth: float | str = 0.05, contrast: float = 0.0) -> Array:
    """``weights`` (any shape) with each value moved to the peak of its cell; exact zeros stay.

    The density of the non-zero weights is estimated with a Gaussian kernel; its local maxima M_k
    are the new values and the minima m_k between them the borders: every w in [m_k, m_k+1)
    becomes M_k (RED, Yvinec et al., NeurIPS 2021), rounded to the type of the weights. Left as
    they are: fewer than two distinct values, weights that are not finite, and weights so far apart
    that the density cannot be put on a grid.
    """
    return moved(weights, cells_of(weights, bandwidth, contrast))


def moved(weights: Array, found: Cells | None) -> Array:
    """``weights`` (any shape), each but zero at the centre of its cell; as they are without any."""
    if found is None:
        return weights
    flat, made = weights.reshape(-1), np.zeros(weights.size, weights.dtype)
    centres = found.centres.astype(weights.dtype)
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        near = centres[found.index(part.astype(np.float64))]
        made[start : start + _AT_ONCE] = np.where(part == 0, part.dtype.type(0), near)
    return made.reshape(weights.shape)


def cells_of(weights: Array, bandwidth: float | str = 0.05, contrast: float = 0.0) -> Cells | None:
    """The cells of the weights that are not zero; None where ``hashed`` leaves them as they are.

    The centres are numbers that the type of the weights has. One lies between weights of its own
    cell, so rounding takes it no further, and centres stay distinct and in order.
    """
    ordered = _ordered(weights)
    width = bandwidth_of(ordered, bandwidth) if _is_usable(ordered) else 0.0
    return _cells(ordered, weights.dtype, width, contrast)


def _ordered(weights: Array) -> Array:
    """What is not zero, increasing and in float64: (n,). Shorter numbers are sorted faster."""
    some = weights[weights != 0]
    return np.sort(some.astype(np.promote_types(some.dtype, np.float32))).astype(np.float64)


def _is_usable(ordered: Array) -> bool:
    return ordered.size > 1 and bool(np.isfinite(ordered[[0, -1]]).all())  # NaN is the last


def _cells(ordered: Array, dtype: DType, width: float, contrast: float) -> Cells | None:
    curve = density(ordered, width) if width > 0 else None
    if curve is None:
        return None
    found = cells(ordered, curve, contrast)
    return replace(found, centres=found.centres.astype(dtype).astype(np.float64))


@dataclass(frozen=True)
class Widest:
    """A bandwidth, as a multiple of Silverman's rule, and the cells that it makes, if it does."""

    multiple: float
    cells: Cells | None


def widest(weights: Array, error: float, contrast: float = 0.0) -> Widest | None:
    """The widest bandwidth at which hashing ``weights`` costs no more than ``error``.

    The error is that of the layer's output, as ``relative_error`` estimates it. The bandwidth is a
    multiple of Silverman's rule between 1/256 and 1, found by bisection in steps of 2^(1/4); None
    where the narrowest costs too much.
    """
    ordered, low, high = _ordered(weights), 0, len(_MULTIPLES)
    usable, best = _is_usable(ordered), None
    widths = multiples_of(ordered, _MULTIPLES) if usable else [0.0] * high
    whole = np.linalg.norm(ordered) if usable else 1.0
    while low < high:
        middle = (low + high) // 2
        found = _cells(ordered, weights.dtype, widths[middle], contrast)
        if found is None or np.linalg.norm(_moved(ordered, found) - ordered) / whole <= error:
            best, low = Widest(_MULTIPLES[middle], found), middle + 1
        else:
            high = middle
    return best


def _moved(ordered: Array, found: Cells) -> Array:
    """Increasing weights, each at the centre of its cell."""
    return np.repeat(found.centres, np.diff(found.starts(ordered)))
