"""How processes start that work beside this one: each is forked by a server that imports for all.

It takes the server as long to start as it takes a command: so this imports next to nothing, and the
server may be started before all else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

_KINDS = multiprocessing.get_all_start_methods()
_SERVER = "forkserver"
CONTEXT: Any = multiprocessing.get_context(_SERVER if _SERVER in _KINDS else "spawn")
_ENVIRONMENT: Mapping[str, str] = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONSAFEPATH": "1",  # lest a struct.py beside a model is imported
}
_FORKED = "redir.forked"
_USUAL = (  # what tasks of redir's own need
    "redir.pipeline.executors.worker",
    "redir.passes.hash",
    "redir.passes.palettize",
    "redir.passes.split_inputs.forms",
    "scipy.ndimage",
)


def begin() -> None:
    """Start the server now, for tasks that come when this process has imported what it needs."""
    if _SERVER not in _KINDS:
        return
    from multiprocessing import forkserver  # noqa: PLC0415 - not on all systems

    with starting(_USUAL):
        forkserver.ensure_running()


@contextmanager
def starting(modules: Sequence[str]) -> Iterator[None]:
    """Where processes are started: the server imports ``modules``, if this starts it."""
    CONTEXT.set_forkserver_preload([_FORKED, *modules])
    with _environment(), _uninterrupted():
        yield


@contextmanager
def _environment() -> Iterator[None]:
    """What a new process finds in its environment."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started here does not hear Ctrl-C, and this process hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # which ends with SIGINT unblocked when it starts one
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
