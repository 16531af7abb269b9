"""What errors of a layer's outputs count."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from redir.ir.tensor import Array

_LEAST = 0.01  # of the mean curvature, given to each output: it is known from samples


@dataclass(frozen=True, eq=False)
class Metric:
    """Errors of the outputs of a layer count as much as the energy of what ``of`` makes of them.

    Each is times its ``scale`` (outputs,), the factor of the norm behind. ``root`` (outputs,
    outputs), lower triangular, turns them by the curvature of what the network gives, if known. It
    is of single precision: those of all layers are held.
    """

    scale: Array
    root: Array | None = None

    def curved(self, curvature: Array) -> Metric:
        """That of a ``curvature`` (outputs, outputs), which is positive semidefinite."""
        energy = float(np.trace(curvature)) / len(curvature)
        kept = curvature + _LEAST * energy * np.eye(len(curvature))
        if energy <= 0:
            return self
        return replace(self, root=linalg.cholesky(kept, lower=True).astype(np.float32))

    def of(self, rows: Array) -> Array:
        """What rows of outputs (..., outputs) count as."""
        return self.turned(rows * self.scale.astype(rows.dtype))

    def turned(self, rows: Array) -> Array:
        """What rows of outputs that have their scale count as."""
        return rows if self.root is None else rows @ self.root.astype(rows.dtype)

    def undone(self, rows: Array) -> Array:
        """The outputs that count as ``rows`` (..., outputs)."""
        if self.root is not None:
            flat = rows.reshape(-1, len(self.root)).T
            root = self.root.astype(rows.dtype)
            solved: Array = linalg.solve_triangular(root, flat, lower=True, trans="T")
            rows = solved.T.reshape(rows.shape)
        found: Array = rows / self.scale
        return found
