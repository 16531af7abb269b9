"""Fold a BatchNormalization into the linear operator before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Node, Source, Value
from redir.ir.rewriter import Outputs, in_branches, settled, transform
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.ops import tensor_of
from redir.ops.schema import trains
from redir.pipeline import Pass

_LAYERS = (ops.Conv, ops.ConvTranspose, ops.Gemm)
_ROOM = 2.0**20  # times that a channel can grow before what it lost is seen beside the largest


@dataclass(frozen=True)
class FoldBatchnorm(Pass):
    """Scale the weights of a Conv, ConvTranspose or Gemm by the norm that alone reads its result.

    y = scale (w x + b - mean) / sqrt(var + epsilon) + bias is one linear map with the weights
    w' = w r and the bias b' = (b - mean) r + bias, where r = scale / sqrt(var + epsilon); it is
    computed in float64 and rounded once. Left alone: a norm in training mode, a weight that is
    not a constant or that another node reads, a result that is read twice, a norm of which a
    channel would be too large for the type of its weights, or lose too many of its digits.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Fold every norm that can be, and then those that stood behind them."""
        return settled(in_branches(graph, self.run), _sweep)

    def explain(self, graph: Graph) -> Iterator[str]:
        """The first condition that each norm fails."""
        for node in graph.nodes:
            why = _obstacle(graph, node) if node.op == ops.BatchNormalization else None
            if why is not None:
                yield f"{node}: {why}"


def _sweep(graph: Graph) -> Graph:
    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node.op != ops.BatchNormalization or _obstacle(graph, node) is not None:
            return None
        return _folded(node.on(inputs))

    return transform(graph, visit)


def _layer(norm: Node) -> Linear | str:
    """The layer before a norm, or why its outputs cannot be scaled."""
    node = norm.inputs[0].node
    layer = linear(node) if node is not None and node.op in _LAYERS else None
    if isinstance(layer, str):
        return f"{node} before it is left alone: {layer}"
    plain = layer is not None and layer.place == layer.alpha == layer.beta == 1
    if layer is None or not plain:
        return f"{node or 'a graph input'} before it is not linear in its weights"
    return layer


def _obstacle(graph: Graph, norm: Node) -> str | None:
    """Why a norm cannot be folded, if it cannot."""
    layer = _layer(norm)
    if isinstance(layer, str):
        return layer
    if trains(norm) or norm.arity > 1 or norm.attrs.get("spatial", 1) != 1:
        return "it does not run in inference mode, channel by channel"
    if graph.uses[norm.inputs[0]] > 1:
        return f"{layer.node} is read by others too"
    vectors, added = norm.inputs[1:], layer.added
    biases = [] if added is None else [added]
    if any(tensor_of(v) is None for v in (*biases, *vectors)):
        return "the bias or a parameter of the norm is not a constant"
    if any(graph.uses[v] > 1 for v in (layer.held, *biases)):
        return f"the weights of {layer.node} are read by others too"
    if not biases and all(graph.uses[v] > 1 for v in vectors):
        return "all its parameters are read by others too, and a bias would come on top"
    if any(v.type.static != (layer.outputs,) for v in (*biases, *vectors)):
        return "the bias or a parameter of the norm is not a vector with a number for each channel"
    if any(v.type.dtype.kind != "f" for v in (layer.held, *biases)):
        return "the weights are not floating-point numbers"
    return _loss(layer, norm)


def _folded(norm: Node) -> Value:
    layer = _layer(norm)
    assert isinstance(layer, Linear)
    kernel, offset = _exact(layer, norm)
    node = layer.with_weight(kernel).with_bias(offset, norm.inputs[2]).node
    return replace(node, source=_joined(layer.node, norm)).outputs[0]


def _exact(layer: Linear, norm: Node) -> tuple[Array, Array]:
    """The weights and the bias that do what both do, in float64."""
    scale, bias, mean, var = (_array(v).astype(np.float64) for v in norm.inputs[1:])
    assert layer.bias is not None
    with np.errstate(all="ignore"):
        ratio = scale / np.sqrt(var + norm.attrs.get("epsilon", 1e-5))
        scaled = layer.weight * ratio.reshape(layer.groups, -1, 1, 1)
        return scaled, (layer.bias.astype(np.float64) - mean) * ratio + bias


def _loss(layer: Linear, norm: Node) -> str | None:
    """Which channel cannot be folded without being changed, and why, if one cannot.

    Numbers too small for their full precision are off by no more than the rounding of the largest
    normal one beside them; so they count only in a channel that has no other weights.
    """
    kernel, offset = _exact(layer, norm)
    dtype, limits = layer.array.dtype, np.finfo(layer.array.dtype)
    weights = kernel.reshape(len(offset), -1)
    numbers = np.column_stack([weights, offset])
    large = ~np.all(np.abs(numbers) <= limits.max, axis=1)
    if large.any():
        return f"channel {np.argmax(large)} would be more than {dtype} can hold"
    largest = np.abs(weights).max(1, initial=0.0)
    small = (largest < limits.tiny) & np.any(numbers.astype(dtype) != numbers, axis=1)
    if small.any() and largest.max() < _ROOM * float(limits.tiny):
        return f"channel {np.argmax(small)} would be less than {dtype} can hold in full"
    return None


def _joined(linear: Node, norm: Node) -> Source | None:
    """The linear operator under its own name, giving the norm's result under that one's."""
    if linear.source is None or norm.source is None:
        return norm.source
    return linear.source.named_as(norm.source)


def _array(value: Value) -> Array:
    tensor = tensor_of(value)
    assert tensor is not None
    return tensor.array
