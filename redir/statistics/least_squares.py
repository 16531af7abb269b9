"""Regularised least squares by moments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from redir.ir.tensor import Array

_LEAST = 1e-9  # of the mean energy of a feature: what no ridge may be below


@dataclass(frozen=True, eq=False)
class System:
    """Least squares for features of one ``gram`` (features, features), E f f', and any targets.

    They minimise E |y - w'f|^2 + r |w - prior|^2, where r is ``ridge`` times the mean energy of a
    feature: what the moments say nothing of stays as ``prior`` has it, also where there are fewer
    samples than features.
    """

    gram: Array
    ridge: float

    def solved(self, cross: Array, prior: Array) -> Array:
        """The weights (features, outputs) that map features to targets best.

        ``cross`` (features, outputs) is E f y'.
        """
        if self._energy <= 0:
            return prior
        missed = cross - self.gram @ prior
        try:
            step: Array = linalg.cho_solve(self._factor, missed)
        except linalg.LinAlgError:  # of rounding
            step = linalg.pinvh(self._kept) @ missed
        return prior + step

    @property
    def _energy(self) -> float:
        return float(np.trace(self.gram)) / max(len(self.gram), 1)

    @property
    def _kept(self) -> Array:
        least = max(self.ridge, _LEAST) * self._energy
        found: Array = self.gram + least * np.eye(len(self.gram))
        return found

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        found: tuple[Array, bool] = linalg.cho_factor(self._kept)
        return found


def solve(gram: Array, cross: Array, prior: Array, ridge: float) -> Array:
    """The weights that map features to targets best: see ``System``."""
    return System(gram, ridge).solved(cross, prior)


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
