"""Spending a budget: for each layer a form, so that together they cost little and err least."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from redir.ir.tensor import Array

Key = TypeVar("Key")
What = TypeVar("What")

_ROUNDS = 100  # of bisection: mostly the multiplier is exact before
_TRIES = 8  # of a budget: what options cost is less than all there is to count
_CLOSE = 0.001  # of what may be left, that may be left unused


@dataclass(frozen=True)
class Option(Generic[What]):
    """A way to do a layer: what it costs, and the error that it adds."""

    what: What
    cost: float
    error: float


def allocated(
    options: Mapping[Key, Sequence[Option[What]]], budget: float
) -> dict[Key, Option[What]]:
    """One option for each layer, of which the costs add up to ``budget`` at most.

    A Lagrange multiplier sets what a unit of cost is worth in errors, and each layer takes its
    best option at that price; bisection finds the price. What is then left of the budget goes, a
    layer at a time, where it saves most error for its cost. Where even the cheapest options cost
    more than the budget, they are taken.
    """
    ways = {key: _Ways.of(found) for key, found in options.items()}
    low, high = 0.0, 1e-12
    while _cost(_at(ways, high)) > budget and high < 1e12:  # noqa: PLR2004 - as good as free
        high *= 2
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (low, middle) if _cost(_at(ways, middle)) <= budget else (middle, high)
    return _filled(options, _at(ways, high), budget)


Chosen: TypeAlias = dict[Key, Option[What]]


def settled(
    options: Mapping[Key, Sequence[Option[What]]],
    left: Callable[[Chosen[Key, What]], float],
    most: float,
) -> Chosen[Key, What]:
    """The first option for each layer, or what errs least and leaves at most ``most``.

    ``left`` counts what is left of a whole, of which the costs of the options are about a part: a
    budget for these is corrected until it fits. Where none does, what leaves least is taken.
    """
    chosen = {key: found[0] for key, found in options.items()}
    tried = dict[float, Chosen[Key, What]]()
    budget, low, high = _cost(chosen), -inf, inf  # of those tried, between what fits and what not
    for _ in range(_TRIES):
        over = left(chosen) - most
        first, tried[over] = not tried, chosen
        if over <= 0 and (first or over >= -_CLOSE * most):
            break
        low, high = (low, budget) if over > 0 else (budget, high)
        budget = budget - over if low < budget - over < high else (low + high) / 2
        before, chosen = chosen, allocated(options, budget)
        if all(chosen[key] is before[key] for key in chosen):
            break
    return tried[min(tried, key=lambda over: (over > 0, abs(over)))]


def joined(parts: Sequence[Sequence[Option[What]]]) -> list[Option[tuple[What, ...]]]:
    """What several layers may become together, at any price of cost: an option of each."""
    ways = [_hull(part) for part in parts]
    steps = sorted(
        (_slope(a, b), place, number)
        for place, part in enumerate(ways)
        for number, (a, b) in enumerate(pairwise(part), 1)
    )
    now = [part[0] for part in ways]
    found = [_sum(now)]
    for _, place, number in steps:
        now[place] = ways[place][number]
        found.append(_sum(now))
    return found


def _sum(options: Sequence[Option[What]]) -> Option[tuple[What, ...]]:
    cost, error = (sum(getattr(o, name) for o in options) for name in ("cost", "error"))
    return Option(tuple(o.what for o in options), cost, error)


def _hull(options: Sequence[Option[What]]) -> list[Option[What]]:
    """The options that are best at some price, the dearest first: from each to the next it pays."""
    found = list[Option[What]]()
    for new in sorted(options, key=lambda o: (o.error, o.cost)):
        if found and new.cost >= found[-1].cost:
            continue
        while len(found) > 1 and _slope(found[-2], new) <= _slope(found[-2], found[-1]):
            found.pop()
        found.append(new)
    return found


def _slope(before: Option[What], after: Option[What]) -> float:
    """The error for each unit of cost that is saved."""
    return (after.error - before.error) / (before.cost - after.cost)


@dataclass(frozen=True)
class _Ways(Generic[What]):
    """The options of a layer, the cheapest first, and their costs and errors as arrays."""

    options: Sequence[Option[What]]
    costs: Array
    errors: Array

    @classmethod
    def of(cls, options: Sequence[Option[What]]) -> _Ways[What]:
        found = sorted(options, key=lambda option: option.cost)
        return cls(found, np.array([o.cost for o in found]), np.array([o.error for o in found]))

    def best(self, price: float) -> Option[What]:
        """The option that is best at a price of a unit of cost, of several the cheapest."""
        return self.options[int(np.argmin(self.errors + price * self.costs))]


def _cost(chosen: Mapping[Key, Option[What]]) -> float:
    return sum(option.cost for option in chosen.values())


def _at(ways: Mapping[Key, _Ways[What]], price: float) -> dict[Key, Option[What]]:
    return {key: found.best(price) for key, found in ways.items()}


def _filled(
    options: Mapping[Key, Sequence[Option[What]]], chosen: dict[Key, Option[What]], budget: float
) -> dict[Key, Option[What]]:
    left = budget - _cost(chosen)
    while better := [
        ((now.error - new.error) / max(new.cost - now.cost, 1e-30), key, new)
        for key, now in chosen.items()
        for new in options[key]
        if new.error < now.error and new.cost - now.cost <= left
    ]:
        _, key, new = max(better, key=lambda found: found[0])
        left -= new.cost - chosen[key].cost
        chosen[key] = new
    return chosen
