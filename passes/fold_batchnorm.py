"""Fold a BatchNormalization into the linear operator before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Node, Source, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor
from redir.ops import is_absent, tensor_of
from redir.ops.schema import trains
from redir.pipeline import Pass

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
        while (after := _sweep(graph)) is not graph:
            graph = after
        return graph

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


def _obstacle(graph: Graph, norm: Node) -> str | None:
    """Why a norm cannot be folded, if it cannot."""
    linear = norm.inputs[0].node
    rows = None if linear is None else _row_axis(linear)
    if linear is None or rows is None:
        return f"{linear or 'a graph input'} before it is not linear in its weights"
    if trains(norm) or norm.arity > 1 or norm.attrs.get("spatial", 1) != 1:
        return "it does not run in inference mode, channel by channel"
    if graph.uses[norm.inputs[0]] > 1:
        return f"{linear} is read by others too"
    weights = [v for v in linear.inputs[1:] if not is_absent(v)]
    vectors = norm.inputs[1:]
    if any(tensor_of(v) is None for v in (*weights, *vectors)):
        return "a weight or a parameter of the norm is not a constant"
    if any(graph.uses[v] > 1 for v in weights):
        return f"the weights of {linear} are read by others too"
    if len(weights) == 1 and all(graph.uses[v] > 1 for v in vectors):
        return "all its parameters are read by others too, and a bias would come on top"
    return _mismatch(rows, [v.type for v in weights], [v.type for v in vectors]) or _loss(
        linear, norm
    )


def _mismatch(rows: int, weights: list[object], vectors: list[object]) -> str | None:
    """Whether each channel has its own row, bias and parameters, all of one float type."""
    shapes = [t.static for t in (*weights, *vectors)]  # type: ignore[attr-defined]
    width = shapes[0][rows]
    if any(shape != (width,) for shape in shapes[1:]):
        return "the bias or a parameter of the norm is not a vector with a number for each channel"
    if any(t.dtype.kind != "f" for t in weights):  # type: ignore[attr-defined]
        return "the weights are not floating-point numbers"
    return None


def _folded(norm: Node) -> Value:
    linear = norm.inputs[0].node
    assert linear is not None
    exact, dtype = _exact(linear, norm), linear.inputs[1].type.dtype
    kernel, offset = (array.astype(dtype) for array in exact)
    operands = (linear.inputs[0], _like(kernel, linear.inputs[1]), _like(offset, norm.inputs[2]))
    return Node(linear.op, operands, linear.attrs, source=_joined(linear, norm)).outputs[0]


def _exact(linear: Node, norm: Node) -> tuple[Array, Array]:
    """The weights and the bias that do what both do, in float64."""
    rows = _row_axis(linear)
    assert rows is not None
    scale, bias, mean, var = (_array(v).astype(np.float64) for v in norm.inputs[1:])
    w, *b = (_array(v) for v in linear.inputs[1:] if not is_absent(v))
    shift = b[0].astype(np.float64) if b else np.zeros_like(mean)
    along = [1] * w.ndim
    along[rows] = -1
    with np.errstate(all="ignore"):
        ratio = scale / np.sqrt(var + norm.attrs.get("epsilon", 1e-5))
        return w * ratio.reshape(along), (shift - mean) * ratio + bias


def _loss(linear: Node, norm: Node) -> str | None:
    """Which channel cannot be folded without being changed, and why, if one cannot.

    Numbers too small for their full precision are off by no more than the rounding of the largest
    normal one beside them; so they count only in a channel that has no other weights.
    """
    (kernel, offset), dtype = _exact(linear, norm), linear.inputs[1].type.dtype
    rows, limits = _row_axis(linear), np.finfo(dtype)
    assert rows is not None
    weights = np.moveaxis(kernel, rows, 0).reshape(len(offset), -1)
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
    return replace(linear.source, outputs=norm.source.outputs, declared=norm.source.declared)


def _row_axis(linear: Node) -> int | None:
    """The axis of the weight that goes with the norm's channels, if there is one."""
    if linear.op == ops.Conv:
        return 0
    if linear.op == ops.ConvTranspose and linear.attrs.get("group", 1) == 1:
        return 1
    plain = linear.attrs.get("alpha", 1.0) == linear.attrs.get("beta", 1.0) == 1.0
    if linear.op == ops.Gemm and plain:
        return 0 if linear.attrs.get("transB") else 1
    return None


def _array(value: Value) -> Array:
    tensor = tensor_of(value)
    assert tensor is not None
    return tensor.array


def _like(array: Array, old: Value) -> Value:
    """The constant ``array`` under the name of ``old``."""
    source = old.node.source if old.node is not None else None
    return Node(ops.Const, (), {"value": Tensor.take(array)}, source=source).outputs[0]
