"""What a layer does, found by trying it: how far what stands for it is from it."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, TensorType
from redir.layers.linear import CONVS, Linear, linear
from redir.runtime.float64 import widened

_SPATIAL = frozenset(
    "auto_pad dilations kernel_shape output_padding output_shape pads strides".split()
)


def layer_errors(before: Graph, after: Graph) -> Iterator[tuple[Node, float]]:
    """Each convolution of ``before``, with the relative error of what stands for it in ``after``.

    The error is that of the weights in their sum of squares: the linear map from the layer's
    operand to its result is tried on the unit vectors, in both graphs. In ``after`` a layer may be
    separated into depthwise and pointwise convolutions; all else must be there as it was.
    """
    left, seen = [*zip(before.outputs.values(), after.outputs.values(), strict=True)], set()
    while left:
        old, new = left.pop()
        if (old, new) in seen or old.node is None or new.node is None:
            continue
        seen.add((old, new))
        layer = linear(old.node) if old.node.op in CONVS else ""
        if isinstance(layer, str):
            left.extend(zip(old.node.inputs, new.node.inputs, strict=True))
            continue
        below = _operand(new.node, old.node)
        left.append((layer.x, below))
        yield old.node, _error(layer, new, below)


def _operand(new: Node, old: Node) -> Value:
    """What ``new`` reads in the place of the operand of ``old``."""
    if new.op == old.op and new.inputs[1].type == old.inputs[1].type:
        return new.inputs[0]
    while new.op == ops.Add:
        new = _first(new)
    applied = _first(new)
    below = (_first(applied) if applied.op == ops.Concat else applied).inputs[0]
    return below.node.inputs[0] if below.node and _takes(below.node, old.inputs[0]) else below


def _first(node: Node) -> Node:
    """The node before: that of the first operand."""
    before = node.inputs[0].node
    assert before is not None, f"{node} reads a graph input: it is no part of a layer"
    return before


def _takes(node: Node, operand: Value) -> bool:
    """Whether ``node`` is a Gather of the form, and not one that was before the layer."""
    known = operand.node is not None and operand.node.op == ops.Gather
    below = node.inputs[0].node if node.inputs else None
    return node.op == ops.Gather and not (known and (below is None or below.op != ops.Gather))


def _error(old: Linear, new: Value, below: Value) -> float:
    units = _units(old)
    expected = _tried(old.y, old.x, units)
    size = float(np.linalg.norm(expected))
    missed = float(np.linalg.norm(_tried(new, below, units) - expected))
    return missed / size if size else missed


def _units(layer: Linear) -> Array:
    """Operands with a single 1 at every place that the kernel of a layer covers."""
    channels, kernel = layer.channels, layer.kernel
    read = [1] * len(kernel) if layer.turned else kernel
    every = channels * prod(read)
    return np.eye(every).reshape(every, channels, *read)


def _tried(value: Value, below: Value, units: Array) -> Array:
    """``value`` where ``below`` is ``units``, without strides, pads and biases, in float64."""
    x = Value(TensorType(below.type.dtype, units.shape))
    graph = Graph({"x": x}, {"y": _on(value, below, x)})
    found: Array = evaluate(widened(graph), {"x": units})["y"]
    return found


def _on(value: Value, below: Value, x: Value) -> Value:
    """``value`` with ``x`` in the place of ``below``."""
    node = value.node
    if value is below or node is None or not node.inputs:
        return x if value is below else value
    weighted = node.op in CONVS
    read = node.inputs[:2] if weighted else node.inputs
    attrs = {k: a for k, a in node.attrs.items() if not weighted or k not in _SPATIAL}
    return Node(node.op, tuple(_on(v, below, x) for v in read), attrs).outputs[value.index]
