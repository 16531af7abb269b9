"""Allocation: a budget is kept, and nothing in it could be spent better by one change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir.cost.allocation import Option, allocated, joined, settled

NUMBERS = st.integers(1, 20).map(float)
OPTIONS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=4)
LAYERS = st.dictionaries(st.integers(0, 9), OPTIONS, min_size=1, max_size=5)


def options(layers: dict[int, list[tuple[float, float]]]) -> dict[int, list[Option[int]]]:
    return {
        key: [Option(place, cost, error) for place, (cost, error) in enumerate(found)]
        for key, found in layers.items()
    }


@given(LAYERS, st.integers(1, 100))
def test_a_budget_is_kept_or_the_cheapest_is_taken(
    layers: dict[int, list[tuple[float, float]]], budget: int
) -> None:
    given_, least = options(layers), sum(min(o)[0] for o in layers.values())
    spent = sum(option.cost for option in allocated(given_, budget).values())
    assert spent <= max(budget, least)


@given(LAYERS, st.integers(1, 100))
def test_no_option_that_fits_is_better(
    layers: dict[int, list[tuple[float, float]]], budget: int
) -> None:
    given_ = options(layers)
    chosen = allocated(given_, budget)
    left = budget - sum(option.cost for option in chosen.values())
    better = [
        (now, new)
        for key, now in chosen.items()
        for new in given_[key]
        if new.error < now.error and new.cost - now.cost <= left
    ]
    assert not better


def test_what_errs_least_for_its_cost_is_kept() -> None:
    dear = [Option("whole", 10, 0), Option("half", 5, 8)]
    cheap = [Option("whole", 10, 0), Option("half", 5, 1)]
    chosen = allocated({"a": dear, "b": cheap}, 15)
    assert {key: option.what for key, option in chosen.items()} == {"a": "whole", "b": "half"}


@given(LAYERS, st.integers(0, 50), st.floats(0, 1))
def test_what_is_settled_leaves_no_more_than_asked_if_anything_does(
    layers: dict[int, list[tuple[float, float]]], other: int, share: float
) -> None:
    given_ = options(layers)

    def left(chosen: dict[int, Option[int]]) -> float:
        return other + 0.7 * sum(option.cost for option in chosen.values())

    least = other + 0.7 * sum(min(o)[0] for o in layers.values())
    most = share * left({key: found[0] for key, found in given_.items()})
    assert left(settled(given_, left, most)) <= max(most, least)


def test_nothing_is_done_where_all_fits() -> None:
    given_ = options({0: [(5, 9), (1, 0)]})
    assert settled(given_, lambda _: 3.0, 3.0)[0].what == 0


def test_savings_that_others_take_part_in_are_not_exceeded() -> None:
    given_ = options({key: [(n, 20 - n) for n in range(20, 0, -1)] for key in range(5)})

    def left(chosen: dict[int, Option[int]]) -> float:
        return 2 * sum(option.cost for option in chosen.values())

    assert left(settled(given_, left, 100.0)) == 100


@given(LAYERS, st.floats(0.01, 100))
def test_what_layers_become_together_is_what_each_does_at_that_price(
    layers: dict[int, list[tuple[float, float]]], price: float
) -> None:
    given_ = options(layers)
    apart = sum(min(o.error + price * o.cost for o in found) for found in given_.values())
    whole = joined(list(given_.values()))
    assert min(o.error + price * o.cost for o in whole) == pytest.approx(apart)


@given(LAYERS)
def test_what_layers_become_together_says_what_each_does(
    layers: dict[int, list[tuple[float, float]]],
) -> None:
    for option in joined(list(options(layers).values())):
        each = [found[place] for found, place in zip(layers.values(), option.what, strict=True)]
        assert option.cost == pytest.approx(sum(cost for cost, _ in each))
        assert option.error == pytest.approx(sum(error for _, error in each))
