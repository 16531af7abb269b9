"""Loaded by the server that forks workers, which Ctrl-C shall not end while it loads.

It is started with SIGINT blocked. Its children are not all ours: each is given what it would have
had, and a worker then ignores the signal by itself.
"""

from __future__ import annotations

import os
import signal

_SERVER = os.getpid()


def _unblock() -> None:
    if os.getppid() == _SERVER:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


os.register_at_fork(after_in_child=_unblock)
