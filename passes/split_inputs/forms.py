"""The forms in which a layer computes each product of an input channel once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod

import numpy as np

from redir import ops
from redir.cost.forms import Form
from redir.ir import Graph, Node, Value
from redir.ir.tensor import FLOATS, Array
from redir.layers.products import MULTIPLES, Products, by_channel, shared
from redir.ops import tensor_of

LAYERS = (ops.Conv, ops.Gemm, ops.MatMul)
_MATRIX = 2  # axes
_BROADCASTING = 7  # the operator set from which a Mul broadcasts as it does today
_LARGEST = 2**30  # bytes of one tensor that routes


@dataclass(frozen=True, eq=False)
class Layer:
    """A node that can be split: its ``weights`` as (outputs, inputs / groups, ...) of a Conv.

    Operand ``flowing`` flows in, its channels along ``axis``. ``turned``: the weights are the
    other way round in the node.
    """

    node: Node
    weights: Array
    groups: int = 1
    flowing: int = 0
    axis: int = 1
    turned: bool = False

    @property
    def weight(self) -> Value:
        """The constant that holds the weights."""
        return self.node.inputs[1 - self.flowing]

    @property
    def places(self) -> tuple[int, int]:
        """How often a number of a product by a number, and one of the result, is computed."""
        before = _places(self.node.inputs[self.flowing], self.axis)
        return before, _places(self.node.outputs[0], 1) if self.node.op == ops.Conv else before

    @property
    def multiplications(self) -> int:
        """Those that the layer makes as it is."""
        return self.places[1] * _costly(self.weights)


def _places(value: Value, axis: int) -> int:
    """The numbers of one channel for one example; what is open counts as 1."""
    shape = value.type.shape or ()
    return prod(d for a, d in enumerate(shape) if a != axis and isinstance(d, int))


def _costly(weights: Array) -> int:
    """How many of ``weights`` it takes a multiplication to apply."""
    return int(np.count_nonzero((weights != 0) & (np.abs(weights) != 1)))


def layer_of(graph: Graph, node: Node) -> Layer | str:
    """The layer that a Conv, Gemm or MatMul is, or why it cannot be split."""
    tensors = [tensor_of(v) for v in node.inputs[:2]]
    flowing = 0 if node.op == ops.Conv or tensors[1] is not None else 1
    weights = tensors[1 - flowing]
    if weights is None:
        return "its weights are not a constant"
    if tensors[flowing] is not None:
        return "it does not depend on the inputs"
    if weights.array.dtype.name not in FLOATS:
        return f"its weights are {weights.array.dtype}, not floating-point numbers"
    if not np.isfinite(weights.array.astype(np.float64)).all():
        return "a weight is infinite or not a number"
    if not np.any(weights.array):
        return "its weights are all zero"
    if node.op == ops.Conv:
        return _conv(node, weights.array)
    return _matrix(graph, node, weights.array, flowing)


def _conv(node: Node, weights: Array) -> Layer | str:
    channels = node.inputs[0].type.size(1)
    if channels is None:
        return "the number of its input channels is not known"
    if {"group", "kernel_shape"} & node.attrs.keys():
        return "its groups or its kernel are not those of its weights"
    return Layer(node, weights, channels // weights.shape[1])


def _matrix(graph: Graph, node: Node, weights: Array, flowing: int) -> Layer | str:
    rank = node.inputs[flowing].rank
    if weights.ndim != _MATRIX:
        return f"its weights have {weights.ndim} axes, not {_MATRIX}"
    if rank is None:
        return "the number of axes of its input is not known"
    if graph.opset.get("", ops.OPSET) < _BROADCASTING:
        return f"before operator set {_BROADCASTING} a Mul does not broadcast"
    transposed = [bool(node.attrs.get(key)) for key in ("transA", "transB")]
    axis = rank - 1 if flowing == 0 else max(rank - _MATRIX, 0)
    along = rank - 1 - axis if transposed[flowing] else axis
    turned = (flowing == 0) != transposed[1 - flowing]
    return Layer(node, weights.T if turned else weights, 1, flowing, along, turned)


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


def _kernels_first(layer: Layer, parts: _Parts, inputs: tuple[Value, ...]) -> Value:
    """A depthwise Conv with the distinct kernels, and a 1x1 one that routes."""
    (x, _, *bias), node = inputs, layer.node
    products = node.op(_gathered(parts, x, 1), parts.kernels, **node.attrs)
    return node.op(products, parts.routing, *bias)


def _numbers_first(layer: Layer, parts: _Parts, inputs: tuple[Value, ...]) -> Value:
    """A 1x1 depthwise Conv by the distinct numbers, and a Conv of -1, 0 and 1 that routes."""
    (x, _, *bias), node = inputs, layer.node
    products = node.op(_gathered(parts, x, 1), parts.kernels)
    return node.op(products, parts.routing, *bias, **node.attrs)


def _scaled_first(layer: Layer, parts: _Parts, inputs: tuple[Value, ...]) -> Value:
    """A Mul by the distinct numbers, and the layer with -1, 0 and 1 for weights."""
    operands = list(inputs)
    x = _gathered(parts, operands[layer.flowing], layer.axis)
    operands[layer.flowing] = ops.Mul(x, parts.kernels)
    operands[1 - layer.flowing] = parts.routing
    return layer.node.on(operands).outputs[0]


@dataclass(frozen=True, eq=False)
class _Way:
    """One way to split a layer: which ``kernels`` share products, and what is made of these.

    ``largest`` is the largest factor between two that share one; ``scale`` the shape of one
    kernel where products are made, and ``window`` where they are routed. ``late``: products are
    made where the layer's results are, not where its inputs are.
    """

    apply: Callable[[Layer, _Parts, tuple[Value, ...]], Value]
    kernels: Array
    largest: float
    scale: tuple[int, ...]
    window: tuple[int, ...]
    late: bool = False


def _ways(layer: Layer, *, dense: bool) -> Iterator[_Way]:
    """Whole kernels first, then single numbers."""
    whole = by_channel(layer.weights, layer.groups)
    numbers, sizes = whole.reshape(len(whole), -1, 1), layer.weights.shape[2:]
    ones = (1,) * len(sizes)
    if layer.node.op != ops.Conv:
        behind = (layer.node.inputs[layer.flowing].rank or 0) - 1 - layer.axis
        yield _Way(_scaled_first, numbers, 1.0, (1,) * behind, ())
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
    they are fewer than the layer's.
    """

    graph: Graph
    dense: bool
    _known: dict[tuple[object, ...], _Parts] = field(default_factory=dict)

    def __call__(self, node: Node) -> list[Form]:
        """The forms that may stand for ``node``."""
        layer = layer_of(self.graph, node) if node.op in LAYERS else ""
        if isinstance(layer, str):
            return []
        ways = _ways(layer, dense=self.dense)
        every = [split for way in ways for split in self._split(layer, way)]
        small = [s for s in every if s.numbers < layer.weights.size]
        large = [s for s in every if s.multiplications < layer.multiplications and not self.dense]
        best = sorted(large, key=lambda s: s.multiplications)[:1]
        return [s.form for s in dict.fromkeys([*small, *best])]

    def _split(self, layer: Layer, way: _Way) -> Iterator[_Split]:
        if self.dense and _least(layer, way) >= layer.weights.size:
            return
        parts = self._parts(layer, way)
        products = parts.products
        before, behind = layer.places
        made = (behind if way.late else before) * _costly(products.kernels)
        numbers = products.kernels.size + products.routes
        if products.routes * layer.weights.itemsize <= _LARGEST:
            count = made + behind * _costly(products.factor)
            yield _Split(partial(way.apply, layer, parts), numbers, count)
            if layer.node.op == ops.Conv and parts.repeats > 1:
                yield _Split(partial(way.apply, layer, parts.ungathered), numbers, count)

    def _parts(self, layer: Layer, way: _Way) -> _Parts:
        """The constants; layers that share a weight share them too, so that they pay together."""
        key = (layer.weight, layer.groups, way.largest, way.scale, way.window, layer.turned)
        if key in self._known:
            return self._known[key]
        products = shared(way.kernels, layer.groups, way.largest)
        scale = (products.channels.size, *way.scale)
        parts = _Parts(products, len(layer.weights), scale, way.window, layer.turned)
        if self.graph.uses[layer.weight] > 1:
            self._known[key] = parts
        return parts


def _least(layer: Layer, way: _Way) -> int:
    """How many numbers a form stores at least: each channel that is read takes a product."""
    read = way.kernels.any((1, 2)).reshape(layer.groups, -1).sum(1).max()
    return int(read) * layer.groups * sum(way.kernels.shape[1:])
