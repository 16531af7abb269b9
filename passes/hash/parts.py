"""Which weights are hashed together: those of a tensor, of an output, or that read an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, is_floating
from redir.layers.linear import linear, output_axis
from redir.ops import tensor_of

Granularity: TypeAlias = Literal["auto", "tensor", "channel", "input"]

Along: TypeAlias = tuple[int, int] | None
"""How parts lie in a tensor: in so many groups of its first axis each along an axis, or whole."""


def alongs(graph: Graph, granularity: Granularity) -> dict[Value, Along]:
    """The weights to hash, and how the parts of each lie.

    A weight that layers read along different axes is hashed whole.
    """
    found: dict[Value, Along] = {}
    for node in graph.nodes:
        for value in node.inputs[1:2] if node.has("layer") else ():
            tensor = tensor_of(value)
            if tensor is not None and is_floating(tensor.array.dtype):
                along = _along(node, tensor.array, granularity) if tensor.array.size else None
                found[value] = along if found.get(value, along) == along else None
    return found


def _along(node: Node, weights: Array, granularity: Granularity) -> Along:
    if granularity == "channel":
        axis = output_axis(node, weights)
        return None if axis is None else (1, axis)
    layer = linear(node) if granularity == "input" else ""
    if isinstance(layer, str):
        return None
    return (1, 0) if layer.turned else (layer.groups, 1)


def parts(weights: Array, along: Along) -> list[Array]:
    """The parts of a tensor, one after the other."""
    if along is None:
        return [weights]
    _, _, *rest = (apart := _apart(weights, *along)).shape
    return list(apart.reshape(-1, *rest))


def joined(made: Sequence[Array], weights: Array, along: Along) -> Array:
    """The tensor of parts that lie as those of ``weights`` do."""
    if along is None:
        return made[0]
    shape = _apart(weights, *along).shape
    return np.moveaxis(np.stack(made).reshape(shape), 1, along[1] + 1).reshape(weights.shape)


def _apart(weights: Array, groups: int, axis: int) -> Array:
    """(groups, parts of a group, what is in a part)."""
    grouped = weights.reshape(groups, len(weights) // groups, *weights.shape[1:])
    return np.moveaxis(grouped, axis + 1, 1)
