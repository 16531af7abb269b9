"""Targets that a plan cannot tell: how far to go until the outputs, or the time, are as asked."""

from __future__ import annotations

from collections.abc import Callable

from redir.cost.models import LATENCY
from redir.io import arrays
from redir.passes.factorize.study import Choices, Study
from redir.progress import progress
from redir.runtime.onnxruntime import accuracy, runner
from redir.statistics.walk import distance, outputs

_ROUNDS = 7  # of bisection: shares are found to within 1 %
_MOST = 0.98  # of the multiply-adds, that may be saved

Good = Callable[[Choices], bool]
Planned = Callable[[float], Choices]
"""The plan that saves a share of the multiply-adds."""


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


def nearest(planned: Planned, good: Good) -> Choices:
    """The plan that errs least of those that are ``good``."""
    low, high = 0.0, _MOST
    for _ in progress(range(_ROUNDS), "rounds"):
        middle = (low + high) / 2
        low, high = (low, middle) if good(planned(middle)) else (middle, high)
    return planned(high)


def within(study: Study, error: float) -> Good:
    """Whether outputs stay within an ``error``, the square root of the share of their variance."""
    plain = outputs(study.graph, study.some)

    def good(plan: Choices) -> bool:
        made = outputs(study.moved(plan), study.some)
        return all(distance(plain[name], made[name]) <= error**2 for name in plain)

    return good


def losing(study: Study, drop: float, path: str) -> Good:
    """Whether at most ``drop`` points of accuracy on labelled data are lost."""
    given, labels = arrays.labelled(path, study.original)
    least = accuracy(runner(study.original), given, labels) - drop / 100
    return lambda plan: accuracy(runner(study.solved(plan)), given, labels) >= least


def faster(study: Study, times: float) -> Good:
    """Whether a model is so many times as fast in onnxruntime, also unsolved."""
    return lambda plan: LATENCY.ratio(study.original, study.unsolved(plan)) <= 1 / times
