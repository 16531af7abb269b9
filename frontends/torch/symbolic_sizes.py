"""Numbers that depend on the inputs' shapes: the arithmetic that a program does with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redir.frontends.torch.call import INT64, Call, Number, Sym
from redir.ir import Value
from redir.ir.tensor import DType

FLOAT64: DType = np.dtype(np.float64)
_Numbers = Sequence[Value]

_SIMPLE = {"add": "Add", "sub": "Sub", "mul": "Mul", "sym_max": "Max", "sym_min": "Min"}


def computed(c: Call, name: str, args: Sequence[Any]) -> Value:
    """The number as a vector of one.

    Raises:
        Unsupported: it comes of something else than whole or broken numbers.
    """
    if name in _OF_TENSORS:
        return _OF_TENSORS[name](c, *args)
    numbers = [vector(c, a) for a in args]
    if name in _SIMPLE:
        return c.op(_SIMPLE[name], *_alike(c, numbers))
    if name in _OTHERS:
        return _OTHERS[name](c, numbers)
    raise c.refusal(f"redir does not compute sizes by {name}")


def vector(c: Call, number: Number | Sym) -> Value:
    """A number as a vector of one."""
    if isinstance(number, Sym):
        return number.compute()
    return c.const([number], FLOAT64 if isinstance(number, float) else INT64)


def _alike(c: Call, numbers: _Numbers) -> list[Value]:
    broken = any(n.type.dtype != INT64 for n in numbers)
    return [c.cast(n, FLOAT64) for n in numbers] if broken else list(numbers)


def _size(c: Call, x: Value, axis: int) -> Value:
    return c.size_of(x, axis % c.rank(x))


def _numel(c: Call, x: Value) -> Value:
    return c.op("Reshape", c.op("Size", x), c.const([1]))


def _item(c: Call, x: Value) -> Value:
    kind = FLOAT64 if x.type.dtype.kind == "f" else INT64
    return c.cast(c.op("Reshape", x, c.const([1])), kind)


def _floordiv(c: Call, numbers: _Numbers) -> Value:
    a, b = _alike(c, numbers)
    if a.type.dtype != INT64:
        return c.op("Floor", c.op("Div", a, b))
    return c.op("Div", c.op("Sub", a, c.op("Mod", a, b)), b)  # Mod has the sign of b


def _truediv(c: Call, numbers: _Numbers) -> Value:
    return c.op("Div", *(c.cast(n, FLOAT64) for n in numbers))


def _mod(c: Call, numbers: _Numbers) -> Value:
    return c.op("Mod", *_alike(c, numbers))


def _pow(c: Call, numbers: _Numbers) -> Value:
    return c.op("Pow", *_alike(c, numbers))


def _neg(c: Call, numbers: _Numbers) -> Value:
    return c.op("Neg", numbers[0])


def _float(c: Call, numbers: _Numbers) -> Value:
    return c.cast(numbers[0], FLOAT64)


def _sqrt(c: Call, numbers: _Numbers) -> Value:
    return c.op("Sqrt", c.cast(numbers[0], FLOAT64))


def _ceil(c: Call, numbers: _Numbers) -> Value:
    return c.cast(c.op("Ceil", c.cast(numbers[0], FLOAT64)), INT64)


def _floor(c: Call, numbers: _Numbers) -> Value:
    return c.cast(c.op("Floor", c.cast(numbers[0], FLOAT64)), INT64)


def _trunc(c: Call, numbers: _Numbers) -> Value:
    return c.cast(numbers[0], INT64)


_OF_TENSORS: dict[str, Callable[..., Value]] = {
    "sym_size": _size,
    "sym_numel": _numel,
    "item": _item,
    "_local_scalar_dense": _item,
}
_OTHERS: dict[str, Callable[[Call, _Numbers], Value]] = {
    "floordiv": _floordiv,
    "truediv": _truediv,
    "mod": _mod,
    "pow": _pow,
    "neg": _neg,
    "sym_float": _float,
    "_sym_sqrt": _sqrt,
    "sym_sqrt": _sqrt,
    "ceil": _ceil,
    "floor": _floor,
    "trunc": _trunc,
    "sym_int": _trunc,
}
