"""What each layer of a model was, and of which parts it is made now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from redir.cost import Cost, Layer, layers
from redir.ir import Graph, Node
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.runtime.open_sizes import Shapes

_BINS = 32  # of a density
_SAMPLE = 1 << 16  # weights that a density is taken of, drawn at random where there are more
_DIGITS = 5  # of a share


def compared(before: Graph, after: Graph, sizes: Shapes, *, values: bool) -> list[dict[str, Any]]:
    """For each layer of ``before``, and each that is new, what it costs and how it is made.

    Counts are those at ``sizes``, with distinct values only if ``values`` are looked at. A layer of
    ``after`` belongs to the one of the same name, and one without a name to the next behind it that
    has one: so are named what a pass makes of a layer in two. One whose file names only its
    constants has the name of the first.
    """
    old, new = (layers(graph, sizes, values=values) for graph in (before, after))
    homes = _Homes(old, after, new).found
    mine: dict[int, list[Layer]] = {}
    others = []
    for layer in new:
        home = homes.get(layer.node)
        mine.setdefault(home, []).append(layer) if home is not None else others.append(layer)
    rows = [_row(was, mine.get(place, [])) for place, was in enumerate(old)]
    return [*rows, *(_row(None, [layer]) for layer in others)]


def _known_as(node: Node | None) -> str:
    """The name of a node, or else that of the first constant that it reads."""
    if node is None:
        return ""
    read = (v.node.result_name for v in node.inputs if v.node is not None and not v.node.inputs)
    return node.name or next(filter(None, read), "")


class _Homes:
    """Which of the ``old`` layers each of the ``new`` ones of a graph belongs to, by its place."""

    def __init__(self, old: Sequence[Layer], graph: Graph, new: Sequence[Layer]) -> None:
        self._places: dict[str | Node | None, int] = {}
        for place, layer in enumerate(old):
            self._places.setdefault(_known_as(layer.node) or layer.node, place)
            self._places[layer.node] = place
        self._layers = {layer.node for layer in new}
        self.found: dict[Node | None, int] = {
            layer.node: home for layer in new if (home := self._of(layer.node)) is not None
        }
        self._passed: set[Node] = set()
        ends = [value.node for value in graph.outputs.values()]
        for start in (*reversed([layer.node for layer in new]), *ends):
            if start is not None:
                self._back(start, self.found.get(start))

    def _of(self, node: Node | None) -> int | None:
        """The place of a layer that is this one, or is called like it."""
        return self._places.get(node, self._places.get(_known_as(node)))

    def _back(self, start: Node, home: int | None) -> None:
        """Give the layers before ``start`` that have no name of their own its ``home``."""
        left = [(start, home)]
        while left:
            node, at = left.pop()
            own = self._of(node)
            at = at if own is None else own
            if node in self._passed or (node in self._layers and at is None):
                continue
            if node in self._layers and at is not None:
                self.found.setdefault(node, at)
            self._passed.add(node)
            left += [(v.node, at) for v in node.inputs if v.node is not None]


def _row(was: Layer | None, now: Sequence[Layer]) -> dict[str, Any]:
    parts = [_part(layer) for layer in now]
    first = was or now[0]
    return {
        "name": first.name,
        "op": first.op,
        "before": None if was is None else asdict(was.cost),
        "after": asdict(sum((layer.cost for layer in now), Cost())) if now else None,
        "was": None if was is None else _part(was),
        "parts": parts,
        "rank": _rank([part for part in parts if part["outputs"] is not None]),
    }


def _rank(parts: Sequence[Mapping[str, Any]]) -> int | None:
    """The fewest channels between the parts of a layer, if it is made of some behind each other."""
    chained = [a["outputs"] for a, b in pairwise(parts) if a["outputs"] == b["inputs"]]
    return min(chained) if chained and len(chained) == len(parts) - 1 else None


def _part(layer: Layer) -> dict[str, Any]:
    """What a layer is: its channels, groups and kernel, and the density of its weights."""
    found = linear(layer.node) if layer.node is not None else ""
    shape: dict[str, Any] = dict.fromkeys(("inputs", "outputs", "groups", "kernel", "density"))
    if isinstance(found, Linear):
        shape = {
            "inputs": found.channels,
            "outputs": found.outputs,
            "groups": found.groups,
            "kernel": list(found.kernel),
            "density": _density(found.array),
        }
    return {"name": layer.name, "op": layer.op, **shape}


def _density(weights: Array) -> dict[str, Any] | None:
    """How the weights of a layer lie between the lowest and the highest: shares of equal bins."""
    flat = weights.reshape(-1)
    if flat.size > _SAMPLE:
        flat = flat[np.random.default_rng(0).integers(0, flat.size, _SAMPLE)]
    some = flat.astype(np.float64)
    if not some.size or not np.isfinite(some).all():
        return None
    low, high = float(some.min()), float(some.max())
    bins = _BINS if low < high else 1
    counts = np.histogram(some, bins, (low, high) if low < high else None)[0]
    return {"low": low, "high": high, "shares": list(_shares(counts / some.size))}


def _shares(shares: Array) -> Iterator[float]:
    return (round(float(share), _DIGITS) for share in shares)
