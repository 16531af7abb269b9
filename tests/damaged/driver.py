"""Running commands on damaged files, each in a process of its own that may not take much."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

MEMORY = 2 * 2**30  # bytes that a command may ask for beyond what its imports take
SECONDS = 60  # of the processor
PATIENCE = 600  # seconds by the clock, for a machine that does much else
_MEMORY_RAN_OUT = ("out of memory", "bad_alloc", "bad alloc", "unable to allocate",
                   "failed to allocate", "cannot allocate", "memoryerror")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A command on files in ``folder``; what it writes goes to ``folder``/out."""

    name: str
    folder: Path
    command: Sequence[str]


def context(*preload: str) -> ForkServerContext:
    """Processes that start with modules imported."""
    _stop_server()  # one that runs already has loaded less
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([*preload, __name__])
    return made


def findings(made: ForkServerContext, cases: Sequence[Case]) -> list[str]:
    """What is wrong with how the commands ended, one after the other.

    In threads, one would take the exit code that another waits for: starting a process asks all.
    """
    try:
        return [found for case in cases for found in _run(made, case)]
    finally:
        _stop_server()


def _stop_server() -> None:
    """Let the next process that is asked for start a server of its own."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def _run(made: ForkServerContext, case: Case) -> list[str]:
    for name in ("out", "tmp"):
        (case.folder / name).mkdir(parents=True)
    process = made.Process(target=_child, args=(case.folder, list(case.command)))
    process.start()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        return [f"{case.name}: it hung"]
    assert process.exitcode is not None
    return [f"{case.name}: {found}" for found in _judged(case, process.exitcode)]


def _child(folder: Path, command: list[str]) -> None:
    from redir.app.cli import main  # noqa: PLC0415 - it is there already, in the server

    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ["TMPDIR"] = str(folder / "tmp")
    os.environ["REDIR_CACHE"] = str(folder / "tmp")
    os.chdir(folder)
    _limit()
    sys.exit(main(command))


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def _judged(case: Case, code: int) -> list[str]:
    said = (case.folder / "stderr").read_text(errors="replace")
    printed = (case.folder / "stdout").read_text(errors="replace")
    found, everything = [], (said + printed).lower()
    errors = sum(line.startswith("redir: error:") for line in said.split("\n"))
    if code not in {0, 1, 2}:
        found.append(f"it ended with {code}")
    elif errors != (code != 0):
        found.append(f"exit {code} with {errors} lines of error")
    words = ("unexpected ", "traceback", "please report")
    found += [f"it says {word!r}" for word in words if word in everything]
    found += [f"it says {w!r}: too much was asked for" for w in _MEMORY_RAN_OUT if w in everything]
    left = [p.name for p in (case.folder / "tmp").iterdir() if p.suffix != ".json"]
    written = [p.name for p in (case.folder / "out").iterdir()]
    hidden = [name for name in written if name.startswith(".") or code]
    if left or hidden:
        found.append(f"it left {left + hidden}")
    last = (said.strip().splitlines() or [""])[-1][:300]
    return [f"{f} ({' '.join(case.command)}) {last}" for f in found]
