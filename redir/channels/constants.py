"""Which channels hold one same number, whatever the inputs are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

import numpy as np

from redir import ops
from redir.channels.nonfinite import nonfinite
from redir.channels.ports import Ports
from redir.channels.resting import resting
from redir.errors import Unsupported
from redir.ir import Link, Node, Port, Value, width
from redir.ir.interpreter import compute
from redir.ir.tensor import Array, DType
from redir.ops import is_absent, tensor_of
from redir.ops.layout import borders_of

Part: TypeAlias = tuple[Value, Array, Array]
"""An operand, the channels of the result that it reaches, and what it brings to each of them."""

_QUANTISED = frozenset({"int4", "int8", "int16", "uint4", "uint8", "uint16"})


def levels(
    ports: Ports, *, silenced: bool = False, wanted: Collection[Port] | None = None
) -> dict[Port, Array]:
    """For each port the number that each channel always holds; NaN where one cannot tell.

    A result's channel holds what its operator makes of the numbers that reach it. Zero has more
    power than others: a product with it is zero, as far as all else is finite. Of what constants
    make infinite or NaN nothing is known. Numbers are float64
    and finite in the type of the port, and those of an integer are zero, if known. With
    ``silenced`` they are what they would be if the constants held zeros for all channels. With
    ``wanted`` they are only those of these ports, and of what makes them.
    """
    found, told = dict[Port, Array](), set[Port]()
    odd = ports.graph.analysis(nonfinite)
    rest = ports.graph.analysis(resting) if silenced else {}
    needed = ports.ports if wanted is None else _behind(ports, wanted)
    for value, of_value in groupby(needed, itemgetter(0)):
        tensor, node, dtype = tensor_of(value), value.node, value.type.dtype
        array = None if tensor is None or silenced else tensor.array
        for port in of_value:
            numbers = _unknown(width(port))
            if value in rest:
                pass  # integers that stand for zero
            elif array is not None:
                numbers = _held(array, port[1])
            elif tensor is not None or (node and not rest.keys().isdisjoint(node.inputs)):
                numbers = np.zeros(width(port))
            elif node and not node.op.opaque and value not in odd and _tells(ports, port, told):
                with np.errstate(all="ignore"):
                    numbers = _of_result(node, port[1], _parts(ports, port, found), numbers)
                if dtype.name in _QUANTISED:
                    numbers = _unknown(width(port))  # the integer 0 may stand for another number
            if not np.isnan(numbers).all():
                numbers = _in_type(numbers, dtype)
                told.add(port)
            found[port] = numbers
    return found


def _behind(ports: Ports, wanted: Collection[Port]) -> list[Port]:
    """The ports ``wanted`` and all that makes what they hold, in the order of the graph."""
    found, left = set(wanted), list(wanted)
    while left:
        sources = {source for source, _ in _sources(ports, left.pop())} - found
        found |= sources
        left += sources
    return [port for port in ports.ports if port in found]


def _tells(ports: Ports, port: Port, told: set[Port]) -> bool:
    """Whether anything is known of what makes a result, or it is a Pad, which brings a border."""
    node, sources = port[0].node, [source for source, _ in _sources(ports, port)]
    assert node is not None
    linked = {value for value, _ in sources}
    loose = any(tensor_of(v) is not None for v in node.inputs if v not in linked)
    return loose or node.op == ops.Pad or not told.isdisjoint(sources)


def _sources(ports: Ports, port: Port) -> list[tuple[Port, Link]]:
    """The axes of operands that reach an axis of a result, along which links of its node."""
    here = (k for n, k in ports.links_of(port) if n is port[0].node)
    links = (link for link in here if link.kind != "summed" and link.a != link.b)
    return [(link.b if link.a == port else link.a, link) for link in links]


def reads_border(conv: Node) -> bool:
    """Whether a convolution reads zeros around its operand."""
    how = conv.attrs.get("auto_pad", "NOTSET")
    if how in {"SAME_UPPER", "SAME_LOWER"}:
        return any(size != 1 for size in (conv.inputs[1].type.shape or ())[2:])
    return how == "NOTSET" and any(conv.attrs.get("pads", ()))


def _unknown(size: int) -> Array:
    return np.full(size, np.nan)


def _in_type(numbers: Array, dtype: DType) -> Array:
    """Only numbers that a type holds, and only zeros of a type that is not floating point."""
    limit = np.finfo(dtype).max if dtype.kind == "f" else 0
    return np.where(np.abs(numbers) <= limit, numbers, np.nan)


def _held(array: Array, axis: int) -> Array:
    """The number in each slice of a constant that holds but one."""
    others = tuple(a for a in range(array.ndim) if a != axis)
    if array.dtype.kind == "f" and array.size:
        slices = np.moveaxis(array, axis, 0)
        first, last = (slices[:, *(end for _ in others)] for end in (0, -1))
        held, some = _unknown(len(slices)), first == last
        if some.any():
            low, high = (f(slices[some], tuple(range(1, slices.ndim))) for f in (np.min, np.max))
            held[some] = np.where(low == high, low, np.nan)
        return held
    return np.where(np.any(array != 0, axis=others), np.nan, 0.0)


def _everywhere(value: Value) -> Array | None:
    """The number that a whole constant holds, if it holds but one; None for an absent operand."""
    tensor = tensor_of(value)
    if is_absent(value):
        return None
    if tensor is None or tensor.type.dtype.kind not in "fiu" or not tensor.size:
        return np.array(np.nan)
    first = tensor.array.reshape(-1)[0]
    return np.array(first if np.all(tensor.array == first) else np.nan, np.float64)


def _parts(ports: Ports, port: Port, found: dict[Port, Array]) -> list[Part]:
    """What reaches the channels of a result along the links of its node."""
    return [
        (source[0], np.arange(width(port)), found[source][link.index])
        if link.a == port
        else (source[0], link.index, found[source])
        for source, link in _sources(ports, port)
    ]


def _agreed(parts: Sequence[Part], size: int) -> Array:
    """The number that all parts that reach a channel bring to it."""
    if len(parts) == 1 and np.array_equal(parts[0][1], np.arange(size)):
        return parts[0][2]
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    for _, places, numbers in parts:
        np.minimum.at(low, places, numbers)
        np.maximum.at(high, places, numbers)
    return np.where(low == high, low, np.nan)


def _of_result(node: Node, axis: int, parts: list[Part], unknown: Array) -> Array:
    size = unknown.size
    if not parts:
        return unknown
    if node.op == ops.Pad:
        return _bordered(node, axis, parts, size)
    linked = {v: _agreed([p for p in parts if p[0] is v], size) for v, _, _ in parts}
    operands = [linked[v] if v in linked else _everywhere(v) for v in node.inputs]
    if node.has("layer"):
        return _weighted(node, operands, unknown)
    kept = _kept(node, parts, size) if node.has("keeps_constants") else unknown
    if node.op == ops.BatchNormalization:
        operands = _unscaled(operands)
    return np.where(np.isnan(kept), _computed(node, operands, unknown), kept)


def _kept(node: Node, parts: list[Part], size: int) -> Array:
    """The number that all data which reach a channel bring to it."""
    data = {node.inputs[i] for places in node.op.terms(node) for i in places}
    linked = {v for v, _, _ in parts}
    whole = {v: _everywhere(v) for v in data - linked}
    loose = [(v, np.arange(size), n) for v, n in whole.items() if n is not None]
    return _agreed([*(p for p in parts if p[0] in data), *loose], size)


def _bordered(pad: Node, axis: int, parts: list[Part], size: int) -> Array:
    """What a Pad moves, and its border: channels of their own, or around those that it moves."""
    x, borders, given = pad.inputs[0], borders_of(pad), pad.inputs[2:3]
    if pad.attrs.get("mode", "constant") != "constant":
        return _agreed(parts, size)
    if borders is None:
        return _unknown(size)
    border = _everywhere(given[0]) if given else None
    if border is None:
        border = np.array(pad.attrs.get("value", 0.0))
    around = any(n is None or n > 0 for a, pair in borders.items() if a != axis for n in pair)
    reached = np.concatenate([places for _, places, _ in parts])
    places = np.arange(size) if around else np.setdiff1d(np.arange(size), reached)
    return _agreed([*parts, (x, places, border)], size)


def _weighted(node: Node, operands: Sequence[Array | None], unknown: Array) -> Array:
    """The bias where the weights are zero, and what a depthwise kernel makes of a number."""
    x, w, *rest = operands
    assert x is not None
    assert w is not None
    product = np.where((x == 0) | (w == 0), 0.0, unknown)
    kernel = tensor_of(node.inputs[1])
    known = not np.isnan(x).all()
    if known and node.op == ops.Conv and kernel is not None and not reads_border(node):
        rows = kernel.array.sum(tuple(range(1, kernel.array.ndim)), dtype=np.float64)
        product = np.where(product == 0, product, x * rows)
    bias = [node.attrs.get("beta", 1.0) * b for b in rest if b is not None]
    total: Array = sum(bias, product)
    return total


def _unscaled(operands: Sequence[Array | None]) -> list[Array | None]:
    """Operands of a norm with the mean for a channel that is scaled by zero, whatever it holds."""
    x, scale, bias, mean, var = (a for a in operands if a is not None)
    held: Array = np.where(scale == 0, mean, x)
    return [held, scale, bias, mean, var]


def _computed(node: Node, operands: Sequence[Array | None], unknown: Array) -> Array:
    """What an operator makes of the numbers that its operands hold."""
    given = [a for a in operands if a is not None]
    numbers = np.where(_is_zero(node, operands), 0.0, unknown)
    known = reduce(np.logical_and, (~np.isnan(a) for a in given), np.isnan(numbers))
    smooth = node.has("elementwise") and node.op.step(node) is None
    if smooth and node.outputs[0].type.dtype.kind == "f" and known.any():
        some = [a if a is None or a.ndim == 0 else a[known] for a in operands]
        numbers[known] = _evaluated(node, some, int(known.sum()))
    return numbers


def _is_zero(node: Node, operands: Sequence[Array | None]) -> Array | bool:
    """Where a result is zero, for a factor of each term is."""
    if not node.has("keeps_zero"):
        return False
    terms = node.op.terms(node)
    products = [reduce(np.logical_or, (operands[i] == 0 for i in p)) for p in terms]
    return reduce(np.logical_and, products) if products else False


def _evaluated(node: Node, operands: Sequence[Array | None], size: int) -> Array:
    try:
        (result,) = compute(node, operands)
    except Unsupported:
        return _unknown(size)
    numbers = np.asarray(result)
    return numbers if numbers.shape == (size,) else _unknown(size)
