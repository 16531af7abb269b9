"""Which channels must change together, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from redir import ops
from redir.channels.constants import levels
from redir.channels.ports import Links, Ports, axes, declared
from redir.channels.sizes import taken
from redir.ir import Graph, Link, Node, Port, Value, width
from redir.ir.tensor import DType, Tensor, is_floating
from redir.ops import is_absent, tensor_of

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Coupling", "blocked"]


class Coupling(Ports):
    """The axes of a graph, tied by its operators, and which of them must stay as they are.

    Groups whose ports are connected form a family. A group is pinned where one of its channels lies
    on a pinned port.
    """

    def __init__(self, graph: Graph, links: Links | None = None) -> None:
        """Follow ``links``, or those of what the operators declare that can be followed."""
        if links is not None:
            super().__init__(graph, links)
        else:
            vars(self).update(vars(followed(graph, declared(graph))))  # and all that it knows

    @cached_property
    def pins(self) -> dict[Port, Node | str]:
        """The ports that must keep their channels, each with the node or the reason.

        A sum of computed factors misses a channel whose weights are all zero unless one of the two
        is zero then, as it is not behind a Sigmoid or a norm.
        """
        pins = _unlinked(self.graph, self.links)
        ends = {port for _, link in self.contracted for port in (link.a, link.b)}
        held = levels(self, silenced=True, wanted=ends) if ends else {}
        for node, link in self.contracted:
            if not np.all((held[link.a] == 0) | (held[link.b][link.index] == 0)):
                pins.setdefault(link.b, node)
        return pins

    @cached_property
    def apart(self) -> dict[Port, Node | str]:
        """Ports whose channels are not pinned, but cannot be added up, each with the reason."""
        apart: dict[Port, Node | str] = {link.b: node for node, link in self.contracted}
        apart.update((port, why) for port in self.summed if (why := self._not_addable(port)))
        return apart

    def _not_addable(self, port: Port) -> str | None:
        """Why slices of a summed constant may not be added up, if they may not."""
        tensor = tensor_of(port[0])
        assert tensor is not None
        if not is_floating(tensor.type.dtype):
            return f"the weight is {tensor.type.dtype}"
        if any(k.kind != "summed" or k.a == port for _, k in self.links_of(port)):
            return "the weight is read in two ways"
        return None if fits(tensor, port[1]) else "the weight is too large to add up"

    @cached_property
    def pinned(self) -> frozenset[int]:
        """The groups that must be left as they are."""
        return self.groups_of(self.pins)

    @cached_property
    def unmergeable(self) -> frozenset[int]:
        """The groups that are pinned, or whose channels cannot be added up."""
        return self.pinned | self.groups_of(self.apart)

    def is_pinned(self, port: Port) -> bool:
        """Whether any channel of ``port`` must be left as it is."""
        return not self.pinned.isdisjoint(self.group(port).tolist())

    @cached_property
    def network(self) -> nx.Graph[Port]:
        """The ports, with an edge where a node ties two of them."""
        import networkx as nx  # noqa: PLC0415 - slow, and only explaining needs it

        network: nx.Graph[Port] = nx.Graph()
        network.add_nodes_from(self.ports)
        network.add_edges_from((link.a, link.b, {"node": node}) for node, link in self.links)
        return network

    @cached_property
    def _families(self) -> list[list[Port]]:
        found: dict[int, list[Port]] = {}
        for port, label in zip(self.ports, self.port_labels, strict=True):
            found.setdefault(label, []).append(port)
        return list(found.values())

    def families(self) -> Sequence[list[Port]]:
        """The ports that share groups, in the order of the graph."""
        return self._families

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
        readers = {(self.pins[port], port[0]) for port in family if port in self.pins}
        alone = all(value in self._weights for value, _ in family)
        return bool(readers) and alone and readers <= self._tied

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
        import networkx as nx  # noqa: PLC0415 - slow, and only explaining needs it

        return self.along(nx.shortest_path(self.network, a, b))

    def along(self, path: Sequence[Port]) -> list[Node]:
        """The nodes that tie each port of a path to the next."""
        return [self.network.edges[edge]["node"] for edge in pairwise(path)]


def followed(graph: Graph, declared: Links) -> Coupling:
    """The coupling along those ``declared`` that can be followed: of ``either`` the widest free."""
    options = _options(graph, declared)
    if not options:
        return Coupling(graph, declared)
    while True:
        first = {id(found[0]) for found in options.values()}
        links = [(n, k) for n, k in declared if k.kind != "either" or id(k) in first]
        trial = Coupling(graph, links)
        bad = {key for key, found in options.items() if trial.is_pinned(found[0].b)}
        if not bad:
            return trial
        left = {key: found[1:] if key in bad else found for key, found in options.items()}
        options = {key: found for key, found in left.items() if found}


def _options(graph: Graph, declared: Links) -> dict[tuple[Node, Port], list[Link]]:
    """For each axis that is broken or flattened into, the links to follow, the widest first."""
    plain = Ports(graph, [(node, link) for node, link in declared if link.kind != "either"])
    if len(plain.links) == len(declared):
        return {}
    pinned = plain.groups_of(_unlinked(graph, declared))
    options: dict[tuple[Node, Port], list[Link]] = {}
    for node, link in declared:
        if link.kind == "either" and pinned.isdisjoint(plain.group(link.b).tolist()):
            options.setdefault((node, link.a), []).append(link)
    return {key: sorted(found, key=lambda k: -width(k.b)) for key, found in options.items()}


def _unlinked(graph: Graph, links: Links) -> dict[Port, Node | str]:
    """The axes of inputs and outputs, and those that a node reads or makes without a link."""
    pins: dict[Port, Node | str] = {}
    for kind, values in (("graph input", graph.inputs), ("graph output", graph.outputs)):
        for name, value in values.items():
            pins.update((port, f"{kind} {name!r}") for port in axes(value))
    linked: dict[Node, set[Port]] = {}
    for node, link in links:
        linked.setdefault(node, set()).update((link.a, link.b))
    for node in graph.nodes:
        if node.inputs or tensor_of(node.outputs[0]) is None:
            touched = [v for v in (*node.inputs, *node.outputs) if not is_absent(v)]
            loose = {port for v in touched for port in axes(v)} - linked.get(node, set())
            if node.op == ops.Shape:
                loose = taken(graph, node) | set(axes(node.outputs[0]))
            for port in loose | pinned_once(node) if node in linked else loose:
                pins.setdefault(port, node)
    return pins


def pinned_once(node: Node) -> set[Port]:
    """The axes of operands given in several places that ``node`` does not tie in each of them."""
    counts = Counter(v for v in node.inputs if not is_absent(v))
    inputs = [_copied(v) if counts[v] > 1 else v for v in node.inputs]
    if inputs == list(node.inputs):
        return set()
    apart = replace(node, inputs=tuple(inputs))
    linked = {port for link in apart.op.links(apart) for port in (link.a, link.b)}
    pairs = [(v, new) for v, new in zip(node.inputs, inputs, strict=True) if v is not new]
    return {(v, a) for v, new in pairs for _, a in axes(v) if (new, a) not in linked}


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


def fits(tensor: Tensor, axis: int) -> bool:
    """Whether slices of a tensor along ``axis`` add up to what its type holds."""
    bound = largest(tensor.type.dtype)
    if tensor.peak * (tensor.type.size(axis) or 0) < bound:
        return True
    total = np.abs(tensor.array).sum(axis, dtype=np.float64, initial=0.0)
    return bool(np.all(total < bound))


def largest(dtype: DType) -> float:
    """A bound that sums of floating-point numbers of a type must stay below."""
    return float(np.finfo(np.float16 if dtype.itemsize == 2 else dtype).max)  # noqa: PLR2004
