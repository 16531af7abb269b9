"""Norms fitted to made-up inputs, so that behind them what flows is what flowed in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.builtin import tensor_of
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array
from redir.statistics.walk import Batches, Held, applied, walk

EPSILON = 1e-5  # of a norm that says none
_LEAST = 1e-3  # of the variance that a norm stored: what is less is of a channel that sleeps

Stored = tuple[Array, Array]
"""The mean and the variance of each channel."""


def fitted(graph: Graph, batches: Batches) -> Graph:
    """The graph, its norms storing the moments of what they read of ``batches``.

    A BatchNormalization then gives each channel the mean and the deviation that it had in
    training, whatever the inputs are like. Nodes stay in order.

    Raises:
        Unsupported: the graph cannot be run.
    """
    found = dict[Node, Stored]()

    def step(node: Node, operands: list[list[Any]], _: Held) -> list[Sequence[Any]] | None:
        if not is_norm(node):
            return None
        found[node] = moments = _moments(node, [arrays[0] for arrays in operands])
        given = [[*arrays[:3], *moments] for arrays in operands]
        return applied(graph, node.on(_storing(node.inputs, moments)), given)

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node not in found:
            return None
        return node.on(_storing(inputs, found[node])).outputs

    walk(graph, batches, step, "norms")
    return transform(graph, visit)


def is_norm(node: Node) -> bool:
    """Whether a node is a BatchNormalization of stored moments."""
    return node.op == ops.BatchNormalization and all(tensor_of(v) for v in node.inputs[3:5])


def _moments(node: Node, seen: Sequence[Array]) -> Stored:
    """Those of all that a norm reads; a variance is not much less than what was stored."""
    axes = tuple(axis for axis in range(seen[0].ndim) if axis != 1)
    count = sum(x.size / max(x.shape[1], 1) for x in seen)
    mean = sum(x.sum(axes, dtype=np.float64) for x in seen) / count
    along = [-1 if axis == 1 else 1 for axis in range(seen[0].ndim)]
    shift = mean.reshape(along).astype(seen[0].dtype)
    var = sum(np.square(x - shift).sum(axes, dtype=np.float64) for x in seen) / count
    stored = tensor_of(node.inputs[4])
    assert stored is not None
    least = _LEAST * stored.array
    return mean.astype(least.dtype), np.maximum(var, least).astype(least.dtype)


def _storing(inputs: Sequence[Value], moments: Stored) -> list[Value]:
    """The operands of a norm with other moments."""
    return [*inputs[:3], *map(ops.constant, moments)]
