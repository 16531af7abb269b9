"""Writing files so that a reader sees the old one or the whole new one, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from redir.errors import BadInput


@contextmanager
def replacing(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Open a temporary file beside each of ``paths``; rename them all if the block succeeds.

    Raises:
        BadInput: a folder does not exist or cannot be written to.
    """
    files: list[BinaryIO] = []
    try:
        files.extend(map(_beside, paths))
        yield files
        for file, path in zip(files, paths, strict=True):
            file.close()
            Path(file.name).chmod(0o666 & ~_umask())
            Path(file.name).replace(path)
    finally:
        for file in files:
            file.close()
            Path(file.name).unlink(missing_ok=True)


def _beside(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        return tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)  # type: ignore[return-value]
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
