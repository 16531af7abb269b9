"""Arrays from files: inputs and labels that people give."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from redir.errors import BadInput, TooLarge
from redir.ir import Graph, limits
from redir.ir.tensor import Array, TensorType, Type

LABELS = ("label", "labels", "y")
"""Names of arrays that say the classes of examples."""


def read(path: str | Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file by name.

    Raises:
        BadInput: the file is missing or damaged, or is of another kind.
        TooLarge: its arrays are much larger than it is.
    """
    try:
        with (
            limits.following(Path(path).stat().st_size),
            Path(path).open("rb") as file,
            zipfile.ZipFile(file) as archive,
        ):
            limits.ask(sum(info.file_size for info in archive.infolist()), "what it holds")
            return {i.filename.removesuffix(".npy"): _array(archive, i) for i in archive.infolist()}
    except TooLarge as error:
        raise TooLarge(f"{path}: {error}") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except _DAMAGED:
        raise BadInput(f"{path}: not an npz file of arrays, or a damaged one") from None


_DAMAGED = (
    ValueError, EOFError, TypeError, AttributeError, KeyError, OverflowError, SyntaxError,
    RecursionError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One array, whose header must not say that it is larger than the member is."""
    with archive.open(info) as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        if prod(shape) * dtype.itemsize > info.file_size:
            raise ValueError("its header promises more than there is")
    with archive.open(info) as member:
        array: Array = np.lib.format.read_array(member, allow_pickle=False)
        return array


def inputs(path: str | Path, graph: Graph) -> dict[str, Array]:
    """What the inputs of ``graph`` are in a file.

    Raises:
        BadInput: an input is missing, unknown, or of another type.
    """
    arrays = read(path)
    _check(path, arrays, graph)
    return arrays


def examples(path: str | Path, graph: Graph) -> dict[str, Array]:
    """Any number of examples for the inputs of ``graph``, whatever its batch, in a file.

    Raises:
        BadInput: an input is missing, unknown, or of another type.
    """
    arrays = read(path)
    _check(path, arrays, graph, free=1)
    return arrays


def parted(path: str | Path, graph: Graph) -> tuple[dict[str, Array], dict[str, Array]]:
    """The inputs of ``graph`` in a file, any number of examples, and what else is there.

    Raises:
        BadInput: an input is missing or of another type, or there is none.
    """
    held = read(path)
    found = {name: array for name, array in held.items() if name in graph.inputs}
    others = {name: array for name, array in held.items() if name not in graph.inputs}
    if not found:
        raise BadInput(f"{path}: it holds {sorted(held)}, and the model reads {_names(graph)}")
    _check(path, found, graph, free=1)
    return found, others


def labelled(path: str | Path, graph: Graph, free: int = 0) -> tuple[dict[str, Array], Array]:
    """The inputs in a file, and the labels of its examples: (examples,) whole numbers.

    ``free`` axes in front may have any size, whatever the graph says.

    Raises:
        BadInput: the labels are missing, no whole numbers, or not as many as the examples.
    """
    arrays = read(path)
    name = next((k for k in LABELS if k in arrays and k not in graph.inputs), None)
    if name is None:
        raise BadInput(f"{path}: expected an array 'label' beside the inputs, not {sorted(arrays)}")
    labels = arrays.pop(name)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not labels.size:
        what = f"{labels.dtype}{list(labels.shape)}"
        raise BadInput(f"{path}: {name!r} is {what}, not a vector of whole numbers")
    if not arrays:
        raise BadInput(f"{path}: there is a {name!r}, but no input")
    for key, array in arrays.items():
        if array.ndim == 0 or len(array) != len(labels):
            raise BadInput(f"{path}: {len(labels)} labels, but {key!r} is {list(array.shape)}")
    _check(path, arrays, graph, free)
    return arrays, labels


def _check(path: str | Path, arrays: Mapping[str, Array], graph: Graph, free: int = 0) -> None:
    """Refuse arrays that are not those of the inputs; ``free`` axes in front may have any size."""
    for name in sorted(arrays.keys() - graph.inputs.keys()):
        raise BadInput(f"{path}: the model has no input {name!r}; it has {_names(graph)}")
    for name in sorted(graph.inputs.keys() - graph.defaults.keys() - arrays.keys()):
        raise BadInput(f"{path}: input {name!r} is missing; there are {sorted(arrays)}")
    for name, array in arrays.items():
        if not _fits(array, graph.inputs[name].type, free):
            found = TensorType(array.dtype, array.shape)
            raise BadInput(f"{path}: {name!r} is {found}, not {graph.inputs[name].type}")


def _names(graph: Graph) -> str:
    return ", ".join(map(repr, graph.inputs))


def _fits(array: Array, type_: Type, free: int) -> bool:
    if not isinstance(type_, TensorType) or type_.dtype != array.dtype:
        return False
    if type_.shape is None:
        return True
    sizes = list(zip(type_.shape, array.shape, strict=False))[free:]
    return len(type_.shape) == array.ndim and all(
        d == n or not isinstance(d, int) for d, n in sizes
    )
