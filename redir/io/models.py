"""Reading and writing models by the ending of their names."""

from __future__ import annotations

import importlib
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from redir import text
from redir.atomic import replacing
from redir.backends import onnx as onnx_backend
from redir.errors import BadInput, RedirError
from redir.frontends import onnx as onnx_frontend
from redir.io import arrays, plugins
from redir.ir import Graph, expect_graph, limits
from redir.ir.printer import show
from redir.ir.tensor import Array, Tensor, TensorType

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from redir.frontends.onnx import Overridable


def load(
    path: str | os.PathLike[str] | onnx.ModelProto,
    *,
    overridable_initializers: Overridable = "input",
) -> Graph:
    """Read a model: ``.onnx`` with its external data, ``.pt2``, or ``.redir``, the textual form.

    A model in memory, an ``onnx.ModelProto`` or a ``torch.export.ExportedProgram``, is read too.

    ``package.module:factory`` names a callable that gives a PyTorch module and its example inputs:
    what ``from_torch`` takes, in a tuple. The first size of each tensor is left open, unless it is
    1 or the tuple says what is open. ``overridable_initializers="constant"`` takes
    initializers that are inputs too for constants.

    Raises:
        BadInput: the file is missing, damaged or of no kind that redir reads.
        TooLarge: it asks for much more memory than a file of its size should.
        MissingExtra: it is a PyTorch model, and torch is not installed.
    """
    if onnx_frontend.is_proto(path):
        return onnx_frontend.from_proto(path, overridable_initializers=overridable_initializers)
    if _is_of(path, "torch.export.exported_program", "ExportedProgram"):
        exported: Graph = _torch().from_program(path)
        return exported
    if not isinstance(path, str | os.PathLike):
        kind = type(path).__name__
        raise BadInput(f"expected the path of a model, or an onnx.ModelProto, not a {kind}")
    name, path = str(path), Path(path)
    if "\0" in name:
        raise BadInput(f"{name!r}: a name holds no NUL")
    with limits.following(path.stat().st_size if path.is_file() else 0):
        return _loaded(name, path, overridable_initializers)


def _loaded(name: str, path: Path, overridable_initializers: Overridable) -> Graph:
    if path.suffix == ".onnx":
        return onnx_frontend.load(path, overridable_initializers=overridable_initializers)
    if path.suffix == ".redir":
        return _load_text(path)
    if path.suffix == ".pt2":
        program: Graph = _torch().load(path)
        return program
    if path.suffix in _PICKLES:
        raise BadInput(
            f"{path}: a pickle, which runs code when it is read and holds no program; in Python, "
            "torch.export.save(torch.export.export(module.eval(), args), 'model.pt2') writes one"
        )
    if is_factory(name):
        return from_module(*_from_factory(name))
    raise BadInput(f"{path}: expected a model that ends in .onnx, .pt2 or .redir")


