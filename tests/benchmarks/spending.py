"""What a command takes: time, work of the processor, and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds on the clock, seconds of the processor, and the most memory held, in GB."""

    wall: float
    processor: float
    peak: float


_MEASURED = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1.024e-6)
"""


def spent(*command: str) -> Spent:
    """What a command takes, all its processes together."""
    run, env = [sys.executable, "-c", _MEASURED, *command], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=env)
    return Spent(*map(float, done.stdout.split()))


def redir(*arguments: str | Path) -> Spent:
    """What the command ``redir`` takes."""
    return spent(str(Path(sys.executable).with_name("redir")), *map(str, arguments))
