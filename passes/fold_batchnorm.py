"""Fold a BatchNormalization into the linear operator before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redir import ops
from redir.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Array, Graph, Node, Source, Tensor, Value
from redir.ops import is_absent, tensor_of
from redir.ops.schema import trains
from redir.pipeline import Pass
from redir.rewrite import Outputs, transform


@dataclass(frozen=True)
class FoldBatchnorm(Pass):
    """Scale the weights of a Conv, ConvTranspose or Gemm by the norm that alone reads its result.

    y = scale (w x + b - mean) / sqrt(var + epsilon) + bias is one linear map with the weights
    w' = w r and the bias b' = (b - mean) r + bias, where r = scale / sqrt(var + epsilon); it is
    computed in float64 and rounded once. Left alone: a norm in training mode, a weight that is
    not a constant or that another node reads, a result that is read twice.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Fold every norm that can be."""

        def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            linear = node.inputs[0].node if node.op == ops.BatchNormalization else None
            if linear is None or trains(node) or not _owned(graph, linear):
                return None
            return _folded(node.on(inputs))

        return transform(graph, visit)


def _owned(graph: Graph, linear: Node) -> bool:
    """Whether only the norm reads the result, and only ``linear`` its weights."""
    weights = [v for v in linear.inputs[1:] if not is_absent(v)]
    return graph.uses[linear.outputs[0]] == 1 and all(graph.uses[v] == 1 for v in weights)


def _folded(norm: Node) -> Value | None:
    linear = norm.inputs[0].node
    rows = None if linear is None else _row_axis(linear)
    if linear is None or rows is None or norm.arity > 1 or norm.attrs.get("spatial", 1) != 1:
        return None
    vectors = [tensor_of(v) for v in norm.inputs[1:]]
    weights = [tensor_of(v) for v in linear.inputs[1:] if not is_absent(v)]
    if any(t is None for t in (*vectors, *weights)):
        return None
    scale, bias, mean, var = (t.array.astype(np.float64) for t in vectors if t is not None)
    w, *b = (t.array for t in weights if t is not None)
    shift = b[0].astype(np.float64) if b else np.zeros_like(mean)
    if shift.shape != mean.shape or w.shape[rows] != mean.size or w.dtype.kind != "f":
        return None
    ratio = scale / np.sqrt(var + norm.attrs.get("epsilon", 1e-5))
    along = [1] * w.ndim
    along[rows] = -1
    kernel = (w * ratio.reshape(along)).astype(w.dtype)
    offset = ((shift - mean) * ratio + bias).astype(w.dtype)
    if not (np.isfinite(kernel).all() and np.isfinite(offset).all()):
        return None
    x, old_w, *_ = linear.inputs
    new_w, new_b = _renamed(kernel, old_w), _renamed(offset, norm.inputs[2])
    return Node(linear.op, (x, new_w, new_b), linear.attrs).outputs[0]


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


def _renamed(array: Array, old: Value) -> Value:
    source: Source | None = old.node.source if old.node is not None else None
    return Node(ops.Const, (), {"value": Tensor.take(array)}, source=source).outputs[0]
