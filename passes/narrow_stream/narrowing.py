"""The graph with fewer channels in a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.removal import without
from redir.ir import Graph, Node, Port, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, DType, Tensor
from redir.ops import tensor_of
from redir.passes.narrow_stream.means import without_means
from redir.passes.narrow_stream.readings import readings
from redir.passes.narrow_stream.scales import evened
from redir.passes.narrow_stream.spaces import Space, at

_AT_ONCE = 2**12  # rows of a table: all of one in float64 may be gigabytes

Bases = Mapping[Port, Array]
"""By axis of a constant, what is to lie along it: (channels, channels that stay)."""


@dataclass(frozen=True, eq=False)
class Narrowing:
    """A ``space`` of a graph, whose norms scale no single channels, and how many are to stay."""

    space: Space
    channels: int

    @classmethod
    def of(cls, space: Space, channels: int) -> Narrowing | str:
        """That of a space, or why it has to stay as it is."""
        if space.obstacle:
            return space.obstacle
        plain = without_means(space)
        if isinstance(plain, str):
            return plain
        even = at(evened(at(plain, space.place)), space.place)
        if even.obstacle:
            return even.obstacle
        if even.entered:
            return f"{next(iter(even.entered))} scales what is added to it"
        if not readings(even):
            return "no layer reads it"
        found = cls(even, channels)
        return found._pinned() or found

    def plain(self) -> Graph:
        """The graph without the last channels as they are: it costs what any other does."""
        return _without(self.space, self.channels)

    def on(self, bases: Bases) -> Graph:
        """The graph with constants on other bases, and without channels behind these."""
        after = _turned(self.space.graph, bases)
        return _without(at(after, self.space.place), self.channels)

    def _pinned(self) -> str:
        """What else needs all channels, if something does."""
        coupling = self.space.graph.analysis(Coupling)
        pins = [coupling.pins[port] for port in self.space.ports if port in coupling.pins]
        if pins:
            return f"{pins[0]} needs to know how many channels there are"
        kept = coupling.groups_of(list(self.space.ports)) & coupling.pinned
        return "other axes are tied to it that must stay" if kept else ""


def _without(space: Space, channels: int) -> Graph:
    coupling = space.graph.analysis(Coupling)
    groups = (coupling.group(port)[channels:].tolist() for port in space.ports)
    return without(coupling, set[int]().union(*groups))


def _turned(graph: Graph, bases: Bases) -> Graph:
    """The graph with axes of constants on other bases, in float64 and rounded once.

    Behind the channels that stay are zeros, as many as there were.
    """
    axes = dict[Value, list[int]]()
    for value, axis in bases:
        axes.setdefault(value, []).append(axis)

    def visit(node: Node, _: tuple[Value, ...]) -> Outputs | None:
        value = node.outputs[0]
        tensor = tensor_of(value) if value in axes else None
        if tensor is None:
            return None
        array = tensor.array
        for left, axis in enumerate(reversed(axes[value])):
            exact = np.float64 if left + 1 < len(axes[value]) else tensor.array.dtype
            array = _on(array, axis, bases[value, axis], np.dtype(exact))
        held = Tensor.take(np.ascontiguousarray(array))
        return replace(node, attrs={"value": held}).outputs

    return transform(graph, visit)


def _on(array: Array, axis: int, basis: Array, dtype: DType) -> Array:
    """An array on another basis along an axis, computed in float64, and zeros behind that."""
    rows = np.moveaxis(array, axis, -1)
    flat, (channels, left) = rows.reshape(-1, rows.shape[-1]), basis.shape
    new = np.zeros((len(flat), channels), dtype)
    for start in range(0, len(flat), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        new[part, :left] = flat[part].astype(np.float64) @ basis
    return np.moveaxis(new.reshape(rows.shape), -1, axis)
