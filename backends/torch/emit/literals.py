"""Whole numbers that forward holds in plain Python, and numbers and element types as text."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias

import numpy as np

from redir.errors import Unsupported
from redir.ir.tensor import NO_DTYPE, DType

_TYPES = frozenset(
    """bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64
    complex64 complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz
    float8_e8m0fnu""".split()
)


@dataclass(frozen=True)
class Whole:
    """A whole number that forward computes in plain Python: text that needs no brackets."""

    text: str
    positive: bool = False  # or zero

    def __str__(self) -> str:
        """The text."""
        return self.text


Int: TypeAlias = "int | Whole"


@dataclass(frozen=True)
class Ints:
    """An integer tensor of rank 0 or 1 that forward holds as plain numbers."""

    items: tuple[Int, ...]
    rank: int = 1

    @property
    def known(self) -> tuple[int, ...] | None:
        """The numbers, if all are known already."""
        known = tuple(i for i in self.items if isinstance(i, int))
        return known if len(known) == len(self.items) else None

    def __str__(self) -> str:
        """As items of a call or list."""
        return ", ".join(bare(i) for i in self.items)


SHAPES = (np.dtype(np.int64), np.dtype(np.int32))  # of what is held as plain numbers


def wrapped(number: Int, dtype: np.dtype[Any]) -> Int:
    """A number in an element type; those that forward computes are sizes, and fit."""
    return int(np.array(number).astype(dtype)) if isinstance(number, int) else number


def bare(number: Int) -> str:
    """The text of a number without brackets that nothing needs."""
    text = str(number)
    whole = text.startswith("(") and text.endswith(")") and _balanced(text[1:-1])
    return text[1:-1] if whole else text


def _balanced(text: str) -> bool:
    depth = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            return False
    return depth == 0


def torch_dtype(dtype: np.dtype[Any]) -> str:
    """The name that torch has for an element type.

    Raises:
        Unsupported: it has none that can be computed with.
    """
    name = "string" if dtype == np.dtype(object) else dtype.name
    if name not in _TYPES:
        raise Unsupported(f"PyTorch computes with no tensors of {name}")
    return f"torch.{name}"


_SINGLE = 4  # bytes of a float32
_HUGE = 1e38  # shortened, the largest number of a type may be larger than that


def literal(number: Any) -> str:
    """A number as Python reads it back, as short as its element type allows.

    torch computes with a Python number in float32 or wider, so that no type may round it that is
    narrower.
    """
    kind, size = np.asarray(number).dtype.kind, np.asarray(number).dtype.itemsize
    if kind == "b":
        return str(bool(number))
    if kind in "iu":
        return str(int(number))
    if not isfinite(float(number)):
        return f'float("{float(number)}")'
    exact, short = float(number), float(str(number))
    return repr(exact if abs(exact) > _HUGE or size < _SINGLE else short)


def real(number: float, dtype: DType = NO_DTYPE) -> str:
    """An attribute that is a real number, for operands of ``dtype``.

    ONNX rounds it to float32: it is as short as that allows, unless torch kept more of it.
    """
    short = np.float32(number)
    return literal(short if short == number and dtype != np.float64 else np.float64(number))
