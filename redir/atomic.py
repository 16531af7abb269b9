"""Writing files so that a reader sees the old one or the whole new one, whatever signal comes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from redir.errors import BadInput

_temporary: set[Path] = set()  # files and folders that go, however the process ends


class Stopped(BaseException):
    """A signal asks the process to end; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        """Say which signal it was."""
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class _State:
    busy = 0  # blocks that are not to be disturbed
    waiting: int | None = None  # the signal that came meanwhile
    ending = False  # a first signal is being obeyed, which further ones must not disturb


_state = _State()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals that ``stop`` obeys until the block ends: it is done, or not begun."""
    _state.busy += 1
    try:
        yield
    finally:
        _state.busy -= 1
        if not _state.busy and _state.waiting is not None:
            number, _state.waiting = _state.waiting, None
            stop(number)


def heed() -> None:
    """Begin to heed signals: the next one is the first."""
    _state.ending = False


def stop(number: int, _: object = None) -> None:
    """Obey a signal, as its handler: now, or when what is not to be disturbed is done.

    Raises:
        Stopped: it is the first one, and comes at a time when it may.
    """
    if _state.busy:
        _state.waiting = number
    elif not _state.ending:
        _state.ending = True
        raise Stopped(number)


@contextmanager
def replacing(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Open a temporary file for each of ``paths``, which take their content if the block succeeds.

    A symbolic link is followed, and a file that is replaced keeps its permissions. What is no
    regular file, such as a pipe, a device or ``/dev/stdout``, is written to and stays.

    Raises:
        BadInput: a folder does not exist or cannot be written to, or the disk is full.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(_beside(path)) for path in paths]
        with _saying(paths[-1]):
            yield files
        for file, path in zip(files, paths, strict=True):
            with _saying(path):
                file.flush()
        with undisturbed():  # all of them, or none
            for file, path in zip(files, paths, strict=True):
                with _saying(path):
                    _put(Path(file.name), path)


def probe(path: Path) -> None:
    """Check that ``path`` can be written, before the work that would be lost.

    Raises:
        BadInput: it cannot.
    """
    if is_stream(path):
        return
    with _beside(path):
        pass


def is_stream(path: Path) -> bool:
    """Whether ``path`` is written to and never replaced: a pipe, a device, a standard stream."""
    try:
        mode = path.stat().st_mode  # which finds links that lead to themselves
        hop = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the last link
        while hop.is_symlink():
            if hop.parts[1:2] in {("dev",), ("proc",)}:
                return True
            hop = hop.parent.resolve() / hop.readlink()
    except (OSError, ValueError, RuntimeError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def temporary_folder(inside: Path | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards, also if a signal ends the process."""
    with undisturbed():
        folder = Path(tempfile.mkdtemp(prefix="redir-", dir=inside))
        _temporary.add(folder)
    try:
        yield folder
    finally:
        _discard(folder)


def discard_all() -> None:
    """Remove what is temporary: for a process that is about to end in the middle of its work."""
    for path in list(_temporary):
        _discard(path)


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    _temporary.discard(path)


@contextmanager
def _saying(path: Path) -> Iterator[None]:
    """Say which file could not be written, for an error in the middle of one names none."""
    try:
        yield
    except OSError as error:
        if error.filename not in {None, str(path)}:
            raise
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    """A temporary file in the folder of what ``path`` leads to, or for a stream in that of all."""
    file = _opened(path)
    try:
        yield file
    finally:
        with suppress(OSError):  # what is left of a full disk's file does not matter
            file.close()
        _discard(Path(file.name))


def _opened(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        folder = None if is_stream(path) else _target(path).parent
        with undisturbed():
            file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - _beside closes it
                dir=folder, prefix=".redir-", delete=False
            )
            _temporary.add(Path(file.name))
    except (OSError, RuntimeError) as error:  # the latter of links that lead to themselves
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"cannot write {path}: {reason}") from None
    except ValueError:
        raise BadInput(f"cannot write {str(path)!r}: a name holds no NUL") from None
    return file  # type: ignore[return-value]


def _target(path: Path) -> Path:
    """What a path leads to.

    Raises:
        OSError: links lead to themselves; before Python 3.13 that is a RuntimeError.
    """
    found = path.resolve()
    if found.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return found


def _put(made: Path, path: Path) -> None:
    """Give ``path`` the content of the file ``made``."""
    if is_stream(path):
        with made.open("rb") as source, path.open("ab") as target:
            shutil.copyfileobj(source, target)
        return
    path = _target(path)
    made.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask())
    made.replace(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
