"""The best rows of the first of two layers, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from redir.ir.tensor import Array

_STEPS = 20  # of conjugate gradients
_LEAST = 1e-6  # of the whole: what is less is rounding
_SMALL = 1e-3  # of the mean of a diagonal, in a preconditioner
_ENOUGH = 1e-8  # of the square of what was missed at first: what is left is rounding

Blocks: TypeAlias = "Sequence[tuple[Any, slice]]"
"""Where a matrix is not 0: rows, and their columns."""


def best_rows(first: Array, second: Array, gram: Array, cross: Array, blocks: Blocks) -> Array:
    """The best rows before a ``second`` layer that are 0 but in ``blocks``, as ``first`` is."""
    pairs = np.einsum("rto,suo->turs", second, second, optimize=True)
    wanted = _within(np.einsum("rto,pto->rp", second, cross, optimize=True), blocks)
    taps, grams = range(gram.shape[1]), np.ascontiguousarray(gram.transpose(1, 3, 0, 2))
    left = _inverse(sum(pairs[t, t] for t in taps))
    right = _inverse(sum(grams[t, t] for t in taps) / len(taps))

    def applied(rows: Array) -> Array:
        parts = (_product(pairs[t, u], rows, grams[u, t], blocks) for t in taps for u in taps)
        return sum(parts, start=np.zeros_like(rows))

    found, rest = first, wanted - applied(first)
    if not np.abs(rest).max() > _LEAST * np.abs(wanted).max():
        return first
    move = better = _product(left, rest, right, blocks)
    size = float(np.sum(rest * better))
    enough = _ENOUGH * size
    for _ in range(_STEPS):
        along = applied(move)
        curve = float(np.sum(move * along))
        if not size > enough or not curve > 0:
            break
        found = found + size / curve * move
        rest = rest - size / curve * along
        better = _product(left, rest, right, blocks)
        size, before = float(np.sum(rest * better)), size
        move = better + size / before * move
    return found


def _within(rows: Array, blocks: Blocks) -> Array:
    found = np.zeros_like(rows)
    for these, places in blocks:
        found[these, places] = rows[these, places]
    return found


def _product(left: Array, rows: Array, right: Array, blocks: Blocks) -> Array:
    """The product of three matrices; of ``rows`` and of the result there are only blocks."""
    half, found = np.zeros((len(rows), right.shape[1])), np.zeros_like(rows)
    for these, places in blocks:
        half[these] = rows[these, places] @ right[places]
    for these, places in blocks:
        found[these, places] = left[these] @ half[:, places]
    return found


def _inverse(matrix: Array) -> Array:
    found: Array = np.linalg.inv(
        matrix + (_SMALL * np.trace(matrix) / len(matrix) + 1e-30) * np.eye(len(matrix))
    )
    return found
