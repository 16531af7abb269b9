"""Tables for people: by rich on a terminal where it is installed, else aligned plain text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from redir.cost import Cost, Layer

try:
    from rich.console import Console
    from rich.table import Table
except ImportError:  # the extra is optional
    Console = None  # type: ignore[assignment, misc]

Row = Sequence[object]
COLUMNS = ("parameters", "distinct", "macs", "multiplications", "bytes")


def write_table(head: Row, rows: Sequence[Row], file: TextIO | None = None) -> None:
    """Write a table: the first column of text to the left, the others to the right."""
    out = file or sys.stdout
    cells = [[_cell(c) for c in row] for row in (head, *rows)]
    if Console is not None and out.isatty():
        _rich(cells, out)
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        first, *others = (
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        out.write("  ".join([first, *others]).rstrip() + "\n")


def _rich(cells: list[list[str]], out: TextIO) -> None:
    table = Table()
    for place, name in enumerate(cells[0]):
        table.add_column(name, justify="right" if place else "left")
    for row in cells[1:]:
        table.add_row(*row)
    Console(file=out).print(table)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def costs(rows: Sequence[tuple[str, Cost]]) -> tuple[Row, list[Row]]:
    """The head and rows of a table of costs."""
    return ("", *COLUMNS), [(name, *(getattr(cost, c) for c in COLUMNS)) for name, cost in rows]


def layer_table(layers: Sequence[Layer]) -> tuple[Row, list[Row]]:
    """The head and rows of a table with a line for each layer."""
    rows = [(la.name or "-", la.op, *(getattr(la.cost, c) for c in COLUMNS)) for la in layers]
    return ("layer", "operator", *COLUMNS), [*rows]


def ratio(after: int, before: int) -> str:
    """How much is left, in per cent."""
    return f"{100 * after / before:.1f}%" if before else "-"
