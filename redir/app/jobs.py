"""The options that say where the tasks of a command are done."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from redir.errors import BadInput
from redir.pipeline.executors import Cluster, Pool
from redir.tasks import using

_LITTLE = 2**32  # bytes, where it is not known how many there are


def add_jobs(command: argparse.ArgumentParser) -> None:
    """Take where tasks are done, and how much they may take."""
    command.add_argument(
        "--jobs", type=_above_0, metavar="N", help="work in N processes (default: one a core)"
    )
    command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="a dask cluster instead, as in tcp://host:8786",
    )
    command.add_argument(
        "--memory",
        type=_above_0,
        metavar="N",
        help="bytes that all processes together may take (default: half of the memory)",
    )


def _above_0(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


@contextmanager
def working(options: argparse.Namespace) -> Iterator[None]:
    """Do tasks of what happens in the block where the options say.

    Raises:
        BadInput: they say two things, or name no cluster.
        MissingExtra: they name a cluster, and dask is not installed.
    """
    jobs, address = getattr(options, "jobs", 1), getattr(options, "scheduler", None)
    memory = getattr(options, "memory", None) or _half_of_all()
    if address is not None:
        if jobs is not None:
            raise BadInput("--jobs and --scheduler are both given: one of them says where to work")
        with Cluster(address, memory) as cluster, using(cluster):
            yield
    elif (jobs or _cores()) > 1:
        with Pool(jobs or _cores(), memory) as pool, using(pool):
            yield
    else:
        yield


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _half_of_all() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # another system
        return _LITTLE
