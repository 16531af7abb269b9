"""How numbers of a metric are called and written, by the name of the metric alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf


@dataclass(frozen=True)
class Scale:
    """What a metric is called, and its numbers: ``factor`` times as large, and with a ``unit``."""

    title: str
    unit: str = ""
    factor: float = 1.0
    digits: str = ".4g"

    def text(self, value: float | None, space: str = "") -> str:
        """A number and its unit, with a ``space`` between them; None stands for an infinite one."""
        if value is None or isinf(value):
            return "inf"
        number = format(self.factor * value, self.digits)
        between = space or ("" if self.unit == "%" else " ")
        return f"{number}{between}{self.unit}" if self.unit else number

    def change(self, before: float | None, after: float | None) -> str:
        """By how much a number is another, in points if it is a share."""
        if before is None or after is None or isinf(before) or isinf(after):
            return "-"
        return format(self.factor * (after - before), f"+{self.digits}")

    @property
    def axis(self) -> str:
        """What stands along the axis of a picture."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


def _share(title: str) -> Scale:
    return Scale(title, "%", 100.0, ".2f")


SCALES = {
    "top1": _share("accuracy"),
    "top5": _share("top-5 accuracy"),
    "miou": _share("mean IoU"),
    "cosine": Scale("cosine", digits=".6f"),
    "psnr": Scale("PSNR", "dB", digits=".2f"),
    "mse": Scale("mean squared error"),
}


def scale(metric: str) -> Scale:
    """The scale of a metric; that of a function has its name."""
    return SCALES.get(metric) or Scale(metric.rpartition(":")[2] or metric)
