"""Which channels must change together, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import networkx as nx
import numpy as np

from redir.channels.constants import zeros
from redir.ir import WIDEST, Graph, Link, Node, Port, Value, limits, width
from redir.ir.tensor import Array, DType
from redir.ops import is_absent, tensor_of

_BYTES = 32  # that are held for each channel


def _is_narrow(value: Value) -> bool:
    """Whether the sizes of a value can be numbers of channels."""
    return all(not isinstance(d, int) or d <= WIDEST for d in value.type.shape or ())


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
        followed = (n for n in self.graph.nodes if all(map(_is_narrow, (*n.inputs, *n.outputs))))
        return tuple((node, link) for node in followed for link in node.op.links(node))

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
        return tuple((n, k) for n, k in self.declared if k.kind != "either" or id(k) in first)

    def declaring(self, declared: Iterable[tuple[Node, Link]]) -> Coupling:
        """The coupling of the same graph as if its operators declared other links."""
        other = Coupling(self.graph)
        other.__dict__["declared"] = tuple(declared)
        return other

    def along(self, links: Iterable[tuple[Node, Link]]) -> Coupling:
        """The coupling of the same graph along the links given."""
        return _Trial(self.graph, tuple(links))

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        """Every axis whose number of channels is known, in the order of the graph."""
        values = [*self.graph.inputs.values(), *(v for n in self.graph.nodes for v in n.outputs)]
        return tuple(
            (v, a)
            for v in filter(_is_narrow, values)
            for a in range(v.rank or 0)
            if v.type.size(a) is not None
        )

    @cached_property
    def starts(self) -> dict[Port, int]:
        """Where the channels of each port begin among all channels."""
        sizes = map(width, self.ports)
        return dict(zip(self.ports, np.cumsum([0, *sizes]).tolist(), strict=False))

    @cached_property
    def _labels(self) -> Array:
        from scipy.sparse import coo_array  # noqa: PLC0415 - slow, and reading needs none
        from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

        total = sum(map(width, self.ports))
        limits.ask(_BYTES * total, f"following {total:,} channels")
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

    @cached_property
    def groups(self) -> frozenset[int]:
        """Every group there is."""
        return frozenset(self._labels.tolist())

    def among(self, groups: Collection[int]) -> Callable[[Port], Array]:
        """A function that says which channels of a port belong to one of ``groups``."""
        mask = np.zeros(int(self._labels.max(initial=-1)) + 1, bool)
        mask[list(groups)] = True
        return lambda port: mask[self.group(port)]

    @cached_property
    def summed(self) -> frozenset[Port]:
        """The axes of constants that an operator adds up over."""
        ends = (link.b for _, link in self.links if link.kind == "summed")
        return frozenset(port for port in ends if tensor_of(port[0]) is not None)

    @cached_property
    def contracted(self) -> tuple[tuple[Node, Link], ...]:
        """The links of axes that are summed over on both sides of which are computed."""
        return tuple((n, k) for n, k in self.links if k.kind == "summed" and k.b not in self.summed)

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
            if node.inputs or tensor_of(node.outputs[0]) is None:
                loose = {(v, a) for v in touched for a in range(v.rank or 0)} - linked.get(
                    node, set()
                )
                loose |= pinned_once(node) if node in linked else set()
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
        otherwise = [k for _, k in self.links_of(port) if k.kind != "summed" or k.a == port]
        if otherwise:
            return "the weight is read in two ways"
        total = np.abs(array).sum(axis, dtype=np.float64, initial=0.0)
        fits = bool(np.all(total < largest(array.dtype)))
        return None if fits else "the weight is too large to add up"

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
        return self.groups_of(self.pins)

    @cached_property
    def unmergeable(self) -> frozenset[int]:
        """The groups that are pinned, or whose channels cannot be added up."""
        return self.pinned | self.groups_of(self.apart)

    def groups_of(self, ports: Collection[Port]) -> frozenset[int]:
        """The groups that have a channel on one of ``ports``."""
        known = [self.group(port) for port in ports if port in self.starts]
        return frozenset(np.unique(np.concatenate(known)).tolist()) if known else frozenset()

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
        for family in self.families():
            weights = [v for v, _ in family if tensor_of(v) is not None and (v.rank or 0) > 1]
            wide = any(value.type.size(axis) != 1 for value, axis in family)
            if weights and wide and not self._is_kernel(family):
                yield family

    def _is_kernel(self, family: list[Port]) -> bool:
        """Whether it is an axis of weights alone, whose readers tie others of their axes only."""
        pins = [(value, self.pins.get((value, axis))) for value, axis in family]
        readers = [(value, pin) for value, pin in pins if pin is not None]
        return (
            bool(readers)
            and all(value in self._weights for value, _ in family)
            and all((pin, value) in self._tied for value, pin in readers)
        )

    @cached_property
    def _weights(self) -> frozenset[Value]:
        """What is computed from constants and single numbers, such as a weight that is cast."""
        found = set[Value]()
        for node in self.graph.nodes:
            if all(v in found or v.rank == 0 for v in node.inputs):
                found.update(node.outputs)
        return frozenset(found)

    @cached_property
    def _tied(self) -> frozenset[tuple[Node | str, Value]]:
        """The values of which a node ties some axis, each with that node."""
        return frozenset((n, v) for n, link in self.links for v, _ in (link.a, link.b))

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

    def __init__(self, graph: Graph, declared: Sequence[tuple[Node, Link]]) -> None:
        super().__init__(graph)
        self.__dict__["declared"] = declared

    @cached_property
    def links(self) -> tuple[tuple[Node, Link], ...]:
        return tuple((node, link) for node, link in self.declared if link.kind != "either")

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
    if not any(link.kind == "either" for _, link in declared):
        return {}
    plain, options = _Plain(graph, declared), dict[_Block, list[Link]]()
    for node, link in declared:
        if link.kind == "either" and not plain.is_pinned(link.b):
            options.setdefault((node, link.a), []).append(link)
    return {key: sorted(found, key=lambda k: -width(k.b)) for key, found in options.items()}


def largest(dtype: DType) -> float:
    """A bound that sums of floating-point numbers of a type must stay below."""
    return float(np.finfo(np.float16 if dtype.itemsize == 2 else dtype).max)  # noqa: PLR2004


def pinned_once(node: Node) -> set[Port]:
    """The axes of operands given in several places that ``node`` does not tie in each of them."""
    counts = Counter(v for v in node.inputs if not is_absent(v))
    inputs = [_copied(v) if counts[v] > 1 else v for v in node.inputs]
    if inputs == list(node.inputs):
        return set()
    apart = replace(node, inputs=tuple(inputs))
    linked = {port for link in apart.op.links(apart) for port in (link.a, link.b)}
    pairs = [(v, new) for v, new in zip(node.inputs, inputs, strict=True) if v is not new]
    return {(v, a) for v, new in pairs for a in range(v.rank or 0) if (new, a) not in linked}


def _copied(value: Value) -> Value:
    """A value like ``value`` that is not the same."""
    if tensor_of(value) is None or value.node is None:
        return Value(value.type)
    return replace(value.node).outputs[0]


def blocked(coupling: Coupling) -> list[tuple[list[Port], Node]]:
    """The families of channels that an operator pins, and not an input or output of the graph."""
    found = []
    for family in coupling.channel_families():
        pins = coupling.pins_of(family)
        nodes = [pin for pin in pins if isinstance(pin, Node)]
        if nodes and len(nodes) == len(pins):
            found.append((family, nodes[0]))
    return found
