"""The axes of a graph, the channels that they share, and the links that tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from redir.channels.means import averaged
from redir.channels.sizes import carried
from redir.ir import WIDEST, Graph, Link, Node, Port, Value, limits, width
from redir.ir.tensor import Array
from redir.ops import tensor_of

Links: TypeAlias = Sequence[tuple[Node, Link]]
"""Links, each with the node that declares it."""

_BYTES = 32  # that are held for each channel


def axes(value: Value) -> list[Port]:
    """Every axis of a value of known rank."""
    return [(value, axis) for axis in range(value.rank or 0)]


def declared(graph: Graph) -> Links:
    """Every link that an operator declares, and those of sizes that a Shape reads and of means."""
    nodes = [n for n in graph.nodes if all(map(_is_narrow, (*n.inputs, *n.outputs)))]
    of_channels = [(node, link) for node in nodes for link in node.op.links(node)]
    for more in (carried, averaged):
        of_channels += [(node, link) for node in nodes for link in more(graph, node)]
    return of_channels


def _is_narrow(value: Value) -> bool:
    """Whether the sizes of a value can be numbers of channels."""
    return all(not isinstance(d, int) or d <= WIDEST for d in value.type.shape or ())


def connected(count: int, a: Array, b: Array) -> Array:
    """A number for each of ``count`` things, equal where pairs ``a``, ``b`` (n,) connect them.

    They are 0, 1 and so on, in the order in which they first occur. Each thing points to the least
    of those that it is tied to, and on to what that points to, until nothing changes (Shiloach and
    Vishkin, 1982): importing scipy's graphs takes longer than most models do.
    """
    least = np.arange(count)
    while a.size:
        np.minimum.at(least, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(further := least[least], least):
            least = further
        a, b = least[a], least[b]
        a, b = a[a != b], b[a != b]
    firsts = np.cumsum(least == np.arange(count)) - 1
    labels: Array = firsts[least]
    return labels


@dataclass(frozen=True, eq=False)
class Ports:
    """The axes of a graph, tied by the links that are followed.

    A port is an axis of a value, and has a group for each of its channels: channels of one group
    are kept or removed together.
    """

    graph: Graph
    links: Links

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        """Every axis whose number of channels is known, in the order of the graph."""
        values = [*self.graph.inputs.values(), *(v for n in self.graph.nodes for v in n.outputs)]
        known = (port for value in filter(_is_narrow, values) for port in axes(value))
        return tuple((value, axis) for value, axis in known if value.type.size(axis) is not None)

    @cached_property
    def starts(self) -> dict[Port, int]:
        """Where the groups of each port begin among all: ports tied one to one have the same."""
        return dict(zip(self.ports, self._starts.tolist(), strict=True))

    @cached_property
    def _widths(self) -> Array:
        return np.array([width(port) for port in self.ports], int)

    @cached_property
    def _ends(self) -> Array:
        """The places of the ports ``a`` and ``b`` of each link: (2, links)."""
        places = {port: i for i, port in enumerate(self.ports)}
        ends = [(places[k.a], places[k.b]) for _, k in self.links]
        return np.array(ends, int).reshape(-1, 2).T

    @cached_property
    def _ties(self) -> tuple[Array, Array, Array]:
        """What links tie, one after the other: which link, and a channel of each end."""
        sizes = np.array([k.index.size for _, k in self.links], int)
        link = np.repeat(np.arange(sizes.size), sizes)
        here = np.arange(link.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return link, here, np.concatenate([np.zeros(0, int), *(k.index for _, k in self.links)])

    @cached_property
    def _is_plain(self) -> Array:
        """Of each link whether channels of ``a`` are those of ``b``, one to one in order."""
        link, here, there = self._ties
        crossing = np.bincount(link, here != there, len(self.links)) > 0
        equal: Array = np.equal(*self._widths[self._ends])
        return equal & ~crossing

    @cached_property
    def _starts(self) -> Array:
        alike = connected(len(self.ports), *self._ends[:, self._is_plain])
        first = np.unique(alike, return_index=True)[1]
        starts: Array = np.cumsum([0, *self._widths[first]])[alike]
        return starts

    @cached_property
    def _labels(self) -> Array:
        """The groups that begin at ``starts``, numbered in the order of the graph."""
        total = int(self._widths.sum())
        limits.ask(_BYTES * total, f"following {total:,} channels")
        link, *channels = (part[~self._is_plain[self._ties[0]]] for part in self._ties)
        ends = self._starts[self._ends][:, link] + channels
        return connected(int(np.max(self._starts + self._widths, initial=0)), *ends)

    @cached_property
    def port_labels(self) -> list[int]:
        """A number for each port, equal for those that links tie."""
        found: list[int] = connected(len(self.ports), *self._ends).tolist()
        return found

    def group(self, port: Port) -> Array:
        """The group of each channel of ``port``."""
        start = self.starts[port]
        return self._labels[start : start + width(port)]

    def groups_of(self, ports: Collection[Port]) -> frozenset[int]:
        """The groups that have a channel on one of ``ports``."""
        return frozenset(self.sorted_groups(ports).tolist())

    def sorted_groups(self, ports: Collection[Port]) -> Array:
        """The groups that have a channel on one of ``ports``, in order."""
        known = {(self.starts[port], width(port)): port for port in ports if port in self.starts}
        groups = [self.group(port) for port in known.values()]
        held = np.sort(np.concatenate([np.zeros(0, int), *groups]))
        return held[np.diff(held, prepend=-1) > 0]  # np.unique takes four times as long

    def marked(self, groups: Collection[int]) -> Array:
        """Of each group whether it is one of ``groups``."""
        mask = np.zeros(int(self._labels.max(initial=-1)) + 1, bool)
        mask[list(groups)] = True
        return mask

    def among(self, groups: Collection[int]) -> Callable[[Port], Array]:
        """A function that says which channels of a port belong to one of ``groups``."""
        mask = self.marked(groups)
        return lambda port: mask[self.group(port)]

    @cached_property
    def summed(self) -> frozenset[Port]:
        """The axes of constants that an operator adds up over."""
        ends = (link.b for _, link in self.links if link.kind == "summed")
        return frozenset(port for port in ends if tensor_of(port[0]) is not None)

    @cached_property
    def contracted(self) -> Links:
        """The links of axes that are summed over on both sides of which are computed."""
        return [(n, k) for n, k in self.links if k.kind == "summed" and k.b not in self.summed]

    def links_of(self, port: Port) -> Links:
        """The links that end at ``port``."""
        return self._at.get(port, ())

    @cached_property
    def _at(self) -> dict[Port, list[tuple[Node, Link]]]:
        at: dict[Port, list[tuple[Node, Link]]] = {}
        for node, link in self.links:
            for port in {link.a, link.b}:
                at.setdefault(port, []).append((node, link))
        return at
