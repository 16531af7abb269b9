"""Whole numbers from files: which entries of a table stay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from redir.errors import BadInput
from redir.ir.tensor import Array


def read(path: str | Path) -> Array:
    """The whole numbers in a file, in ascending order: int64 (count,).

    An ``.npy`` file holds a vector of them, a ``.json`` file a list, any other file text in which
    spaces, commas or line ends are between.

    Raises:
        BadInput: the file is missing or damaged, holds something else or nothing, a number below 0,
            or one twice.
    """
    path = Path(path)
    try:
        held = _READERS.get(path.suffix, _text)(path)
        array = np.asarray(held)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError, RecursionError):
        raise BadInput(f"{path}: not a file of whole numbers, or a damaged one") from None
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise BadInput(f"{path}: expected some whole numbers, each once")
    return _ascending(path, array)


def _ascending(path: Path, array: Array) -> Array:
    ids, counts = np.unique(array, return_counts=True)
    if ids[0] < 0 or ids[-1] > np.iinfo(np.int64).max:
        raise BadInput(f"{path}: {ids[0] if ids[0] < 0 else ids[-1]} is no id")
    if counts.max() > 1:
        raise BadInput(f"{path}: {ids[counts.argmax()]} is there {counts.max()} times")
    return ids.astype(np.int64)


def _numpy(path: Path) -> object:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _json(path: Path) -> object:
    held = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(held, list) or not all(type(number) is int for number in held):
        raise ValueError("no list of whole numbers")
    return held


def _text(path: Path) -> object:
    words = path.read_text(encoding="utf-8").replace(",", " ").split()
    return [int(word) for word in words]


_READERS = {".npy": _numpy, ".json": _json}
