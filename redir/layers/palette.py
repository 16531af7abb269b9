"""Tensors of few distinct values as places in a palette, packed into bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from redir.ir import Graph, Node, Value
from redir.ir.interpreter import compute
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor
from redir.ops import Const, is_absent, tensor_of

WIDTHS = (1, 2, 4, 8)  # bits of a place in a palette
_CHAIN = frozenset({"Cast", "Gather", "Reshape", "Slice"})  # what a palette is read by
_ENTRY = 96  # bytes that a file spends on the name, type and shape of a further tensor


def split(array: Array) -> tuple[Array, Array]:
    """The distinct values (k,) of an array, told apart bit by bit, and the place of each (n,)."""
    words = _words(array)
    values = np.unique(words)  # which sorts faster without places
    return values.view(array.dtype), np.searchsorted(values, words)


def distinct(array: Array) -> int:
    """How many values ``split`` tells apart: it takes a tenth of the time."""
    words = np.sort(_words(array))
    return int(np.count_nonzero(words[1:] != words[:-1])) + bool(words.size)


def _words(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


def packed(places: Array, bits: int) -> Array:
    """Places below 2^bits (n,) in bytes, the first in the highest bits; zeros fill the last."""
    each = 8 // bits
    padded = np.zeros(-(-places.size // each) * each, np.uint8)
    padded[: places.size] = places
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    shifted = np.left_shift(padded.reshape(-1, each), shifts)
    found: Array = np.bitwise_or.reduce(shifted, axis=1, dtype=np.uint8)
    return found


def opened(bits: int) -> Array:
    """The places that each byte holds: uint8 (256, 8 / bits)."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    whole = np.arange(256, dtype=np.uint8)[:, None]
    return np.right_shift(whole, shifts) & np.uint8(2**bits - 1)


def least_bits(values: int) -> int | None:
    """The least width that tells so many values apart; None where there are too many."""
    return next((b for b in WIDTHS if values <= 2**b), None)


def packings(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The same arrays by name, those of few values as ``name.packed`` and ``name.palette``.

    Only where that takes fewer bytes. The first is uint8 (n,), the second (k,); the bits of a place
    are the least that tell k values apart.
    """
    found: dict[str, Array] = {}
    for name, array in arrays.items():
        values, places = split(array) if array.dtype.kind in "fV" else (array, array)
        bits = least_bits(values.size) if array.dtype.kind in "fV" else None
        if bits is None or -(-array.size * bits // 8) + values.nbytes + _ENTRY >= array.nbytes:
            found[name] = array
        else:
            found |= {f"{name}.packed": packed(places, bits), f"{name}.palette": values}
    return found


def unpacked(graph: Graph) -> Graph:
    """``graph`` with each tensor that is read from a palette by packed places as a constant again.

    It undoes the pass ``palettize``: what Cast, Gather, Reshape and Slice make of uint8 constants
    and others, down to a tensor of floating-point numbers, is computed.
    """
    return unpacking(graph)[0]


def unpacking(graph: Graph) -> tuple[Graph, dict[Value, list[Tensor]]]:
    """What ``unpacked`` gives, and for each of its tensors that was packed what it is made of."""
    held: dict[Value, Array] = {}
    stored: dict[Value, list[Tensor]] = {}
    made: dict[Value, list[Tensor]] = {}

    def visit(node: Node, _: tuple[Value, ...]) -> Outputs | None:
        value = node.outputs[0]
        known = [held.get(v, _constant(v)) for v in node.inputs]
        if node.op == Const:
            tensor = tensor_of(value)
            if tensor is not None and tensor.type.dtype == np.uint8:
                held[value] = tensor.array
            return None
        missing = any(
            a is None and not is_absent(v) for a, v in zip(known, node.inputs, strict=True)
        )
        if node.op.standard not in _CHAIN or missing or held.keys().isdisjoint(node.inputs):
            return None
        held[value] = np.asarray(compute(node, known)[0])
        stored[value] = [t for v in node.inputs for t in stored.get(v, _tensors(v))]
        if held[value].dtype.kind not in "fV":
            return None
        whole = Node(Const, (), {"value": Tensor.take(held[value])}, source=node.source)
        made[whole.outputs[0]] = stored[value]
        return whole.outputs

    return transform(graph, visit), made


def _constant(value: Value) -> Array | None:
    tensor = tensor_of(value)
    return None if tensor is None else tensor.array


def _tensors(value: Value) -> list[Tensor]:
    tensor = tensor_of(value)
    return [] if tensor is None else [tensor]
