"""Targets that are shares of a count, of which the passes behind take a part too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redir.cost import macs, nbytes, parameters
from redir.ir import Graph, Node
from redir.passes.factorize.forms import MULTIPLY_ADDS, PARAMETERS
from redir.passes.factorize.solving import Choice
from redir.passes.factorize.study import Choices, Study
from redir.pipeline import Place

_ROUNDS = 8  # of planning: neighbours save less together than alone, and passes behind save too
_CLOSE = 0.005  # of the whole, that may be left unused


@dataclass(frozen=True)
class Counted:
    """A target: what it counts, and the price of layers, of which a unit counts as ``each``."""

    price: str
    of: Callable[[Graph], int]
    each: int = 1


COUNTED = {
    "macs": Counted(MULTIPLY_ADDS, macs),
    "params": Counted(PARAMETERS, parameters),
    "bytes": Counted(PARAMETERS, nbytes, 4),  # those that are factored are float32
}

Planned = Callable[[str, float], Choices]
"""The plan that saves so much of a price."""


def sharing(study: Study, target: str, share: float, place: Place, planned: Planned) -> Choices:
    """The plan under which a ``share`` of what the run began with is left at its end."""
    counted, plan = COUNTED[target], dict[Node, Choice]()
    whole = counted.of(place.original)
    lacking, saved = counted.of(study.graph) - share * whole, 0.0
    for _ in range(_ROUNDS):
        last, plan = plan, dict(planned(counted.price, (saved + lacking) / counted.each))
        saved = counted.each * study.saved(plan, counted.price)
        lacking = counted.of(place.behind.run(study.rough(plan))) - share * whole
        if plan == last or -_CLOSE * whole <= lacking <= 0:
            break
    return plan
