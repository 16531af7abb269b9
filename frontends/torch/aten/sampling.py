"""Rules for images that are read between their points: grids, and resizing without aliases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from redir.frontends.torch.call import RULES, Call, NotLowered, Rule, Size, aten
from redir.ir import Value

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
    return 1 / factor if factor else size / goal


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
