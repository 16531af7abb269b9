"""Targets that a plan cannot tell: how far to go until the outputs, or the time, are as asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from redir.io import arrays
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.passes.factorize.forms import MULTIPLY_ADDS
from redir.passes.factorize.study import Plan, Study
from redir.runtime.onnxruntime import accuracy, runner

_ROUNDS = 7  # of bisection: shares are found to within 1 %
_MOST = 0.98  # of the multiply-adds, that may be saved

Good = Callable[[Graph], bool]
Planned = Callable[[float], Plan]
"""The plan that saves a share of the multiply-adds."""


def planned(study: Study, total: float, forms: Sequence[str], align: int) -> Planned:
    """Plans that save shares of ``total`` multiply-adds."""
    return lambda share: study.plan(MULTIPLY_ADDS, share * total, forms, align)


def furthest(study: Study, plan: Planned, good: Good) -> Graph:
    """The smallest graph that is ``good``, by bisection; the original where none is."""
    found, low, high = study.graph, 0.0, _MOST
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        after = study.solved(plan(middle))
        if good(after):
            found, low = after, middle
        else:
            high = middle
    return found


def nearest(study: Study, plan: Planned, good: Good) -> Graph:
    """The graph that differs least of those that are ``good`` before their weights are solved."""
    low, high = 0.0, _MOST
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (low, middle) if good(study.rough(plan(middle))) else (middle, high)
    return study.solved(plan(high))


def within(study: Study, error: float) -> Good:
    """Whether outputs stay within an ``error``, the square root of the share of their variance."""
    some = study.some
    plain = runner(study.graph)(some)

    def good(after: Graph) -> bool:
        made = runner(after)(some)
        return all(_far(np.asarray(plain[n]), np.asarray(made[n])) <= error for n in plain)

    return good


def losing(graph: Graph, drop: float, path: str) -> Good:
    """Whether at most ``drop`` points of accuracy on labelled data are lost."""
    given, labels = arrays.labelled(path, graph)
    least = accuracy(runner(graph), given, labels) - drop / 100
    return lambda after: accuracy(runner(after), given, labels) >= least


def _far(a: Array, b: Array) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.sqrt(np.mean(np.square(a - b)) / (np.var(a) or 1.0)))
