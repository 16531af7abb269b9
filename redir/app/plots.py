"""Pictures of what hashing and separating find, by matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from redir import ops
from redir.cost import layers
from redir.errors import BadInput, MissingExtra, visible
from redir.ir import Graph, Node
from redir.ir.tensor import Array
from redir.layers.linear import linear
from redir.passes.hash import cells_of
from redir.passes.uneven_depthwise.basis import slice_ranks, truncated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 120  # of the histogram behind a density
_INCH = 0.22  # of height for a layer
_SHOWN = 3000  # points of a curve


def draw_density(
    weights: Array, bandwidth: float | str = 0.05, contrast: float = 0.0, title: str = ""
) -> Figure:
    """The density of a layer's ``weights`` (any shape) and the cells that ``hash`` makes of it.

    A line stands at each border, a dot on each centre: what all weights of the cell become. The
    options are those of the pass.

    Raises:
        BadInput: the weights have no density: see ``redir.passes.hash.hashed``.
        MissingExtra: matplotlib is not installed.
    """
    found = cells_of(weights, bandwidth, contrast)
    if found is None:
        raise BadInput("weights that are equal, not finite or far apart have no density")
    curve, borders, centres = found.curve, found.borders, found.centres
    tops = [np.interp(places, curve.points, curve.values) for places in (borders, centres)]
    some = slice(None, None, max(1, curve.values.size // _SHOWN))
    figure = _figure(7, 3.5)
    axes = figure.add_subplot()
    axes.set_title(visible(f"{title}: {centres.size} cells".removeprefix(": ")), parse_math=False)
    axes.set(xlabel="weight", ylabel="density")
    axes.hist(weights[weights != 0].reshape(-1), _BINS, density=True, color="0.85")
    axes.plot(curve.points[some], curve.values[some], linewidth=1)
    axes.vlines(borders, 0, tops[0], "0.5", linewidth=0.6)
    axes.plot(centres, tops[1], "o", color="C3", markersize=2.5)
    return figure


def draw_distinct(graphs: Mapping[str, Graph]) -> Figure:
    """How many distinct values each layer of some graphs holds, side by side, by their names.

    A layer stands where the first graph that has it puts it.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    held = {
        name: {layer.name or str(i): layer.cost.distinct for i, layer in enumerate(layers(graph))}
        for name, graph in graphs.items()
    }
    rows = list(dict.fromkeys(layer for counts in held.values() for layer in counts))
    figure = _figure(7, 1 + _INCH * len(rows) * max(len(held), 1))
    axes = figure.add_subplot(xlabel="distinct values", xscale="log" if rows else "linear")
    thick = 0.8 / max(len(held), 1)
    for place, (name, counts) in enumerate(held.items()):
        middle = np.arange(len(rows)) + (place - (len(held) - 1) / 2) * thick
        axes.barh(middle, [counts.get(row, 0) for row in rows], thick, label=name)
    _name_rows(axes, rows)
    axes.invert_yaxis()
    if held:
        axes.legend()
    return figure


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
    figure = _figure(7, 1.2 + _INCH * len(grid))
    axes = figure.add_subplot(xlabel="input channels, by rank")
    shown = axes.imshow(grid, aspect="auto", interpolation="nearest", vmin=0)
    _name_rows(axes, list(rows))
    figure.colorbar(shown, label="rank")
    return figure


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(np.arange(len(names)), list(map(visible, names)), parse_math=False)


def _ranks(node: Node, error: float) -> Array:
    """The ranks of a Conv whose kernel is more than one number, none for another node."""
    layer = linear(node) if node.op == ops.Conv else ""
    if isinstance(layer, str) or prod(layer.kernel) == 1:
        return np.empty(0, int)
    slices = layer.kernels.astype(np.float64)
    if not error:
        return slice_ranks(slices, layer.dtype)
    return np.bincount(truncated(slices, error, layer.dtype).channels, minlength=layer.channels)


def _figure(width: float, height: float) -> Figure:
    """A figure of so many inches that belongs to no window."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra is optional
    except ImportError as error:
        raise MissingExtra("drawing", "plot") from error
    return Figure(figsize=(width, height), layout="constrained")
