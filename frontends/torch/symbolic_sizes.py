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

_SIMPLE = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "sym_max": "Max", "sym_min": "Min", "mod": "Mod",
    "pow": "Pow", "neg": "Neg",
}  # fmt: skip


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


def _item(c: Call, x: Value) -> Value:
    kind = FLOAT64 if x.type.dtype.kind == "f" else INT64
    return c.cast(c.op("Reshape", x, c.const([1])), kind)


def _floordiv(c: Call, numbers: _Numbers) -> Value:
    a, b = _alike(c, numbers)
    if a.type.dtype != INT64:
        return c.op("Floor", c.op("Div", a, b))
    return c.op("Div", c.op("Sub", a, c.op("Mod", a, b)), b)  # Mod has the sign of b


_OF_TENSORS: dict[str, Callable[..., Value]] = {
    "sym_size": lambda c, x, axis: c.size_of(x, c.axis(x, axis)),
    "sym_numel": lambda c, x: c.op("Reshape", c.op("Size", x), c.const([1])),
    "item": _item,
    "_local_scalar_dense": _item,
}
_OTHERS: dict[str, Callable[[Call, _Numbers], Value]] = {
    "floordiv": _floordiv,
    "truediv": lambda c, numbers: c.op("Div", *(c.cast(n, FLOAT64) for n in numbers)),
    "sym_float": lambda c, numbers: c.cast(numbers[0], FLOAT64),
    "trunc": lambda c, numbers: c.cast(numbers[0], INT64),
    "sym_int": lambda c, numbers: c.cast(numbers[0], INT64),
    "sym_sqrt": lambda c, numbers: c.op("Sqrt", c.cast(numbers[0], FLOAT64)),
    "_sym_sqrt": lambda c, numbers: c.op("Sqrt", c.cast(numbers[0], FLOAT64)),
    "ceil": lambda c, numbers: c.cast(c.op("Ceil", c.cast(numbers[0], FLOAT64)), INT64),
    "floor": lambda c, numbers: c.cast(c.op("Floor", c.cast(numbers[0], FLOAT64)), INT64),
}
