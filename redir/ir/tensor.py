"""What a tensor is: its type, and its numbers where it is a constant."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from keyword import iskeyword
from math import prod
from typing import Any, TypeAlias, TypeVar
from unicodedata import is_normalized

import numpy as np
import numpy.typing as npt

from redir.ir import limits
from redir.ir.mapped import Mapped

__all__ = ["Array", "DType", "Dim", "Shape", "SparseTensor", "Tensor", "TensorType", "Type"]

_Fact = TypeVar("_Fact")
Array: TypeAlias = npt.NDArray[Any]
DType: TypeAlias = "np.dtype[Any]"
Dim: TypeAlias = int | str | None
Shape: TypeAlias = tuple[Dim, ...]
_FLOATS = ("float16", "bfloat16", "float32", "float64")  # the types that weights may have
NO_DTYPE: DType = np.dtype(np.void)  # not None, which numpy takes for float64


def is_floating(dtype: DType) -> bool:
    """Whether numbers of a type are real, with infinities and the arithmetic of numpy."""
    return dtype.name in _FLOATS


def epsilon(dtype: DType) -> float:
    """How far 1 is from the next number of a floating type; of 8 bits or fewer as of bfloat16."""
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 2.0**-7


@dataclass(frozen=True)
class TensorType:
    """What is known of a tensor before it is computed.

    A dimension is a number, a symbol (``"batch"``) or None where it is unknown. ``shape`` is
    None where even the rank is unknown, and ``dtype`` NO_DTYPE where nothing is known at all.
    """

    dtype: DType = NO_DTYPE
    shape: Shape | None = None

    def __str__(self) -> str:
        """Print as Python that reads as a type: ``float32[batch, 3, _]``."""
        if self == UNKNOWN:
            return "Unknown"
        return f"{dtype_name(self.dtype)}[{_dims(self.shape)}]"

    @property
    def static(self) -> tuple[int, ...] | None:
        """The shape, if every dimension is a number."""
        dims = tuple(d for d in self.shape or () if isinstance(d, int))
        return dims if self.shape is not None and len(dims) == len(self.shape) else None

    def size(self, axis: int) -> int | None:
        """The number of channels of ``axis`` where it is known."""
        dim = self.shape[axis] if self.shape is not None else None
        return dim if isinstance(dim, int) else None


@dataclass(frozen=True)
class ContainerType:
    """A sequence, optional, map or sparse tensor: carried, never looked into.

    ``kind`` is Sequence, Optional, Map or Sparse; ``items`` are the types inside.
    """

    kind: str
    items: tuple[Type, ...]
    dtype: DType = NO_DTYPE
    shape: None = None

    def __str__(self) -> str:
        """Print as ``Sequence[float32[3]]``."""
        return f"{self.kind}[{', '.join(map(str, self.items))}]"

    @property
    def static(self) -> None:
        """A container has no shape."""

    def size(self, axis: int) -> None:
        """Nothing is known of the axes of a container."""


Type: TypeAlias = TensorType | ContainerType
UNKNOWN = TensorType()


def dtype_name(dtype: DType) -> str:
    """The name of an element type; strings are kept as Python objects."""
    if dtype == NO_DTYPE:
        return "Unknown"
    return "string" if dtype == np.dtype(object) else dtype.name


def dtype_named(name: str) -> DType:
    """The element type that ``dtype_name`` named."""
    if name == "Unknown":
        return NO_DTYPE
    return np.dtype(object) if name == "string" else np.dtype(name)


def shapes_agree(a: Shape | None, b: Shape | None) -> bool:
    """Whether one tensor could have both shapes, as far as they are known."""
    if a is None or b is None or len(a) != len(b):
        return a is None or b is None
    pairs = zip(a, b, strict=True)
    return all(i == j or not (isinstance(i, int) and isinstance(j, int)) for i, j in pairs)


def bits(dtype: DType) -> int:
    """The bits that a file spends on an element; numpy spends a byte at least."""
    for name, few in (("int4", 4), ("float4", 4), ("int2", 2)):
        if name in dtype.name:
            return few
    return 8 * dtype.itemsize


def _dims(shape: Shape | None) -> str:
    if shape is None:
        return "..."
    return ", ".join(_dim(d) for d in shape) if shape else "()"


def _dim(dim: Dim) -> str:
    if dim is None:
        return "_"
    plain = isinstance(dim, int) or (is_plain(dim) and dim != "_")
    return str(dim) if plain else repr(dim)


def is_plain(name: str) -> bool:
    """Whether Python reads a name as it is written."""
    plain = name.isidentifier() and not iskeyword(name)
    return plain and is_normalized("NFKC", name)


_SMALL = 32  # elements of a tensor that is printed whole


class Tensor:
    """A constant: a read-only array that is equal to another when its bytes are.

    The numbers may stay in a file, from which they are read whenever they are used.
    """

    def __init__(self, array: npt.ArrayLike | Mapped) -> None:
        """Keep ``array`` as it is if it is read-only already, and a copy of it if not."""
        self._held: Array | Mapped = array if isinstance(array, Mapped) else _kept(array)

    @classmethod
    def take(cls, array: Array) -> Tensor:
        """Own ``array``, which nobody else may write to, without a copy."""
        array.setflags(write=False)
        return cls(array)

    @property
    def array(self) -> Array:
        """The numbers. Keep no more of them at a time than are needed: they may lie in a file."""
        return self._held.array() if isinstance(self._held, Mapped) else self._held

    @cached_property
    def type(self) -> TensorType:
        """The element type and the shape."""
        return TensorType(self._held.dtype, self._held.shape)

    @cached_property
    def size(self) -> int:
        """How many numbers there are."""
        return prod(self._held.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that a file spends on it; several small elements may share one."""
        return (self.size * bits(self._held.dtype) + 7) // 8

    @property
    def file(self) -> str | None:
        """The file beside the model that holds the numbers, if one does."""
        held = self._held
        return str(held.file.path) if isinstance(held, Mapped) and held.file.beside else None

    @cached_property
    def digest(self) -> str:
        """A name for the content, computed at most once."""
        array = self.array
        text = array.dtype == np.dtype(object)
        digest = hashlib.sha256(str(self.type).encode() + b"\0")
        digest.update(repr(array.tolist()).encode() if text else raw(array))
        return digest.hexdigest()

    @cached_property
    def peak(self) -> float:
        """The largest magnitude among real numbers: NaN if one is, 0 if there are none."""
        return self._fact("peak", self._peak)

    def _peak(self) -> float:
        array = self.array
        if not array.size:
            return 0.0
        with np.errstate(invalid="ignore"):  # ml_dtypes warns of NaN
            return max(float(array.max()), -float(array.min()))

    @cached_property
    def distinct(self) -> int:
        """How many values there are among the numbers."""
        return self._fact("distinct", self._distinct)

    @property
    def is_counted(self) -> bool:
        """Whether it is known how many values there are."""
        return "distinct" in vars(self)

    def count(self, distinct: int) -> None:
        """Say how many values there are, where that was found out elsewhere."""
        vars(self)["distinct"] = self._fact("distinct", lambda: distinct)

    def _distinct(self) -> int:
        array = self.array.reshape(-1)
        if array.dtype == np.dtype(object):  # bytes and strings have no order
            return len(set(array.tolist()))
        return int(np.unique(array).size)

    def _fact(self, name: str, found: Callable[[], _Fact]) -> _Fact:
        held = self._held
        return held.fact(name, found) if isinstance(held, Mapped) else found()

    @property
    def is_spelled(self) -> bool:
        """Whether text shows what it holds, as it does of strings and of a few plain numbers."""
        kind = self.array.dtype.kind
        few = kind in "biuf" and self.array.size <= _SMALL
        return kind == "O" or (few and bool(np.isfinite(self.array).all()))

    def __repr__(self) -> str:
        """Print the numbers of a small tensor, and the digest of a large one."""
        held = self.array.tolist() if self.is_spelled else self.digest
        return f"Tensor({self.type}, {held!r})"

    def spelled(self) -> str:
        """Print the numbers of a small tensor, and the bytes of a large one in base 85."""
        if self.is_spelled:
            return repr(self)
        return f"Tensor({self.type}, {base64.b85encode(raw(self.array))!r})"

    def __reduce__(self) -> Any:
        return Tensor.take, (self.array,)

    def __deepcopy__(self, _: object) -> Tensor:
        return self  # nothing of it can be changed

    def __eq__(self, other: object) -> bool:
        """Compare by identity first, then by type, then by content."""
        if self is other or not isinstance(other, Tensor):
            return self is other
        return self.type == other.type and hash(self) == hash(other) and _same(self, other)

    def __hash__(self) -> int:
        """Hash the type, and a few of the numbers."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        array = self.array
        if array.dtype == np.dtype(object) or array.size <= 2 * _GLANCE:
            return hash((self.type, self.digest))
        few = np.asarray(array.flat[:: array.size // _GLANCE])
        return hash((self.type, few.tobytes()))


def _kept(given: npt.ArrayLike) -> Array | Mapped:
    """An array that nobody can write to: the one given if it is such, else a copy."""
    array = given if isinstance(given, np.ndarray) else np.asarray(given)
    mapped = Mapped.of(array)
    if mapped is not None:
        return mapped
    kept = array.copy() if array.flags.writeable else array
    kept.setflags(write=False)
    return kept


_GLANCE = 64  # numbers by which tensors are told apart as a rule
_PART = 2**20  # bytes that are compared at a time


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one type hold the same bytes."""
    if a.type.dtype == np.dtype(object):
        return a.digest == b.digest
    x, y = (np.asarray(raw(tensor.array)) for tensor in (a, b))
    starts = range(0, x.size, _PART)
    return all(np.array_equal(x[i : i + _PART], y[i : i + _PART]) for i in starts)


def raw(array: Array) -> memoryview:
    """The bytes of an array in order, without a copy where it lies in order already."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class SparseTensor:
    """A constant that its file keeps sparse, and that no pass looks into.

    ``values`` is (n,), ``indices`` (n,) or (n, rank), ``shape`` that of the dense tensor.
    """

    values: Tensor
    indices: Tensor
    shape: tuple[int, ...]

    def dense(self) -> Array:
        """The dense tensor of ``shape``."""
        limits.ask(prod(self.shape) * self.values.array.itemsize, "a sparse constant")
        array = np.zeros(self.shape, self.values.array.dtype)
        where = self.indices.array
        flat = where if where.ndim == 1 else np.ravel_multi_index(tuple(where.T), self.shape)
        array.reshape(-1)[flat] = self.values.array
        return array
