"""Spending a budget: for each layer a form, so that together they cost little and err least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")
What = TypeVar("What")

_ROUNDS = 100  # of bisection, after which the multiplier is exact


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
    high = 1e-12
    while _cost(_at(options, high)) > budget and high < 1e12:  # noqa: PLR2004 - as good as free
        high *= 2
    low = 0.0
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (low, middle) if _cost(_at(options, middle)) <= budget else (middle, high)
    return _filled(options, _at(options, high), budget)


def _cost(chosen: Mapping[Key, Option[What]]) -> float:
    return sum(option.cost for option in chosen.values())


def _at(options: Mapping[Key, Sequence[Option[What]]], price: float) -> dict[Key, Option[What]]:
    return {
        key: min(found, key=lambda o: (o.error + price * o.cost, o.cost))
        for key, found in options.items()
    }


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
