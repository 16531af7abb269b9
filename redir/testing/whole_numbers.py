"""The whole-number twin of a model: the same network, on which == is fair."""

from __future__ import annotations

from typing import Any

import numpy as np

from redir import ops
from redir.errors import Unsupported
from redir.ir import Graph, Node, Op, Value
from redir.ir.interpreter import compute
from redir.ir.rewriter import transform
from redir.ir.tensor import Array, Tensor
from redir.ops import tensor_of
from redir.runtime.inputs import whole_feeds

_LARGEST_WEIGHT, _USUAL, _LARGEST = 3, 4, 16


def whole_number_twin(graph: Graph) -> Graph:
    """``graph`` with small whole numbers for weights, equal where the weights are.

    Sums of products of whole numbers are exact in any order, so that what a pass makes of the
    twin can be compared with ``==`` where the model itself would need a tolerance. What an
    operator multiplies and adds up, or computes in any other way, is scaled by a power of two to
    be small, rounded and clipped; so a twin has nodes that the model has not.
    """
    kept = {v for n in graph.nodes if not n.has("exact_on_whole_numbers") for v in n.inputs}
    known: dict[Value, Any] = {}
    try:
        feeds = whole_feeds(graph, seed=0)
        known.update({v: feeds[n] for n, v in graph.inputs.items() if n in feeds})
    except Unsupported:
        pass  # nobody knows how large its numbers become

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        tensor = tensor_of(node.outputs[0])
        if tensor is None:
            new = node.on(inputs)
        elif tensor.array.dtype.kind == "f" and node.outputs[0] not in kept:
            new = node.on((), value=Tensor.take(_whole(tensor.array)))
        else:
            new = node
        _run(new, known)
        return tuple(_kept_small(value, known) for value in new.outputs)

    return transform(graph, visit)


def _run(node: Node, known: dict[Value, Any]) -> None:
    """Note what the node computes, if all that it needs is known."""
    if all(value in known for value in node.inputs):
        try:
            found = compute(node, [known[v] for v in node.inputs])
        except Unsupported:
            return
        known.update(zip(node.outputs, found, strict=False))


def _whole(array: Array) -> Array:
    """Whole numbers in the place of weights, about as large as those are among their like."""
    small = np.clip(np.rint(array / (_usual(array) or 1.0)), -_LARGEST_WEIGHT, _LARGEST_WEIGHT)
    whole: Array = small.astype(array.dtype)
    return whole


def _usual(array: Array) -> float:
    """The root of the mean square of what is finite, and 0 of nothing."""
    finite = array[np.isfinite(array)].astype(np.float64)
    return float(np.sqrt(np.square(finite).mean())) if finite.size else 0.0


def _kept_small(value: Value, known: dict[Value, Any]) -> Value:
    """``value`` in small whole numbers, if its operator does not keep them so."""
    node, dtype = value.node, value.type.dtype
    assert node is not None
    exact = node.has("exact_on_whole_numbers")
    if not node.inputs or dtype.kind != "f" or (exact and not node.has("grows")):
        return value

    def then(op: Op, x: Value, *numbers: float) -> Value:
        arrays = [np.array(n, dtype) for n in numbers]
        constants = [ops.constant(a) for a in arrays]
        known.update(zip(constants, arrays, strict=True))
        made = Node(op, (x, *constants), source=node.source)
        _run(made, known)
        return made.outputs[0]

    usual = _usual(known.get(value, np.zeros(0))) or _USUAL
    times = np.round(np.log2(usual / _USUAL))
    if times > 0 or (times < 0 and not exact):
        value = then(ops.Mul, value, float(2.0**-times))
    return then(ops.Clip, then(ops.Round, value), -_LARGEST, _LARGEST)
