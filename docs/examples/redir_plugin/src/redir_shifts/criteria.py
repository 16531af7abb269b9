"""The criterion: which channels are not worth their additions."""

from __future__ import annotations

import numpy as np

from redir.importance import Evidence, Family
from redir.ir.tensor import Array
from redir_shifts.digits import digits


class PerAddition:
    """A channel matters by the squares of its weights, for each addition that they take.

    Of two channels of the same size, the one with rounder weights stays.
    """

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each weight that makes the channels or reads them."""
        del evidence  # nothing has to flow
        rows = []
        for weights in family.weights:
            size = family.total(weights.places, np.square(weights.rows).sum(1))
            count = family.total(weights.places, digits(weights.rows).sum(1))
            rows.append(size / np.maximum(count, 1))
        return np.array(rows)

    def __str__(self) -> str:
        return "per_addition"


PER_ADDITION = PerAddition()
