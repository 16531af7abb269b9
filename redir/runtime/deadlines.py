"""What takes too long is told so: one thread looks after all that runs.

To start a thread for each run takes as long as a small model, and where there is more to do than
there are cores, it waits for its turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK = 0.05  # seconds after which it is looked again

_due: dict[object, tuple[float, Callable[[], object]]] = {}
_begun = threading.Event()
_watch: threading.Thread | None = None


@contextmanager
def ending_at(deadline: float, end: Callable[[], object]) -> Iterator[None]:
    """Call ``end`` from another thread if the block still runs at a ``deadline``.

    That is a time of ``time.monotonic``, and may be missed by a moment.
    """
    key = object()
    _due[key] = deadline, end
    _watched()
    try:
        yield
    finally:
        _due.pop(key, None)


def _watched() -> None:
    """Let a thread look: a new one where none does yet, also in a process that was forked."""
    global _watch  # noqa: PLW0603 - there is one for all
    if _watch is None or not _watch.is_alive():
        _watch = threading.Thread(target=_look, name="redir deadlines", daemon=True)
        _watch.start()
    _begun.set()


def _look() -> None:
    while _begun.wait():
        time.sleep(_LOOK)
        for key, (deadline, end) in list(_due.items()):
            if time.monotonic() >= deadline:
                _due.pop(key, None)
                end()
        _begun.clear()
        if _due:  # also what began just now
            _begun.set()
