"""Where lines, dots and words of a report's pictures lie; the templates draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DENSITY = (96.0, 24.0)  # the size of a picture of weights, in pixels
CHART = (520.0, 300.0)  # of a curve
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 16.0, 14.0, 40.0  # what is around the curve
_TICKS = 8  # numbers along an axis, at most about so many
_PAD = 0.06  # of the range of an axis, beyond the outermost points
_LEAST, _TINY = 1e-3, 1e-9  # that there is beyond them: as a share of the numbers, and at all


@dataclass(frozen=True)
class Dot:
    """A point at ``x``, ``y``, with a bar from ``low`` to ``high``, and what is said of it.

    Numbers are those of the axes, or places in the picture.
    """

    x: float
    y: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Tick:
    """A number along an axis, where it lies."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A curve: its dots from left to right, and a level that they are compared with."""

    title: str
    unit: str
    along: str
    dots: Sequence[Dot]
    across: Sequence[Tick]
    up: Sequence[Tick]
    level: float | None
    level_text: str

    @property
    def line(self) -> str:
        """The corners of the line through the dots."""
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Where the curve's area begins and ends: left, right, top, bottom."""
        return _LEFT, CHART[0] - _RIGHT, _TOP, CHART[1] - _BOTTOM


@dataclass(frozen=True)
class Axes:
    """What a curve is called, and what its axes measure; ``level`` is the original's."""

    title: str
    unit: str
    along: str
    level: float | None = None
    level_text: str = ""


def chart(points: Sequence[Dot], axes: Axes) -> Chart | None:
    """The curve through points, None if there are none."""
    if not points:
        return None
    ordered = sorted(points, key=lambda point: point.x)
    known = [axes.level] if axes.level is not None else []
    across = _Scale.of([p.x for p in ordered], _LEFT, CHART[0] - _RIGHT)
    heights = [y for p in ordered for y in (p.low, p.high)] + known
    up = _Scale.of(heights, CHART[1] - _BOTTOM, _TOP)
    dots = [Dot(across(p.x), up(p.y), up(p.low), up(p.high), p.label) for p in ordered]
    level = None if axes.level is None else up(axes.level)
    named = axes.title, axes.unit, axes.along
    return Chart(*named, dots, across.ticks, up.ticks, level, axes.level_text)


@dataclass(frozen=True)
class _Scale:
    """Numbers from ``low`` to ``high`` as places from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, numbers: Sequence[float], start: float, end: float) -> _Scale:
        low, high = min(numbers), max(numbers)
        pad = max(_PAD * (high - low), _LEAST * max(abs(low), abs(high)), _TINY)
        return cls(low - pad if low < 0 else max(0.0, low - pad), high + pad, start, end)

    def __call__(self, number: float) -> float:
        share = (number - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[Tick]:
        """Round numbers within it."""
        step = _round((self.high - self.low) / _TICKS)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [Tick(self(n * step), f"{n * step:.6g}") for n in range(first, last + 1)]


def _round(step: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is no smaller."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step)


@dataclass(frozen=True)
class Densities:
    """Outlines of the densities of a layer's weights, before and now, on one scale."""

    was: str | None
    now: Sequence[str]
    text: str


def densities(was: Mapping[str, Any] | None, now: Sequence[Mapping[str, Any]]) -> Densities | None:
    """The outlines of densities as JSON holds them: None if there are none."""
    known = [held for held in (was, *now) if held is not None]
    if not known:
        return None
    low, high = min(held["low"] for held in known), max(held["high"] for held in known)
    top = max(map(_peak, known))
    made = [_outline(held, low, high, top) for held in known]
    text = "weights " + ", ".join(f"from {held['low']:.2g} to {held['high']:.2g}" for held in known)
    return Densities(made[0] if was else None, made[1:] if was else made, text)


def _peak(held: Mapping[str, Any]) -> float:
    highest: float = max((_TINY, *held["shares"]))
    return highest / _bin(held)


def _bin(held: Mapping[str, Any]) -> float:
    """The width of a bin; of weights that are all the same that of a line."""
    width: float = (held["high"] - held["low"]) / max(len(held["shares"]), 1)
    return width if width > 0 else max(abs(held["low"]), _TINY)


def _outline(held: Mapping[str, Any], low: float, high: float, top: float) -> str:
    """The corners of steps over the bins."""
    width, height = DENSITY
    scale = width / (high - low) if high > low else 0.0
    start, step = (held["low"] - low) * scale, (held["high"] - held["low"]) * scale
    shares = held["shares"]
    each = max(step / max(len(shares), 1), 1.0)
    corners = [(start, height)]
    for place, share in enumerate(shares):
        y = height - (height - 1) * min(1.0, math.sqrt(max(share, 0) / _bin(held) / top))
        corners += [(start + place * each, y), (start + (place + 1) * each, y)]
    corners.append((start + len(shares) * each, height))
    return " ".join(f"{min(max(x, 0), width):.1f},{y:.1f}" for x, y in corners)
