"""Steps of a few nodes that can be written as fewer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from redir import ops
from redir.ir import Node, Value
from redir.ir.tensor import Tensor
from redir.testing.draft import FLOAT, Draft, Step, channels, ints

_FLOAT, _DOUBLE = 1, 11  # as a Cast names them


def _branches(d: Draft, x: Value) -> Value:
    """Layers that read one value, and this itself, are added."""
    size = channels(x)

    def conv() -> Value:
        k, groups = d.pick(1, 3), d.pick(1, size)
        weights = d.const(size, size // groups, k, k), *d.bias(size)
        return ops.Conv(x, *weights, pads=(k // 2,) * 4, group=groups)

    norm = [d.const(size, low=1, high=3) for _ in range(4)]
    some: list[Callable[[], Value]] = [
        conv,
        conv,
        lambda: ops.BatchNormalization(x, *norm),
        lambda: x,
    ]
    y = conv()
    for make in (d.pick(*some) for _ in range(d.number(1, 2))):
        pair = y, make()
        y = ops.Add(*(pair if d.flag() else pair[::-1]))
    return y


def _two_layers(d: Draft, x: Value) -> Value:
    """One layer behind the other, of which one looks at a place alone."""
    size, kernels = channels(x), d.pick((1, 1), (1, 3), (3, 1))
    for out, k in zip((size + d.number(0, 2), d.number(1, size + 1)), kernels, strict=True):
        weights = d.const(out, channels(x), k, k), *d.bias(out)
        x = ops.Conv(x, *weights, pads=(k // 2,) * 4)
    return x


def _parts(d: Draft, x: Value) -> Value:
    """Parts of a value are put together, in order or not; or a part is taken of what was."""
    axis = d.pick(1, 2)
    size = x.type.size(axis) or 1
    middle, start = d.number(0, size), d.number(0, size)
    cuts = [_cut(x, axis, 0, middle), _cut(x, axis, middle, size)]
    each = Node(ops.Split, (x, ints(*[1] * size)), {"axis": axis}, arity=size).outputs
    whole = ops.Concat(x, ops.Relu(x), axis=axis)
    some: list[Callable[[], Value]] = [
        lambda: ops.Concat(*(cuts if d.flag() else cuts[::-1]), axis=axis),
        lambda: ops.Concat(*(each if d.flag() else each[::-1]), axis=axis),
        lambda: ops.Concat(whole, x, axis=axis),
        lambda: _cut(whole, axis, start, start + d.number(1, size)),
    ]
    make: Callable[[], Value] = d.pick(*some)
    return make()


def _cut(x: Value, axis: int, start: int, end: int) -> Value:
    return ops.Slice(x, ints(start), ints(end), ints(axis))


def _moves(d: Draft, x: Value) -> Value:
    """Axes of size 1 come, move and go."""
    rank = x.rank or 0
    places = d.number(0, rank), d.number(0, rank)
    wide = ops.Unsqueeze(x, ints(places[0]))
    perm = [axis for axis in range(rank + 1) if axis != places[0]]
    perm.insert(places[1], places[0])
    moved = ops.Transpose(wide, perm=tuple(perm))
    return ops.Squeeze(moved, ints(d.pick(places[1], places[1] - rank - 1)))


def _axes(d: Draft, x: Value) -> Value:
    """Two axes of size 1 come and go, one after the other or both at once."""
    rank = x.rank or 0
    first, second = d.number(0, rank), d.number(0, rank + 1)
    both = sorted((second, first + (first >= second)))
    if d.flag():
        wide = ops.Unsqueeze(ops.Unsqueeze(x, ints(first)), ints(second))
        return ops.Squeeze(ops.Relu(wide), ints(*both))
    wide = ops.Relu(ops.Unsqueeze(x, ints(*both)))
    return ops.Squeeze(ops.Squeeze(wide, ints(second)), ints(first))


def _twice(d: Draft, x: Value) -> Value:
    """An operator behind itself."""
    op = d.pick(ops.Relu, ops.Neg, ops.Sign, ops.Sigmoid)
    return op(op(x))  # type: ignore[no-any-return]


def _as_large(d: Draft, x: Value) -> Value:
    """What is as large as x is added to it, or multiplied with it."""
    op, value = d.pick(ops.Add, ops.Mul), Tensor(np.array([d.number(0, 1)], FLOAT))
    some: list[Callable[[], Value]] = [
        lambda: ops.Expand(ops.ReduceMax(x, ints(d.pick(1, -1))), ops.Shape(x)),
        lambda: ops.Expand(d.const(), ops.Shape(x)),
        lambda: ops.ConstantOfShape(ops.Shape(x), value=value),
    ]
    make: Callable[[], Value] = d.pick(*some)
    pair = x, make()
    return op(*(pair if d.flag() else pair[::-1]))  # type: ignore[no-any-return]


def _bounds(d: Draft, x: Value) -> Value:
    """Bounds behind bounds, casts behind casts."""

    def one(y: Value) -> Value:
        low, high = sorted((d.number(-2, 2), d.number(-2, 2)))
        bounds = (ops.constant(np.array(n, FLOAT)) for n in (low, high))
        return ops.Relu(y) if d.flag() else ops.Clip(y, *bounds)

    if d.flag():
        return ops.Cast(ops.Cast(x, to=_DOUBLE), to=_FLOAT)
    return one(one(x))


def _parts_of_activations(d: Draft, x: Value) -> Value:
    """A Gelu, HardSwish or Mish, or something like it."""

    def number(value: float) -> Value:
        return ops.constant(np.array(value, FLOAT))

    shifted = ops.Add(x, number(d.pick(3, 3, 2)))
    cubic = ops.Add(x, ops.Mul(ops.Pow(x, number(3)), number(d.pick(0.044715, 1))))
    bent = ops.Mul(cubic, number((2 / np.pi) ** 0.5))
    some: list[Callable[[], Value]] = [
        lambda: ops.Add(ops.Erf(ops.Div(x, number(2**0.5))), number(1)),
        lambda: ops.Add(ops.Tanh(bent), number(1)),
        lambda: ops.Clip(shifted, number(0), number(6)),
        lambda: ops.Tanh(ops.Softplus(x)),
    ]
    gate: Callable[[], Value] = d.pick(*some)
    return ops.Mul(ops.Mul(x, gate()), number(d.pick(0.5, 1 / 6, 1)))


def _parts_of_norms(d: Draft, x: Value) -> Value:
    """A LayerNormalization or RMSNormalization, mostly along the last axis."""
    axis, size = ints(d.pick(-1, -1, 1)), x.type.size((x.rank or 1) - 1) or 1
    centred = d.pick(x, ops.Sub(x, ops.ReduceMean(x, axis)))
    squares = ops.ReduceMean(ops.Mul(centred, centred), axis)
    root = ops.Sqrt(ops.Add(squares, ops.constant(np.array(d.pick(0.5, 1e-5), FLOAT))))
    scaled = ops.Mul(ops.Div(centred, root), d.const(size))
    return ops.Add(scaled, d.const(size))


PAIRS: dict[str, tuple[int, Step]] = {
    "branches": (4, _branches),
    "two_layers": (4, _two_layers),
    "parts": (4, _parts),
    "bounds": (0, _bounds),
    "moves": (0, _moves),
    "axes": (0, _axes),
    "as_large": (0, _as_large),
    "twice": (0, _twice),
    "parts_of_activations": (0, _parts_of_activations),
    "parts_of_norms": (0, _parts_of_norms),
}
