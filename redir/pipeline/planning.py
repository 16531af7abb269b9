"""What passes say beforehand of what they would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from redir.check.outputs import finite
from redir.cost import Cost
from redir.errors import BadPipeline
from redir.ir import Graph
from redir.pipeline.pipeline import Pass, Place


class Planned(Protocol):
    """What is known beforehand of what a pass would do, and what all passes would leave."""

    @property
    def lines(self) -> Sequence[Any]:
        """What becomes of each part of the model."""

    @property
    def target(self) -> Mapping[str, float]:
        """What was asked for, by name."""

    @property
    def before(self) -> Cost:
        """What the model costs as it is."""

    @property
    def after(self) -> Cost:
        """What it costs behind all passes."""

    @property
    def counts(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Those of the costs before and after that are known beforehand."""

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """The head and the rows of a table."""

    @property
    def said(self) -> str:
        """What a line below the table says."""

    def as_dict(self) -> dict[str, Any]:
        """The plan as ``redir plan --json`` prints it."""


class Deviating(Planned, Protocol):
    """A plan that says how far the outputs are expected to go, as a share of their spread."""

    @property
    def statistics(self) -> str:
        """What inputs it was made on."""

    @property
    def unit(self) -> str:
        """What its lines count."""

    @property
    def deviation(self) -> float:
        """How far the outputs are expected to go."""


def said(plan: Deviating) -> str:
    """What a line below the table of a plan says."""
    return f"deviation: about {plan.deviation:.2g} of the spread of the outputs"


def header(plan: Deviating) -> dict[str, Any]:
    """A plan but for its lines, as ``redir plan --json`` prints it."""
    before, after = plan.counts
    return {
        "target": dict(plan.target),
        "statistics": plan.statistics,
        "before": before,
        "after": after,
        "deviation": finite(plan.deviation),
        "unit": plan.unit,
    }


_hear: ContextVar[Callable[[Planned], object] | None] = ContextVar("hear", default=None)


@contextmanager
def hearing(hear: Callable[[Planned], object]) -> Iterator[None]:
    """Tell ``hear`` of the plans that passes carry out in the block."""
    token = _hear.set(hear)
    try:
        yield
    finally:
        _hear.reset(token)


def carry_out(plan: Callable[[], Planned]) -> None:
    """Tell of a plan that is carried out, if anybody wants to hear."""
    hear = _hear.get()
    if hear is not None:
        hear(plan())


class Planning(Pass):
    """A pass that says beforehand what it would do."""

    def targets(self, most: Mapping[str, float], *others: str) -> Mapping[str, float]:
        """The target that is given, of options that are at ``most`` so much.

        Raises:
            BadPipeline: it is out of bounds, or not the only one, with ``others`` that are given.
        """
        given = {name: value for name in most if (value := getattr(self, name))}
        if len(given) + len(others) > 1:
            names = " and ".join([*given, *others])
            raise BadPipeline(f"{self.name}: one target at a time, not {names}")
        for name, value in given.items():
            if not 0 < value <= most[name]:
                raise BadPipeline(
                    f"{self.name}: {name} is above 0 and at most {most[name]}: {value}"
                )
            if name == "speed" and value < 1:
                raise BadPipeline(f"{self.name}: speed is times as fast, 1 or more: {value}")
        return given

    @property
    def plans(self) -> bool:
        """Whether it does with these options."""
        return True

    def planned(self, graph: Graph, place: Place | None = None) -> Planned:
        """What it would do to a graph, and what all passes would leave."""
        raise NotImplementedError
