"""Channels that can be turned together: the axes along which the stream of a transformer lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from redir import ops
from redir.channels.coupling import Coupling
from redir.channels.streams import is_norm, is_straight
from redir.ir import Graph, Node, Port, Value, width
from redir.ir.tensor import Array
from redir.ops import tensor_of
from redir.ops.links import axes_of

MEANT = "LayerNormalization"


@dataclass(frozen=True, eq=False)
class Scale:
    """Numbers for each channel (width,), at a place of a node that multiplies ``x`` by them.

    The node may norm it before.
    """

    node: Node
    place: int
    numbers: Array

    @property
    def x(self) -> Value:
        """What is multiplied."""
        return self.node.inputs[1 - self.place]

    @property
    def is_even(self) -> bool:
        """Whether all numbers are the same."""
        return bool(np.all(self.numbers == self.numbers[:1]))


def scale_of(node: Node) -> Scale | None:
    """The numbers for each place of an axis that a node multiplies by, if it does."""
    if is_norm(node, "RMSNormalization"):
        place = 1
    elif node.op == ops.Mul and sum(tensor_of(v) is not None for v in node.inputs) == 1:
        place = next(i for i, v in enumerate(node.inputs) if tensor_of(v) is not None)
    else:
        return None
    held, x = tensor_of(node.inputs[place]), node.inputs[1 - place]
    assert held is not None
    along = [size for size in held.array.shape if size != 1]
    fits = x.type == node.outputs[0].type
    return Scale(node, place, held.array.reshape(-1)) if fits and len(along) == 1 else None


@dataclass(eq=False)
class Space:
    """Axes along which a graph computes the same if all that lies along them is turned.

    They begin at one axis, and go on from operator to operator. ``constants`` have the axes of
    constants that lie along it, and ``normed`` is what norms read; norms that are ``meant`` take a
    mean off. Scales that are ``even`` it goes through. At those of single channels that it
    ``leaves`` it ends, as at those by which it is ``entered``. Where it is ``written``, something
    else than these makes what flows along it. ``obstacle`` says why it cannot be turned, if it
    cannot.
    """

    graph: Graph
    ports: dict[Port, None]
    place: int = 0
    constants: dict[Value, list[int]] = field(default_factory=dict)
    normed: dict[Value, None] = field(default_factory=dict)
    meant: dict[Node, None] = field(default_factory=dict)
    even: dict[Node, Scale] = field(default_factory=dict)
    leaves: dict[Node, Scale] = field(default_factory=dict)
    entered: dict[Node, Scale] = field(default_factory=dict)
    written: bool = False
    obstacle: str = ""

    @classmethod
    def of(cls, graph: Graph, start: Port, place: int = 0) -> Space:
        """The space that an axis is of, which is at a ``place`` among all."""
        space = cls(graph, {start: None}, place)
        for port in (order := [start]):
            found = space._beside(port)
            order += [p for p in dict.fromkeys(found) if p not in space.ports]
            space.ports.update(dict.fromkeys(found))
        return space

    def __str__(self) -> str:
        """Of how many channels, and of what the first norm reads."""
        (value, _), *_ = self.ports
        made = f" behind {value.node}" if value.node is not None else ""
        return f"a stream of {self.width} channels{made}"

    @property
    def width(self) -> int:
        """How many channels there are."""
        return width(next(iter(self.ports)))

    @property
    def _coupling(self) -> Coupling:
        return self.graph.analysis(Coupling)

    def _refuse(self, why: str) -> list[Port]:
        """Note the first obstacle; nothing follows."""
        self.obstacle = self.obstacle or why
        return []

    def _beside(self, port: Port) -> list[Port]:
        """The axes that are turned if one is: those of what makes it, and of what reads it."""
        value, axis = port
        if value.node is None:
            return self._refuse("an input of the graph is added to it")
        if value in self.graph.outputs.values():
            self._refuse("the graph gives it out")
        if tensor_of(value) is not None:
            self.constants.setdefault(value, []).append(axis)
            if value.type.dtype.kind != "f":
                return self._refuse(f"{value.node} is {value.type.dtype}")
            found = list[Port]()
        else:
            found = self._through(value.node, port)
        for node in dict.fromkeys(self.graph.readers.get(value, ())):
            found += self._through(node, port)
        return found

    def _through(self, node: Node, port: Port) -> list[Port]:
        """The axes that a node ties to one of its own."""
        if node.op == ops.Shape:
            return []
        ends, summed = self._ends(node, port)
        if ends is None:
            return self._refuse(f"{node} takes some of its channels, or moves them")
        scale = scale_of(node)
        if scale is not None and node.inputs[scale.place] in ends:
            return self._scaled(scale, port, ends)
        if summed:
            return self._summed(node, port, ends, summed)
        meant = is_norm(node, MEANT) and node.inputs[0] is port[0]
        if meant or _squares(self.graph, node, port):
            self.meant.update({node: None} if meant else {})
            self.normed[port[0]] = None
            return []
        return self._added(node, ends)

    def _ends(self, node: Node, port: Port) -> tuple[dict[Value, int] | None, Sequence[Port]]:
        """The axes that a node ties to one channel by channel, and those that it adds up with it.

        None where it ties other channels, or several axes of one value.
        """
        found, summed = {port[0]: port[1]}, list[Port]()
        for here in (order := [port]):
            for owner, link in self._coupling.links_of(here):
                if owner is not node or link.a == link.b:
                    continue
                end = link.a if link.b == here else link.b
                if link.kind not in {"same", "summed"} or not is_straight(link):
                    return None, ()
                if link.kind == "summed":
                    summed += [end] if here == port else []
                elif found.setdefault(end[0], end[1]) != end[1]:
                    return None, ()
                elif end not in order:
                    order.append(end)
        return found, summed

    def _scaled(self, scale: Scale, port: Port, ends: Mapping[Value, int]) -> list[Port]:
        """The axes on both sides of a scale, or that on this side of one for single channels."""
        node, value = scale.node, port[0]
        if value is node.inputs[scale.place]:
            return self._refuse(f"{node} multiplies by a constant that is added to it, too")
        if value is scale.x and is_norm(node, "RMSNormalization"):
            self.normed[value] = None
        if scale.is_even:
            self.even[node] = scale
            return [(v, ends[v]) for v in (scale.x, node.outputs[0])]
        (self.leaves if value is scale.x else self.entered)[node] = scale
        last = ends[scale.x] == (scale.x.rank or 0) - 1
        return (
            [] if last else self._refuse(f"{node} scales channels along another axis than the last")
        )

    def _summed(
        self, node: Node, port: Port, ends: Mapping[Value, int], summed: Sequence[Port]
    ) -> list[Port]:
        """The other axis that a layer adds up over."""
        if not node.has("layer") or len(ends) > 1 or len(summed) > 1:
            return self._refuse(f"{node} reads it, which is no layer")
        ((other, axis),) = summed
        if other is port[0]:
            return self._refuse(f"{node} multiplies it by itself")
        constant = self.graph.analysis(fixed)
        self.written |= (other in constant) == (port[0] in constant)
        return [(other, axis)]

    def _added(self, node: Node, ends: Mapping[Value, int]) -> list[Port]:
        """The axes of a sum: one factor of each term lies along it, as all results do."""
        terms = [[i for i in term if node.inputs[i] in ends] for term in node.op.terms(node)]
        places = {i for i, v in enumerate(node.inputs) if v in ends}
        whole = all(v in ends for v in node.outputs) and places == {i for t in terms for i in t}
        if node.op.standard == MEANT:
            return self._refuse(
                f"{node} takes a mean off, which canonical-norms leaves out where it can"
            )
        if not node.has("linear") or not whole or any(len(term) != 1 for term in terms):
            return self._refuse(f"{node} reads or makes it, which does not add up whole channels")
        constant = self.graph.analysis(fixed)
        flows = any(v not in constant for v in node.outputs)
        self.written |= flows and any(node.inputs[i] in constant for i in places)
        return list(ends.items())


def _squares(graph: Graph, node: Node, port: Port) -> bool:
    """Whether a node squares what all that read it take means of over all channels."""
    value, axis = port
    twice = node.op == ops.Mul and node.inputs[0] is node.inputs[1] is value
    power = node.op == ops.Pow and node.inputs[0] is value
    exponent = tensor_of(node.inputs[1]) if power else None
    if not twice and (exponent is None or not np.all(exponent.array == 2)):  # noqa: PLR2004
        return False
    rank, (result,) = value.rank or 0, node.outputs
    means = graph.readers.get(result, ())
    plain = len(means) == graph.uses[result] and result.rank == rank
    return plain and all(m.op == ops.ReduceMean and axes_of(m, rank) == {axis} for m in means)


def fixed(graph: Graph) -> frozenset[Value]:
    """What is the same whatever the inputs are."""
    found = set[Value]()
    for node in graph.nodes:
        if node.repeatable and found.issuperset(node.inputs):
            found.update(node.outputs)
    return frozenset(found)


def spaces(graph: Graph) -> Iterator[Space]:
    """The spaces of what norms by the mean of squares read, each once."""
    seen, place = set[Port](), 0
    for node in graph.nodes:
        start = _normed(graph, node)
        if start is not None and start not in seen:
            yield (found := Space.of(graph, start, place))
            seen.update(found.ports)
            place += 1


def at(graph: Graph, place: int) -> Space:
    """The space of a graph at a place among all."""
    return next(space for space in spaces(graph) if space.place == place)


def _normed(graph: Graph, node: Node) -> Port | None:
    """The axis along which a node norms, if it does."""
    if is_norm(node, "RMSNormalization") or is_norm(node, MEANT):
        return node.inputs[0], (node.inputs[0].rank or 0) - 1
    square = node.inputs[0].node if node.op == ops.ReduceMean else None
    if square is None or not square.inputs:
        return None
    value = square.inputs[0]
    axes = [] if not value.rank else sorted(axes_of(node, value.rank) or ())
    start = (value, axes[0]) if len(axes) == 1 else None
    return start if start is not None and _squares(graph, square, start) else None
