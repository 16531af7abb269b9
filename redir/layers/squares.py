"""The norm by the root of the mean of squares, as an operator set writes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Op, Value
from redir.ir.tensor import DType
from redir.ops import OPSET, lookup

_FUSED = 23  # the operator set that has RMSNormalization
_AXES = 18  # the one from which a ReduceMean is told its axes by an operand


def unwritten(graph: Graph, norm: Node) -> str:
    """Why a norm by the mean of squares cannot be written in its place, if it cannot."""
    single = norm.outputs[0].type.dtype in (np.float32, np.float64)
    return "" if single or _opset(graph) >= _FUSED else "its numbers are of half precision"


def _opset(graph: Graph) -> int:
    return graph.opset.get("", OPSET)


def writer(graph: Graph) -> Callable[[Node, tuple[Value, ...]], Value]:
    """Writes x / sqrt(mean(x^2) + epsilon) scale: in one node, or as onnxruntime joins it."""
    opset = _opset(graph)
    fused = lookup("RMSNormalization", opset)

    @cache
    def number(value: float, dtype: DType) -> Value:
        return ops.constant(np.array(value, dtype))

    def op(name: str) -> Op:
        found = lookup(name, opset)
        assert found is not None
        return found

    def write(norm: Node, inputs: tuple[Value, ...]) -> Value:
        x, scale = inputs[:2]
        epsilon, dtype = float(norm.attrs.get("epsilon", 1e-5)), x.type.dtype
        if fused is not None:
            told = {k: norm.attrs[k] for k in ("stash_type",) if k in norm.attrs}
            return fused(x, scale, axis=-1, epsilon=epsilon, **told)
        squares = op("Pow")(x, number(2.0, dtype))
        along = ops.constant(np.array([-1]))
        told = {"axes": (-1,)} if opset < _AXES else {}
        mean = op("ReduceMean")(squares, *([] if told else [along]), keepdims=1, **told)
        root = op("Sqrt")(op("Add")(mean, number(epsilon, dtype)))
        return op("Mul")(op("Div")(x, root), scale)

    return write
