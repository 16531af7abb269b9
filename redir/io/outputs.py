"""Refusing outputs that cannot be written, or that would replace what is read."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from importlib.util import find_spec
from pathlib import Path

from redir.atomic import probe
from redir.errors import BadInput, MissingExtra
from redir.io import models


def check(read: AbstractSet[Path], out: str, report: str | None = None) -> None:
    """Check the model ``out`` and the ``report`` beside it against the files that are ``read``.

    Either may be ``-``, standard output.

    Raises:
        BadInput: a folder is missing or read-only, or a file of the input or of the other output
            would be replaced.
        MissingExtra: ``out`` ends in .py, and a package that writing it needs is missing.
    """
    files = set() if out == "-" else models.written(out)
    if files:
        _check(out, files, read)
    if report is not None and report != "-":
        _check(report, {Path(report)}, read)
        if Path(report).resolve() in {file.resolve() for file in files}:
            raise BadInput(f"{report}: the report and the output are one file")
    if Path(out).suffix == ".py" and find_spec("safetensors") is None:
        raise MissingExtra("writing PyTorch", "torch")


def _check(path: str, written: AbstractSet[Path], read: AbstractSet[Path]) -> None:
    if not Path(path).parent.is_dir():
        raise BadInput(f"{path}: the folder {Path(path).parent} does not exist")
    if Path(path).is_dir():
        raise BadInput(f"{path} is a folder")
    probe(Path(path))
    for new in sorted(written):
        if new.exists() and any(new.samefile(old) for old in read if old.exists()):
            raise BadInput(f"{new}: it is the input, or a part of it; choose another name")


def check_ending(out: str) -> None:
    """Refuse a model's name that says nothing of its format.

    Raises:
        BadInput: it ends in none of .onnx, .py and .redir.
    """
    if out != "-" and Path(out).suffix not in models.WRITERS:
        raise BadInput(f"{out}: expected an output that ends in .onnx, .py or .redir")
