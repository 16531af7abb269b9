"""Shapley values: what each channel adds to the loss if others go before it, on average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redir.importance.evidence import Evidence
from redir.importance.family import Family
from redir.importance.masks import Masked
from redir.ir.tensor import Array
from redir.progress import progress

_STEPS = 16  # of an order at least, if there is a budget


@dataclass(frozen=True, eq=False)
class Values:
    """The Shapley value of each channel, as the mean over examples, with its standard ``error``.

    The error is that of drawing permutations; NaN where one alone was drawn. ``spread`` is the
    deviation over examples, and ``forwards`` how often all of them ran.
    """

    mean: Array
    error: Array
    spread: Array
    forwards: int


@dataclass(frozen=True)
class Shapley:
    """How much the loss rises without a channel, whatever others are gone (Ancona et al., 2020).

    Channels are zeroed one after the other in the order of ``permutations``, which are drawn once
    for all examples; the rises of the loss at a channel are averaged. ``antithetic`` follows each
    permutation by its reverse; ``truncated`` ends one where the loss is within this share of that
    of an empty network; ``budget`` (0: none) is how often the examples may run, for each family:
    for a wide one several channels go at a time, and share the rise. ``deviations`` of a value over
    examples are added to it, 2 for what matters to some alone.
    """

    permutations: int = 5
    antithetic: bool = False
    truncated: float = 0.0
    budget: int = 0
    deviations: float = 0.0
    normalizer = "none"

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """The values, with deviations if asked for."""
        found = self.values(family, evidence)
        return found.mean + self.deviations * found.spread

    def values(self, family: Family, evidence: Evidence) -> Values:
        """The values of the channels of a family.

        Raises:
            BadInput: there are no labelled examples.
        """
        network, count = Masked(family, evidence.labelled), len(family.channels)
        full, empty = network.losses(np.ones(count)), network.losses(np.zeros(count))
        orders = self._orders(count, evidence.rng)
        total, means, forwards = np.zeros((count, len(full))), list[Array](), 2
        for order in progress(orders, "permutations"):
            steps = np.array_split(order, self._steps(count, len(orders)))
            rises, ran = self._rises(network, steps, full, empty)
            total, forwards = total + rises, forwards + ran
            means.append(rises.mean(1))
        values = total / len(orders)
        return Values(values.mean(1), self._error(np.array(means)), values.std(1), forwards)

    def _orders(self, count: int, rng: np.random.Generator) -> Sequence[Array]:
        wanted = self.permutations
        if self.budget:
            runs = self.budget - 2
            wanted = max(min(wanted, runs // count or runs // _STEPS), 1)
        drawn = [rng.permutation(count) for _ in range(-(-wanted // (1 + self.antithetic)))]
        if not self.antithetic:
            return drawn
        return [order for each in drawn for order in (each, each[::-1])][: max(wanted, 2)]

    def _steps(self, count: int, orders: int) -> int:
        """In how many steps the channels go, of which the last needs no run."""
        return min(count, (self.budget - 2) // orders + 1) if self.budget else count

    def _rises(
        self, network: Masked, steps: Sequence[Array], full: Array, empty: Array
    ) -> tuple[Array, int]:
        """How much the loss of each example rises where a channel goes, and how often all ran."""
        count = sum(map(len, steps))
        mask, rises = np.ones(count), np.zeros((count, len(full)))
        before, close = full, self.truncated * abs(float(np.mean(empty - full)))
        for ran, units in enumerate(steps):
            if self.truncated and abs(float(np.mean(before - empty))) <= close:
                left = np.concatenate(steps[ran:])
                rises[left] += (empty - before) / len(left)
                return rises, ran
            mask[units] = 0
            now = network.losses(mask) if ran + 1 < len(steps) else empty
            rises[units], before = (now - before) / len(units), now
        return rises, len(steps) - 1

    def _error(self, means: Array) -> Array:
        """The standard error of the mean of rows: of pairs where these are antithetic."""
        if self.antithetic:
            means = means.reshape(-1, 2, means.shape[1]).mean(1)
        if len(means) < 2:  # noqa: PLR2004 - one has no deviation
            return np.full(means.shape[1], np.nan)
        found: Array = means.std(0, ddof=1) / np.sqrt(len(means))
        return found

    def __str__(self) -> str:
        return "shapley"


SHAPLEY, SHAPLEY_2SIGMA = Shapley(), Shapley(deviations=2)
