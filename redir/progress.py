"""How far a long run is, told to whoever wants to hear it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

__all__ = ["Level", "heard", "progress"]

_Item = TypeVar("_Item")


class Level(NamedTuple):
    """Of ``what``, so many of ``total`` are ``done``; where ``alike``, each takes about as long."""

    what: str
    done: int
    total: int
    alike: bool = True


Levels = tuple[Level, ...]
Hear = Callable[[Levels], object]
"""Is told what runs, the whole before its parts; nothing where all is done."""

_hear: ContextVar[Hear | None] = ContextVar("hear", default=None)
_levels: ContextVar[Levels] = ContextVar("levels", default=())


@contextmanager
def heard(hear: Hear) -> Iterator[None]:
    """Tell ``hear`` how far what runs in the block is."""
    before, levels = _hear.set(hear), _levels.set(())
    try:
        yield
    finally:
        _hear.reset(before)
        _levels.reset(levels)
        hear(())


def progress(items: Collection[_Item], what: str, *, alike: bool = True) -> Iterator[_Item]:
    """The items, one after the other, saying how far it is with them.

    Where they are ``alike``, each is expected to take about as long as those before it.
    """
    hear, above = _hear.get(), _levels.get()
    if hear is None:
        yield from items
        return
    try:
        for done, item in enumerate(items):
            _levels.set((*above, Level(what, done, len(items), alike)))
            hear(_levels.get())
            yield item
    finally:
        _levels.set(above)
        hear(above)
