"""Regularised least squares by moments."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from redir.ir.tensor import Array

_LEAST = 1e-9  # of the mean energy of a feature: what no ridge may be below


def solve(gram: Array, cross: Array, prior: Array, ridge: float) -> Array:
    """The weights (features, outputs) that map features to targets best.

    ``gram`` (features, features) is E f f', ``cross`` (features, outputs) is E f y'. They minimise
    E |y - w'f|^2 + r |w - prior|^2, where r is ``ridge`` times the mean energy of a feature: what
    the moments say nothing of stays as ``prior`` has it, also where there are fewer samples than
    features.
    """
    energy = float(np.trace(gram)) / max(len(gram), 1)
    if energy <= 0:
        return prior
    kept = gram + max(ridge, _LEAST) * energy * np.eye(len(gram))
    missed = cross - gram @ prior
    try:
        step: Array = linalg.cho_solve(linalg.cho_factor(kept), missed)
    except linalg.LinAlgError:  # of rounding
        step = linalg.pinvh(kept) @ missed
    return prior + step


def cholesky(matrix: Array) -> Array:
    """The lower factor of a matrix of second moments, or its root where it has none of full rank.

    Directions that hold next to no energy are given a little.
    """
    energy = float(np.trace(matrix)) / max(len(matrix), 1)
    try:
        found: Array = linalg.cholesky(matrix + _LEAST * energy * np.eye(len(matrix)), lower=True)
    except linalg.LinAlgError:
        return root(matrix)[0]
    return found


def root(matrix: Array) -> tuple[Array, Array]:
    """The symmetric square root of a matrix of second moments, and the inverse of that.

    Directions that hold next to no energy are given a little, so that there is an inverse.
    """
    values, vectors = linalg.eigh(matrix)
    roots = np.sqrt(np.clip(values, max(float(values.max(initial=0)) * _LEAST, 1e-30), None))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
