"""Ending on a signal, also in the middle of a call that takes long."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redir.atomic import Stopped, heed, stop

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_GRACE = 1.0  # seconds in which Python may end by itself, before a call that it waits for is left


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
    heed()
    heeded = [n for n in _SIGNALS if signal.getsignal(n) not in {signal.SIG_IGN, None}]
    before = {number: signal.signal(number, stop) for number in heeded}
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


def _watch(heard: socket.socket, done: threading.Event, leave: Callable[[Stopped], object]) -> None:
    """Wait for a signal, then for the main thread, which may be in a call that does not end."""
    while received := heard.recv(1):
        if received[0] in _SIGNALS and not done.wait(_GRACE):
            stopped = Stopped(received[0])
            leave(stopped)
            os._exit(128 + stopped.number)
