"""What tests look at of other processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that takes a while, and fail if it does not come."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def of_group(leader: int) -> list[str]:
    """The processes of a group that have not ended, by what Linux says of them."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    return [stat for stat in _stats() if stat.rpartition(")")[2].split()[2] == str(leader)]


def _stats() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text()
        except OSError:  # it has just ended
            continue
        if ") Z " not in stat:
            yield stat
