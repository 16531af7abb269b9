"""The layers that stand for one that was factored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from redir import ops
from redir.ir import Node, Op, Value
from redir.ir.tensor import Array, Tensor
from redir.layers.linear import CONVS, Linear
from redir.ops import tensor_of
from redir.statistics.moments import window


@dataclass(frozen=True, eq=False)
class Factors:
    """A layer as two, of which the first steps along the axes ``mine`` and the second the others.

    ``first`` (rank, inputs and first taps), ``second`` (rank, second taps, outputs) and ``bias``
    (outputs,). The constants that were made of them are ``stored``.
    """

    layer: Linear
    mine: tuple[bool, ...]
    first: Array
    second: Array
    bias: Array
    stored: dict[Tensor, Value] = field(default_factory=dict, repr=False, kw_only=True)

    def at(self, layer: Linear) -> Factors:
        """These for another layer that reads the same weights, with the same constants."""
        return replace(self, layer=layer)

    def on(self, x: Value) -> Value:
        """The two layers on ``x``."""
        return self._convs(x) if self.layer.node.op in CONVS else self._products(x)

    def _products(self, x: Value) -> Value:
        matmul = versioned("MatMul", self.layer.node)
        reduced = matmul(x, self._const(self.first.T))
        return self._matrix(reduced, self.second[:, 0].T, self.bias)

    def _matrix(self, x: Value, weights: Array, bias: Array) -> Value:
        """``weights`` (outputs, inputs) times ``x``, plus a bias (outputs,)."""
        node = self.layer.node
        if node.op == ops.MatMul:
            made = node.op(x, self._const(weights.T))
            return versioned("Add", node, 7)(made, self._const(bias))
        turned = weights if node.attrs.get("transB") else weights.T
        return node.on((x, self._const(turned), self._const(bias))).outputs[0]

    def _convs(self, x: Value) -> Value:
        kernel, (layer, rank) = np.array(self.layer.kernel), (self.layer, len(self.first))
        rest = [not mine for mine in self.mine]
        weights = self.first.reshape(rank, layer.channels, *np.where(self.mine, kernel, 1))
        turned = self.second.transpose(2, 0, 1)
        behind = turned.reshape(layer.outputs, rank, *np.where(rest, kernel, 1))
        between = layer.node.op(x, self._const(weights), **self._attrs(self.mine))
        return layer.node.op(
            between, self._const(behind), self._const(self.bias), **self._attrs(rest)
        )

    def _attrs(self, mine: Sequence[bool]) -> dict[str, tuple[int, ...]]:
        strides, dilations, pads = window(self.layer)
        return {
            "strides": tuple(s if m else 1 for s, m in zip(strides, mine, strict=True)),
            "dilations": tuple(d if m else 1 for d, m in zip(dilations, mine, strict=True)),
            "pads": tuple(p if m else 0 for p, m in zip(pads, [*mine, *mine], strict=True)),
        }

    def _const(self, array: Array) -> Value:
        return self._once(ops.constant(array.astype(self.layer.array.dtype)))

    def _once(self, value: Value) -> Value:
        """A value, or if it is a constant the equal one that was made before."""
        tensor = tensor_of(value)
        return value if tensor is None else self.stored.setdefault(tensor, value)


@dataclass(frozen=True, eq=False)
class Single(Factors):
    """One layer still, whose weights are the product."""

    def on(self, x: Value) -> Value:
        """The one layer on ``x``."""
        node = self.layer.node
        layer = replace(self.layer, node=node.on((x, *node.inputs[1:])))
        weight = self.second[:, 0].T @ self.first
        layer = layer.with_weight(weight[None])
        made = replace(layer, node=self._held(layer.node)).with_bias(self.bias).y.node
        assert made is not None
        return self._held(made).outputs[0]

    def _held(self, node: Node) -> Node:
        return node.on(map(self._once, node.inputs))


@dataclass(frozen=True, eq=False)
class Depthwise(Factors):
    """A layer as kernels that each read one channel, then sums of what they give.

    A row of ``first`` has weights for the taps of one input alone.
    """

    def on(self, x: Value) -> Value:
        """A Gather of the channels, a depthwise convolution, and a pointwise one."""
        layer, rank = self.layer, len(self.first)
        kernels = self.first.reshape(rank, layer.channels, -1)
        channels = np.abs(kernels).sum(2).argmax(1)
        order = np.argsort(channels, kind="stable")
        kernels = kernels[order, channels[order]].reshape(rank, 1, *layer.kernel)
        if not np.array_equal(channels[order], np.arange(layer.channels)):
            x = ops.Gather(x, self._once(ops.constant(channels[order].astype(np.int64))), axis=1)
        attrs = self._attrs([True] * len(layer.kernel))
        basis = layer.node.op(x, self._const(kernels), group=rank, **attrs)
        sums = self.second[order, 0].T.reshape(layer.outputs, rank, *[1] * len(layer.kernel))
        return layer.node.op(basis, self._const(sums), self._const(self.bias))


def versioned(name: str, node: Node, least: int = 1) -> Op:
    """An operator in the version that goes with a node, or a later one."""
    found = ops.lookup(name, max(node.op.version, least))
    assert found is not None
    return found
