"""What is behind a layer: a norm, a sum, an activation, and so what its results should be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.builtin import tensor_of
from redir.ir.interpreter import compute
from redir.ir.tensor import Array
from redir.layers.linear import Linear, whole
from redir.ops.links import axes_of
from redir.statistics.norms import EPSILON

_LEAST = 1e-6  # that an output counts, also where its norm makes nothing of it


@dataclass(frozen=True, eq=False)
class Behind:
    """A layer's result y flows into clip(scale * y + shift + other, low, high).

    ``scale`` and ``shift`` (outputs,) are those of a norm, or 1 and 0, and of a bias that is added
    by a node of its own. ``sum`` is the node that adds ``other``, of the shape of y, if one does.
    What comes out at the ``end`` of that, but for the clip, is ``normed`` if a norm over its
    channels reads it.
    """

    scale: Array
    shift: Array
    end: Value
    sum: Node | None = None
    other: Value | None = None
    low: float = -np.inf
    high: float = np.inf
    normed: bool = False

    def counts(self, wanted: Array) -> Array | None:
        """What an error of each sample counts, if not all count alike; ``wanted`` is as in ``aim``.

        A norm over channels divides each sample by its own spread, so errors of it too.
        """
        if not self.normed:
            return None
        energy = wanted.var(1, dtype=np.float64)
        found: Array = 1 / np.maximum(energy, _LEAST * energy.mean() + 1e-30)
        return found

    @property
    def clips(self) -> bool:
        """Whether an activation makes some results alike."""
        return self.low > -np.inf or self.high < np.inf

    def aim(self, wanted: Array, given: Array, now: Array) -> Array:
        """What scale * y should be, where ``now`` it would be that.

        ``wanted`` is scale * y + shift + other in the original, ``given`` is shift + other as they
        are now: (samples, outputs). Where the activation cuts the original off, all is well that
        is cut off too.
        """
        aim = wanted - given
        aim = np.where(wanted <= self.low, np.minimum(now, self.low - given), aim)
        return np.where(wanted >= self.high, np.maximum(now, self.high - given), aim)


def behind(graph: Graph, layer: Linear) -> Behind:
    """What is behind a layer, as far as it is understood."""
    scale, shift, value = np.ones(layer.outputs), np.zeros(layer.outputs), layer.y
    biased = whole(graph, layer)
    if biased is not layer and biased.bias is not None:
        shift, value = shift + biased.bias, biased.y
    node = _reader(graph, value)
    if node is not None and node.op == ops.BatchNormalization and (norm := _affine(node)):
        scale, shift, value = norm[0], norm[0] * shift + norm[1], node.outputs[0]
        node = _reader(graph, value)
    total, other = None, None
    if node is not None and node.op == ops.Add and _alike(node):
        before, total, value = value, node, node.outputs[0]
        other = node.inputs[1 - node.inputs.index(before)]
        node = _reader(graph, value)
    low, high = _bounds(node)
    normed = _is_normed(graph, value, layer.y_axis)
    return Behind(scale, shift, value, total, other, low, high, normed)


def _is_normed(graph: Graph, value: Value, axis: int) -> bool:
    """Whether a mean along an axis, of a value or of numbers made of its own, reads the value."""
    readers = graph.readers.get(value, ())
    made = [v for node in readers if node.has("elementwise") for v in node.outputs]
    behind = [node for v in made for node in graph.readers.get(v, ())]
    return any(axis % (value.rank or 1) in _averaged(node) for node in (*readers, *behind))


def _averaged(node: Node) -> Collection[int]:
    """The axes of the first operand along which a node takes means."""
    rank = node.inputs[0].rank
    if rank and node.op == ops.ReduceMean:
        return axes_of(node, rank) or ()
    if rank and node.op in (ops.LayerNormalization, ops.RMSNormalization):
        return range(int(node.attrs.get("axis", -1)) % rank, rank)
    return ()


def _reader(graph: Graph, value: Value) -> Node | None:
    """The only node that reads a value, if there is one."""
    readers = graph.readers.get(value, ())
    return readers[0] if len(readers) == 1 == graph.uses[value] else None


def _affine(node: Node) -> tuple[Array, Array] | None:
    """What a norm multiplies each channel by, and what it adds."""
    held = [tensor_of(value) for value in node.inputs[1:]]
    if any(tensor is None for tensor in held):
        return None
    gamma, beta, mean, var = (t.array.astype(np.float64) for t in held if t is not None)
    scale = gamma / np.sqrt(var + node.attrs.get("epsilon", EPSILON))
    least = np.where(scale < 0, -_LEAST, _LEAST)
    return np.where(np.abs(scale) < _LEAST, least, scale), beta - scale * mean


def _alike(node: Node) -> bool:
    """Whether a node adds two values that are not one, of the same shape."""
    a, b = node.inputs
    return a != b and a.type == b.type and a.type.shape is not None


def _bounds(node: Node | None) -> tuple[float, float]:
    """What a Relu or a Clip makes of the least and the greatest number."""
    if node is None or node.op not in (ops.Relu, ops.Clip) or node.inputs[0].type.dtype.kind != "f":
        return -np.inf, np.inf
    held = [tensor_of(value) for value in node.inputs[1:]]
    if any(tensor is None for tensor in held):
        return -np.inf, np.inf
    ends = np.array([-np.inf, np.inf], node.inputs[0].type.dtype)
    (made,) = compute(node, [ends, *(t.array for t in held if t is not None)])
    return float(made[0]), float(made[1])
