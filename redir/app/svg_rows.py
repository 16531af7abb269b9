"""The columns of a drawing in rows below each other, as the lines of a text are, and its wires.

At the end of a row wires run around it on the right, between the rows to the left, and into the
next. They lie inside each other there, so that none crosses another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from redir.app.svg_layout import Box, Lanes, Wire

BOX, GAP = (150, 46), (34, 18)
_MOST = 6  # columns of a row: with the gaps between them about 1,200 units
_THIN, _TRACK = 8, 8  # the height of a lane without boxes; from wire to wire between rows


@dataclass(frozen=True)
class Row:
    """The middle of each lane, where the first wire below runs, and the lanes of these.

    The lowest lane comes first, and runs nearest to the row.
    """

    middle: dict[int, int]
    below: int
    leaving: tuple[int, ...]


@dataclass(frozen=True)
class Page(Generic[Box]):
    """The places of boxes and the paths of wires, in ``rows`` of so many ``columns`` each.

    Boxes of the first column of a row begin at ``left``. All fits into ``size``, from 0 on.
    """

    lanes: Lanes[Box]
    rows: tuple[Row, ...]
    columns: int
    left: int

    @property
    def size(self) -> tuple[int, int]:
        """The width and the height."""
        return 2 * self.left + self.columns * (BOX[0] + GAP[0]) - GAP[0], self.rows[-1].below

    def corner(self, box: Box) -> tuple[int, int]:
        """The upper left corner of a box."""
        row, x = self._at(self.lanes.column[box])
        return x, row.middle[self.lanes.lane[box]] - BOX[1] // 2

    def path(self, wire: Wire[Box], target: Box) -> str:
        """The path of a wire to one of those that read it."""
        start, end = self.lanes.column[wire.source], self.lanes.column[target]
        own, to = self.lanes.lane[wire.source], self.lanes.lane[target]
        (row, x), (last, left) = self._at(start), self._at(end)
        right = x + BOX[0]
        begun = f"M{right},{row.middle[own]}"
        if end == start + 1 and row is last:
            return begun + _curve(right, row.middle[own], row.middle[to])
        lane = own if end == start + 1 else self.lanes.passing[wire]
        begun += _curve(right, row.middle[own], row.middle[lane])
        around = "".join(self._around(start // self.columns, end // self.columns, lane))
        ended = _curve(left - GAP[0], last.middle[lane], last.middle[to])
        return f"{begun}{around}H{left - GAP[0]}{ended}"

    def _at(self, column: int) -> tuple[Row, int]:
        row, place = divmod(column, self.columns)
        return self.rows[row], self.left + place * (BOX[0] + GAP[0])

    def _around(self, first: int, last: int, lane: int) -> Iterator[str]:
        """From the end of each row to the beginning of the next one."""
        left, right = self.left - GAP[0], self.size[0] - self.left + GAP[0]
        for row, following in zip(self.rows[first:last], self.rows[first + 1 :], strict=False):
            place = row.leaving.index(lane)
            aside = (1 + place) * _TRACK, (len(row.leaving) - place) * _TRACK
            yield f"H{right + aside[0]}V{row.below + place * _TRACK}"
            yield f"H{left - aside[1]}V{following.middle[lane]}"


def page(lanes: Lanes[Box], wires: Sequence[Wire[Box]]) -> Page[Box]:
    """The page on which boxes at ``lanes`` are drawn: the rows are about equally long."""
    whole = 1 + max(lanes.column.values(), default=0)
    columns = -(-whole // -(-whole // _MOST))
    crossing, rows, y = _crossing(lanes, wires), list[Row](), 0
    for first in range(0, whole, columns):
        inside = range(first, first + columns)
        boxes = {lanes.lane[box] for box, column in lanes.column.items() if column in inside}
        passing = {lane for c in range(first, inside.stop + 1) for lane in crossing.get(c, ())}
        middle = {}
        for lane in sorted(boxes | passing):
            height = BOX[1] if lane in boxes else _THIN
            middle[lane], y = y + height // 2, y + height + GAP[1]
        leaving = tuple(sorted(crossing.get(inside.stop, ()), reverse=True))
        rows.append(Row(middle, y, leaving))
        y += len(leaving) * _TRACK + GAP[1] // 2
    aside = max(len(row.leaving) for row in rows) * _TRACK
    return Page(lanes, tuple(rows), columns, aside + GAP[0] if len(rows) > 1 else 0)


def _crossing(lanes: Lanes[Box], wires: Sequence[Wire[Box]]) -> dict[int, set[int]]:
    """For each column the lanes in which wires come to it from the one before."""
    found: dict[int, set[int]] = {}
    for wire in wires:
        start = lanes.column[wire.source]
        ends = [lanes.column[box] for box in wire.targets]
        if start + 1 in ends:
            found.setdefault(start + 1, set()).add(lanes.lane[wire.source])
        for column in range(start + 1, max(ends) + 1) if max(ends) > start + 1 else ():
            found.setdefault(column, set()).add(lanes.passing[wire])
    return found


def _curve(x: int, y: int, to: int) -> str:
    """Across the gap behind ``x``, from one height to another."""
    middle, right = x + GAP[0] // 2, x + GAP[0]
    return f"C{middle},{y} {middle},{to} {right},{to}"
