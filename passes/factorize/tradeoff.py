"""What a model is expected to lose at other shares of its cost than the one that is asked for."""

from __future__ import annotations

from collections.abc import Callable

from redir.cost import macs, parameters
from redir.passes.factorize.forms import MULTIPLY_ADDS
from redir.passes.factorize.study import Choices, Study

_SHARES = tuple(0.1 * n for n in range(1, 10))  # that are saved

Curve = tuple[tuple[float, float], ...]
"""Shares that are left, and how far outputs are expected to go, as a share of their spread."""


def tradeoff(study: Study, planned: Callable[[float], Choices], unit: str) -> Curve:
    """What plans that save more and more of a ``unit`` come to, until there is no more to save."""
    graph = study.graph
    whole = macs(graph, study.sizes.shapes) if unit == MULTIPLY_ADDS else parameters(graph)
    found: dict[float, float] = {}
    for share in _SHARES if whole else ():
        plan = planned(share * whole)
        found.setdefault(1 - study.saved(plan, unit) / whole, study.drift(plan))
    return tuple(sorted(found.items(), reverse=True))
