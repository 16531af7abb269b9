"""The forms in which a layer computes each product of an input channel once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod

import numpy as np

from redir import ops
from redir.cost import nbytes
from redir.cost.forms import Form
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, is_floating
from redir.layers.linear import Linear, linear
from redir.layers.products import MULTIPLES, Products, shared
from redir.ops import is_absent, tensor_of
from redir.tasks import mapped

SPLITTABLE = (ops.Conv, ops.Gemm, ops.MatMul)
_BROADCASTING = 7  # the operator set from which a Mul broadcasts as it does today
_LARGEST = 2**30  # bytes of one tensor that routes


def layer_of(graph: Graph, node: Node) -> Linear | str:
    """The layer that a Conv, Gemm or MatMul is, or why it cannot be split."""
    layer = linear(node)
    if isinstance(layer, str):
        return layer
    if tensor_of(layer.x) is not None:
        return "it does not depend on the inputs"
    if not is_floating(layer.array.dtype):
        return f"its weights are {layer.array.dtype}, not floating-point numbers"
    if not np.isfinite(layer.weight.astype(np.float64)).all():
        return "a weight is infinite or not a number"
    if not np.any(layer.weight):
        return "its weights are all zero"
    if node.op == ops.Conv:
        known = layer.x.type.size(1) is not None
        return layer if known else "the number of its input channels is not known"
    if layer.x.rank is None:
        return "the number of axes of its input is not known"
    if graph.opset.get("", ops.OPSET) < _BROADCASTING:
        return f"before operator set {_BROADCASTING} a Mul does not broadcast"
    return layer


def _places(value: Value, axis: int) -> int:
    """The numbers of one channel for one example; what is open counts as 1."""
    shape = value.type.shape or ()
    return prod(d for a, d in enumerate(shape) if a != axis % len(shape) and isinstance(d, int))


def _behind(layer: Linear) -> int:
    """How often a number of the result is computed, for one output."""
    value = layer.y if layer.node.op == ops.Conv else layer.x
    return _places(value, layer.x_axis)


def _costly(weights: Array) -> int:
    """How many of ``weights`` it takes a multiplication to apply."""
    return int(np.count_nonzero((weights != 0) & (np.abs(weights) != 1)))


# Forms


@dataclass(frozen=True, eq=False)
class _Parts:
    """The constants of a form: channels to gather, kernels to multiply by, and the routing.

    ``scale`` is the shape of the kernels, ``window`` that of a kernel of the routing, to so many
    ``outputs``; ``turned`` as in the layer. ``multiplied``: a Conv may read a channel repeatedly.
    """

    products: Products
    outputs: int
    scale: tuple[int, ...]
    window: tuple[int, ...]
    turned: bool
    multiplied: bool = False

    @cached_property
    def repeats(self) -> int:
        """How often each channel is read, in order; 0 where that is another order."""
        read, size = self.products.channels, self.products.counts.size
        times = read.size // size
        return times if np.array_equal(read, np.repeat(np.arange(size), times)) else 0

    @cached_property
    def channels(self) -> Value | None:
        """What to gather: None where each channel is read once, or a Conv can repeat them."""
        plain = self.repeats == 1 or (self.repeats > 1 and self.multiplied)
        return None if plain else ops.constant(self.products.channels)

    @cached_property
    def ungathered(self) -> _Parts:
        """The same for a Conv that has several outputs for each channel."""
        return replace(self, multiplied=True)

    @cached_property
    def kernels(self) -> Value:
        return ops.constant(self.products.kernels.reshape(self.scale))

    @cached_property
    def routing(self) -> Value:
        width = self.products.width
        parts = self.products.routing().reshape(self.outputs, -1, width).swapaxes(1, 2)
        routing = parts.reshape(self.outputs, width, *self.window)
        return ops.constant(routing.T if self.turned else routing)


def _gathered(parts: _Parts, x: Value, axis: int) -> Value:
    return x if parts.channels is None else ops.Gather(x, parts.channels, axis=axis)


def _kernels_first(layer: Linear, parts: _Parts, inputs: tuple[Value, ...]) -> Value:
    """A depthwise Conv with the distinct kernels, and a 1x1 one that routes."""
    (x, _, *bias), node = inputs, layer.node
    products = node.op(_gathered(parts, x, 1), parts.kernels, **node.attrs)
    return node.op(products, parts.routing, *bias)


def _numbers_first(layer: Linear, parts: _Parts, inputs: tuple[Value, ...]) -> Value:
    """A 1x1 depthwise Conv by the distinct numbers, and a Conv of -1, 0 and 1 that routes."""
    (x, _, *bias), node = inputs, layer.node
    products = node.op(_gathered(parts, x, 1), parts.kernels)
    return node.op(products, parts.routing, *bias, **node.attrs)


def _scaled_first(layer: Linear, parts: _Parts, inputs: tuple[Value, ...]) -> Value:
    """A Mul by the distinct numbers, and the layer with -1, 0 and 1 for weights."""
    operands, flowing = list(inputs), 1 - layer.place
    x = operands[flowing]
    x = _gathered(parts, x, layer.x_axis % (layer.x.rank or 1))
    operands[flowing] = ops.Mul(x, parts.kernels)
    operands[layer.place] = parts.routing
    return layer.node.on(operands).outputs[0]


@dataclass(frozen=True, eq=False)
class _Way:
    """One way to split a layer: which ``kernels`` share products, and what is made of these.

    ``largest`` is the largest factor between two that share one; ``scale`` the shape of one
    kernel where products are made, and ``window`` where they are routed. ``late``: products are
    made where the layer's results are, not where its inputs are.
    """

    apply: Callable[[Linear, _Parts, tuple[Value, ...]], Value]
    kernels: Array
    largest: float
    scale: tuple[int, ...]
    window: tuple[int, ...]
    late: bool = False


def _ways(layer: Linear, *, dense: bool) -> Iterator[_Way]:
    """Whole kernels first, then single numbers."""
    whole, sizes = layer.kernels, layer.kernel
    numbers = whole.reshape(len(whole), -1, 1)
    ones = (1,) * len(sizes)
    if layer.node.op != ops.Conv:
        yield _Way(_scaled_first, numbers, 1.0, (1,) * (-1 - layer.x_axis), ())
    elif prod(sizes) == 1:
        yield _Way(_kernels_first, numbers, 1.0, (1, *sizes), ones, late=True)
    else:
        for largest in (MULTIPLES,) if dense else (MULTIPLES, 1.0):
            yield _Way(_kernels_first, whole, largest, (1, *sizes), ones, late=True)
        yield _Way(_numbers_first, numbers, 1.0, (1, *ones), sizes)


@dataclass(frozen=True, eq=False)
class _Split:
    """A form, with the numbers that it stores, places aside, and its multiplications."""

    form: Form
    numbers: int
    multiplications: int


@dataclass(frozen=True)
class Offers:
    """The forms that split the layers of ``graph``: call it with a node.

    ``dense``: only those that store fewer numbers than the layer can pay, since zeros and ones
    cost what others do. Otherwise there is one more, the one with the fewest multiplications, if
    they are fewer than the layer's. ``found`` are products of some nodes, by their ways.
    """

    graph: Graph
    dense: bool
    found: Mapping[Node, Sequence[Products | None]] = field(default_factory=dict)
    _known: dict[tuple[object, ...], _Parts] = field(default_factory=dict)

    @classmethod
    def at_once(cls, graph: Graph, *, dense: bool) -> Offers:
        """Those of all layers, whose products are looked for side by side."""
        nodes = [n for n in graph.nodes if n.op in SPLITTABLE]
        nodes = [node for node in nodes if not isinstance(layer_of(graph, node), str)]
        alone = [_alone(graph, node) for node in nodes]
        found = mapped(partial(_products, dense), alone, "layers", memory=_memory)
        return cls(graph, dense, dict(zip(nodes, found, strict=True)))

    def __call__(self, node: Node) -> list[Form]:
        """The forms that may stand for ``node``."""
        layer = layer_of(self.graph, node) if node.op in SPLITTABLE else ""
        if isinstance(layer, str):
            return []
        found = self.found.get(node)
        if found is not None and not any(found):
            return []
        ways = list(_ways(layer, dense=self.dense))
        found = found or [self.products(layer, way) for way in ways]
        pairs = [(w, p) for w, p in zip(ways, found, strict=True) if p is not None]
        every = [split for way, products in pairs for split in self._split(layer, way, products)]
        small = [s for s in every if s.numbers < layer.weight.size]
        large = [s for s in every if s.multiplications < self._most(layer)]
        best = sorted(large, key=lambda s: s.multiplications)[:1]
        return [s.form for s in dict.fromkeys([*small, *best])]

    def products(self, layer: Linear, way: _Way) -> Products | None:
        """The products of a way, None where it stores and multiplies too much."""
        if self.dense and _least(layer, way) >= layer.weight.size:
            return None
        made = shared(way.kernels, layer.groups, way.largest)
        small = _numbers(made) < layer.weight.size
        return made if small or _multiplied(layer, way, made) < self._most(layer) else None

    def _most(self, layer: Linear) -> int:
        return 0 if self.dense else _behind(layer) * _costly(layer.weight)

    def _split(self, layer: Linear, way: _Way, products: Products) -> Iterator[_Split]:
        if products.routes * layer.array.dtype.itemsize > _LARGEST:
            return
        parts = self._parts(layer, way, products)
        costs = _numbers(products), _multiplied(layer, way, products)
        yield _Split(partial(way.apply, layer, parts), *costs)
        if layer.node.op == ops.Conv and parts.repeats > 1:
            yield _Split(partial(way.apply, layer, parts.ungathered), *costs)

    def _parts(self, layer: Linear, way: _Way, products: Products) -> _Parts:
        """The constants; layers that share a weight share them too, so that they pay together."""
        key = (layer.held, layer.groups, way.largest, way.scale, way.window, layer.turned)
        if key in self._known:
            return self._known[key]
        scale = (products.channels.size, *way.scale)
        parts = _Parts(products, layer.outputs, scale, way.window, layer.turned)
        if self.graph.uses[layer.held] > 1:
            self._known[key] = parts
        return parts


def _numbers(products: Products) -> int:
    """What a form stores, places aside."""
    return products.kernels.size + products.routes


def _multiplied(layer: Linear, way: _Way, products: Products) -> int:
    """The multiplications of a form."""
    places = _behind(layer) if way.late else _places(layer.x, layer.x_axis)
    return places * _costly(products.kernels) + _behind(layer) * _costly(products.factor)


def _alone(graph: Graph, node: Node) -> Graph:
    """A layer on an input of its own."""
    given = {v: Value(v.type) for v in node.inputs if tensor_of(v) is None and not is_absent(v)}
    made = node.on(given.get(v, v) for v in node.inputs)
    inputs = {f"x{place}": value for place, value in enumerate(given.values())}
    return Graph(inputs, {"y": made.outputs[0]}, opset=graph.opset)


def _products(dense: bool, alone: Graph) -> list[Products | None]:  # noqa: FBT001 - of a partial
    """The products of the only layer of a graph, by its ways."""
    layer = layer_of(alone, alone.nodes[-1])
    assert isinstance(layer, Linear)
    offers = Offers(alone, dense)
    return [offers.products(layer, way) for way in _ways(layer, dense=dense)]


def _memory(alone: Graph) -> int:
    """What ``_products`` holds of a layer: twenty numbers in float64 for each of its own."""
    return 40 * nbytes(alone)


def _least(layer: Linear, way: _Way) -> int:
    """How many numbers a form stores at least: each channel that is read takes a product."""
    read = way.kernels.any((1, 2)).reshape(layer.groups, -1).sum(1).max()
    return int(read) * layer.groups * sum(way.kernels.shape[1:])
