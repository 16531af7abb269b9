"""The float64 twin of a graph, against which float32 results are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from redir import ops
from redir.errors import IllTyped
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import transform
from redir.ir.tensor import NO_DTYPE, Tensor, TensorType, Type

_DOUBLE = 11  # TensorProto.DOUBLE, as a Cast names it
_NARROW = {"float32": 1, "float16": 10, "bfloat16": 16}


def widened(graph: Graph) -> Graph:
    """``graph`` with every float32, float16 and bfloat16 tensor in float64.

    An operator that exists in single precision only runs in it, between two casts.
    """
    inputs = {name: Value(_wide(v.type)) for name, v in graph.inputs.items()}

    def visit(node: Node, operands: tuple[Value, ...]) -> list[Value]:
        if _is_large(node):  # widened as it is read, so that one at a time is in memory
            return _wide_values(node.on(operands).outputs)
        try:
            made = _wide_node(node, operands)
            pairs = zip(made.outputs, node.outputs, strict=True)
            if all(new.type.dtype == _wide(old.type).dtype for new, old in pairs):
                return list(made.outputs)
        except IllTyped:
            pass
        return _between_casts(node, operands)

    defaults = {n: _wide_tensor(t) for n, t in graph.defaults.items()}
    return replace(transform(graph, visit, inputs), defaults=defaults, shell=b"")


def _wide(type_: Type) -> Type:
    narrow = isinstance(type_, TensorType) and type_.dtype.name in _NARROW
    return TensorType(np.dtype(np.float64), type_.shape) if narrow else type_


def _wide_tensor(tensor: Tensor) -> Tensor:
    narrow = tensor.type.dtype.name in _NARROW
    return Tensor.take(tensor.array.astype(np.float64)) if narrow else tensor


def _wide_node(node: Node, operands: tuple[Value, ...]) -> Node:
    held = node.attrs.get("value")
    if isinstance(held, Tensor):
        return node.on(operands, value=_wide_tensor(held))
    for key in ("to", "dtype"):
        if node.attrs.get(key) in _NARROW.values():
            return node.on(operands, **{key: _DOUBLE})
    if node.bodies:
        raise IllTyped("a body keeps the types it was written in")
    return node.on(operands)


def _between_casts(node: Node, operands: tuple[Value, ...]) -> list[Value]:
    narrow = node.on(_cast(new, old) for new, old in zip(operands, node.inputs, strict=True))
    return _wide_values(narrow.outputs)


def _wide_values(values: Sequence[Value]) -> list[Value]:
    return [ops.Cast(v, to=_DOUBLE) if _wide(v.type) != v.type else v for v in values]


def _is_large(node: Node) -> bool:
    held = node.attrs.get("value")
    return isinstance(held, Tensor) and held.nbytes >= _LARGE


_LARGE = 2**20  # bytes


def _cast(new: Value, old: Value) -> Value:
    """``new`` in the type that ``old`` had."""
    if old.type.dtype in {new.type.dtype, NO_DTYPE}:
        return new
    return ops.Cast(new, to=_NARROW[old.type.dtype.name])
