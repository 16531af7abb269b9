"""Ending on a signal: with one line, and with nothing half-written."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_GRACE = 1.0  # seconds in which Python may end by itself, before a call that it waits for is left


class Stopped(BaseException):
    """A signal asks the process to end; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        """Say which signal it was."""
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class _State:
    busy = 0  # blocks that are not to be disturbed
    waiting: int | None = None  # the signal that came meanwhile
    ending = False  # a first signal is being obeyed, which further ones must not disturb


_state = _State()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals that ``stoppable`` awaits until the block ends: it is done, or not begun."""
    _state.busy += 1
    try:
        yield
    finally:
        _state.busy -= 1
        if not _state.busy and _state.waiting is not None:
            number, _state.waiting = _state.waiting, None
            _raise(number, None)


@contextmanager
def stoppable(leave: Callable[[Stopped], object]) -> Iterator[None]:
    """Raise ``Stopped`` in the block when the user or the system wants the process to end.

    A call into a library that takes long, such as a run of a model, is not waited for: then
    ``leave`` is called to clean up, and the process ends. Only the main thread hears of signals;
    in any other the block just runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, written = socket.socketpair()
    written.setblocking(False)  # noqa: FBT003 - the library names it so
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(heard, done, leave), daemon=True)
    _state.ending = False
    heeded = [n for n in _SIGNALS if signal.getsignal(n) not in {signal.SIG_IGN, None}]
    before = {number: signal.signal(number, _raise) for number in heeded}
    fd = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        written.close()
        watcher.join()
        heard.close()


def _raise(number: int, _: object) -> None:
    if _state.busy:
        _state.waiting = number
    elif not _state.ending:
        _state.ending = True
        raise Stopped(number)


def _watch(heard: socket.socket, done: threading.Event, leave: Callable[[Stopped], object]) -> None:
    """Wait for a signal, then for the main thread, which may be in a call that does not end."""
    while received := heard.recv(1):
        if received[0] in _SIGNALS and not done.wait(_GRACE):
            stopped = Stopped(received[0])
            leave(stopped)
            os._exit(128 + stopped.number)
