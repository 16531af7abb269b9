"""The workers of a dask.distributed cluster, which places tasks, does them again, and spills."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Self, TypeVar

from redir.errors import BadInput, Lost, MissingExtra
from redir.ir import limits
from redir.pipeline.executors.answers import answered
from redir.pipeline.executors.queueing import Queue
from redir.tasks import Task

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_CONNECTS = 3.0  # seconds in which a scheduler answers
_STARTS = 60.0  # seconds in which the first worker does
_ALIKE = ("redir", "numpy", "scipy", "onnx")  # packages that make the numbers


class Cluster:
    """The cluster at an ``address``, which gets tasks of at most ``memory`` bytes together.

    What it is sent goes through its scheduler, which keeps it until it is done: nothing is held by
    a worker alone, which may die.
    """

    is_here = False

    def __init__(self, address: str, memory: int) -> None:
        """Connect to it.

        Raises:
            BadInput: there is none, or its workers would not make what is made here.
            MissingExtra: dask is not installed.
        """
        self._memory, self._named = memory, f"--scheduler {address}"
        found = _distributed()
        try:
            _asked(address)
            self._client = found.Client(address, timeout=_CONNECTS, set_as_default=False)
        except Exception as error:  # whatever is raised over an address that is none
            raise BadInput(f"{self._named}: {_line(error)}") from error

    def __enter__(self) -> Self:
        try:
            self._check()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _check(self) -> None:
        """Refuse workers that have other versions, or are not there."""
        try:
            self._client.submit(_versions, pure=False).result(timeout=_STARTS)
            found: Mapping[str, Any] = self._client.run(_versions, on_error="return")
        except TimeoutError:
            raise BadInput(f"{self._named}: no worker answered in {_STARTS:.0f} s") from None
        except Exception as error:  # of one that cannot import redir
            raise self._unfit(error) from error
        for worker, theirs in found.items():
            if isinstance(theirs, OSError):  # it has died meanwhile
                continue
            if isinstance(theirs, Exception):
                raise self._unfit(theirs) from theirs
            for name, ours in _versions().items():
                if theirs.get(name) != ours:
                    raise BadInput(
                        f"{self._named}: {worker} has {name} {theirs.get(name)}, and here it is "
                        f"{ours}: what they make may differ"
                    )

    def _unfit(self, error: Exception) -> BadInput:
        return BadInput(f"{self._named}: a worker cannot run redir: {_line(error)}")

    def done(
        self, function: Callable[[Any], _Made], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, _Made]]:
        """The tasks, as they get done.

        Raises:
            Lost: the cluster gave one up.
        """
        queue, running = Queue(tasks, self._memory), dict[Any, int]()
        results = _distributed().as_completed(loop=self._client.loop)
        shared = self._submit(_itself, function)
        try:
            self._client.replicate([shared])  # lest tasks queue where it is
            while queue.left:
                self._fill(queue, running, tasks, shared, results)
                future = next(results)
                place = running.pop(future)
                queue.end(place)
                yield place, self._made(future, tasks[place])
        finally:
            self._client.cancel([*running, shared])

    def _fill(
        self,
        queue: Queue,
        running: dict[Any, int],
        tasks: Sequence[Task],
        shared: Any,
        results: Any,
    ) -> None:
        """Send a task for each thread, if they fit: with more, those that wait die with others."""
        most = max(sum(self._client.nthreads().values()), 1)
        while (place := queue.begin(most)) is not None:
            future = self._submit(answered, shared, tasks[place].item, limits.limit())
            running[future] = place
            results.add(future)

    def _submit(self, function: Callable[..., Any], *given: Any) -> Any:
        with _dask().config.set({"distributed.admin.large-graph-warning-threshold": "1 PiB"}):
            return self._client.submit(function, *given, pure=False)

    def _made(self, future: Any, task: Task) -> Any:
        try:
            answer = future.result()
        except Exception as error:  # what the function raises is in the answer
            raise Lost(f"{task.name}: lost by {self._named}: {_line(error)}") from error
        return answer.opened()


def _distributed() -> Any:
    try:
        import distributed  # noqa: PLC0415 - takes a second
    except ImportError:
        raise MissingExtra("--scheduler", "dask") from None
    return distributed


def _dask() -> Any:
    import dask  # noqa: PLC0415 - as above, and it comes with that

    return dask


def _asked(address: str) -> None:
    """Ask what is at ``address`` whether it is a scheduler, and do not wait long."""
    import asyncio  # noqa: PLC0415 - takes longer than all else here, and few have a cluster

    asyncio.run(asyncio.wait_for(_identity(address), _CONNECTS))


async def _identity(address: str) -> None:
    """Ask a scheduler whether it is one: ``Client`` waits long for anything else."""
    async with _distributed().rpc(address, timeout=_CONNECTS) as scheduler:
        kind = (await scheduler.identity())["type"]
    if kind != "Scheduler":
        raise ValueError(f"it is no scheduler, but a {kind}")


def _versions() -> dict[str, str]:
    """What makes numbers here."""
    return {"Python": platform.python_version()} | {name: version(name) for name in _ALIKE}


def _itself(thing: _Item) -> _Item:
    return thing


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
