"""Processes on this machine that do tasks side by side."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Self, TypeVar

from redir.atomic import temporary_folder
from redir.errors import BadPipeline, Lost
from redir.pipeline.executors.answers import Answer
from redir.pipeline.executors.parcels import packed
from redir.pipeline.executors.queueing import Queue
from redir.pipeline.executors.worker import Worker
from redir.tasks import Task

_Made = TypeVar("_Made")

PROCESS = 2**27  # bytes that one takes by itself
_DEATHS = 3  # of processes over one task, after which it is given up
_MEMORY = Path("/dev/shm")  # noqa: S108 - what is there lies in a folder of our own


class Pool:
    """Up to ``jobs`` processes, which do tasks that take at most ``memory`` bytes together.

    A task that takes more is done alone. Processes are started when there is something to do, and
    stay until the block ends. For one that dies another is started, and its task done again.
    """

    is_here = False

    def __init__(self, jobs: int, memory: int) -> None:
        self.jobs, self.memory = jobs, memory
        self._workers: list[Worker] = []
        self._open = ExitStack()
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self.end(worker)
        self._folder = None
        self._open.close()

    def done(
        self, function: Callable[[Any], _Made], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, _Made]]:
        """The tasks, as they get done.

        Raises:
            Lost: process after process died over a task.
        """
        flight = _Flight(self, function, tasks)
        try:
            while flight.queue.left:
                flight.fill()
                place, answer = flight.landed()
                if answer is not None:
                    flight.fill()  # before anybody looks at the answer
                    yield place, answer.opened()
        finally:
            flight.end()

    @property
    def folder(self) -> Path:
        """Where processes put what is large: into memory, if there is enough of that."""
        if self._folder is None:
            large = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > self.memory
            inside = _MEMORY if large else None
            self._folder = self._open.enter_context(temporary_folder(inside))
        return self._folder

    def idle(self, module: str) -> Worker:
        """A process with nothing to do, a new one if need be."""
        found = next((worker for worker in self._workers if not worker.busy), None)
        if found is None:
            found = Worker(self.folder, module)
            self._workers.append(found)
        return found

    def end(self, worker: Worker) -> str:
        """End a process, whatever it does, and say how it ended."""
        self._workers.remove(worker)
        return worker.end()


class _Flight:
    """The tasks of one function, and by the processes that do one which it is."""

    def __init__(self, pool: Pool, function: Callable[[Any], Any], tasks: Sequence[Task]) -> None:
        self.queue = Queue(tasks, pool.memory, PROCESS)
        self._running: dict[Worker, int] = {}
        self._pool, self._tasks, self._deaths = pool, tasks, Counter[int]()
        self._module = getattr(function, "func", function).__module__  # behind a partial
        try:
            self._shared = packed(function, pool.folder)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise BadPipeline(
                f"what makes {tasks[0].name} cannot be sent to another process: {error}; it has to "
                "be a function of a module, or --jobs 1"
            ) from error

    def fill(self) -> None:
        """Begin as many tasks as there may be processes, and as fit."""
        while (place := self.queue.begin(self._pool.jobs)) is not None:
            worker = self._pool.idle(self._module)
            worker.give(self._shared, self._tasks[place].item)
            self._running[worker] = place

    def landed(self) -> tuple[int, Answer | None]:
        """The next task that ends and the answer, none if it is to be done again.

        Raises:
            Lost: too many processes died over it.
        """
        by_pipe = {worker.pipe: worker for worker in self._running}
        worker = by_pipe[wait(list(by_pipe))[0]]
        place = self._running.pop(worker)
        try:
            answer = worker.answer()
        except EOFError:
            self._died(place, self._pool.end(worker))
            self.queue.again(place)
            return place, None
        self.queue.end(place)
        return place, answer

    def _died(self, place: int, how: str) -> None:
        self._deaths[place] += 1
        if self._deaths[place] == _DEATHS:
            raise Lost(
                f"{self._tasks[place].name}: {_DEATHS} processes died over it, the last by {how}; "
                "fewer --jobs leave more memory for each"
            )

    def end(self) -> None:
        """Drop what is not done."""
        for worker in self._running:
            self._pool.end(worker)
        self._shared.discard()
