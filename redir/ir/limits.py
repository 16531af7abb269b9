"""How much a file may make redir ask for: memory in proportion to its size, and steps of loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from math import prod
from typing import TYPE_CHECKING

from redir.errors import OutOfSteps, TooLarge

if TYPE_CHECKING:
    from redir.ir.tensor import Type

FLOOR = 2**30  # bytes that any file may ask for
TIMES = 16  # what a larger one may ask for, in times of its own size
STEPS = 50_000  # operators run in the bodies of loops, which take about half a minute

_limit: ContextVar[int] = ContextVar("limit", default=FLOOR)
_steps: ContextVar[list[int] | None] = ContextVar("steps", default=None)


def limit() -> int:
    """The bytes that may be asked for."""
    return _limit.get()


@contextmanager
def allowing(nbytes: int) -> Iterator[None]:
    """Let what happens in the block ask for so many bytes, if it might not already."""
    token = _limit.set(max(nbytes, _limit.get()))
    try:
        yield
    finally:
        _limit.reset(token)


def following(size: int) -> AbstractContextManager[None]:
    """``allowing`` what is in proportion to a file, or to constants, of ``size`` bytes."""
    return allowing(TIMES * size)


def ask(nbytes: int, what: str) -> None:
    """Ask for memory, before it is taken.

    Raises:
        TooLarge: it is more than the limit.
    """
    if nbytes > limit():
        raise TooLarge(
            f"{what} needs {readable(nbytes)}, above the limit of {readable(limit())} "
            "(--max-bytes raises it)"
        )


def readable(nbytes: int) -> str:
    """A number of bytes for people: ``1.5 GiB``."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if nbytes >= size:
            return f"{nbytes / size:,.1f} {unit}" if nbytes < 2**60 else "over 2^60 bytes"
    return f"{nbytes:,} bytes"


def nbytes(type_: Type) -> int:
    """The bytes that an array of ``type_`` takes, 0 where its shape is not known."""
    return 0 if type_.static is None else prod(type_.static) * type_.dtype.itemsize


@contextmanager
def counting() -> Iterator[None]:
    """Count the steps of loops from here on, all those in the block together."""
    if _steps.get() is not None:
        yield
        return
    token = _steps.set([STEPS])
    try:
        yield
    finally:
        _steps.reset(token)


def step(operators: int) -> None:
    """Say that so many operators are about to be run in a body.

    Raises:
        OutOfSteps: it is more than the limit.
    """
    left = _steps.get()
    if left is not None:
        left[0] -= operators + 1
        if left[0] < 0:
            raise OutOfSteps(f"the loops of the model run for more than {STEPS:,} steps")
