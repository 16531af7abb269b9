"""Numbers as sums of powers of two, each with a sign: what shifts and adds in place of products."""

from __future__ import annotations

import numpy as np

from redir.ir.tensor import Array


def digits(numbers: Array) -> Array:
    """How many powers of two, with signs, add up to each of the numbers: 7 is 8 - 1, so 2.

    They are those of the non-adjacent form, of which there are never too many: Reitwiesner, Binary
    Arithmetic (1960).
    """
    mantissa, _ = np.frexp(np.abs(numbers.astype(np.float64)))
    whole = np.ldexp(mantissa, np.finfo(np.float64).nmant + 1).astype(np.int64)
    found: Array = np.bitwise_count(whole ^ 3 * whole).astype(np.int64)
    return found


def rounded(numbers: Array, terms: int, shifts: int) -> Array:
    """Each number as a sum of at most so many powers of two, with signs: the nearest ones first.

    None is less than the power nearest to the largest number divided by 2 to the ``shifts``.
    """
    left = numbers.astype(np.float64)
    top = int(_nearest(np.max(np.abs(left), initial=0.0)))
    found = np.zeros_like(left)
    for _ in range(terms):
        power = np.clip(_nearest(np.abs(left)), top - shifts, top)
        far = np.abs(left) >= np.ldexp(0.5, top - shifts)
        term = np.where(far, np.ldexp(np.sign(left), power), 0.0)
        found, left = found + term, left - term
    most = np.ldexp(1.0, np.finfo(numbers.dtype).maxexp - 1)
    return np.clip(found, -most, most).astype(numbers.dtype)


def _nearest(sizes: Array) -> Array:
    """The exponents of the powers of two that are nearest to some sizes."""
    mantissa, exponent = np.frexp(sizes)
    return exponent - (mantissa < 0.75)  # halfway between a half and one  # noqa: PLR2004
