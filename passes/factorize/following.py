"""Where the channels of a layer are, behind nodes that only move, scale or add them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import prod

import numpy as np

from redir import ops
from redir.channels.ports import connected
from redir.cost import Sizes
from redir.errors import RedirError
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.ops import tensor_of

LARGE = 2**24  # numbers of a result whose channels are followed


@dataclass(frozen=True, eq=False)
class End:
    """What reads channels of a layer, moved: ``numbers`` says which stands where in ``value``.

    There is no ``node`` where the graph gives them out. Channels that have been added up have one
    number, that of the first of them, and ``alike`` (outputs,) says which those are. They are
    ``free`` if all were moved and multiplied alike, so that any basis is as good. ``aside`` are
    nodes that multiplied them by numbers of their own.
    """

    layer: Linear
    node: Node | None
    value: Value
    numbers: Array
    alike: Array
    free: bool
    aside: Sequence[Node]

    @property
    def once(self) -> bool:
        """Whether a node reads the value, and as one operand alone."""
        return self.node is not None and self.node.inputs.count(self.value) == 1

    def has(self, layer: Linear, channels: Array) -> bool:
        """Whether it reads any of some results of a layer."""
        ours = self.layer.node is layer.node
        return ours and bool(np.isin(self.alike[channels], self.numbers).any())


def ends(sizes: Sizes, layer: Linear) -> Iterator[End]:
    """What reads the channels of a layer, as far as these can be followed at ``sizes``."""
    shape = sizes.type(layer.y).static
    if shape is None or prod(shape) >= LARGE:
        return
    alike = np.arange(layer.outputs)
    while True:
        way = followed(sizes, layer.y, np.broadcast_to(lined(alike, layer.y_axis), shape))
        if not way.ties:
            break
        a, b = np.concatenate(way.ties, 1)
        labels = connected(layer.outputs, np.append(alike, a), np.append(range(len(alike)), b))
        alike = np.unique(labels, return_index=True)[1][labels]
    for node, value, held in way.found:
        yield End(layer, node, value, held.numbers, alike, held.free, way.aside)


def lined(numbers: Array, axis: int) -> Array:
    """Numbers along an axis, counted from the end."""
    return numbers.reshape(-1, *[1] * (-1 - axis))


@dataclass(frozen=True, eq=False)
class Held:
    """Which channel stands where, and whether all are still in one basis."""

    numbers: Array
    free: bool = True


@dataclass(frozen=True, eq=False)
class Way:
    """What reads a value where others have moved it, each with what it finds there.

    ``ties`` (2, pairs) are numbers of what was added up, and ``aside`` the nodes that multiplied by
    numbers of their own.
    """

    sizes: Sizes
    found: list[tuple[Node | None, Value, Held]] = field(default_factory=list)
    ties: list[Array] = field(default_factory=list)
    aside: list[Node] = field(default_factory=list)

    def moved(self, node: Node, held: Mapping[Value, Held]) -> Sequence[Held]:
        """What the results of a node hold, nothing where they are not simply what it reads."""
        read = [v for v in node.inputs if v in held]
        terms, places = node.op.terms(node), [i for i, v in enumerate(node.inputs) if v in held]
        if len(set(read)) < len(read) or not node.has("linear"):
            return ()
        if any(len({*term} & {*places}) != 1 for term in terms) or {*places} - {*sum(terms, ())}:
            return ()
        if node.has("moves_data") and all(len(term) == 1 for term in terms):
            return self._carried(node, held)
        return self._scaled(node, held) if node.has("elementwise") else self._turned(node, held)

    def _carried(self, node: Node, held: Mapping[Value, Held]) -> Sequence[Held]:
        """Of a node that moves its data, as constants tell."""
        twin = self.sizes.node(node)
        pairs = zip(node.inputs, twin.inputs, strict=True)
        arrays = [held[v].numbers if v in held else _constant(here) for v, here in pairs]
        free = all(held[v].free for v in node.inputs if v in held)
        if any(array is None for array in arrays):
            return ()
        try:
            return [Held(made, free) for made in compute(twin, arrays)]
        except RedirError:
            return ()

    def _scaled(self, node: Node, held: Mapping[Value, Held]) -> Sequence[Held]:
        """Of a sum of products, in each of which channels are multiplied by what is none."""
        twin = self.sizes.node(node)
        mine = [held[v] for v in node.inputs if v in held]
        if any(each.numbers.shape != twin.outputs[0].type.static for each in mine):
            return ()
        pairs = zip(node.inputs, twin.inputs, strict=True)
        shapes = [here.type.static for v, here in pairs if v not in held]
        single = all(shape is not None and prod(shape) == 1 for shape in shapes)
        if not single:
            self.aside.append(node)
        return [self._one([each.numbers for each in mine], free=single and mine[0].free)]

    def _turned(self, node: Node, held: Mapping[Value, Held]) -> Sequence[Held]:
        """Of a node that makes each channel of some that its links name, and of what is none."""
        twin, mine = self.sizes.node(node), held.get(node.inputs[0])
        x, shape = twin.inputs[0], twin.outputs[0].type.static
        alone = [*node.op.terms(node)] == [(0,)] and node.arity == 1
        if mine is None or not alone or mine.numbers.shape != shape:
            return ()
        options = [mine.numbers]
        for axis in (a for a in range(mine.numbers.ndim) if varies(mine.numbers, a)):
            links = [index for a, b, index in tied(twin, x) if a == b == axis]
            options = [option.take(index, axis) for option in options for index in links]
        if not options:
            return ()
        self.aside.append(node)
        return [self._one(options, free=False)]

    def _one(self, options: Sequence[Array], *, free: bool) -> Held:
        """What is a sum of channels has one number."""
        first, *others = options
        for other in others:
            unlike = first != other
            if unlike.any():
                pairs = np.unique([first[unlike], other[unlike]], axis=1)
                self.ties.append(pairs.astype(np.int64))
        return Held(first, free and not others)


def followed(sizes: Sizes, start: Value, numbers: Array) -> Way:
    """What reads a value that has some numbers, where others have moved it."""
    graph, way, held = sizes.graph, Way(sizes), {start: Held(numbers)}
    order, queue, outputs = graph.analysis(_order), list[int](), set(graph.outputs.values())

    def add(value: Value) -> None:
        if value in outputs:
            way.found.append((None, value, held[value]))
        for reader in graph.readers.get(value, ()):
            heappush(queue, order[reader])

    add(start)
    last = -1
    while queue:
        place = heappop(queue)
        if place == last:
            continue
        last, node = place, graph.nodes[place]
        moved = way.moved(node, held)
        for value, new in zip(node.outputs, moved, strict=False):
            held[value] = new
            add(value)
        if not moved and node.op != ops.Shape:
            way.found.extend((node, v, held[v]) for v in dict.fromkeys(node.inputs) if v in held)
    return way


def _order(graph: Graph) -> Mapping[Node, int]:
    return {node: place for place, node in enumerate(graph.nodes)}


def _constant(value: Value) -> Array | None:
    tensor = tensor_of(value)
    return None if tensor is None else tensor.array


def varies(numbers: Array, axis: int) -> bool:
    """Whether numbers are others at other places of an axis."""
    return bool((numbers != numbers.take([0], axis)).any())


def tied(node: Node, x: Value) -> Iterator[tuple[int, int, Array]]:
    """Axes of an operand and of the result, and which channel of the one each of the other has.

    Not those of the result on which there is more, as there is where it is padded.
    """
    y = node.outputs[0]
    for link in (k for k in node.op.links(node) if k.kind == "same"):
        if link.a[0] is y and link.b[0] is x:
            yield link.b[1], link.a[1], link.index
        elif link.a[0] is x and link.b[0] is y and len(link.index) == y.type.size(link.b[1]):
            yield link.a[1], link.b[1], np.argsort(link.index)
