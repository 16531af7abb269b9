"""Targets that are shares of a count, of which the passes behind take a part too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from redir.cost import macs, nbytes, parameters
from redir.ir import Graph
from redir.passes.factorize.forms import MULTIPLY_ADDS, PARAMETERS
from redir.passes.factorize.study import Choices, Study
from redir.pipeline import Place
from redir.progress import progress
from redir.runtime.memory import give_back
from redir.runtime.open_sizes import Shapes

_ROUNDS = 8  # of planning: neighbours save less together than alone, and passes behind save too
_CLOSE = 0.005  # of the whole, that may be left unused; savings are found to within it


@dataclass(frozen=True)
class Counted:
    """A target: what it counts, and the price of layers, of which a unit counts as ``each``."""

    price: str
    of: Callable[[Graph, Shapes], int]
    each: int = 1


COUNTED = {
    "macs": Counted(MULTIPLY_ADDS, macs),
    "params": Counted(PARAMETERS, lambda graph, _: parameters(graph)),
    "bytes": Counted(
        PARAMETERS, lambda graph, _: nbytes(graph), 4
    ),  # those that are factored are float32
}

Planned = Callable[[float], Choices]
"""The plan that saves so much."""


def sharing(study: Study, target: str, share: float, place: Place, planned: Planned) -> Choices:
    """The plan under which a ``share`` of what the run began with is left at its end.

    It is none where the passes behind do it alone.
    """
    counted, tried = COUNTED[target], list[tuple[float, Choices]]()
    shapes = study.sizes.shapes
    whole = counted.of(place.original, shapes)
    short, enough = 0.0, inf  # savings that were too small, and those that were not
    asked = counted.of(study.graph, shapes) - share * whole

    def left(plan: Choices) -> int:
        found = counted.of(place.behind.run(study.unsolved(plan)), shapes)
        give_back()
        return found

    for _ in progress(range(_ROUNDS), "plans"):
        plan = planned(asked / counted.each)
        known = [lacking for lacking, other in tried if other == plan]
        lacking = known[0] if known else left(plan) - share * whole
        settled = bool(tried) and plan == tried[-1][1]
        tried.append((lacking, plan))
        short, enough = (asked, enough) if lacking > 0 else (short, asked)
        if settled or -_CLOSE * whole <= lacking <= 0 or enough - short <= _CLOSE * whole:
            break
        asked = counted.each * study.saved(plan, counted.price) + lacking
        if enough < inf and not short < asked < enough:
            asked = max((short + enough) / 2, enough - 2 * abs(lacking))
    lacking, plan = nearest(tried)
    far = lacking < -_CLOSE * whole  # as where layers of equal weights would no longer be alike
    return {} if far and left({}) <= share * whole else plan


def nearest(tried: Sequence[tuple[float, Choices]]) -> tuple[float, Choices]:
    """Of plans and what each lacks, the one that lacks nothing and saves least, if there is one."""
    return min(tried, key=lambda found: (found[0] > 0, abs(found[0])))
