"""Where the boxes of a drawing go: a column for each layer, and lanes along which wires run.

A wire leads from one box to all that read it. One that passes columns has a lane to itself there,
so that nothing is drawn across a box.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

Box = TypeVar("Box", bound=Hashable)


@dataclass(frozen=True)
class Wire(Generic[Box]):
    """A line from one box to others."""

    source: Box
    targets: tuple[Box, ...]


@dataclass
class Lanes(Generic[Box]):
    """The column and the lane of each box, and the lane of each wire that passes a column."""

    column: dict[Box, int] = field(default_factory=dict)
    lane: dict[Box, int] = field(default_factory=dict)
    passing: dict[Wire[Box], int] = field(default_factory=dict)

    def direct(self, wire: Wire[Box], box: Box) -> bool:
        """Whether ``wire`` leads to ``box`` without passing a column."""
        return self.column[box] == self.column[wire.source] + 1


def placed(boxes: Sequence[Box], wires: Sequence[Wire[Box]]) -> Lanes[Box]:
    """Places, counted from 0: each wire leads to the right, and straight on where it can."""
    lanes = Lanes(_columns(boxes, wires))
    into: dict[Box, list[Wire[Box]]] = {}
    for wire in wires:
        for box in wire.targets:
            into.setdefault(box, []).append(wire)
    busy: dict[int, int] = {}  # the last column in which a lane is taken
    for column in range(max(lanes.column.values(), default=-1) + 1):
        here = [box for box in boxes if lanes.column[box] == column]
        for box in sorted(here, key=lambda box: box not in into):
            lanes.lane[box] = lane = _lane_of(box, lanes, into.get(box, ()), busy)
            busy[lane] = column
        own = {lanes.lane[box] for box in here}
        ending = {lane for lane, last in busy.items() if last == column and lane not in own}
        _pass(lanes, [wire for wire in wires if wire.source in here], busy, ending)
    top = min(busy, default=0)
    lanes.lane = {box: lane - top for box, lane in lanes.lane.items()}
    lanes.passing = {wire: lane - top for wire, lane in lanes.passing.items()}
    return lanes


def _columns(boxes: Sequence[Box], wires: Sequence[Wire[Box]]) -> dict[Box, int]:
    """The layers: a box from which nothing leads is as early, each other one as late as can be."""
    import networkx as nx  # noqa: PLC0415 - slow, and only drawings need it

    graph: nx.DiGraph[Box] = nx.DiGraph()
    graph.add_nodes_from(boxes)
    graph.add_edges_from((wire.source, box) for wire in wires for box in wire.targets)
    layers = [list(layer) for layer in nx.topological_generations(graph)]
    column = {box: place for place, layer in enumerate(layers) for box in layer}
    for layer in reversed(layers):
        for box in layer:
            column[box] = min((column[b] - 1 for b in graph[box]), default=column[box])
    return column


def _lane_of(box: Box, lanes: Lanes[Box], wires: Sequence[Wire[Box]], busy: dict[int, int]) -> int:
    """The lane of a wire to ``box``, rather of one that passes nothing, or the nearest free one."""
    direct = [lanes.lane[wire.source] for wire in wires if lanes.direct(wire, box)]
    passing = [lanes.passing[wire] for wire in wires if not lanes.direct(wire, box)]
    wished = [*direct, *passing, 0]
    free = (lane for lane in wished if busy.get(lane, -1) < lanes.column[box])
    return next(free, _nearest(wished[0], busy, lanes.column[box]))


def _pass(
    lanes: Lanes[Box], wires: Sequence[Wire[Box]], busy: dict[int, int], ending: Collection[int]
) -> None:
    """Give a lane to those of the ``wires`` from one column that pass the next one.

    It is none of those ``ending`` before that: where a row of columns ends here, both would run
    around it.
    """
    straight = {
        lanes.lane[wire.source]
        for wire in wires
        if any(lanes.direct(wire, box) for box in wire.targets)
    }
    for wire in wires:
        last, column = max(lanes.column[box] for box in wire.targets), lanes.column[wire.source]
        if last > column + 1:
            lane = _nearest(lanes.lane[wire.source], busy, column + 1, straight.union(ending))
            lanes.passing[wire], busy[lane] = lane, last - 1


def _nearest(wished: int, busy: dict[int, int], column: int, taken: Collection[int] = ()) -> int:
    """The lane nearest to ``wished`` that is free from ``column`` on and not ``taken``."""
    tried = (lane for away in count() for lane in (wished + away, wished - away))
    return next(n for n in tried if n not in taken and busy.get(n, -1) < column)
