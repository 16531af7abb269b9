"""Rules for images that are read between their points: resizing and grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from redir.frontends.torch.call import (
    ABSENT,
    FLOAT32,
    RULES,
    Call,
    NotLowered,
    Rule,
    Size,
    aten,
    whole,
)
from redir.ir import Value
from redir.ir.tensor import Dim


def _resize(
    c: Call,
    x: Value,
    sizes: Sequence[Size] | None,
    scales: Sequence[float] | None,
    **attrs: str | float,
) -> Value:
    """To scales where they say the sizes exactly; a scale of 1 leaves the channels as they are."""
    spatial = c.rank(x) - 2
    now, goal = c.shape(x)[2:], c.dims[2:]
    found = scales or _whole_scales(now, goal)
    if found is not None:
        factors = c.const([1.0, 1.0, *found], FLOAT32)
        return c.main("Resize", x, ABSENT, factors, **attrs)
    if sizes is None:
        raise NotLowered
    lead = c.shape(x)[:2]
    if all(isinstance(d, int) for d in lead):
        whole_goal = c.sizes([*map(whole, lead), *sizes])
        return c.main("Resize", x, ABSENT, ABSENT, whole_goal, **attrs)
    axes = tuple(range(2, 2 + spatial))
    return c.main("Resize", x, ABSENT, ABSENT, c.sizes(sizes), **attrs, axes=axes)


def _whole_scales(now: Sequence[Dim], goal: Sequence[Dim]) -> list[float] | None:
    pairs = [
        (n, g) for n, g in zip(now, goal, strict=True) if isinstance(n, int) and isinstance(g, int)
    ]
    if len(pairs) < len(goal) or any(g % n for n, g in pairs):
        return None
    return [g / n for n, g in pairs]


def _linear_resize(mode: str) -> Rule:
    def rule(
        c: Call,
        x: Value,
        sizes: Sequence[Size] | None,
        corners: bool,
        scales: Sequence[float] | float | None = None,
        *more: float | None,
    ) -> Value:
        factors = _factors(scales, more, c.rank(x) - 2)
        where = "align_corners" if corners else "half_pixel"
        attrs: dict[str, str | float] = {"mode": mode, "coordinate_transformation_mode": where}
        if mode == "cubic":
            attrs["cubic_coeff_a"] = -0.75
        return _resize(c, x, sizes, None if corners else factors, **attrs)

    return rule


def _factors(
    scales: Sequence[float] | float | None, more: Sequence[float | None], count: int
) -> list[float] | None:
    """The scales that the program states: a list of them, or one number after the other."""
    listed = [scales, *more] if scales is None or isinstance(scales, int | float) else list(scales)
    known = [float(s) for s in listed if s is not None]
    return known if len(known) == count else None


def _nearest_resize(where: str, nearest: str) -> Rule:
    def rule(
        c: Call,
        x: Value,
        sizes: Sequence[Size] | None,
        scales: Sequence[float] | float | None = None,
        *more: float | None,
    ) -> Value:
        attrs = {"coordinate_transformation_mode": where, "nearest_mode": nearest}
        factors = _factors(scales, more, c.rank(x) - 2)
        return _resize(c, x, sizes, factors, mode="nearest", **attrs)

    return rule


for _name, _mode in (
    ("linear1d", "linear"),
    ("bilinear2d", "linear"),
    ("trilinear3d", "linear"),
    ("bicubic2d", "cubic"),
):
    RULES[f"upsample_{_name}"] = _linear_resize(_mode)
for _spatial in (1, 2, 3):
    RULES[f"upsample_nearest{_spatial}d"] = _nearest_resize("asymmetric", "floor")
    RULES[f"_upsample_nearest_exact{_spatial}d"] = _nearest_resize(
        "half_pixel", "round_prefer_ceil"
    )


_MODES = ("linear", "nearest", "cubic")
_PADS = ("zeros", "border", "reflection")


@aten("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid_sampler(c: Call, x: Value, grid: Value, mode: int, pads: int, corners: bool) -> Value:
    if _MODES[mode] == "cubic" and _PADS[pads] == "border":
        raise NotLowered  # ONNX moves the place to the border, PyTorch each of its neighbours
    attrs = {"mode": _MODES[mode], "padding_mode": _PADS[pads]}
    return c.main("GridSample", x, grid, align_corners=int(corners), **attrs)


@aten("affine_grid_generator")
def _affine_grid(c: Call, theta: Value, sizes: Sequence[Size], corners: bool) -> Value:
    return c.main("AffineGrid", theta, c.sizes(sizes), align_corners=int(corners))


def _triangle(x: float) -> float:
    return max(1 - abs(x), 0)


def _cubic(x: float) -> float:
    """The cubic kernel of a = -0.5, as image libraries have it."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0  # noqa: PLR2004 - its half width


def _antialiased(kernel: Callable[[float], float], reach: int) -> Rule:
    def rule(
        c: Call,
        x: Value,
        sizes: Sequence[Size] | None,
        corners: bool,
        scales: Sequence[float] | float | None = None,
        *more: float | None,
    ) -> Value:
        """A product with a matrix for each of the two axes."""
        del sizes
        stated = list(scales) if isinstance(scales, Sequence) else [scales, *more]
        matrices = []
        for axis, factor in zip((-2, -1), [*stated, None, None], strict=False):
            size, goal = c.size(x, axis), c.dims[axis]
            if not isinstance(goal, int):
                raise NotLowered
            step = _step(size, goal, factor, corners=corners)
            matrices.append(_weights(size, goal, step, kernel, reach))
        rows, columns = matrices
        wide = c.main("MatMul", x, c.const(columns.T, c.dtype))
        return c.op("MatMul", c.const(rows, c.dtype), wide)

    return rule


def _step(size: int, goal: int, factor: float | None, *, corners: bool) -> float:
    """How far apart in the input the points of the output are."""
    if corners:
        return (size - 1) / (goal - 1) if goal > 1 else 0
    return 1 / float(factor) if factor else size / goal


def _weights(
    size: int, goal: int, step: float, kernel: Callable[[float], float], reach: int
) -> npt.NDArray[np.float64]:
    """What each point of the output takes of each of the input's."""
    wide = max(step, 1)
    weights = np.zeros((goal, size))
    for i in range(goal):
        centre = step * (i + 0.5)
        start = max(math.floor(centre - reach * wide + 0.5), 0)
        end = min(math.floor(centre + reach * wide + 0.5), size)
        taken = [kernel((j - centre + 0.5) / wide) for j in range(start, end)]
        weights[i, start:end] = np.array(taken) / sum(taken)
    return weights


RULES["_upsample_bilinear2d_aa"] = _antialiased(_triangle, 1)
RULES["_upsample_bicubic2d_aa"] = _antialiased(_cubic, 2)
