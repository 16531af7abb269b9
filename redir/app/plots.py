"""Pictures of results, by matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redir.atomic import replacing
from redir.errors import BadInput
from redir.evaluation.scales import Scale, scale
from redir.figures import empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".svg", ".png", ".pdf")
_SIZE = (4.0, 3.2)  # inches of a picture


def check_ending(path: str) -> None:
    """Refuse a name that says nothing of its format, or one for nothing.

    Raises:
        BadInput: it ends in none of ``ENDINGS``.
        MissingExtra: matplotlib is not installed.
    """
    if Path(path).suffix not in ENDINGS:
        raise BadInput(f"{path}: expected a picture that ends in {', '.join(ENDINGS)}")
    empty(1, 1)


def save(figure: Figure, path: str) -> None:
    """Write a figure to a file, in the format that its ending names."""
    held, kind = BytesIO(), Path(path).suffix[1:]
    figure.savefig(held, format=kind, metadata={"Date": None} if kind == "svg" else None)
    with replacing(Path(path)) as (file,):
        file.write(held.getvalue())


def curve(summary: Mapping[str, Any], along: str) -> Figure:
    """What a sweep found, along the share of ``along`` that is left: quality, and time if known."""
    points, before = summary["points"], summary["before"][along]
    shares = [point[along] / before for point in points]
    timed = [(s, p["time"]) for s, p in zip(shares, points, strict=True) if p["time"]]
    figure = empty(_SIZE[0] * (2 if timed else 1), _SIZE[1])
    axes = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    _quality(axes[0], shares, summary)
    if timed:
        _time(axes[1], timed)
    for each in axes:
        each.set_xlabel(f"{along} left")
        each.grid(alpha=0.3)
    return figure


def _quality(axes: Axes, shares: Sequence[float], summary: Mapping[str, Any]) -> None:
    judged = summary["eval"]
    of = scale(judged["metric"]) if judged else Scale("deviation")
    found = [p["eval" if judged else "deviation"] for p in summary["points"]]
    known = [(s, of.factor * v) for s, v in zip(shares, found, strict=True) if v is not None]
    axes.plot([share for share, _ in known], [value for _, value in known], "o-")
    axes.set_ylabel(of.axis)
    if judged and judged["before"] is not None:
        level = of.factor * judged["before"]
        axes.axhline(level, color="grey", linestyle="--", label="original")
        axes.legend()


def _time(axes: Axes, timed: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
    ratios = [time["ratio"] for _, time in timed]
    below = [time["ratio"] - time["low"] for _, time in timed]
    above = [time["high"] - time["ratio"] for _, time in timed]
    axes.errorbar([share for share, _ in timed], ratios, [below, above], fmt="o-", capsize=3)
    axes.axhline(1, color="grey", linestyle="--")
    axes.set_ylabel("time, as a share of the original's")
