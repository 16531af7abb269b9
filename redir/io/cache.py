"""What redir keeps in the user's cache folder, and may lose at any time."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redir.atomic import replacing
from redir.errors import BadInput, TooLarge
from redir.io import arrays
from redir.ir.tensor import Array


def cache_folder() -> Path:
    """Where redir keeps what it may lose: ``REDIR_CACHE``, or the user's folder for caches."""
    if given := os.environ.get("REDIR_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData/Local") / "redir"
    if sys.platform == "darwin":
        return _home() / "Library/Caches/redir"
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "redir"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # there is none, and so no cache: nothing is below a file
        return Path(os.devnull)


@dataclass(frozen=True)
class Bank:
    """Arrays by key, in a file each, which together take at most so many bytes.

    What cannot be read or written is as good as not there.
    """

    folder: Path
    most: int = 2**30

    def read(self, key: str) -> dict[str, Array] | None:
        """The arrays under ``key``, if there are any."""
        path = self._path(key)
        try:
            found = arrays.read(path)
            os.utime(path)  # what is used is dropped last
        except (OSError, BadInput, TooLarge):
            return None
        return found

    def write(self, key: str, held: Mapping[str, Array]) -> None:
        """Keep arrays under ``key``, and drop what was not used for longest, if need be."""
        if sum(array.nbytes for array in held.values()) > self.most:
            return
        with suppress(OSError, BadInput):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(key)) as (file,):
                np.savez(file, **held)  # type: ignore[arg-type]
            self._drop()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _drop(self) -> None:
        files = [(path, path.stat()) for path in self.folder.iterdir()]
        files.sort(key=lambda file: file[1].st_mtime_ns, reverse=True)
        sizes = np.cumsum([stat.st_size for _, stat in files])
        for (path, _), total in zip(files, sizes, strict=True):
            if total > self.most:
                path.unlink(missing_ok=True)
