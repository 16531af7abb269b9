"""What is shown on the terminal while something runs: how far it is, and for how long still.

It is drawn by rich where that is installed, with a bar for each level, and is a line otherwise. It
is gone when the run is done.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from redir.app import bars
from redir.errors import visible
from redir.progress import Level, Levels, heard

_OFTEN = 0.25  # seconds from picture to picture
_SOON = 0.5  # seconds in which nothing is shown, for what is quick
_KNOWN = 1.0  # seconds of a level, from which on it tells how long it takes
_MINUTE, _HOUR = 60, 3600  # seconds


class Screen(Protocol):
    """What draws on a terminal."""

    def show(self, levels: Levels, left: Sequence[str]) -> None:
        """Draw levels, and what is left of the time of each, over what was drawn before."""

    def wipe(self) -> None:
        """Make room for something else."""


@dataclass
class Line:
    """A line of text, as any terminal takes it."""

    shown: str = ""

    def show(self, levels: Levels, left: Sequence[str]) -> None:
        """Write over what is shown, and leave the cursor where that began."""
        each = (f"{level.what} {count(level)}".rstrip() for level in levels)
        parts = [f"{a} ({b})" if b else a for a, b in zip(each, left, strict=True)]
        self._write(visible(f"redir: {', '.join(parts)}")[: shutil.get_terminal_size().columns - 1])

    def wipe(self) -> None:
        """Make room for something else."""
        if self.shown:
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text.ljust(len(self.shown))}\r")
        sys.stderr.flush()
        self.shown = text


@dataclass
class _Pace:
    """When a level began, and when so many of it were done."""

    level: Level
    began: float
    at: float

    def moved(self, level: Level, now: float) -> _Pace:
        """What is known of the pace once a level is so far."""
        if (level.what, level.total) != (self.level.what, self.level.total):
            return _Pace(level, now, now)
        if level.done < self.level.done:
            return _Pace(level, now, now)
        return _Pace(level, self.began, now if level.done > self.level.done else self.at)

    def left(self, now: float) -> str:
        """About how long it still takes, if that can be told."""
        level = self.level
        if not level.alike or not level.done or now - self.began < _KNOWN:
            return ""
        spent = now - self.began
        each = max((self.at - self.began) / level.done, spent / (level.done + 1))
        return told(max(0.0, each * (level.total - level.done) - (now - self.at)))


def count(level: Level) -> str:
    """Which of how many is being done, if there are several."""
    return f"{level.done + 1}/{level.total}" if level.total > 1 else ""


def told(seconds: float) -> str:
    """A time that something still takes, in words."""
    if seconds < _MINUTE:
        return f"{max(1, round(seconds))} s left"
    if seconds < _HOUR:
        return f"{round(seconds / _MINUTE)} min left"
    hours, rest = divmod(round(seconds / _MINUTE), _MINUTE)
    return f"{hours} h {rest} min left"


@dataclass
class Status:
    """What runs at the moment, drawn on a ``screen`` now and then, also by a thread of its own."""

    screen: Screen = field(default_factory=Line)
    when: float = 0.0
    paces: list[_Pace] = field(default_factory=list)
    lock: Any = field(default_factory=threading.RLock)

    def hear(self, levels: Levels) -> None:
        """Take note of how far a run is, and show it if the last picture is old."""
        now = time.monotonic()
        with self.lock:
            known = [*self.paces, *[None] * len(levels)]
            self.paces = [
                pace.moved(level, now) if pace else _Pace(level, now, now)
                for level, pace in zip(levels, known, strict=False)
            ]
            self.draw()

    def draw(self) -> None:
        """Show how far the run is, if it is time to; nothing where it is done."""
        now = time.monotonic()
        with self.lock:
            if not self.paces:
                self.screen.wipe()
            elif now >= self.when:
                left = [pace.left(now) for pace in self.paces]
                self.screen.show(tuple(pace.level for pace in self.paces), left)
                self.when = now + _OFTEN

    def say(self, write: Callable[[], object]) -> None:
        """Write something where the picture is, which comes back below it."""
        with self.lock:
            self.screen.wipe()
            write()

    def end(self) -> None:
        """Show nothing any more."""
        with self.lock:
            self.paces = []
            self.screen.wipe()


STATUS = Status()


@contextmanager
def showing(options: argparse.Namespace) -> Iterator[None]:
    """Say how far what runs in the block is, to a person at a terminal who wants to hear."""
    if getattr(options, "quiet", False) or not sys.stderr.isatty():
        yield
        return
    plain = not bars.installed() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    STATUS.screen = Line() if plain else bars.Bars()
    STATUS.when = time.monotonic() + _SOON
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(done,), daemon=True)
    beat.start()
    try:
        with heard(STATUS.hear):
            yield
    finally:
        done.set()
        beat.join()
        STATUS.end()


def _beat(done: threading.Event) -> None:
    """Draw now and then, however long a step takes."""
    while not done.wait(_OFTEN):
        STATUS.draw()
