"""A line on the terminal that says how far a run is, and is gone when it is done."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from redir.progress import Levels, heard

_OFTEN, _SOON = 0.1, 0.5  # seconds in which nothing new is shown, and nothing at the beginning


@dataclass
class Status:
    """What is ``shown`` on standard error, and from ``when`` on something else may be."""

    shown: str = ""
    when: float = 0.0

    def show(self, levels: Levels) -> None:
        """Say how far a run is; nothing where it is done."""
        if not levels:
            self.wipe()
            return
        now = time.monotonic()
        if now < self.when:
            return
        parts = (f"{what} {done + 1}/{total}" for what, done, total in levels)
        width = shutil.get_terminal_size().columns - 1
        self._write(f"redir: {', '.join(parts)}"[:width])
        self.when = now + _OFTEN

    def wipe(self) -> None:
        """Make room for something else."""
        if self.shown:
            self._write("")

    def _write(self, text: str) -> None:
        """Write over what is shown, and leave the cursor where that began."""
        sys.stderr.write(f"\r{text.ljust(len(self.shown))}\r")
        sys.stderr.flush()
        self.shown = text


STATUS = Status()


def showing(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Say how far what runs in the block is, to a person at a terminal who wants to hear."""
    quiet = getattr(options, "quiet", False) or not sys.stderr.isatty()
    STATUS.when = time.monotonic() + _SOON
    return nullcontext() if quiet else heard(STATUS.show)
