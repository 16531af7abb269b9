"""Numbers that stay in their file until they are used."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from operator import mul
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from redir.errors import BadInput

_Found = TypeVar("_Found")

_SMALL = 2**16  # bytes that are not worth a map of their own


class HeldFile:
    """A file that is kept open, so that it can be read even when another takes its name."""

    def __init__(self, path: Path, *, beside: bool = True) -> None:
        """Open ``path``, which is the model itself, or lies ``beside`` it.

        Raises:
            OSError: it cannot be read.
        """
        self.path, self.beside = path, beside
        self.facts = dict[Hashable, Any]()  # about its bytes, each found out once
        self._number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._number)
        self._state = self._now()

    def _now(self) -> tuple[int, int]:
        found = os.fstat(self._number)
        return found.st_size, found.st_mtime_ns

    def mapped(self, start: int, end: int) -> tuple[_Map, int]:
        """The bytes from ``start`` to ``end``, behind so many others that the map begins with.

        Raises:
            BadInput: the file has changed since it was opened.
        """
        if self._now() != self._state:
            raise BadInput(f"{self.path} has changed while redir reads from it")
        extra = start % mmap.ALLOCATIONGRANULARITY
        begin = start - extra
        held = _Map(self._number, end - begin, offset=begin, access=mmap.ACCESS_READ)
        held.file, held.begin = self, begin
        return held, extra


class _Map(mmap.mmap):
    """A part of a file in memory, which knows where it begins in which."""

    file: HeldFile
    begin: int


@dataclass(frozen=True, eq=False)
class Mapped:
    """Where the numbers of a tensor lie in ``file``, those along each axis so many bytes apart.

    Each array of them takes memory as it is looked at, and gives it back when it is dropped.
    """

    file: HeldFile
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Mapped | None:
        """Where an array lies in a file, if it is a view of what was mapped from one."""
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if not isinstance(base, _Map) or not array.size:
            return None
        start = np.frombuffer(base, np.uint8).ctypes.data
        offset = base.begin + array.ctypes.data - start
        return cls(base.file, offset, array.dtype, array.shape, array.strides)

    @property
    def nbytes(self) -> int:
        """The bytes of an array of the numbers."""
        return prod(self.shape) * self.dtype.itemsize

    def fact(self, name: str, found: Callable[[], _Found]) -> _Found:
        """What is ``found`` of the numbers, in whatever order: once for all that holds the same."""
        if not self._is_whole:
            return found()
        key = name, self.dtype, self.offset + self._reach[0], self.nbytes
        if key not in self.file.facts:
            self.file.facts[key] = found()
        known: _Found = self.file.facts[key]
        return known

    def array(self) -> npt.NDArray[Any]:
        """The numbers, which cannot be written to. Few of them stay in memory once they were read.

        Raises:
            BadInput: the file has changed since it was opened.
        """
        return self._mapped() if self.nbytes > _SMALL else self._few

    @cached_property
    def _few(self) -> npt.NDArray[Any]:
        few = self._mapped().copy()
        few.setflags(write=False)
        return few

    @cached_property
    def _is_whole(self) -> bool:
        """Whether the numbers lie side by side, in the order of some of the axes."""
        strides = () if self.strides is None else map(abs, self.strides)
        axes = sorted(pair for pair in zip(strides, self.shape, strict=False) if pair[1] != 1)
        ends = accumulate((size for _, size in axes), mul, initial=self.dtype.itemsize)
        return all(stride == end for (stride, _), end in zip(axes, ends, strict=False))

    @cached_property
    def _reach(self) -> tuple[int, int]:
        """Where the numbers begin and end, in bytes from ``offset`` on."""
        if self.strides is None:
            return 0, self.nbytes
        reach = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        low = sum(min(r, 0) for r in reach)
        return low, sum(max(r, 0) for r in reach) + self.dtype.itemsize

    def _mapped(self) -> npt.NDArray[Any]:
        low, high = self._reach
        held, extra = self.file.mapped(self.offset + low, self.offset + high)
        return np.ndarray(self.shape, self.dtype, held, extra - low, self.strides)
