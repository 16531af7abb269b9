"""Which tasks run, and which wait for them: no more at once than memory is given for."""

from __future__ import annotations

from collections.abc import Sequence

from redir.tasks import Task


class Queue:
    """Tasks that wait, by their places, and those that run, with ``memory`` for so many bytes.

    Each takes ``beside`` more than it says. A task that alone takes more runs alone.
    """

    def __init__(self, tasks: Sequence[Task], memory: int, beside: int = 0) -> None:
        self._sizes, self._memory = [task.memory + beside for task in tasks], memory
        self._waiting, self._running = list(range(len(tasks))), set[int]()

    @property
    def left(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._waiting or self._running)

    def begin(self, most: int) -> int | None:
        """The next task to run beside the others: none where ``most`` run, or none fits."""
        if len(self._running) >= most:
            return None
        free = self._memory - sum(self._sizes[place] for place in self._running)
        fits = (p for p in self._waiting if self._sizes[p] <= free or not self._running)
        place = next(fits, None)
        if place is not None:
            self._waiting.remove(place)
            self._running.add(place)
        return place

    def end(self, place: int) -> None:
        """Say that a task is done."""
        self._running.remove(place)

    def again(self, place: int) -> None:
        """Say that a task that ran has to run again, before others."""
        self._running.remove(place)
        self._waiting.insert(0, place)
