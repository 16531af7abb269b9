"""Rules for pools, adaptive ones too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redir.frontends.torch.aten.windows import MATRIX, batched, each, unless
from redir.frontends.torch.call import RULES, Call, NotLowered, Rule, first_only, whole
from redir.ir import Value
from redir.ir.tensor import Dim


def _pool_sizes(
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    ceil: object,
) -> dict[str, tuple[int, ...] | int | None]:
    spatial = len(kernel)
    return {
        "kernel_shape": tuple(kernel),
        "strides": unless(each(strides or kernel, spatial), 1),
        "pads": unless(each(padding, spatial) * 2, 0),
        "ceil_mode": 1 if ceil else None,
    }


def _max_pool(spatial: int) -> Rule:
    def rule(
        c: Call,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil: bool = False,
    ) -> Value:
        attrs = _pool_sizes(each(kernel, spatial), strides, padding, ceil)
        dilations = unless(each(dilation, spatial), 1)
        return batched(c, x, spatial, lambda v: c.main("MaxPool", v, **attrs, dilations=dilations))

    return rule


def _avg_pool(spatial: int) -> Rule:
    def rule(
        c: Call,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil: bool = False,
        count_pad: bool = True,
        divisor: int | None = None,
    ) -> Value:
        sizes = each(kernel, spatial)
        attrs = _pool_sizes(sizes, strides, padding, ceil)
        counted = 1 if attrs["pads"] and (count_pad or divisor) else None
        if divisor and ceil:
            raise NotLowered
        y = batched(
            c, x, spatial, lambda v: c.main("AveragePool", v, **attrs, count_include_pad=counted)
        )
        return c.op("Mul", y, c.const(np.prod(sizes) / divisor, c.dtype)) if divisor else y

    return rule


for _spatial in (1, 2, 3):
    RULES[f"max_pool{_spatial}d"] = _max_pool(_spatial)
    RULES[f"max_pool{_spatial}d_with_indices"] = first_only(_max_pool(_spatial))
    RULES[f"avg_pool{_spatial}d"] = _avg_pool(_spatial)


def _adaptive(spatial: int, everything: str, part: str) -> Rule:
    def rule(c: Call, x: Value, sizes: Sequence[int | None] | int) -> Value:
        listed = [sizes] if isinstance(sizes, int) else list(sizes)
        wanted = [w if w is None else whole(w) for w in listed]
        wanted = wanted * spatial if len(wanted) == 1 else wanted
        now = c.shape(x)[-spatial:]
        if all(w is None or w == n for w, n in zip(wanted, now, strict=True)):
            return x
        if all(w == 1 for w in wanted):
            return batched(c, x, spatial, lambda v: c.main(everything, v))
        kernel = _even(wanted, now)
        if kernel is None:
            return _uneven(c, x, [whole(w) for w in wanted], part)
        attrs = {"kernel_shape": kernel, "strides": unless(kernel, 1)}
        return batched(c, x, spatial, lambda v: c.main(part, v, **attrs))

    return rule


def _even(wanted: Sequence[int | None], now: Sequence[Dim]) -> tuple[int, ...] | None:
    """The kernel of a pool that gives the ``wanted`` sizes, where one does."""
    kernel = []
    for goal, size in zip(wanted, now, strict=True):
        if goal is None or goal == size:
            kernel.append(1)
        elif goal and isinstance(size, int) and size % goal == 0:
            kernel.append(size // goal)
        else:
            return None
    return tuple(kernel)


def _uneven(c: Call, x: Value, wanted: Sequence[int], part: str) -> Value:
    """Averages over windows of different widths are products with a matrix for each axis."""
    if part == "MaxPool":
        return _largest(c, x, wanted)
    if len(wanted) > MATRIX:
        raise NotLowered
    y = c.main("MatMul", x, c.const(_averages(c.size(x, -1), wanted[-1]), c.dtype))
    if len(wanted) == 1:
        return y
    return c.op("MatMul", c.const(_averages(c.size(x, -2), wanted[0]).T, c.dtype), y)


def _largest(c: Call, x: Value, wanted: Sequence[int]) -> Value:
    """The largest of each window, one axis after the other."""
    for axis, goal in enumerate(wanted, c.rank(x) - len(wanted)):
        windows = [c.cut(x, axis, *ends) for ends in _windows(c.size(x, axis), goal)]
        along = c.const([axis])
        shape = (*c.shape(x)[:axis], goal, *c.shape(x)[axis + 1 :])
        x = c.op("Concat", *(c.op("ReduceMax", w, along) for w in windows), axis=axis)
        c.shapes[x] = shape
    return x


def _windows(size: int, goal: int) -> list[tuple[int, int]]:
    """Where each window of an adaptive pool starts and ends."""
    return [(i * size // goal, -(-(i + 1) * size // goal)) for i in range(goal)]


def _averages(size: int, goal: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    matrix = np.zeros((size, goal))
    for i, (start, end) in enumerate(_windows(size, goal)):
        matrix[start:end, i] = 1 / (end - start)
    return matrix


for _spatial in (1, 2, 3):
    RULES[f"adaptive_avg_pool{_spatial}d"] = _adaptive(_spatial, "GlobalAveragePool", "AveragePool")
    RULES[f"_adaptive_avg_pool{_spatial}d"] = RULES[f"adaptive_avg_pool{_spatial}d"]
    RULES[f"adaptive_max_pool{_spatial}d"] = first_only(
        _adaptive(_spatial, "GlobalMaxPool", "MaxPool")
    )
