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


@aten("arange.default")
def _arange(c: Call, end: Size | float, *_: object) -> Value:
    return _range(c, 0, end)


@aten("arange.start")
def _arange_start(c: Call, start: Size | float, end: Size | float, *_: object) -> Value:
    return _range(c, start, end)


@aten("arange.start_step")
def _arange_step(
    c: Call, start: Size | float, end: Size | float, step: Size | float = 1, *_: object
) -> Value:
    return _range(c, start, end, step)


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


def _new(held: Number) -> Rule:
    def rule(c: Call, sizes: list[Size], *_: object) -> Value:
        return _filled(c, c.sizes(sizes), held)

    return rule


def _new_beside(held: Number) -> Rule:
    def rule(c: Call, _: Value, sizes: list[Size], *__: object) -> Value:
        return _filled(c, c.sizes(sizes), held)

    return rule


def _new_like(held: Number) -> Rule:
    def rule(c: Call, x: Value, *_: object) -> Value:
        return _filled(c, c.shape_of(x), held)

    return rule


for _name, _held in (("zeros", 0), ("ones", 1), ("empty", 0)):
    RULES[_name], RULES[f"new_{_name}"] = _new(_held), _new_beside(_held)
    RULES[f"{_name}_like"] = _new_like(_held)
RULES["zero"] = _new_like(0)


@aten("full")
def _full(c: Call, sizes: list[Size], held: Operand, *_: object) -> Value:
    return _filled(c, c.sizes(sizes), held)


@aten("new_full")
def _new_full(c: Call, _: Value, sizes: list[Size], held: Operand, *__: object) -> Value:
    return _filled(c, c.sizes(sizes), held)


@aten("full_like", "fill")
def _full_like(c: Call, x: Value, held: Operand, *_: object) -> Value:
    return _filled(c, c.shape_of(x), held)


@aten("scalar_tensor")
def _scalar_tensor(c: Call, held: Operand, *_: object) -> Value:
    return c.operand(held, c.dtype)


@aten("eye")
def _eye(c: Call, *_: object) -> Value:
    rows, columns = (whole(d) for d in c.dims)
    return c.const(np.eye(rows, columns), c.dtype)


@aten("linspace")
def _linspace(c: Call, start: Operand, end: Operand, steps: Size, *_: object) -> Value:
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        raise NotLowered
    return c.const(np.linspace(start, end, whole(steps)), c.dtype)
