"""What reads a space: the values that layers add up over, and the weights that they do it by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from redir import ops
from redir.channels.coupling import Coupling
from redir.ir import Node, Port
from redir.passes.narrow_stream.spaces import Space, fixed


@dataclass(eq=False)
class Reading:
    """A value that layers read: ``port`` is the axis that they add up over.

    ``weights`` are the axes of constants by which they do, and which do nothing else.
    """

    port: Port
    weights: list[Port] = field(default_factory=list)


def readings(space: Space) -> Sequence[Reading]:
    """The values that layers read along a space by constants, each once."""
    found = dict[Port, Reading]()
    for port in _held(space):
        read, writes = _ends(space, port)
        for end in read:
            weights = found.setdefault(end, Reading(end)).weights
            weights += [port] if len(read) == 1 and not writes else []
    return list(found.values())


def makes(space: Space) -> Sequence[Port]:
    """The axes of constants by which something is made that flows along a space."""
    return [port for port in _held(space) if _ends(space, port)[1]]


def _held(space: Space) -> Sequence[Port]:
    return [(value, axis) for value, axes in space.constants.items() for axis in axes]


def _ends(space: Space, held: Port) -> tuple[set[Port], bool]:
    """What layers read by the axis of a constant, and whether it makes something, too."""
    constant, read, writes = space.graph.analysis(fixed), set[Port](), False
    for port in (order := [held]):
        for node in space.graph.readers.get(port[0], ()):
            for end, kind in _linked(space, node, port):
                if kind == "summed":
                    read.add(end)
                elif end[0] not in constant:
                    writes = True
                elif end not in order:
                    order.append(end)
    return read, writes


def _linked(space: Space, node: Node, port: Port) -> Iterator[tuple[Port, str]]:
    """The other ends of the links of a node from an axis, and of what kind they are."""
    for owner, link in space.graph.analysis(Coupling).links_of(port):
        if owner is node and link.a != link.b and node.op != ops.Shape:
            yield (link.a if link.b == port else link.b), link.kind
