"""Operators on integers that stand for other numbers: (integer - zero point) times scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redir.ir import Link, Node, Value
from redir.ir.builtin import is_absent, tensor_of
from redir.ir.tensor import Array
from redir.ops import kernels
from redir.ops.links import (
    aligned,
    along,
    contracted,
    convolved,
    first_operand,
    has_vectors,
    multiplied,
)

_AXIS = 13  # the version in which QuantizeLinear and DequantizeLinear got an axis


def rescaled(node: Node) -> Iterator[Link]:
    """A scale for the whole tensor, for each channel of an axis, or for each block along one.

    Along that the blocks stay as they are.
    """
    x, *scales = node.inputs
    if node.attrs.get("block_size", 0):
        if x.rank and all(is_absent(v) or v.rank == x.rank for v in scales):
            for axis in set(range(x.rank)) - {_axis(node)}:
                yield from aligned(node.inputs, node.outputs[0], axis)
    elif _is_single(scales):
        yield from first_operand(node)
    elif x.rank and node.op.version >= _AXIS:
        axis = _axis(node)
        if has_vectors(scales, x.type.size(axis)):
            yield from first_operand(node)
            for scale in scales:
                yield from along(scale, 0, node.outputs[0], axis)


def measured(node: Node) -> Iterator[Link]:
    """Scaled by the range of all numbers, which holds 0 anyway: zeros take no part in it."""
    x = node.inputs[0]
    yield from first_operand(node)
    for axis in range(x.rank or 0):
        yield from contracted(x, axis, x, axis)


def _axis(node: Node) -> int:
    """The axis along which scales differ."""
    return int(node.attrs.get("axis", 1)) % (node.inputs[0].rank or 1)


def zero_point(node: Node, value: Value) -> Array | None:
    """The integers that stand for zero where a DequantizeLinear reads ``value``, if constant.

    In a shape that is broadcast to that of ``value``.
    """
    x, *given = node.inputs
    if node.op.standard != "DequantizeLinear" or not x.rank:
        return None
    if x is not value or value in given:
        return None
    if len(given) < 2 or is_absent(given[1]):  # noqa: PLR2004 - the scale, and the zero point
        return np.zeros((), x.type.dtype)
    zero, axis = tensor_of(given[1]), _axis(node)
    if zero is None or zero.array.size == 1:
        return None if zero is None else zero.array.reshape(())
    block = int(node.attrs.get("block_size", 0))
    if block:
        return np.repeat(zero.array, block, axis).take(range(x.type.size(axis) or 0), axis)
    return zero.array.reshape(-1, *[1] * (x.rank - axis - 1))


def _is_single(scales: Iterable[Value]) -> bool:
    """Whether scales and zero points are numbers for a whole tensor."""
    return all(v.rank == 0 or v.type.static == (1,) or is_absent(v) for v in scales)


@dataclass(frozen=True)
class _Factor:
    """An operand of a product; a scale or zero point that is not given is left out."""

    value: Value
    scale: Sequence[Value]
    zero: Sequence[Value]

    @property
    def is_centred(self) -> bool:
        """Whether the integer 0 stands for the number 0."""
        held = [tensor_of(v) for v in self.zero if not is_absent(v)]
        return all(t is not None and not np.any(t.array) for t in held)

    @property
    def vectors(self) -> list[Value]:
        """The scales and zero points that are not for the whole tensor."""
        return [v for v in (*self.scale, *self.zero) if not _is_single([v])]


def _factors(node: Node) -> tuple[_Factor, _Factor, Sequence[Value]]:
    """The two operands of a product, and the scale and zero point of the result and the bias."""
    given = node.inputs
    if not node.op.name.startswith("QLinear"):
        return _Factor(given[0], (), given[2:3]), _Factor(given[1], (), given[3:4]), ()
    left, right = given[:3], given[3:6]
    return (
        _Factor(left[0], left[1:2], left[2:]),
        _Factor(right[0], right[1:2], right[2:]),
        given[6:],
    )


def conv(node: Node) -> Iterator[Link]:
    """As a Conv, where only the weight may have a scale or zero point for each channel."""
    x, w, rest = _factors(node)
    if not x.vectors and _is_single(rest[:2]):
        vectors = [*w.vectors, *rest[2:]]
        yield from _audible(convolved(node, x.value, w.value, vectors), (x, w))


def matmul(node: Node) -> Iterator[Link]:
    """As a MatMul, where the second operand may have a scale or zero point for each column."""
    a, b, rest = _factors(node)
    (y,) = node.outputs
    if a.vectors or not _is_single(rest) or not has_vectors(b.vectors, y.type.size(-1)):
        return
    links = list(multiplied(a.value, b.value, y))
    yield from _audible(links, (a, b))
    last = (y, (y.rank or 0) - 1)
    for vector in b.vectors if any(link.b == last for link in links) else ():
        yield from along(vector, 0, *last)


def _audible(links: Iterable[Link], factors: Sequence[_Factor]) -> Iterator[Link]:
    """Leave out sums to which an integer 0, where one is or may be written, adds something.

    What is computed counts only as the weight: of computed integers no zeros are known.
    """
    for link in links:
        values = {link.b[0], *(v for v, _ in (link.a,) if tensor_of(v) is not None)}
        if link.kind != "summed" or all(f.is_centred for f in factors if f.value in values):
            yield link


# What they compute


def run_conv(node: Node, *arrays: Any) -> Sequence[Any]:
    """In whole numbers; the reference rounds with the zero point added, and is slow."""
    x, x_scale, x_zero, w, w_scale, w_zero, *rest = _read(node, arrays)
    rows = (-1, *[1] * (x.ndim - 1))
    total = kernels.conv(node, _centred(x, x_zero, ()), _centred(w, w_zero, rows), *rest[2:])[0]
    scale = x_scale * w_scale.reshape(rows[:-1] if w_scale.ndim else ())
    return _result(node, _summed(total), scale, rest)


def run_matmul(node: Node, *arrays: Any) -> Sequence[Any]:
    """In whole numbers; the reference knows no zero points for each row."""
    a, a_scale, a_zero, b, b_scale, b_zero, *rest = _read(node, arrays)
    total = _centred(a, a_zero, (-1, 1)) @ _centred(b, b_zero, (-1,))
    rows = a_scale.reshape(-1, 1) if a_scale.ndim == 1 else a_scale
    return _result(node, _summed(total), rows * b_scale, rest)


def _read(node: Node, arrays: Sequence[Any]) -> Sequence[Any]:
    """The operands as a QLinearConv has them, with scales of 1 where there are none."""
    if node.op.name.startswith("QLinear"):
        return arrays
    zeros: list[Any] = [*arrays[2:], None, None]
    one = np.float32(1)
    return (arrays[0], one, zeros[0], arrays[1], one, zeros[1])


def _centred(array: Array, zero: Array | None, shape: tuple[int, ...]) -> Array:
    """``array`` less its zero point, a vector of which is brought to ``shape``.

    In float64, which holds sums of products of bytes exactly and multiplies matrices fast.
    """
    wide: Array = array.astype(np.float64)
    return wide if zero is None else wide - zero.reshape(shape if zero.ndim == 1 else zero.shape)


def _summed(total: Array) -> Array:
    """Whole numbers as int32, which wraps around."""
    return total.astype(np.int64).astype(np.int32)


def _result(node: Node, total: Array, scale: Array, rest: Sequence[Any]) -> Sequence[Any]:
    """The sums, or what stands for them by the scale and zero point of the result."""
    if not node.op.name.startswith("QLinear"):
        return [total]
    y_scale, y_zero = rest[:2]
    bounds = np.iinfo(y_zero.dtype)
    numbers = np.rint(total.astype(np.float32) * (scale / y_scale)) + y_zero
    return [np.clip(numbers, bounds.min, bounds.max).astype(y_zero.dtype)]
