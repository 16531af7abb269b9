"""The forms of a convolution that is separated into depthwise and pointwise ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TypeAlias

import numpy as np

from redir import ops
from redir.cost.forms import Form
from redir.ir import Node, Value
from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.passes.uneven_depthwise.basis import Separation

Join: TypeAlias = "Callable[[Linear, Sequence[Value], Sequence[Array], tuple[Value, ...]], Value]"


@dataclass(frozen=True)
class Branch:
    """A depthwise convolution: of ``channels`` (n,), each by the kernels ``places`` (n, m).

    A place of -1 is a kernel of zeros.
    """

    channels: Array
    places: Array

    def even(self, layer: Linear) -> Branch:
        """With as many channels of each group, as a grouped convolution needs behind it."""
        each = layer.channels // layer.groups
        parts = [np.flatnonzero(self.channels // each == g) for g in range(layer.groups)]
        most = max(part.size for part in parts)
        more = [most - part.size for part in parts]
        channels = [
            np.r_[self.channels[part], np.full(n, g * each)]
            for g, (part, n) in enumerate(zip(parts, more, strict=True))
        ]
        blank = -np.ones((1, self.places.shape[1]), int)
        places = [
            np.r_[self.places[part], np.repeat(blank, n, 0)]
            for part, n in zip(parts, more, strict=True)
        ]
        return Branch(np.concatenate(channels), np.concatenate(places))


def separations(layer: Linear, parts: Separation) -> list[Form]:
    """What may stand for ``layer``, each as a function of its operands; ``parts`` make it.

    A depthwise convolution applies every kernel to its channel, and a pointwise one adds up: one
    depthwise over repeated channels, one for each run of channels with as many kernels, or one for
    each level of kernels; with one pointwise behind them all, or one behind each.
    """
    found: list[Form] = []
    for branches in (_whole(parts), _runs(parts), _levels(parts)):
        if layer.groups == 1 or len(branches) == 1:
            found.append(partial(_form, layer, parts, branches, _gathered))
        if len(branches) > 1:
            found.append(partial(_form, layer, parts, branches, _added))
    return found


def _whole(parts: Separation) -> list[Branch]:
    return [Branch(parts.channels, np.arange(parts.channels.size)[:, None])]


def _levels(parts: Separation) -> list[Branch]:
    """The first kernel of every channel, then the second of those that have one, and so on."""
    level = np.arange(parts.channels.size) - np.searchsorted(parts.channels, parts.channels)
    found = [np.flatnonzero(level == k) for k in range(level.max() + 1)]
    return [Branch(parts.channels[places], places[:, None]) for places in found]


def _runs(parts: Separation) -> list[Branch]:
    """The channels that have one kernel, then those that have two, and so on."""
    channels, first, counts = np.unique(parts.channels, return_index=True, return_counts=True)
    runs = [(int(n), np.flatnonzero(counts == n)) for n in np.unique(counts)]
    return [Branch(channels[run], first[run][:, None] + np.arange(n)) for n, run in runs]


def _form(
    layer: Linear,
    parts: Separation,
    branches: Sequence[Branch],
    join: Join,
    inputs: tuple[Value, ...],
) -> Value:
    even = [branch.even(layer) for branch in branches]
    applied = [_depthwise(layer, parts, branch, inputs[0]) for branch in even]
    return join(layer, applied, [_factors(layer, parts, b) for b in even], inputs[2:])


def _depthwise(layer: Linear, parts: Separation, branch: Branch, x: Value) -> Value:
    """The kernels of a branch, each applied to its channel."""
    node, count = layer.node, branch.channels.size
    if not np.array_equal(branch.channels, np.arange(layer.channels)):
        x = ops.Gather(x, ops.constant(branch.channels.astype(np.int64)), axis=1)
    kernels = _padded(parts.kernels, 0)[branch.places]
    attrs = dict(node.attrs)
    if node.op == ops.ConvTranspose:
        shape, attrs["group"] = (count, -1, *layer.kernel), count
    else:
        shape = (branch.places.size, 1, *layer.kernel)
    return Node(node.op, (x, ops.constant(kernels.reshape(shape))), attrs).outputs[0]


def _factors(layer: Linear, parts: Separation, branch: Branch) -> Array:
    """The weights of the pointwise convolution: (outputs, inputs of a group, 1, ...)."""
    factors = _padded(parts.factors, 1)[:, branch.places]
    apart = factors.reshape(len(factors), layer.groups, -1).transpose(1, 0, 2)
    return apart.reshape(layer.groups * len(factors), -1, *[1] * len(layer.kernel))


def _padded(array: Array, axis: int) -> Array:
    """A kernel of zeros, or its factors, behind the others: where -1 leads."""
    width = [(0, int(a == axis)) for a in range(array.ndim)]
    return np.pad(array, width)


def _gathered(
    layer: Linear, applied: Sequence[Value], factors: Sequence[Array], bias: tuple[Value, ...]
) -> Value:
    """One pointwise convolution of all that was applied."""
    both = applied[0] if len(applied) == 1 else ops.Concat(*applied, axis=1)
    return _pointwise(layer, both, np.concatenate(factors, 1), bias)


def _added(
    layer: Linear, applied: Sequence[Value], factors: Sequence[Array], bias: tuple[Value, ...]
) -> Value:
    """A pointwise convolution of each, added up."""
    biases = [bias, *[()] * (len(applied) - 1)]
    pairs = zip(applied, factors, biases, strict=True)
    return reduce(ops.Add, [_pointwise(layer, x, f, b) for x, f, b in pairs])


def _pointwise(layer: Linear, x: Value, factors: Array, bias: tuple[Value, ...]) -> Value:
    """In the version of the layer, since types came with versions."""
    conv = ops.lookup("Conv", layer.node.op.version)
    assert conv is not None
    return conv(x, ops.constant(factors), *bias)
