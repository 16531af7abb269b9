"""Rules for tensors that are made of no other: ranges, and one number many times."""

from __future__ import annotations

import numpy as np

from redir.frontends.torch.call import (
    RULES,
    Call,
    NotLowered,
    Number,
    Operand,
    Rule,
    Size,
    aten,
    whole,
)
from redir.ir import Value
from redir.ir.tensor import Tensor


def _range(c: Call, start: Operand, end: Operand, step: Operand = 1) -> Value:
    return c.main("Range", *c.same(start, end, step))


def _filled(c: Call, shape: Value | None, held: Operand) -> Value:
    """The constant ``held`` in the shape of the result, which a vector says if it is not known."""
    if c.dims == ():
        return c.operand(held, c.dtype)
    known = [d for d in c.dims if isinstance(d, int)]
    shape = c.const(known) if len(known) == len(c.dims) else shape
    if shape is None:
        raise NotLowered
    if isinstance(held, bool | int | float):
        return c.main("ConstantOfShape", shape, value=Tensor(np.array([held], c.dtype)))
    return c.main("Expand", c.operand(held, c.dtype), shape)


@aten("eye")
def _eye(c: Call, *_: object) -> Value:
    rows, columns = (whole(d) for d in c.dims)
    return c.const(np.eye(rows, columns), c.dtype)


@aten("linspace")
def _linspace(c: Call, start: Operand, end: Operand, steps: Size, *_: object) -> Value:
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        raise NotLowered
    return c.const(np.linspace(start, end, whole(steps)), c.dtype)


def _sized(place: int, held: Number | None = None) -> Rule:
    """A rule for the sizes at a ``place`` of the arguments, and what is ``held`` or comes next."""
    return lambda c, *args: _filled(
        c, c.sizes(args[place]), args[place + 1] if held is None else held
    )


def _like(held: Number) -> Rule:
    return lambda c, x, *_: _filled(c, c.shape_of(x), held)


for _name, _held in (("zeros", 0), ("ones", 1), ("empty", 0)):
    RULES[_name], RULES[f"new_{_name}"] = _sized(0, _held), _sized(1, _held)
    RULES[f"{_name}_like"] = _like(_held)
RULES |= {
    "arange.default": lambda c, end, *_: _range(c, 0, end),
    "arange.start": lambda c, start, end, *_: _range(c, start, end),
    "arange.start_step": lambda c, start, end, step=1, *_: _range(c, start, end, step),
    "fill": lambda c, x, held, *_: _filled(c, c.shape_of(x), held),
    "full": _sized(0),
    "full_like": lambda c, x, held, *_: _filled(c, c.shape_of(x), held),
    "new_full": _sized(1),
    "scalar_tensor": lambda c, held, *_: c.operand(held, c.dtype),
    "zero": _like(0),
}
