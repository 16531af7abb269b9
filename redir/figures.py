"""Figures of matplotlib (the extra ``plot``): what all pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from redir.errors import MissingExtra, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.22  # inches of height for a row that has a name


def empty(width: float, height: float) -> Figure:
    """A figure of so many inches that belongs to no window.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra is optional
    except ImportError as error:
        raise MissingExtra("drawing", "plot") from error
    return Figure(figsize=(width, height), layout="constrained")


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write names, safe to show, along the vertical axis: one for each row."""
    axes.set_yticks(np.arange(len(names)), list(map(visible, names)), parse_math=False)
