"""Targets that a plan cannot tell: how far to go until the outputs, or the time, are as asked."""

from __future__ import annotations

from collections.abc import Callable

from redir.io import arrays
from redir.ir import Graph
from redir.passes.factorize.study import Choices, Study
from redir.progress import progress
from redir.runtime.onnxruntime import accuracy, runner
from redir.statistics.walk import distance, outputs

_ROUNDS = 7  # of bisection: shares are found to within 1 %
_MOST = 0.98  # of the multiply-adds, that may be saved

Good = Callable[[Graph], bool]
Planned = Callable[[float], Choices]
"""The plan that saves a share of the multiply-adds."""


def furthest(study: Study, planned: Planned, good: Good) -> Choices:
    """The plan that saves most of those whose graphs are ``good``, by bisection, if any."""
    found: Choices = {}
    low, high = 0.0, _MOST
    for _ in progress(range(_ROUNDS), "rounds"):
        middle = (low + high) / 2
        plan = planned(middle)
        if good(study.solved(plan)):
            found, low = plan, middle
        else:
            high = middle
    return found


def nearest(study: Study, planned: Planned, good: Good) -> Choices:
    """The plan that errs least of those whose graphs are ``good``, also unsolved."""
    low, high = 0.0, _MOST
    for _ in progress(range(_ROUNDS), "rounds"):
        middle = (low + high) / 2
        low, high = (low, middle) if good(study.unsolved(planned(middle))) else (middle, high)
    return planned(high)


def within(study: Study, error: float) -> Good:
    """Whether outputs stay within an ``error``, the square root of the share of their variance."""
    plain = outputs(study.graph, study.some)

    def good(after: Graph) -> bool:
        made = outputs(after, study.some)
        return all(distance(plain[name], made[name]) <= error**2 for name in plain)

    return good


def losing(graph: Graph, drop: float, path: str) -> Good:
    """Whether at most ``drop`` points of accuracy on labelled data are lost."""
    given, labels = arrays.labelled(path, graph)
    least = accuracy(runner(graph), given, labels) - drop / 100
    return lambda after: accuracy(runner(after), given, labels) >= least
