"""Criteria: what makes one channel matter more than another."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from redir.errors import BadPipeline
from redir.importance.evidence import Evidence
from redir.importance.family import Family
from redir.io.plugins import plugin
from redir.ir.tensor import Array

Reduction = Literal["sum", "mean", "max"]
Normalizer = Literal["auto", "none", "mean", "max", "sum", "standard"]


@runtime_checkable
class Criterion(Protocol):
    """What people may write for themselves: how much the channels of a family matter.

    Hand one to ``prune`` as its ``criterion``, or register an instance in the entry-point group
    ``redir.criteria`` and give its name. An attribute ``normalizer`` says how its scores compare
    between families, where that is not by their mean; ``observes`` is true if inputs flow for it.
    """

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """The scores of the channels of a family, the lowest of which go first.

        One for each of ``family.channels``, or a row of them for each member of the family, such as
        ``family.weights``; NaN for a channel of which a member says nothing. ``evidence`` tells on
        demand what flows, and is where random numbers are from.
        """


def criterion(given: str | Criterion) -> Criterion:
    """The criterion of that name, installed by redir or by another package.

    Raises:
        BadPipeline: there is none.
    """
    if not isinstance(given, str):
        return given
    found: Criterion = plugin("redir.criteria", given, "criterion")
    return found


def scored(
    given: Criterion,
    family: Family,
    evidence: Evidence,
    reduction: Reduction = "mean",
    normalizer: Normalizer = "auto",
) -> Array:
    """One score for each channel of a family; NaN where the criterion says nothing.

    Those of several members are one by ``reduction``; ``normalizer`` makes those of families
    comparable: ``auto`` is the criterion's own, mostly ``mean``.

    Raises:
        BadPipeline: the criterion does not give a score for each channel.
    """
    rows = np.atleast_2d(np.asarray(given.scores(family, evidence), np.float64))
    count = len(family.channels)
    if not rows.size:
        return np.full(count, np.nan)
    if rows.shape != (len(rows), count):
        raise BadPipeline(f"criterion {given} gives {rows.shape} scores, not {count} in a row")
    with warnings.catch_warnings():  # where no member says anything
        warnings.simplefilter("ignore", RuntimeWarning)
        one = _REDUCTIONS[reduction](rows)
    own: Normalizer = getattr(given, "normalizer", "mean")
    return normalized(one, own if normalizer == "auto" else normalizer)


_REDUCTIONS: Mapping[Reduction, Callable[[Array], Array]] = {
    "sum": lambda rows: np.where(np.isnan(rows).all(0), np.nan, np.nansum(rows, 0)),
    "mean": lambda rows: np.nanmean(rows, 0),
    "max": lambda rows: np.nanmax(rows, 0),
}


def normalized(scores: Array, normalizer: Normalizer) -> Array:
    """Scores by their mean, greatest or sum, or less their mean and by their deviation."""
    known = scores[~np.isnan(scores)]
    if normalizer in {"none", "auto"} or not known.size:
        return scores
    if normalizer == "standard":
        scores, size = scores - known.mean(), float(known.std())
    else:
        size = abs(float(getattr(known, normalizer)()))
    found: Array = scores / (size or 1.0)
    return found
