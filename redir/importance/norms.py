"""Criteria that look at weights alone, or at nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.distance import cdist

from redir.importance.evidence import Evidence
from redir.importance.family import Family
from redir.ir.tensor import Array


@dataclass(frozen=True)
class Magnitude:
    """The sum of ``of`` each weight that makes a channel or reads it."""

    name: str
    of: Callable[[Array], Array] = field(repr=False)

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each weight."""
        del evidence
        rows = (family.total(w.places, self.of(w.rows).sum(1)) for w in family.weights)
        return np.array(list(rows))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class GeometricMedian:
    """How far the weights that make a channel are from those of all others of their layer.

    What is near the geometric median of all can be replaced by others: He et al., Filter Pruning
    via Geometric Median (CVPR 2019).
    """

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each weight that makes channels."""
        del evidence
        made = family.makers
        return np.array([family.total(w.places, cdist(w.rows, w.rows).sum(1)) for w in made])

    def __str__(self) -> str:
        return "fpgm"


@dataclass(frozen=True)
class Lamp:
    """The squares of a channel's weights, as a share of those of all channels with no less.

    Lee et al., Layer-Adaptive Sparsity for Magnitude-Based Pruning (ICLR 2021): families compare
    as they are.
    """

    normalizer = "none"

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """One row."""
        rows = L2.scores(family, evidence)
        if not rows.size:
            return rows
        squares: Array = np.nansum(rows, 0)
        order = np.argsort(-squares, kind="stable")
        found: Array = np.empty_like(squares)
        above = np.cumsum(squares[order])
        found[order] = squares[order] / np.where(above > 0, above, 1.0)
        return found

    def __str__(self) -> str:
        return "lamp"


@dataclass(frozen=True)
class Random:
    """Scores drawn at random, as a baseline for the others."""

    normalizer = "none"

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A number between 0 and 1 for each channel."""
        return evidence.rng.random(len(family.channels))

    def __str__(self) -> str:
        return "random"


L1 = Magnitude("l1", np.abs)
L2 = Magnitude("l2", np.square)
FPGM, LAMP, RANDOM = GeometricMedian(), Lamp(), Random()
