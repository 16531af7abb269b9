"""Reading and writing models by the ending of their names."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from redir import arrays, text
from redir.backends import onnx as onnx_backend
from redir.errors import BadInput, RedirError
from redir.files import replacing
from redir.frontends import onnx as onnx_frontend
from redir.ir import Graph
from redir.tensor import Array, Tensor, TensorType

if TYPE_CHECKING:
    from redir.frontends.onnx import Overridable


def load(path: str | os.PathLike[str], *, overridable_initializers: Overridable = "input") -> Graph:
    """Read a model: ``.onnx`` with its external data, or ``.redir``, the textual form.

    ``overridable_initializers="constant"`` takes initializers that are inputs too for constants.

    Raises:
        BadInput: the file is missing, damaged or of no kind that redir reads.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return onnx_frontend.load(path, overridable_initializers=overridable_initializers)
    if path.suffix == ".redir":
        return _load_text(path)
    raise BadInput(f"{path}: expected a model that ends in .onnx or .redir")


def files(graph: Graph, path: str | os.PathLike[str]) -> set[Path]:
    """The files that ``graph`` was read from: the model at ``path`` and what lies beside it."""
    read = {Path(path), _beside(Path(path))} if Path(path).suffix == ".redir" else {Path(path)}
    return read | {Path(t.file) for t in text.tensors(graph) if t.file}


def written(path: str | os.PathLike[str]) -> set[Path]:
    """The files that saving to ``path`` may write."""
    path = Path(path)
    return {path, _beside(path) if path.suffix == ".redir" else onnx_backend.beside(path)}


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a model: ``.onnx``, or ``.redir`` with its tensors in ``.redir.npz`` beside it.

    The file is replaced as a whole or not at all.

    Raises:
        BadInput: the folder is missing, or the ending is none that redir writes.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise BadInput(f"{path}: expected an output that ends in .onnx or .redir")
    WRITERS[path.suffix](graph, path)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".npz")


def _load_text(path: Path) -> Graph:
    try:
        source = path.read_text(encoding="utf-8")
        return text.parse(source, _finder(_beside(path)))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a text file") from None
    except RedirError as error:
        raise type(error)(f"{path}: {error}") from None


def _finder(path: Path) -> text.Find:
    bank: dict[str, Array] = {}

    def find(digest: str, type_: TensorType) -> Array:
        where = f"tensor {digest[:12]} in {path.name}"
        if not bank:
            bank.update(arrays.read(path) if path.exists() else {})
        try:
            array: Array = bank[digest].view(type_.dtype).reshape(type_.static or ())
        except KeyError:
            raise BadInput(f"{where} is missing") from None
        except (ValueError, TypeError):
            raise BadInput(f"{where} is of another size") from None
        if Tensor(array).digest != digest:
            raise BadInput(f"{where} holds something else")
        return array

    return find


def _save_text(graph: Graph, path: Path) -> None:
    """Each tensor as its bytes, for numpy has no name for some element types."""
    bank = {
        t.digest: np.frombuffer(t.array.tobytes(), np.uint8)
        for t in text.tensors(graph)
        if not t.is_spelled
    }
    with replacing(_beside(path), path) as (beside, file):
        _write_npz(beside, bank)
        file.write(str(graph).encode())


def _write_npz(file: BinaryIO, bank: Mapping[str, Array]) -> None:
    """An npz whose bytes depend on its content alone: no dates, in order."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in sorted(bank.items()):
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())


WRITERS: Mapping[str, Callable[[Graph, Path], None]] = {
    ".onnx": onnx_backend.save,
    ".redir": _save_text,
}
