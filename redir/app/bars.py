"""Bars on a terminal that say how far a run is, by rich (the extra ``cli``)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redir.errors import visible
from redir.progress import Levels

try:
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ImportError:  # the extra is optional
    Console = None  # type: ignore[assignment, misc]

_WIDTH = 28  # of a bar


def installed() -> bool:
    """Whether rich is there."""
    return Console is not None


@dataclass
class Bars:
    """A bar for each level, below each other."""

    live: Any = field(default=None, init=False)

    def show(self, levels: Levels, left: Sequence[str]) -> None:
        """Draw levels, and what is left of the time of each, over what was drawn before."""
        table = Table.grid(padding=(0, 2))
        for level, time in zip(levels, left, strict=True):
            if level.total == 1:
                table.add_row(Text(visible(level.what)))
                continue
            bar = ProgressBar(level.total, level.done, width=_WIDTH)
            count = f"{level.done + 1}/{level.total}"
            table.add_row(Text(visible(level.what)), bar, Text(count), Text(time, style="dim"))
        if self.live is None:
            self.live = Live(
                console=Console(file=sys.stderr),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.live.start()
        self.live.update(table, refresh=True)

    def wipe(self) -> None:
        """Make room for something else."""
        if self.live is not None:
            self.live.stop()
            self.live = None
