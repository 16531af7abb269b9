"""Memory that is free, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def give_back() -> None:
    """Give back what the C library keeps of arrays that are gone, where it can be asked to.

    It keeps those of a few megabytes, of which layers have hundreds. What is asked for next finds
    pages in no order that suits it, so that ever more is kept.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # not every C library has it
            ctypes.CDLL(None).malloc_trim(0)
