"""Whether two outputs are equal: the one judgement of all that compares graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from redir.ir.tensor import Array, epsilon, raw


class Bounds(NamedTuple):
    """How far two floats may be apart: atol + rtol |a| + error times the largest |a|."""

    rtol: float = 0.0
    atol: float = 0.0
    error: float = 0.0


SAME = Bounds()  # ==


@dataclass(frozen=True)
class Figures:
    """What was seen of one output in the sample where it differs most, as a share.

    ``difference``: between the two models; ``own``: of the first from the float64 reference, which
    is looked at where the two differ; ``allowed``: what was tolerated; ``scale``: the largest
    magnitude of the output; ``rounding``: 64 units in the last place of that.
    """

    output: str
    difference: float
    own: float = 0.0
    allowed: float = 0.0
    scale: float = 0.0
    rounding: float = 0.0

    @property
    def share(self) -> float:
        """The difference as a share of the output's magnitude.

        Where it is above the rounding of that, it leaves out what the float error of the first
        explains: it may be ``own`` from the truth, and the second eight times that.
        """
        beyond = max(self.difference - 9 * self.own, min(self.difference, self.rounding))
        return beyond / (self.scale or 1.0)


def judge(
    name: str, a: Any, b: Any, truth: Any = None, bounds: Bounds | None = None
) -> tuple[Figures, str]:
    """How far an output ``b`` is from ``a``, and the reason if that is too far.

    Without ``bounds``, ``b`` may be as far from the ``truth`` as eight times ``a`` itself, and 64
    units in the last place of the largest |a|. NaN and infinities must be the same in both.
    """
    if isinstance(a, list):  # a sequence: item by item, the worst counts
        if len(a) != len(b):
            return Figures(name, np.inf), f"{name}: {len(a)} items became {len(b)}"
        items = [judge(name, i, j, None, bounds) for i, j in zip(a, b, strict=True)]
        none = (Figures(name, 0.0), "")
        return max(items, key=lambda i: (bool(i[1]), i[0].difference), default=none)
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        kinds = f"{a.dtype}{list(a.shape)} became {b.dtype}{list(b.shape)}"
        return Figures(name, np.inf), f"{name}: {kinds}"
    if a.dtype.kind not in "fV" or a.size == 0:
        same = bool(np.all(a == b))
        return Figures(name, float(not same), scale=1), "" if same else f"{name} differs"
    if truth is None and a.dtype.kind == "f" and same_bytes(a, b):
        scale = _largest(a[np.isfinite(a)])
        rounding = 64 * epsilon(a.dtype) * scale
        return Figures(name, 0.0, 0.0, rounding, scale, rounding), ""
    return _judge_floats(name, a, b, truth, bounds)


def same_bytes(a: Array, b: Array) -> bool:
    """Whether two arrays are the same to the bit."""
    return (a.dtype, a.shape) == (b.dtype, b.shape) and raw(a) == raw(b)


def _judge_floats(
    name: str, a: Array, b: Array, reference: Any, bounds: Bounds | None
) -> tuple[Figures, str]:
    truth = a if reference is None else np.asarray(reference)
    truth = truth.astype(np.float64) if truth.shape == a.shape else a.astype(np.float64)
    eps = epsilon(a.dtype)
    a, b = a.astype(np.float64), b.astype(np.float64)
    odd = ~(np.isfinite(a) & np.isfinite(b))
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return Figures(name, np.inf), f"{name}: NaN or infinity became something else"
    a, b, truth = a[~odd], b[~odd], truth[~odd]
    truth = np.where(np.isfinite(truth), truth, a)
    scale, own, far, difference = map(_largest, (a, a - truth, b - truth, b - a))
    rounding = 64 * eps * scale
    if bounds is None:
        allowed, excess = 8 * own + rounding, far
    else:
        fixed = bounds.atol + bounds.error * scale
        allowed = fixed + bounds.rtol * scale
        excess = allowed + _largest(np.maximum(np.abs(b - a) - fixed - bounds.rtol * np.abs(a), 0))
    figures = Figures(name, difference, own, allowed, scale, rounding)
    why = "" if excess <= allowed else f"{name} differs by {difference:.3g} of {scale:.3g}"
    return figures, why


def _largest(array: Array) -> float:
    return float(np.max(np.abs(array), initial=0.0))
