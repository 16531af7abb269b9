"""Pictures of what separating finds, by matplotlib (the extra ``plot``)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from redir import figures, ops
from redir.ir import Graph, Node
from redir.ir.tensor import Array
from redir.layers.linear import linear
from redir.passes.uneven_depthwise.basis import slice_ranks, truncated

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_ranks(graph: Graph, error: float = 0.0) -> Figure:
    """The rank of each input channel of each convolution with a kernel, the highest first.

    It is the number of basis kernels that ``uneven-depthwise{error=...}`` keeps for the channel.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    rows = {
        node.name: np.sort(found)[::-1]
        for node in graph.nodes
        if (found := _ranks(node, error)).size
    }
    width = max((found.size for found in rows.values()), default=1)
    grid = np.full((max(len(rows), 1), width), np.nan)
    for place, found in enumerate(rows.values()):
        grid[place, : found.size] = found
    figure = figures.empty(7, 1.2 + figures.ROW * len(grid))
    axes = figure.add_subplot(xlabel="input channels, by rank")
    shown = axes.imshow(grid, aspect="auto", interpolation="nearest", vmin=0)
    figures.name_rows(axes, list(rows))
    figure.colorbar(shown, label="rank")
    return figure


def _ranks(node: Node, error: float) -> Array:
    """The ranks of a Conv whose kernel is more than one number, none for another node."""
    layer = linear(node) if node.op == ops.Conv else ""
    if isinstance(layer, str) or prod(layer.kernel) == 1:
        return np.empty(0, int)
    slices = layer.kernels.astype(np.float64)
    dtype = layer.array.dtype
    if not error:
        return slice_ranks(slices, dtype)
    return np.bincount(truncated(slices, error, dtype).channels, minlength=layer.channels)
