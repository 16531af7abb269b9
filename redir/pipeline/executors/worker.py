"""A process that does one task after the other, seen from both ends of the pipe to it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from redir.forking import CONTEXT, starting
from redir.ir import limits
from redir.pipeline.executors.answers import Answer, answered, told
from redir.pipeline.executors.parcels import Parcel, packed

_PATIENCE = 5.0  # seconds in which a process that is killed is gone


class _Given(NamedTuple):
    """A function, which many tasks share, and an item for it, which may ask for so many bytes."""

    shared: Parcel
    item: Parcel
    most: int


class Worker:
    """A process of our own, which puts what is large into files of ``folder``.

    There is something to read in its ``pipe`` when there is an answer, or none will come.
    """

    def __init__(self, folder: Path, module: str) -> None:
        """Start it, where the server imports a ``module`` for all, if this is the first."""
        self._folder, self._item, self.busy = folder, Parcel(b""), False
        self.pipe, far = CONTEXT.Pipe()
        given = (_Deaf(), far, folder)
        with starting([__name__, module]):
            self._process = CONTEXT.Process(target=_serve, args=given, daemon=True)
            self._process.start()
        far.close()

    def give(self, shared: Parcel, item: object) -> None:
        """Begin a task. If the process is dead, that is seen when it is asked for an answer."""
        self._item, self.busy = packed(item, self._folder), True
        try:
            self.pipe.send(_Given(shared, self._item, limits.limit()))
        except OSError:
            return

    def answer(self) -> Answer:
        """The answer to the last task.

        Raises:
            EOFError: the process is dead.
        """
        try:
            parcel: Parcel = self.pipe.recv()
        except OSError as error:
            raise EOFError from error
        self._item.discard()
        self.busy = False
        answer: Answer = parcel.opened()
        parcel.discard()
        return answer

    def end(self) -> str:
        """End the process, whatever it does, and say how it ended."""
        self.pipe.close()
        self._item.discard()
        self._process.kill()
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        if code is not None:
            self._process.close()
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


# In the process


class _Deaf:
    """A process that gets one ignores Ctrl-C: the process that gives it tasks ends it.

    It does so when it reads the arguments of what it is to call. Python prints what interrupts it
    from the moment when it has them.
    """

    def __reduce__(self) -> tuple[Callable[[], _Deaf], tuple[()]]:
        return _deaf, ()


def _deaf() -> _Deaf:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _Deaf()


def _serve(_: _Deaf, pipe: Connection, folder: Path) -> None:
    """Do what is given until nothing more is."""
    threading.Thread(target=_follow, args=(folder,), daemon=True).start()
    known: dict[Parcel, Callable[[Any], Any]] = {}
    while True:
        try:
            given: _Given = pipe.recv()
        except (EOFError, OSError):
            return
        answer = _attempt(given, known)
        try:
            parcel = packed(answer, folder)
        except Exception as error:  # noqa: BLE001 - what does not pickle, or does not fit
            parcel = packed(Answer(None, told(error)), folder)
        del answer  # before the next one
        pipe.send(parcel)


def _attempt(given: _Given, known: dict[Parcel, Callable[[Any], Any]]) -> Answer:
    """The answer to a task, whose function is ``known`` if the last one had it, too."""
    try:
        if given.shared not in known:
            known.clear()
            known[given.shared] = given.shared.opened()
        item = given.item.opened()
    except Exception as error:  # noqa: BLE001 - of a module that cannot be imported here
        return Answer(None, told(error))
    return answered(known[given.shared], item, given.most)


def _follow(folder: Path) -> None:
    """End with the process that started us, however that ended, and leave nothing behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
