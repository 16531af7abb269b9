"""Where runtimes agree on what an operator computes, and where one of them ends the process.

A rule ``rule(node, arrays, results)`` says whether every runtime gives ``results`` on ``arrays``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redir.ir import Node
from redir.ir.tensor import Array

_DOUBLE = 2**53  # whole numbers up to here are exact in float64, in which some runtimes compute


def finite(node: Node, arrays: Sequence[Any], results: Sequence[Any]) -> bool:
    """Without NaN, and without infinities but those that were there.

    What overflows in float16 may not where a runtime adds up in float32.
    """
    del node
    given, found = ([a for a in list_ if _is_float(a)] for list_ in (arrays, results))
    if any(np.isnan(a).any() for a in (*given, *found)):
        return False
    return any(np.isinf(a).any() for a in given) or not any(np.isinf(a).any() for a in found)


def division(node: Node, arrays: Sequence[Any], results: Sequence[Any]) -> bool:
    """Of whole numbers: not by zero, and not the least by -1, which has no quotient."""
    if _is_float(arrays[0]):
        return finite(node, arrays, results)
    return bool(np.all(arrays[1] != 0)) and not traps(arrays)


def traps(arrays: Sequence[Any]) -> bool:
    """Whether the least number is divided by -1, which x86 ends the process for."""
    x, y = arrays
    if x.dtype.kind != "i" or y.dtype != x.dtype:
        return False
    return bool(np.any((x == np.iinfo(x.dtype).min) & (y == -1)))


def power(node: Node, arrays: Sequence[Any], results: Sequence[Any]) -> bool:
    """Of whole numbers: in the range of their type, which some leave by saturation."""
    if _is_float(arrays[0]):
        return finite(node, arrays, results)
    base, exponent = (a.astype(np.float64) for a in arrays)
    with np.errstate(all="ignore"):
        sizes = np.abs(base) ** exponent
    return bool(np.all(exponent >= 0)) and _fits(sizes, results[0].dtype)


def summation(node: Node, arrays: Sequence[Any], results: Sequence[Any]) -> bool:
    """Of whole numbers: even their squares add up within the range of their type."""
    if _is_float(arrays[0]):
        return finite(node, arrays, results)
    return _fits(np.sum(arrays[0].astype(np.float64) ** 2), results[0].dtype)


def multiplication(node: Node, arrays: Sequence[Any], results: Sequence[Any]) -> bool:
    """Of whole numbers along an axis: the product is within the range of their type."""
    if _is_float(arrays[0]):
        return finite(node, arrays, results)
    with np.errstate(over="ignore"):
        size = np.prod(np.maximum(np.abs(arrays[0].astype(np.float64)), 1))
    return _fits(size, results[0].dtype)


def conversion(node: Node, arrays: Sequence[Any], results: Sequence[Any]) -> bool:
    """Of floats to whole numbers: those that the type can hold."""
    x, y = arrays[0], results[0]
    if not _is_float(x):
        return True
    if y.dtype.kind not in "iu":
        return finite(node, arrays[:1], results) or y.dtype.kind == "b"
    whole, bounds = np.trunc(x.astype(np.float64)), np.iinfo(y.dtype)
    return bool(np.all((whole >= bounds.min) & (whole <= bounds.max) & (np.abs(whole) < 2.0**63)))


def shift(node: Node, arrays: Sequence[Any], results: Sequence[Any]) -> bool:
    """By less than the width."""
    del node, results
    return bool(np.all(arrays[1] < 8 * arrays[0].dtype.itemsize))


def _is_float(array: Any) -> bool:
    return array is not None and ("float" in array.dtype.name)


def _fits(sizes: Array, dtype: Any) -> bool:
    return bool(np.all(sizes < min(_DOUBLE, np.iinfo(dtype).max)))


RULES: dict[str, Callable[[Node, Sequence[Any], Sequence[Any]], bool]] = {
    "BitShift": shift,
    "Cast": conversion,
    "CastLike": conversion,
    "Div": division,
    "Mod": division,
    "Pow": power,
    "ReduceProd": multiplication,
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"),
        summation,
    ),
}
