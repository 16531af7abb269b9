"""Images from a folder or a zip archive, decoded one at a time."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from redir.errors import BadInput, MissingExtra, Skipped, visible

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

try:
    from PIL import Image
except ImportError:  # the extra is optional
    if not TYPE_CHECKING:
        Image = None

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # no others: some decoders run programs
_LARGEST = 2**26  # bytes of a file
_TRIES = 4  # files that are tried, for each image that is wanted

File = tuple[str, Callable[[], bytes]]
"""The name of a file, and what reads it."""


@dataclass
class Album:
    """The images in a folder and those below it, or in a zip archive, of which nothing is unpacked.

    ``skipped`` names what was no image, or one that cannot be read, with the reason.
    """

    path: str
    skipped: list[str] = field(default_factory=list)

    def images(self, count: int, seed: int, mode: str) -> Iterator[Picture]:
        """Images in a ``mode`` of Pillow's, ``count`` at most, drawn by ``seed``: no other is read.

        Raises:
            BadInput: there is none.
            MissingExtra: Pillow is not installed.

        Warns:
            Skipped: files are none.
        """
        if Image is None:
            raise MissingExtra("reading images", "images")
        if Path(self.path).is_dir():
            yield from self._some(list(_in_folder(Path(self.path))), count, seed, mode)
            return
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield from self._some(list(_in_archive(archive)), count, seed, mode)
        except OSError as error:
            raise BadInput(f"{self.path}: {error.strerror or error}") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            raise BadInput(f"{self.path}: not a zip archive, or a damaged one") from None

    def _some(self, files: Sequence[File], count: int, seed: int, mode: str) -> Iterator[Picture]:
        named = sorted(files, key=lambda file: file[0])
        usable = [file for file in named if file[0].lower().endswith(_ENDINGS)]
        others = [name for name, _ in named if not name.lower().endswith(_ENDINGS)]
        self.skipped += [f"{name} (of another kind)" for name in others]
        order, found = np.random.default_rng(seed).permutation(len(usable)), 0
        for place in order[: _TRIES * count]:
            name, read = usable[place]
            image = self._decoded(name, read, mode)
            if image is not None:
                yield image
                found += 1
            if found == count:
                break
        if not found:
            why = [f"; of {len(named)} files the first is {name}" for name in self.skipped[:1]]
            raise BadInput(f"{self.path}: no image ({', '.join(_ENDINGS)}){''.join(why)}")
        self._tell(len(named))

    def _decoded(self, name: str, read: Callable[[], bytes], mode: str) -> Picture | None:
        """An image, if the file is one: whatever the decoder meets in it, it is only skipped."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(read()), formats=_FORMATS) as image:
                    return image.convert(mode)
        except Exception as error:  # noqa: BLE001 - of many kinds, in a file that is broken
            self.skipped.append(f"{name} ({_reason(error)})")
            return None

    def _tell(self, count: int) -> None:
        if self.skipped:
            first = visible(self.skipped[0])
            text = f"{self.path}: {len(self.skipped)} of {count} files skipped, first {first}"
            warnings.warn(text, Skipped, stacklevel=2)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too large"
    return str(error) if isinstance(error, BadInput) else "broken, or no image"


def _in_folder(path: Path) -> Iterator[File]:
    for folder, _, names in os.walk(path):
        for name in names:
            if not name.startswith("."):
                file = Path(folder, name)
                yield file.relative_to(path).as_posix(), _reading(file)


def _reading(file: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        if not file.is_file():  # a pipe would never end
            raise BadInput("no regular file")
        with file.open("rb") as stream:
            return _bounded(stream.read(_LARGEST + 1))

    return read


def _in_archive(archive: zipfile.ZipFile) -> Iterator[File]:
    for info in archive.infolist():
        if not info.is_dir() and not info.filename.rpartition("/")[2].startswith("."):
            yield info.filename, _unpacking(archive, info)


def _unpacking(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with archive.open(info) as stream:
            return _bounded(stream.read(_LARGEST + 1))

    return read


def _bounded(data: bytes) -> bytes:
    """The content of a file that is not too large."""
    if len(data) > _LARGEST:
        raise BadInput("too large")
    return data
