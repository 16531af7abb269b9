"""What goes from process to process: pickled, large arrays in files that both map."""

from __future__ import annotations

import io
import mmap
import pickle
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from redir.ir.tensor import Array, DType

_LARGE = 2**15  # bytes of an array, or of all that is pickled, that are worth a file
_STEP = 64  # bytes: arrays begin at multiples of it


@dataclass(frozen=True)
class Parcel:
    """Something pickled: all in ``data``, or in ``parts`` of a ``file``, arrays behind the rest."""

    data: bytes
    file: Path | None = None
    parts: tuple[tuple[int, int], ...] = ()

    def opened(self) -> Any:
        """What was packed. Its large arrays are mapped from the file and may not be written to."""
        if self.file is None:
            return pickle.loads(self.data)  # noqa: S301 - one of our own processes made it
        with self.file.open("rb") as file:
            held = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        data, *arrays = (held[begin:end] for begin, end in self.parts)
        return pickle.loads(data, buffers=arrays)  # noqa: S301 - as above

    def discard(self) -> None:
        """Remove the file, if there is one. What is open stays."""
        if self.file is not None:
            with suppress(OSError):  # where open files cannot be removed, it goes with the folder
                self.file.unlink(missing_ok=True)


def packed(thing: Any, folder: Path) -> Parcel:
    """``thing`` for another process, in a file of ``folder`` if it is large."""
    arrays: list[memoryview] = []

    def apart(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        is_small = raw.nbytes < _LARGE
        arrays.extend([] if is_small else [raw])
        return is_small

    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL, buffer_callback=apart).dump(thing)
    if not arrays and stream.tell() < _LARGE:
        return Parcel(stream.getvalue())
    return _written([stream.getbuffer(), *arrays], folder)


def _written(parts: Sequence[memoryview], folder: Path) -> Parcel:
    places = []
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        for part in parts:
            file.seek(-(-file.tell() // _STEP) * _STEP)
            places.append((file.tell(), file.tell() + part.nbytes))
            file.write(part)
    return Parcel(b"", Path(file.name), tuple(places))


class _Pickler(pickle.Pickler):
    """Pickles arrays apart that numpy does not: those of a file, and of types of other packages."""

    def reducer_override(self, thing: Any) -> Any:
        if not isinstance(thing, np.ndarray) or thing.dtype.hasobject:
            return NotImplemented
        if isinstance(thing, np.memmap) or thing.dtype.kind == "V":
            flat = np.ascontiguousarray(thing).reshape(-1).view(np.uint8)
            return _array, (flat.view(np.ndarray), thing.dtype, thing.shape)
        return NotImplemented


def _array(flat: Array, dtype: DType, shape: tuple[int, ...]) -> Array:
    return flat.view(dtype).reshape(shape)
