"""Passes that give weights fewer values, those first of which the outputs feel least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from redir.check.outputs import finite
from redir.cost import Cost, total
from redir.cost.allocation import Chosen, Option, settled
from redir.ir import Graph, Value
from redir.ir.tensor import Array
from redir.pipeline.observing import Observing
from redir.pipeline.pipeline import Place
from redir.pipeline.planning import Planning, header, said
from redir.statistics.effects import Options, weighed


@dataclass(frozen=True)
class Line:
    """A weight: the ``values`` that are left of its ``distinct`` ones, and what that saves.

    ``cost`` and ``saved`` are in the unit of the plan; ``error`` is how far this alone moves the
    outputs, as a share of their spread.
    """

    weight: str
    distinct: int
    values: int
    cost: int
    saved: int
    error: float


@dataclass(frozen=True)
class WeightPlan:
    """What becomes of each weight, and of the whole; ``unit`` is what the lines count."""

    lines: tuple[Line, ...]
    target: Mapping[str, float]
    statistics: str
    unit: str
    before: Cost
    after: Cost

    @property
    def deviation(self) -> float:
        """How far the outputs are expected to go, as a share of their spread."""
        return float(np.linalg.norm([line.error for line in self.lines]))

    @property
    def counts(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """All: the weights are known."""
        return asdict(self.before), asdict(self.after)

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """The head and the rows of a table."""
        rows = [(*list(asdict(line).values())[:-1], f"{line.error:.2g}") for line in self.lines]
        return ("weight", "distinct", "values", self.unit, "saved", "error"), rows

    @property
    def said(self) -> str:
        """What a line below the table says."""
        return said(self)

    def as_dict(self) -> dict[str, Any]:
        """The plan as ``redir plan --json`` prints it."""
        lines = [asdict(line) | {"error": finite(line.error)} for line in self.lines]
        return {**header(self), "weights": lines}


@dataclass(frozen=True, kw_only=True)
class Weighing(Observing, Planning):
    """A pass that can give weights fewer values until a share of a count is left."""

    @property
    def plans(self) -> bool:
        """Under a target."""
        return bool(self.asked)

    def counted(self, graph: Graph) -> int:
        """What the target counts."""
        raise NotImplementedError

    def offered(self, graph: Graph) -> Options:
        """What may stand for each weight, with what that costs."""
        raise NotImplementedError

    def having(self, graph: Graph, weights: Mapping[Value, Array]) -> Graph:
        """The graph with others for some weights, as the pass writes them."""
        raise NotImplementedError

    def planned(self, graph: Graph, place: Place | None = None) -> WeightPlan:
        """What it would do to a graph under its target, and what all passes would leave."""
        place = place or Place(graph)
        options, chosen = self._chosen(graph, place)
        after = place.behind.run(self.having(graph, arrays(chosen)))
        ((unit, _),) = self.asked.items()
        return WeightPlan(
            tuple(_line(value, options[value][0], chosen[value]) for value in options),
            self.asked,
            str(self.statistics),
            unit,
            total(place.original, place.shapes),
            total(after, place.shapes),
        )

    def shared(self, graph: Graph, place: Place) -> Mapping[Value, Array]:
        """The weights under which a share of what the run began with is left at its end."""
        return arrays(self._chosen(graph, place)[1])

    def _chosen(self, graph: Graph, place: Place) -> tuple[Options, Chosen[Value, Array]]:
        ((_, share),) = self.asked.items()

        def left(chosen: Chosen[Value, Array]) -> int:
            return self.counted(place.behind.run(self.having(graph, arrays(chosen))))

        offered = self.offered(graph)
        options = weighed(graph, offered, self.source, self.examples, place.original)
        return options, settled(options, left, share * self.counted(place.original))


def arrays(chosen: Chosen[Value, Array]) -> dict[Value, Array]:
    """The weights that were chosen."""
    return {value: option.what for value, option in chosen.items()}


def _line(value: Value, old: Option[Array], new: Option[Array]) -> Line:
    name = value.node.result_name if value.node is not None else ""
    count, left = (np.unique(option.what).size for option in (old, new))
    error = float(np.sqrt(max(new.error, 0.0)))
    return Line(name, count, left, round(old.cost), round(old.cost - new.cost), error)
