"""Targets that a plan cannot tell: how far to go until the outputs, or the time, are as asked."""

from __future__ import annotations

from collections.abc import Callable
from math import isinf

from redir.errors import BadInput
from redir.evaluation import Judge
from redir.passes.factorize.budget import nearest
from redir.passes.factorize.study import Choices, Study
from redir.progress import progress

_ROUNDING = 1e-9  # of points, which are differences
_ROUNDS = 7  # of bisection: shares are found to within 1 %
_MOST = 0.98  # of the multiply-adds, that may be saved
_TIMINGS = 6  # of the whole, at most
_CLOSE = 0.02  # of the time, that may be saved beyond what is asked
_MORE = 4.0  # units asked for a unit that is saved, at most
_EDGE = 0.2  # of what lies between two plans, on either side, that is not asked for

Good = Callable[[Choices], bool]
Planned = Callable[[float], Choices]
"""The plan that saves a share of the multiply-adds, or of the time."""


def furthest(planned: Planned, good: Good) -> Choices:
    """The plan that saves most of those that are ``good``, by bisection, if any."""
    found: Choices = {}
    low, high = 0.0, _MOST
    for _ in progress(range(_ROUNDS), "rounds"):
        middle = (low + high) / 2
        plan = planned(middle)
        if good(plan):
            found, low = plan, middle
        else:
            high = middle
    return found


def hastened(planned: Planned, time: Callable[[Choices], float], share: float) -> Choices:
    """The plan under which a ``share`` of the time is left, as the whole is timed.

    What is asked of plans, a share of the time that is saved, is corrected a few times: by what
    that saves for each that is asked, and once one plan is too slow and one fast enough, between.
    """
    tried, short, enough = list[tuple[float, Choices]](), (0.0, 1.0), (1.0, 0.0)
    asked, aim = 1 - share, share - _CLOSE / 2  # what comes ever closer from above is too slow
    for _ in progress(range(_TIMINGS), "timings"):
        plan = planned(asked)
        left = time(plan)
        tried.append((left - share, plan))
        if share - _CLOSE <= left <= share or enough[0] - short[0] < _CLOSE:
            break
        last = short
        short, enough = ((asked, left), enough) if left > share else (short, (asked, left))
        asked = _between(short, enough, aim) if enough[1] else _beyond(last, short, aim)
    return nearest(tried)[1]


def _between(short: tuple[float, float], enough: tuple[float, float], share: float) -> float:
    """What to ask for that leaves a share, between what leaves too much, and what does not."""
    (low, slow), (high, quick) = short, enough
    place = (slow - share) / (slow - quick) if slow > quick else 0.5
    return low + (high - low) * min(max(place, _EDGE), 1 - _EDGE)


def _beyond(last: tuple[float, float], short: tuple[float, float], share: float) -> float:
    """What to ask for that leaves a share, by what the last two that left too much saved."""
    saved = last[1] - short[1]
    each = (short[0] - last[0]) / saved if saved > 0 else _MORE
    found = short[0] + (short[1] - share) * min(max(each, 1 / _MORE), _MORE)
    return min(found, _MOST)


def within(study: Study, error: float) -> Good:
    """Whether outputs stay within an ``error``, the square root of the share of their variance."""
    return lambda plan: max(study.moved(plan).values(), default=0) <= error**2


def losing(study: Study, drop: float, judge: Judge) -> Good:
    """Whether what a ``judge`` finds is worse by at most ``drop``.

    Raises:
        BadInput: what the original gets has no bound, as PSNR against itself.
    """
    if isinf(judge.before):
        raise BadInput(
            f"{judge.examples.path}: {judge.metric.name} of the original is infinite: max_drop "
            "needs targets for it"
        )
    return lambda plan: judge(study.solved(plan)).lost <= drop + _ROUNDING
