"""Pictures of what hashing does, by matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from redir import figures
from redir.cost import layers
from redir.errors import BadInput, visible
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.passes.hash.cells import cells_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 120  # of the histogram behind a density
_SHOWN = 3000  # points of a curve


def draw_density(
    weights: Array, bandwidth: float | str = 0.05, contrast: float = 0.0, title: str = ""
) -> Figure:
    """The density of a layer's ``weights`` (any shape) and the cells that ``hash`` makes of it.

    A line stands at each border, a dot on each centre: what all weights of the cell become. The
    options are those of the pass.

    Raises:
        BadInput: the weights have no density: see ``hashed``.
        MissingExtra: matplotlib is not installed.
    """
    found = cells_of(weights, bandwidth, contrast)
    if found is None:
        raise BadInput("weights that are equal, not finite or far apart have no density")
    curve, borders, centres = found.curve, found.borders, found.centres
    tops = [np.interp(places, curve.points, curve.values) for places in (borders, centres)]
    some = slice(None, None, max(1, curve.values.size // _SHOWN))
    figure = figures.empty(7, 3.5)
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
        name: {
            layer.name or str(i): layer.cost.distinct or 0 for i, layer in enumerate(layers(graph))
        }
        for name, graph in graphs.items()
    }
    rows = list(dict.fromkeys(layer for counts in held.values() for layer in counts))
    figure = figures.empty(7, 1 + figures.ROW * len(rows) * max(len(held), 1))
    axes = figure.add_subplot(xlabel="distinct values", xscale="log" if rows else "linear")
    thick = 0.8 / max(len(held), 1)
    for place, (name, counts) in enumerate(held.items()):
        middle = np.arange(len(rows)) + (place - (len(held) - 1) / 2) * thick
        axes.barh(middle, [counts.get(row, 0) for row in rows], thick, label=name)
    figures.name_rows(axes, rows)
    axes.invert_yaxis()
    if held:
        axes.legend()
    return figure
