"""Which channels must change together, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import networkx as nx
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from redir.ir import Graph, Link, Node, Port, width
from redir.ops import is_absent, tensor_of
from redir.tensor import Array
from redir.zeros import zeros


@dataclass(frozen=True, eq=False)
class Coupling:
    """The axes of a graph, tied by the links that each operator declares.

    A port is an axis of a value, and has a group for each of its channels: channels of one group
    are kept or removed together. Groups whose ports are connected form a family. A group is
    pinned where one of its channels lies on a pinned port.
    """

    graph: Graph

    @cached_property
    def declared(self) -> tuple[tuple[Node, Link], ...]:
        """Every link that an operator declares, with its node."""
        return tuple((node, link) for node in self.graph.nodes for link in node.op.links(node))

    @cached_property
    def links(self) -> tuple[tuple[Node, Link], ...]:
        """Every link that is followed: of ``either`` ones, the widest that nothing pins."""
        options = _options(self.graph, self.declared)
        if not options:
            return self.declared
        trial = _Trial(self.graph, self._following(options))
        while bad := [key for key, found in options.items() if trial.is_pinned(found[0].b)]:
            for key in bad:
                options[key].pop(0)
            options = {key: found for key, found in options.items() if found}
            trial = _Trial(self.graph, self._following(options))
        return trial.links

    def _following(self, options: Mapping[_Block, list[Link]]) -> tuple[tuple[Node, Link], ...]:
        """The links, of ``either`` ones the first of the options that are left."""
        first = {id(found[0]) for found in options.values()}
        return tuple((n, k) for n, k in self.declared if not k.either or id(k) in first)

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        """Every axis whose number of channels is known, in the order of the graph."""
        values = [*self.graph.inputs.values(), *(v for n in self.graph.nodes for v in n.outputs)]
        return tuple(
            (v, a) for v in values for a in range(v.rank or 0) if v.type.size(a) is not None
        )

    @cached_property
    def starts(self) -> dict[Port, int]:
        """Where the channels of each port begin among all channels."""
        sizes = map(width, self.ports)
        return dict(zip(self.ports, np.cumsum([0, *sizes]).tolist(), strict=False))

    @cached_property
    def _labels(self) -> Array:
        total = sum(map(width, self.ports))
        if not self.links:
            return np.arange(total)
        rows = [self.starts[k.a] + np.arange(k.index.size) for _, k in self.links]
        cols = [self.starts[k.b] + k.index for _, k in self.links]
        row, col = np.concatenate(rows), np.concatenate(cols)
        matrix = coo_array((np.ones(row.size, bool), (row, col)), shape=(total, total))
        labels: Array = connected_components(matrix, directed=False)[1]
        return labels

    def group(self, port: Port) -> Array:
        """The group of each channel of ``port``."""
        start = self.starts[port]
        return self._labels[start : start + width(port)]

    def among(self, groups: Collection[int]) -> Callable[[Port], Array]:
        """A function that says which channels of a port belong to one of ``groups``."""
        mask = np.zeros(int(self._labels.max(initial=-1)) + 1, bool)
        mask[list(groups)] = True
        return lambda port: mask[self.group(port)]

    @cached_property
    def summed(self) -> frozenset[Port]:
        """The axes of constants that an operator adds up over."""
        ends = (link.b for _, link in self.links if link.summed)
        return frozenset(port for port in ends if tensor_of(port[0]) is not None)

    @cached_property
    def contracted(self) -> tuple[tuple[Node, Link], ...]:
        """The links of axes that are summed over on both sides of which are computed."""
        return tuple((n, k) for n, k in self.links if k.summed and k.b not in self.summed)

    @cached_property
    def pins(self) -> dict[Port, Node | str]:
        """The ports that must keep their channels, each with the node or the reason."""
        pins: dict[Port, Node | str] = {}
        for kind, values in (
            ("graph input", self.graph.inputs),
            ("graph output", self.graph.outputs),
        ):
            for name, value in values.items():
                pins.update(((value, a), f"{kind} {name!r}") for a in range(value.rank or 0))
        linked: dict[Node, set[Port]] = {}
        for node, link in self._mentioned:
            linked.setdefault(node, set()).update((link.a, link.b))
        for node in self.graph.nodes:
            touched = [v for v in (*node.inputs, *node.outputs) if not is_absent(v)]
            if node.inputs:
                loose = {(v, a) for v in touched for a in range(v.rank or 0)} - linked.get(
                    node, set()
                )
                pins.update((port, node) for port in loose if port not in pins)
        pins.update((k.b, n) for n, k in self._audible if k.b not in pins)
        return pins

    @property
    def _mentioned(self) -> tuple[tuple[Node, Link], ...]:
        """The links whose ports are not pinned by their own node."""
        return self.links

    @property
    def _audible(self) -> Iterator[tuple[Node, Link]]:
        """Links of sums that would miss a channel whose weights are all zero.

        Of two factors one has to be zero then, as it is not behind a Sigmoid or a norm.
        """
        if not self.contracted:
            return
        silent = zeros(self, silenced=True)
        for node, link in self.contracted:
            if not np.all(silent[link.a] | silent[link.b][link.index]):
                yield node, link

    @cached_property
    def apart(self) -> dict[Port, Node | str]:
        """Ports whose channels are not pinned, but cannot be added up, each with the reason."""
        apart: dict[Port, Node | str] = {link.b: node for node, link in self.contracted}
        apart.update((port, why) for port in self.summed if (why := self._not_addable(port)))
        return apart

    def _not_addable(self, port: Port) -> str | None:
        """Why slices of a summed constant may not be added up, if they may not."""
        value, axis = port
        tensor = tensor_of(value)
        assert tensor is not None
        array = tensor.array
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            return f"the weight is {array.dtype}"
        otherwise = [k for _, k in self.links_of(port) if not k.summed or k.a == port]
        if otherwise:
            return "the weight is read in two ways"
        limit = np.finfo(np.float16 if array.dtype.itemsize == 2 else array.dtype).max  # noqa: PLR2004
        total = np.abs(array).sum(axis, dtype=np.float64, initial=0.0)
        return None if bool(np.all(total < limit)) else "the weight is too large to add up"

    def links_of(self, port: Port) -> Sequence[tuple[Node, Link]]:
        """The links that end at ``port``."""
        return self._at.get(port, ())

    @cached_property
    def _at(self) -> dict[Port, list[tuple[Node, Link]]]:
        at: dict[Port, list[tuple[Node, Link]]] = {}
        for node, link in self.links:
            for port in {link.a, link.b}:
                at.setdefault(port, []).append((node, link))
        return at

    @cached_property
    def pinned(self) -> frozenset[int]:
        """The groups that must be left as they are."""
        return self._groups(self.pins)

    @cached_property
    def unmergeable(self) -> frozenset[int]:
        """The groups that are pinned, or whose channels cannot be added up."""
        return self.pinned | self._groups(self.apart)

    def _groups(self, ports: Collection[Port]) -> frozenset[int]:
        known = (port for port in ports if port in self.starts)
        return frozenset(int(g) for port in known for g in self.group(port))

    def is_pinned(self, port: Port) -> bool:
        """Whether any channel of ``port`` must be left as it is."""
        return not self.pinned.isdisjoint(self.group(port).tolist())

    @cached_property
    def network(self) -> nx.Graph[Port]:
        """The ports, with an edge where a node ties two of them."""
        network: nx.Graph[Port] = nx.Graph()
        network.add_nodes_from(self.ports)
        network.add_edges_from((link.a, link.b, {"node": node}) for node, link in self.links)
        return network

    @cached_property
    def _families(self) -> list[list[Port]]:
        parts = nx.connected_components(self.network)
        return [sorted(family, key=self.starts.__getitem__) for family in parts]

    def families(self) -> Iterator[list[Port]]:
        """The ports that share groups, in the order of the graph."""
        yield from self._families

    def channel_families(self) -> Iterator[list[Port]]:
        """The families that hold an axis of a weight.

        An axis that its operator never ties, such as those of a kernel, is none of them.
        """
        tied = {value for _, link in self.links for value, _ in (link.a, link.b)}
        for family in self.families():
            weights = [v for v, _ in family if tensor_of(v) is not None and (v.rank or 0) > 1]
            wide = any(value.type.size(axis) != 1 for value, axis in family)
            if weights and wide and (len(family) > 1 or weights[0] not in tied):
                yield family

    def pins_of(self, family: list[Port]) -> list[Node | str]:
        """What pins the ports of a family."""
        return [self.pins[port] for port in family if port in self.pins]

    def why(self, a: Port, b: Port) -> list[Node]:
        """The nodes along a shortest chain of links from one axis to another.

        Raises:
            networkx.NetworkXNoPath: the two axes are not coupled.
        """
        path = nx.shortest_path(self.network, a, b)
        return [self.network.edges[edge]["node"] for edge in nx.utils.pairwise(path)]


class _Plain(Coupling):
    """The coupling without any of the links of which only one can be followed."""

    @cached_property
    def links(self) -> tuple[tuple[Node, Link], ...]:
        return tuple((node, link) for node, link in self.declared if not link.either)

    @property
    def _mentioned(self) -> tuple[tuple[Node, Link], ...]:
        return self.declared

    @property
    def _audible(self) -> Iterator[tuple[Node, Link]]:
        yield from ()  # what is silent shows only along all links


class _Trial(Coupling):
    """The coupling along the links given."""

    def __init__(self, graph: Graph, links: tuple[tuple[Node, Link], ...]) -> None:
        super().__init__(graph)
        self.__dict__["links"] = links


_Block: TypeAlias = tuple[Node, Port]


def _options(graph: Graph, declared: Sequence[tuple[Node, Link]]) -> dict[_Block, list[Link]]:
    """For each axis that is broken or flattened into, the links to follow, the widest first."""
    if not any(link.either for _, link in declared):
        return {}
    plain, options = _Plain(graph), dict[_Block, list[Link]]()
    for node, link in declared:
        if link.either and not plain.is_pinned(link.b):
            options.setdefault((node, link.a), []).append(link)
    return {key: sorted(found, key=lambda k: -width(k.b)) for key, found in options.items()}


def equal_channels(coupling: Coupling) -> dict[Port, Array]:
    """A number for each channel of each port: channels of equal numbers hold equal tensors.

    This is value numbering along the links. A constant's channels are numbered by their content,
    those of a result by the numbers of the channels they are made from, and all else apart. A
    summed port gets the numbers of the channels that it is multiplied with.
    """
    fresh, numbers = 0, dict[Port, Array]()
    for port in coupling.ports:
        if port in coupling.summed:
            continue
        found = _content(port) if port[0].node is not None and not port[0].node.inputs else None
        if found is None and port[0].node is not None and port not in coupling.pins:
            found = _derived(coupling, port, numbers)
        if found is None:
            found = np.arange(width(port))
        numbers[port] = found + fresh
        fresh += found.size
    for port in coupling.summed:
        columns = [_gathered(port, link, numbers) for _, link in coupling.links_of(port)]
        known = [c for c in columns if c is not None]
        size = coupling.group(port).size
        numbers[port] = _rows(np.concatenate(known, 1)) if known else np.arange(size)
    return numbers


def _content(port: Port) -> Array | None:
    tensor = tensor_of(port[0])
    if tensor is None:
        return None
    array = np.moveaxis(tensor.array, port[1], 0)
    flat = np.ascontiguousarray(array).reshape(len(array), array[:1].size)
    if flat.dtype == np.dtype(object):
        return None
    if flat.dtype.kind == "f":
        flat = flat + flat.dtype.type(0)  # -0.0 equals 0.0
    numbers = _rows(flat)
    if flat.dtype.kind in "fc" and not np.isfinite(flat).all():
        odd = ~np.isfinite(flat).all(1)  # NaN equals nothing, and infinities do not add up
        numbers[odd] = len(numbers) + np.flatnonzero(odd)
        numbers = np.unique(numbers, return_inverse=True)[1].reshape(-1)
    return numbers


def _rows(matrix: Array) -> Array:
    """A number below ``len(matrix)`` for each row, equal for rows of equal bytes."""
    matrix = np.ascontiguousarray(matrix)
    if matrix.size == 0:
        return np.zeros(len(matrix), np.int64)
    whole = matrix.view(np.dtype((np.void, matrix.itemsize * matrix.shape[1]))).reshape(-1)
    return np.unique(whole, return_inverse=True)[1].reshape(-1)


def _derived(coupling: Coupling, port: Port, numbers: dict[Port, Array]) -> Array | None:
    links = [link for node, link in coupling.links_of(port) if node is port[0].node]
    columns = [_gathered(port, link, numbers) for link in links if not link.summed]
    known = [c for c in columns if c is not None]
    return _rows(np.concatenate(known, 1)) if known and len(known) == len(columns) else None


def _gathered(port: Port, link: Link, numbers: dict[Port, Array]) -> Array | None:
    """The numbers that reach each channel of ``port`` along ``link``; -1 where none does.

    With each comes which of the channels it is that are made from the same one: those of a block
    are alike, but not equal.
    """
    if link.together or link.a == link.b:
        return _ranks(link.index)[:, None] if link.together else np.zeros((width(port), 1), int)
    if link.a == port:
        other = numbers.get(link.b)
        return None if other is None else np.stack([other[link.index], _ranks(link.index)], 1)
    other = numbers.get(link.a)
    if other is None:
        return None
    ranks = _ranks(link.index)
    column = np.full((width(port), int(ranks.max(initial=0)) + 1), -1)
    column[link.index, ranks] = other
    return column


def _ranks(index: Array) -> Array:
    """For each place, how many before it hold the same number."""
    order = np.argsort(index, kind="stable")
    ranks = np.empty_like(index)
    _, starts, counts = np.unique(index[order], return_index=True, return_counts=True)
    ranks[order] = np.arange(index.size) - np.repeat(starts, counts)
    return ranks


def blocked(coupling: Coupling) -> list[tuple[list[Port], Node]]:
    """The families of channels that an operator pins, and not an input or output of the graph."""
    found = []
    for family in coupling.channel_families():
        pins = coupling.pins_of(family)
        nodes = [pin for pin in pins if isinstance(pin, Node)]
        if nodes and len(nodes) == len(pins):
            found.append((family, nodes[0]))
    return found