def from_torch(
    module: Any,
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Graph:
    """The graph of what a PyTorch ``module`` computes on inputs like ``args`` and ``kwargs``.

    A lone input may stand for the tuple of it.

    ``dynamic_shapes`` says which sizes are open, as ``torch.export.export`` has it; the names of
    its ``Dim`` become those of the dimensions. What a module does in evaluation is read: call
    ``eval()`` on it first. A buffer that ``forward`` changes is an input with a default, and an
    output.

    Raises:
        MissingExtra: torch is not installed.
        BadInput: torch cannot export the module.
        Unsupported: it is in training mode, or does what no graph can hold.
    """
    if not is_module(module):
        raise BadInput(f"expected a torch.nn.Module, not a {type(module).__name__}")
    graph: Graph = _torch().from_torch(module, _tuple(args), kwargs, dynamic_shapes)
    return graph


def is_module(model: object) -> bool:
    """Whether a model is a PyTorch module."""
    return _is_of(model, "torch.nn.modules.module", "Module")


def _is_of(held: object, module: str, name: str) -> bool:
    """Whether an object is of a class of PyTorch, which need not be imported."""
    return any((c.__module__, c.__name__) == (module, name) for c in type(held).__mro__)


def _tuple(args: Any) -> tuple[Any, ...]:
    """Example inputs, of which a lone one may stand for the tuple of it."""
    return tuple(args) if isinstance(args, tuple | list) else (args,)


def is_factory(name: str) -> bool:
    """Whether a model is named as ``package.module:factory``."""
    return plugins.is_named(name)


def _torch() -> Any:
    """The frontend for PyTorch, which takes seconds to import."""
    return importlib.import_module("redir.frontends.torch.program")


def _from_factory(name: str) -> tuple[Any, ...]:
    """What the factory ``package.module:factory`` gives."""
    found = plugins.imported(name)
    made = found() if callable(found) else None
    if not isinstance(made, tuple) or not 2 <= len(made) <= 4:  # noqa: PLR2004 - of from_torch
        raise BadInput(f"{name}: expected a function that returns (module, example_args)")
    return made


def files(graph: Graph, path: str | os.PathLike[str]) -> set[Path]:
    """The files that ``graph`` was read from: the model at ``path`` and what lies beside it."""
    read = {Path(path), _beside(Path(path))} if Path(path).suffix == ".redir" else {Path(path)}
    return read | {Path(t.file) for t in text.tensors(graph) if t.file}


def written(path: str | os.PathLike[str]) -> set[Path]:
    """The files that saving to ``path`` may write."""
    path = Path(path)
    if path.suffix == ".py":
        return {path, path.with_suffix(".safetensors")}
    return {path, _beside(path) if path.suffix == ".redir" else onnx_backend.beside(path)}


def save(graph: Graph, path: str | os.PathLike[str], *, notes: bool = True) -> None:
    """Write a model: ``.onnx``; ``.py`` with its weights in ``.safetensors``; or ``.redir``.

    ``.py`` is PyTorch source, ``.redir`` the textual form, with its tensors in ``.redir.npz``
    beside it. The files are replaced as a whole or not at all. Without ``notes`` an ``.onnx`` file
    holds no documentation and no metadata.

    Raises:
        BadInput: the folder is missing, or the ending is none that redir writes, or it is no graph.
        Unsupported: the format has no form of an operator.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise BadInput(f"{path}: expected an output that ends in .onnx, .py or .redir")
    expect_graph(graph)
    if notes:
        WRITERS[path.suffix](graph, path)
    elif path.suffix == ".onnx":
        onnx_backend.save(graph, path, notes=False)
    else:
        raise BadInput(f"{path}: only .onnx files are written without their notes")


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
        file.write(show(graph, notes=True).encode())


def _save_torch(graph: Graph, path: Path) -> None:
    _torch_backend().save(graph, path)


def to_torch(graph: Graph) -> nn.Module:
    """The PyTorch module that ``save(graph, "model.py")`` writes, with its weights.

    It is in evaluation mode; it can be trained, moved, exported, copied and pickled like any other.

    Raises:
        BadInput: it is no graph.
        MissingExtra: torch is not installed.
        Unsupported: an operator has no form in PyTorch; the message names it.
    """
    expect_graph(graph)
    return _torch_backend().to_torch(graph)


def from_module(
    module: Any,
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Graph:
    """``from_torch``, in which the first size of each tensor is open unless shapes are given."""
    if dynamic_shapes is None:
        dynamic_shapes = _torch_backend().open_batches(module, _tuple(args), kwargs or {})
    return from_torch(module, args, kwargs, dynamic_shapes)


def to_module(graph: Graph) -> tuple[nn.Module, Mapping[str, str]]:
    """The module of ``to_torch``, and by the name of each constant the name that it has in it."""
    module, flow = _torch_backend().loaded(graph)
    return module, {name: new for new, name in flow.origin.items()}


def _torch_backend() -> Any:
    """The backend for PyTorch, which takes seconds to import."""
    return importlib.import_module("redir.backends.torch.writer")


def _write_npz(file: BinaryIO, bank: Mapping[str, Array]) -> None:
    """An npz whose bytes depend on its content alone: no dates, in order."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in sorted(bank.items()):
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())


_PICKLES = frozenset({".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle"})
WRITERS: Mapping[str, Callable[[Graph, Path], None]] = {
    ".onnx": onnx_backend.save,
    ".py": _save_torch,
    ".redir": _save_text,
}
