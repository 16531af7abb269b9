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
_TIMINGS = 3  # of the whole
_CLOSE = 0.02  # of the time, that may be saved beyond what is asked
_MORE = 4.0  # units asked for a unit that is saved, at most

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

    What is asked of plans, a share of the time that is saved, is corrected a few times.
    """
    tried, asked = list[tuple[float, Choices]](), 1 - share
    last, saved = 0.0, 0.0  # what was asked before, and what that saved
    for _ in progress(range(_TIMINGS), "timings"):
        plan = planned(asked)
        left = time(plan)
        tried.append((left - share, plan))
        if share - _CLOSE <= left <= share:
            break
        each = (asked - last) / (1 - left - saved) if 1 - left != saved else _MORE
        last, saved = asked, 1 - left
        asked += (left - share) * min(max(each, 1 / _MORE), _MORE)
    return nearest(tried)


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
