"""How a task is done in another process, and what comes back of it."""

from __future__ import annotations

import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redir.ir import limits
from redir.tasks import called

_alone = threading.Lock()  # warnings and threads are those of the process


@dataclass(frozen=True)
class Answer:
    """What a task ``made``, or its ``error``; and what it warned of: message, kind, file, line."""

    made: Any
    error: Exception | None = None
    warned: tuple[tuple[Warning | str, type[Warning], str, int], ...] = ()

    def opened(self) -> Any:
        """What was made, with the warnings and the error as if it had been made here."""
        for message, kind, file, line in self.warned:
            warnings.warn_explicit(message, kind, file, line)
        if self.error is not None:
            raise self.error
        return self.made


def answered(function: Callable[[Any], Any], item: Any, most: int) -> Answer:
    """What a function makes of an item, where it may ask for ``most`` bytes."""
    made, error = None, None
    with _alone, limits.allowing(most), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")  # who asked for it decides
        try:
            made = called(function, item)
        except Exception as raised:  # noqa: BLE001 - it is raised there
            error = told(raised)
    return Answer(made, error, tuple((w.message, w.category, w.filename, w.lineno) for w in warned))


def told(error: Exception) -> Exception:
    """An error with a note that says where it was raised, since a traceback does not travel."""
    error.add_note("".join(traceback.format_exception(error)))
    return error
