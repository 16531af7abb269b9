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
    """A number for each of ``count`` things, equal where pairs ``a``, ``b`` (n,) connect them."""
    if not a.size:
        return np.arange(count)
    from scipy.sparse import coo_array  # noqa: PLC0415 - slow, and reading needs none
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    matrix = coo_array((np.ones(a.size, bool), (a, b)), (count, count))
    labels: Array = connected_components(matrix, directed=False)[1]
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
        """Where the channels of each port begin among all channels."""
        sizes = map(width, self.ports)
        return dict(zip(self.ports, np.cumsum([0, *sizes]).tolist(), strict=False))

    @cached_property
    def _labels(self) -> Array:
        total = sum(map(width, self.ports))
        limits.ask(_BYTES * total, f"following {total:,} channels")
        none = np.zeros(0, int)
        rows = [self.starts[k.a] + np.arange(k.index.size) for _, k in self.links]
        cols = [self.starts[k.b] + k.index for _, k in self.links]
        return connected(total, np.concatenate([none, *rows]), np.concatenate([none, *cols]))

    @cached_property
    def port_labels(self) -> list[int]:
        """A number for each port, equal for those that links tie."""
        places = {port: i for i, port in enumerate(self.ports)}
        ends = [(places[k.a], places[k.b]) for _, k in self.links]
        found: list[int] = connected(len(places), *np.array(ends, int).reshape(-1, 2).T).tolist()
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
        known = [self.group(port) for port in ports if port in self.starts]
        return np.unique(np.concatenate(known)) if known else np.zeros(0, int)

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
