"""A speed that is asked for: plans are timed until one is fast enough, and not much faster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redir.passes.factorize.search import hastened
from redir.passes.factorize.study import Choices

TIMES: dict[str, Callable[[float], float]] = {
    "as asked": lambda asked: 1 - asked,
    "half of it": lambda asked: 1 - asked / 2,
    "twice as much": lambda asked: max(1 - 2 * asked, 0.05),
    "nothing for long, then much": lambda asked: 0.95 if asked < 0.6 else 0.95 - 2 * (asked - 0.6),
    "in steps": lambda asked: 1 - round(asked * 10) / 12,
    "a little at first": lambda asked: 1 - 0.7 * asked**3,
}


def timed(of: Callable[[float], float], share: float) -> tuple[float, int]:
    """The time of the plan that is chosen, and how many were timed."""
    asked, count = dict[int, float](), list[float]()

    def planned(saved: float) -> Choices:
        plan: Choices = {}
        asked[id(plan)] = saved
        plans.append(plan)
        return plan

    def time(plan: Choices) -> float:
        count.append(of(asked[id(plan)]))
        return count[-1]

    plans = list[Choices]()
    return of(asked[id(hastened(planned, time, share))]), len(count)


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("share", [0.8, 0.65, 0.55])
def test_the_plan_is_fast_enough_and_hardly_faster(kind: str, share: float) -> None:
    left, count = timed(TIMES[kind], share)
    assert share - 0.1 <= left <= share
    assert count <= 6


def test_one_timing_will_do() -> None:
    assert timed(lambda asked: 1 - asked - 0.01, 0.5)[1] == 1


def test_what_cannot_be_reached_gets_the_fastest() -> None:
    left, count = timed(lambda asked: 1 - 0.1 * asked, 0.5)
    assert left == pytest.approx(1 - 0.1 * 0.98)
    assert count <= 6


@pytest.mark.parametrize("share", [0.25, 0.3, 0.35])
def test_what_comes_ever_closer_is_fast_enough_in_the_end(share: float) -> None:
    left, count = timed(lambda asked: 1 - 0.8 * asked**0.7, share)
    assert share - 0.02 <= left <= share
    assert count <= 6
