"""Scales of single channels: folded into what reads them, or made matrices, which can be turned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from redir import ops
from redir.channels.coupling import largest
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor
from redir.ops import OPSET, lookup, tensor_of
from redir.passes.narrow_stream.spaces import Scale, Space


@dataclass
class Folded:
    """What becomes of scales: ``constants`` take those of some along axes, ``matrices`` others.

    Those that are ``even`` stay.
    """

    even: Mapping[Node, Scale]
    constants: dict[Value, list[tuple[int, Array]]] = field(default_factory=dict)
    plain: dict[Node, Scale] = field(default_factory=dict)
    matrices: dict[Node, Scale] = field(default_factory=dict)


def evened(space: Space) -> Graph:
    """The graph in which no norm scales single channels of a space.

    What reads them takes the scale. Where that cannot be it is a matrix with the scale on its
    diagonal, which can be turned. Numbers that all channels are scaled by are those of the space
    alone: what shared them would lose channels with it.
    """
    found = Folded(space.even)
    for node, scale in space.leaves.items():
        port = node.outputs[0], (node.outputs[0].rank or 0) - 1
        behind = space if port in space.ports else Space.of(space.graph, port)
        several = behind.written or behind.leaves or len(behind.entered) > 1
        if behind.obstacle or several or behind.normed or not _fits(behind, scale):
            found.matrices[node] = scale
            continue
        found.plain[node] = scale
        for value, axes in behind.constants.items():
            found.constants.setdefault(value, []).extend((a, scale.numbers) for a in axes)
    return _rewritten(space.graph, found) if space.leaves or space.even else space.graph


def _fits(behind: Space, scale: Scale) -> bool:
    """Whether the weights that read what is scaled stay finite with the scale."""
    peak = float(np.abs(scale.numbers).max(initial=0.0))
    tensors = ((value, tensor_of(value)) for value in behind.constants)
    return all(t is not None and float(t.peak) * peak < largest(v.type.dtype) for v, t in tensors)


def _rewritten(graph: Graph, found: Folded) -> Graph:
    matmul = lookup("MatMul", graph.opset.get("", OPSET))
    assert matmul is not None
    shared = (scale.node.inputs[scale.place] for scale in found.even.values())
    own = {v: ops.constant(t.array, v) for v in shared if (t := tensor_of(v)) is not None}

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        tensor = tensor_of(node.outputs[0]) if node.outputs[0] in found.constants else None
        if tensor is not None:
            return _scaled(node, tensor, found.constants[node.outputs[0]])
        if node in found.even:
            both = zip(node.inputs, inputs, strict=True)
            return node.on(own.get(old, v) for old, v in both).outputs
        scale = found.plain.get(node) or found.matrices.get(node)
        if scale is None:
            return None
        held = tensor_of(node.inputs[scale.place])
        assert held is not None
        ones = ops.constant(np.ones_like(held.array), node.inputs[scale.place])
        given = [ones if i == scale.place else v for i, v in enumerate(inputs)]
        (plain,) = node.on(given).outputs
        if node in found.plain:
            return plain
        return matmul(plain, ops.constant(np.diag(scale.numbers).astype(held.array.dtype)))

    return transform(graph, visit)


def _scaled(node: Node, tensor: Tensor, scales: list[tuple[int, Array]]) -> Outputs:
    """A constant times scales along axes, in float64 and rounded once."""
    array = tensor.array.astype(np.float64)
    for axis, numbers in scales:
        array *= numbers.astype(np.float64).reshape(-1, *[1] * (array.ndim - 1 - axis))
    return node.on((), value=Tensor.take(array.astype(tensor.array.dtype))).outputs
