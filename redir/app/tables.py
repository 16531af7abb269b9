"""Tables for people: by rich on a terminal where it is installed, else aligned plain text."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from redir.cost import Cost, Layer
from redir.errors import visible
from redir.evaluation import Judged
from redir.pipeline.compress import Result, Target

try:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError:  # the extra is optional
    Console = None  # type: ignore[assignment, misc]

Row = Sequence[object]
COLUMNS = ("parameters", "distinct", "macs", "multiplications", "bytes")


def write_table(
    head: Row, rows: Sequence[Row], file: TextIO | None = None, *, left: Collection[int] = (0,)
) -> None:
    """Write a table: the columns ``left``, counted from 0, to the left, the others to the right.

    A cell may hold any text: it is shown as ``redir.errors.visible`` has it, and never as markup.
    """
    out = file or sys.stdout
    cells = [[cell(c) for c in row] for row in (head, *rows)]
    if Console is not None and out.isatty():
        _rich(cells, out, left)
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (
            c.ljust(w) if i in left else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        out.write("  ".join(padded).rstrip() + "\n")


def _rich(cells: list[list[str]], out: TextIO, left: Collection[int]) -> None:
    table = Table()
    for place, name in enumerate(cells[0]):
        table.add_column(Text(name), justify="left" if place in left else "right")
    for row in cells[1:]:
        table.add_row(*map(Text, row))  # a plain string would be read as markup
    Console(file=out).print(table)


def cell(value: object) -> str:
    """What a table shows of a value: a text without what steers a display."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else visible(str(value))


def costs(rows: Sequence[tuple[str, Cost]]) -> tuple[Row, list[Row]]:
    """The head and rows of a table of costs."""
    return ("", *COLUMNS), [(name, *(getattr(cost, c) for c in COLUMNS)) for name, cost in rows]


def layer_table(layers: Sequence[Layer]) -> tuple[Row, list[Row]]:
    """The head and rows of a table with a line for each layer."""
    rows = [(la.name or "-", la.op, *(getattr(la.cost, c) for c in COLUMNS)) for la in layers]
    return ("layer", "operator", *COLUMNS), [*rows]


def ratio(after: int | None, before: int | None) -> str:
    """How much is left, in per cent, if that is known."""
    return f"{100 * after / before:.1f}%" if before and after is not None else "-"


def write_result(result: Result, judged: Judged | None, target: Target | None) -> None:
    """Write what a run gave: the costs before and after, the target, and each of its passes."""
    head, rows = costs([("before", result.before), ("after", result.after)])
    pairs = [(getattr(result.after, c), getattr(result.before, c)) for c in COLUMNS]
    rows = [*rows, ("left", *(ratio(a, b) for a, b in pairs))]
    more = {}
    if (times := result.times) is not None:
        more["ms"] = [f"{1000 * s:.3f}" for s in (times.before, times.after)]
        more["ms"].append(share_of(asdict(times)))
    if judged:
        both, of = (judged.before, judged.after), judged.scale
        more[of.title] = [*map(of.text, both), of.change(*both)]
    write_table(
        (*head, *more), [(*row, *(m[i] for m in more.values())) for i, row in enumerate(rows)]
    )
    sys.stdout.write(f"\n{told(target)}\n\n" if target else "\n")
    steps = [(s.name, f"{s.seconds:.2f} s", s.moved, s.verdict or "-") for s in result.steps]
    write_table(("pass", "time", "deviation", "verdict"), steps)


def share_of(times: Mapping[str, Any]) -> str:
    """How much of the time is left, with the quartiles, by what JSON holds of it."""
    spread = f"{100 * times['low']:.0f}-{100 * times['high']:.0f}"
    return f"{100 * times['ratio']:.1f}% ({spread})"


def told(target: Target) -> str:
    """A line on a target."""
    found = "not measured" if target.reached is None else f"{target.reached:.3g} reached"
    return visible(
        f"{target.name}: {target.asked:g} asked, {found}; statistics: {target.statistics}"
    )
