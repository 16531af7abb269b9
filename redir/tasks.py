"""The same for each of many: here, one after the other, or wherever the run has it done."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from redir.progress import progress

try:
    from threadpoolctl import ThreadpoolController
except ImportError:  # the extra is optional
    ThreadpoolController = None

__all__ = ["Executor", "Serial", "Task", "mapped", "using"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_LARGE = 2**28  # bytes that tasks take together, from which on they take seconds
_EACH = 2**22  # bytes that take as long as what a task takes at any size
_LOOK = 0.1  # seconds after which it is seen how long the rest takes
_WORTH = 4.0  # seconds that are worth the start of processes, which takes one or two


@dataclass(frozen=True)
class Task:
    """An item for a function, what errors call it, and about how many bytes it takes."""

    name: str
    item: Any
    memory: int = 0


class Executor(Protocol):
    """What gets tasks done: this process, others on this machine, or those of a cluster."""

    @property
    def is_here(self) -> bool:
        """Whether it is this process, which does one after the other."""

    def done(
        self, function: Callable[[Any], _Made], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, _Made]]:
        """The places of tasks and what ``function`` makes of their items, as they get done.

        What one raises is raised here. Whatever is left then, or when nobody asks any more, is
        dropped.

        Raises:
            Lost: a task did not come back.
        """


class Serial:
    """Does tasks in this process, in order."""

    is_here = True

    def done(
        self, function: Callable[[Any], _Made], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, _Made]]:
        """Each task, one after the other."""
        for place, task in enumerate(tasks):
            yield place, called(function, task.item)


_SERIAL = Serial()
_executor: ContextVar[Executor] = ContextVar("executor", default=_SERIAL)


def executor() -> Executor:
    """What gets the tasks of this run done."""
    return _executor.get()


@contextmanager
def using(chosen: Executor) -> Iterator[None]:
    """Let ``chosen`` get done the tasks of what happens in the block."""
    token = _executor.set(chosen)
    try:
        yield
    finally:
        _executor.reset(token)


def called(function: Callable[[_Item], _Made], item: _Item) -> _Made:
    """What a function makes of an item, with one thread: the same, wherever it runs."""
    with one_thread():
        return function(item)


def one_thread(of: str | None = None) -> AbstractContextManager[object]:
    """Let libraries, or those ``of`` a kind, use one thread: sums of several come out otherwise.

    So it does not matter how many cores a machine has, and processes side by side do not get in
    each other's way. Without the extra ``threads`` nothing is done.
    """
    if ThreadpoolController is None:
        return nullcontext()
    limiter: AbstractContextManager[object] = ThreadpoolController().limit(limits=1, user_api=of)
    return limiter


def mapped(
    function: Callable[[_Item], _Made],
    items: Sequence[_Item],
    what: str,
    *,
    memory: Callable[[_Item], int] = lambda _: 0,
) -> list[_Made]:
    """What ``function`` makes of each of the items, in their order.

    It is a function of a module, or ``partial`` of one, and looks at nothing but what it is given,
    for it may run in another process. ``what`` the items are is said with the progress. ``memory``
    is about how many bytes the function takes for an item: no more of them are begun at once than
    fit, large ones first. What takes a moment is done here.
    """
    sizes = [memory(item) for item in items]
    order = sorted(range(len(items)), key=sizes.__getitem__)
    tasks = [Task(f"{what} {n + 1}/{len(items)}", items[n], sizes[n]) for n in order]
    made: dict[int, _Made] = {}
    with closing(_begun(function, tasks)) as results:
        for _ in progress(order, what):
            place, found = next(results)
            made[order[place]] = found
    return [made[n] for n in range(len(items))]


def _begun(
    function: Callable[[Any], _Made], tasks: Sequence[Task]
) -> Generator[tuple[int, _Made], None, None]:
    """What gets done of tasks, small ones first: here, the rest elsewhere if it takes long."""
    start, chosen = time.process_time(), executor()
    for place, task in enumerate(tasks):
        if not chosen.is_here and _takes_long(tasks, place, time.process_time() - start):
            rest = tasks[place:][::-1]
            yield from ((len(tasks) - 1 - p, found) for p, found in chosen.done(function, rest))
            return
        yield place, called(function, task.item)
        start = start if place else time.process_time()


def _takes_long(tasks: Sequence[Task], done: int, seconds: float) -> bool:
    """Whether the tasks that are not ``done`` take long, by sizes and the ``seconds`` of others.

    They are those of all but the first, which may have to import something.
    """
    if seconds < _LOOK:
        return sum(task.memory for task in tasks[done:]) >= _LARGE
    before, after = (sum(t.memory + _EACH for t in some) for some in (tasks[1:done], tasks[done:]))
    return seconds * after >= _WORTH * before
