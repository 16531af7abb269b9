"""Rules for sums and their like, and for what puts numbers in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import numpy as np

from redir.frontends.torch.call import (
    BOOL,
    RULES,
    Call,
    NotLowered,
    Rule,
    Size,
    aten,
)
from redir.ir import Value
from redir.ir.tensor import Shape


def axes_of(rank: int, axes: int | Sequence[int] | None) -> list[int]:
    """The axes that are named, none negative; all of them where none is."""
    if axes is None or axes == []:
        return list(range(rank))
    named = [axes] if isinstance(axes, int) else axes
    return sorted(a % max(rank, 1) for a in named) if rank else []


def _reduced(
    c: Call,
    name: str,
    x: Value,
    axes: int | Sequence[int] | None,
    keep: bool,
    *,
    main: bool = True,
) -> Value:
    rank = c.rank(x)
    if rank == 0:
        return x
    places = axes_of(rank, axes)
    make = c.main if main else c.op
    y = make(name, x, c.const(places), keepdims=1 if keep else 0)
    shape: Shape = tuple(1 if i in places else d for i, d in enumerate(c.shape(x)))
    c.shapes[y] = shape if keep else tuple(d for i, d in enumerate(shape) if i not in places)
    return y


def _reduction(name: str) -> Rule:
    def rule(
        c: Call, x: Value, axes: int | list[int] | None = None, keep: bool = False, *_: object
    ) -> Value:
        return _reduced(c, name, c.cast(x, c.dtype), axes, keep)

    return rule


def _whole_reduction(name: str) -> Rule:
    def rule(c: Call, x: Value, *_: object) -> Value:
        return _reduced(c, name, c.cast(x, c.dtype), None, keep=False)

    return rule


for _name, _to_name in (("mean", "Mean"), ("sum", "Sum"), ("prod", "Prod")):
    RULES[_name] = _reduction(f"Reduce{_to_name}")
    RULES[f"{_name}.default"] = _whole_reduction(f"Reduce{_to_name}")
RULES["amax"], RULES["amin"] = _reduction("ReduceMax"), _reduction("ReduceMin")
RULES["max.default"], RULES["min.default"] = map(_whole_reduction, ("ReduceMax", "ReduceMin"))
RULES["logsumexp"] = _reduction("ReduceLogSumExp")


def _extreme(reduce: str, arg: str) -> Rule:
    def rule(c: Call, x: Value, axis: int, keep: bool = False) -> tuple[Value, ...]:
        best = _reduced(c, reduce, x, axis, keep)
        return best, c.op(arg, x, axis=axis, keepdims=1 if keep else 0)

    return rule


RULES["max.dim"] = _extreme("ReduceMax", "ArgMax")
RULES["min.dim"] = _extreme("ReduceMin", "ArgMin")


def _place(name: str) -> Rule:
    def rule(c: Call, x: Value, axis: int | None = None, keep: bool = False) -> Value:
        if axis is None:
            x, axis = c.op("Reshape", x, c.const([-1])), 0
        return c.main(name, x, axis=axis, keepdims=1 if keep else 0)

    return rule


RULES["argmax"], RULES["argmin"] = _place("ArgMax"), _place("ArgMin")


def _logic(name: str) -> Callable[..., Value]:
    def rule(c: Call, x: Value, axes: int | list[int] | None = None, keep: bool = False) -> Value:
        found = c.cast(c.cast(x, BOOL), np.dtype(np.int32))
        return c.cast(_reduced(c, name, found, axes, keep), BOOL)

    return rule


RULES["any"], RULES["all"] = _logic("ReduceMax"), _logic("ReduceMin")


@aten("linalg_vector_norm", "norm.Scalar")
def _norm(
    c: Call,
    x: Value,
    order: float = 2,
    axes: int | list[int] | None = None,
    keep: bool = False,
    *_: object,
) -> Value:
    x, order = c.cast(x, c.dtype), float(order)
    if order == 0:
        raise NotLowered
    known = {1.0: "ReduceL1", 2.0: "ReduceL2"}
    if order in known:
        return _reduced(c, known[order], x, axes, keep)
    if abs(order) == inf:
        return _reduced(c, "ReduceMax" if order > 0 else "ReduceMin", c.op("Abs", x), axes, keep)
    powers = c.like(x, c.op("Pow", c.op("Abs", x), c.const(order, c.dtype)))
    total = _reduced(c, "ReduceSum", powers, axes, keep, main=False)
    return c.main("Pow", total, c.const(1 / order, c.dtype))


@aten("norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype")
def _norm_along(c: Call, x: Value, order: float | None, *args: Any) -> Value:
    return _norm(c, x, 2 if order is None else order, *args)


@aten("var.correction", "var.dim")
def _variance(
    c: Call,
    x: Value,
    axes: list[int] | None = None,
    correction: float | None = None,
    keep: bool = False,
) -> Value:
    """The old form has ``unbiased`` for a correction of 1, which True is too."""
    places = axes_of(c.rank(x), axes)
    count = float(np.prod([c.size(x, a) for a in places]))
    left = max(count - (1 if correction is None else float(correction)), 0)
    middle = _reduced(c, "ReduceMean", x, axes, keep=True, main=False)
    away = c.like(x, c.op("Sub", x, middle))
    mean = _reduced(c, "ReduceMean", c.like(x, c.op("Mul", away, away)), axes, keep, main=False)
    if left == count:
        return mean
    return c.like(mean, c.op("Mul", mean, c.const(count / left if left else inf, c.dtype)))


@aten("std.correction", "std.dim")
def _deviation(c: Call, x: Value, *args: Any) -> Value:
    return c.main("Sqrt", _variance(c, x, *args))


@aten("var_mean.correction", "var_mean.dim")
def _var_mean(
    c: Call, x: Value, axes: list[int] | None = None, less: float | None = None, keep: bool = False
) -> tuple[Value, Value]:
    return _variance(c, x, axes, less, keep), _reduced(c, "ReduceMean", x, axes, keep)


@aten("cosine_similarity")
def _cosine_similarity(c: Call, x: Value, y: Value, axis: int = 1, least: float = 1e-8) -> Value:
    product = c.op("Mul", x, y)
    lengths = [
        c.op("Max", _norm(c, v, 2, axis, keep=True), c.const(least, c.dtype)) for v in (x, y)
    ]
    share = c.op("Div", product, c.op("Mul", *lengths))
    return _reduced(c, "ReduceSum", share, axis, keep=False)


@aten("topk")
def _topk(
    c: Call, x: Value, k: Size, axis: int = -1, largest: bool = True, ordered: bool = True
) -> tuple[Value, ...]:
    flags = {"largest": 1 if largest else 0, "sorted": 1 if ordered else 0}
    return c.several("TopK", 2, x, c.sizes([k]), axis=axis, **flags)


@aten("sort.default")
def _sort(c: Call, x: Value, axis: int = -1, descending: bool = False) -> tuple[Value, ...]:
    whole_axis = c.size_of(x, c.axis(x, axis))
    return c.several("TopK", 2, x, whole_axis, axis=axis, largest=1 if descending else 0)


RULES |= {
    "argsort.default": lambda c, x, axis=-1, falling=False: _sort(c, x, axis, falling)[1],
    "cumsum": lambda c, x, axis, *_: c.main("CumSum", c.cast(x, c.dtype), c.const(axis)),
    "sort.stable": lambda c, x, _, axis=-1, falling=False: _sort(c, x, axis, falling),
    "std": lambda c, x, unbiased=True: _deviation(c, x, None, unbiased),
    "var": lambda c, x, unbiased=True: _variance(c, x, None, unbiased),
}
