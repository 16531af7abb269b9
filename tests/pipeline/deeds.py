"""What tests have done by other processes."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from threadpoolctl import ThreadpoolController

from redir.errors import MissingExtra, Skipped
from redir.ir import Graph, limits
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array


def same(thing: Any) -> Any:
    return thing


def pid(_: object) -> int:
    return os.getpid()


def first(array: Array) -> float:
    return float(array.reshape(-1)[0])


def refused(number: int) -> int:
    if number == 1:
        raise MissingExtra("a deed", "deeds")
    return number


def warned(number: int) -> int:
    warnings.warn(f"{number} is skipped", Skipped, stacklevel=1)
    return number


def limit(_: object) -> int:
    return limits.limit()


def threads(_: object) -> tuple[str | None, str | None]:
    return os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS")


def unpicklable(_: object) -> Any:
    return threading.Lock()


def run_for_long(graph: Graph) -> Any:
    with patch.object(limits, "STEPS", 300):
        return evaluate(graph, {"x": np.ones(2, np.float32)})


def called(deed: Callable[[], Any]) -> Any:
    return deed()


def blas_threads(_: object) -> set[int]:
    return {library["num_threads"] for library in ThreadpoolController().info()}


def dying(given: tuple[Path, int]) -> int:
    """Die as often as it says, unless the folder says that that is done."""
    folder, times = given
    if len(list(folder.iterdir())) < times:
        (folder / str(time.monotonic_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return times


def together(folder: Path) -> int:
    """How many are here at once, this one counted."""
    mark = folder / str(time.monotonic_ns())
    mark.touch()
    time.sleep(0.2)
    found = len(list(folder.iterdir()))
    mark.unlink()
    return found


def noted(given: tuple[Path, str]) -> str:
    """Say in a folder that it was here, then take a while."""
    folder, name = given
    (folder / f"{name}-{time.monotonic_ns()}").touch()
    time.sleep(1)
    return name


def hears(_: object) -> bool:
    """Whether Ctrl-C raises here what it does anywhere."""
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return not blocked and signal.getsignal(signal.SIGINT) is signal.default_int_handler
