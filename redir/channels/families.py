"""The families of coupled channels of a graph: what is in each, what pins it, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from redir.channels.coupling import Coupling
from redir.ir import Graph, Node, Port, width
from redir.ops import is_operator, tensor_of

TEXTS = range(2, 6)  # the columns of the table that are words
_NAME = 40  # characters of a name that a table shows


@dataclass(frozen=True)
class Member:
    """An axis of a weight whose channels are those of a family."""

    name: str
    axis: int
    channels: int


@dataclass(frozen=True)
class Pin:
    """What keeps channels of a family as they are, and how it reaches them.

    ``cause`` is the operator, the graph's input or output, or the reason, and ``channels`` how many
    it keeps. ``chain`` is a shortest chain of operators to it from ``weight``, the nearest of the
    family: none where the weight itself is what is pinned.
    """

    cause: Node | str
    channels: int
    weight: str
    chain: tuple[Node, ...]

    @property
    def kind(self) -> str:
        """The cause without names: the operator, graph input or output, or the reason."""
        return self.cause.split(" '")[0] if isinstance(self.cause, str) else str(self.cause.op)

    def as_dict(self) -> dict[str, Any]:
        """The pin as ``groups --json`` prints it."""
        return {
            "what": str(self.cause),
            "channels": self.channels,
            "weight": self.weight,
            "why": [str(node) for node in self.chain],
        }


@dataclass(frozen=True)
class Family:
    """Axes that are tied: ``width`` channels, of which ``pinned`` must stay as they are.

    A channel here is a group of the coupling: what is kept or removed as one. The nearest of the
    ``pins`` comes first.
    """

    width: int
    pinned: int
    members: tuple[Member, ...]
    pins: tuple[Pin, ...]
    ports: tuple[Port, ...] = field(repr=False)

    @property
    def free(self) -> int:
        """How many of the channels may change."""
        return self.width - self.pinned

    @property
    def state(self) -> str:
        """In a word or two, whether the channels may change."""
        if not self.pinned:
            return "free"
        return f"{self.pinned} pinned" if self.free else "pinned"

    @property
    def operators(self) -> tuple[Node, ...]:
        """The operators whose results carry the channels, in the order of the graph."""
        nodes = dict.fromkeys(value.node for value, _ in self.ports)
        return tuple(node for node in nodes if node is not None and is_operator(node))

    def as_dict(self) -> dict[str, Any]:
        """The family as ``groups --json`` prints it."""
        return {
            "width": self.width,
            "free": self.free,
            "pinned": self.pinned,
            "members": [asdict(member) for member in self.members],
            "operators": [str(node) for node in self.operators],
            "pins": [pin.as_dict() for pin in self.pins],
        }


def families(graph: Graph) -> tuple[Family, ...]:
    """The families that hold an axis of a weight, in the order of the graph."""
    coupling = graph.analysis(Coupling)
    return tuple(_family(coupling, ports) for ports in coupling.channel_families())


def _family(coupling: Coupling, ports: list[Port]) -> Family:
    groups = coupling.groups_of(ports)
    members = tuple(
        Member(_name(coupling.graph, port), port[1], width(port))
        for port in ports
        if tensor_of(port[0]) is not None
    )
    pinned = len(groups & coupling.pinned)
    return Family(len(groups), pinned, members, _pins(coupling, ports), tuple(ports))


def _name(graph: Graph, port: Port) -> str:
    """The name of a weight in its file, or where it has none what reads it."""
    node = port[0].node
    named = node.result_name if node else ""
    return named or f"{node} of {graph.readers[port[0]][0]}"


def _pins(coupling: Coupling, ports: list[Port]) -> tuple[Pin, ...]:
    """What pins the ports of a family: once for each cause, the nearest first."""
    import networkx as nx  # noqa: PLC0415 - slow, and only explaining needs it

    ends: dict[Node | str, list[Port]] = {}
    for port in ports:
        if port in coupling.pins:
            ends.setdefault(coupling.pins[port], []).append(port)
    if not ends:
        return ()
    weights = [(v, a) for v, a in ports if tensor_of(v) is not None and (v.rank or 0) > 1]
    paths = nx.multi_source_dijkstra_path(coupling.network, weights)
    found = []
    for cause, pinned in ends.items():
        path = min((paths[port] for port in pinned), key=len)
        chain = tuple(node for node, _ in groupby(coupling.along(path)))
        weight = _name(coupling.graph, path[0])
        found.append(Pin(cause, len(coupling.groups_of(pinned)), weight, chain))
    return tuple(sorted(found, key=lambda pin: len(pin.chain)))


def as_dict(found: Sequence[Family]) -> dict[str, Any]:
    """The families as ``groups --json`` prints them."""
    return {
        "families": [family.as_dict() for family in found],
        "total": {
            "families": len(found),
            "pinned_families": sum(1 for f in found if f.pinned),
            "partly_pinned_families": sum(1 for f in found if f.pinned and f.free),
            "channels": sum(f.width for f in found),
            "pinned_channels": sum(f.pinned for f in found),
            "free_channels": sum(f.free for f in found),
        },
    }


def table(found: Sequence[Family]) -> tuple[Sequence[object], list[Sequence[object]]]:
    """The head and rows of a table with a line for each family."""
    head = ("family", "channels", "state", "members", "pinned by", "why")
    return head, [(place, *_row(family)) for place, family in enumerate(found, 1)]


def _row(family: Family) -> tuple[object, ...]:
    pinned_by, why = "-", "-"
    if family.pins:
        pinned_by = and_more([str(pin.cause) for pin in family.pins])
        why = _chain([shortened(str(node)) for node in family.pins[0].chain])
    names = list(dict.fromkeys(member.name for member in family.members))
    return family.width, family.state, and_more(names), pinned_by, why


def and_more(names: Sequence[str]) -> str:
    """The first of ``names``, and how many others there are."""
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return shortened(names[0]) + rest


def shortened(name: str, limit: int = _NAME) -> str:
    """A name, or an operator and its name, without what comes before the last characters of it."""
    operator, quote, rest = name.rpartition(" '")
    tail = max(limit - len(operator + quote) - 3, limit // 2)
    return name if len(name) <= limit else f"{operator}{quote}...{rest[-tail:]}"


def _chain(names: Sequence[str]) -> str:
    few = 3
    left_out = [f"{len(names) - 2} more"]
    shown = names if len(names) <= few else [names[0], *left_out, names[-1]]
    return " > ".join(shown) or "-"


def verdict(found: Sequence[Family]) -> str:
    """How many families are pinned, in a sentence."""
    if not found:
        return "no family of channels holds a weight"
    pinned = [family for family in found if family.pinned]
    partly = sum(1 for family in pinned if family.free)
    operators = sum(1 for f in pinned if all(isinstance(pin.cause, Node) for pin in f.pins))
    text = f"{len(pinned)} of {len(found)} families are pinned"
    if pinned:
        text += f", {operators} of them by operators alone"
    return text + (f"; {partly} only in part" if partly else "")
