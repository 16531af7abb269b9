"""How far a layer's output goes when its weights move: the bound, and what is measured."""

from __future__ import annotations

from math import prod

import numpy as np

from redir.ir import Node, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import Array, Tensor
from redir.layers.linear import CONVS, Linear


def error_bound(moves: Array, moments: Array) -> Array:
    """The most that the outputs of a layer can be off, as a root of a mean square.

    ``moves`` (..., outputs, inputs) are the distances that weights moved, or bounds of them;
    ``moments`` (..., inputs) the means of x^2 of what they multiply, in any unit squared. By
    Minkowski's inequality, sqrt(E |sum_j d_j x_j|^2) <= sum_j |d_j| sqrt(E x_j^2), however the
    inputs depend on each other. Gives (..., outputs).
    """
    found: Array = np.matmul(np.abs(moves), np.sqrt(moments)[..., None])[..., 0]
    return found


def relative_error(old: Array, new: Array) -> float:
    """The estimated error of a layer's output as a share of that output, from weights alone.

    It is |new - old| / |old| (Frobenius), which holds for uncorrelated inputs of equal power.
    """
    a, b = (np.asarray(x, np.float64) for x in (old, new))
    return float(np.linalg.norm(b - a) / (np.linalg.norm(a) or 1.0))


def second_moments(layer: Linear, x: Array) -> Array:
    """The means of x^2 of what each of the weights multiplies: (groups, inputs and taps).

    The mean is over the examples and places of ``x``, the operand that flows in; a border counts
    as the zeros that are read there.
    """
    if layer.node.op not in CONVS:
        return _mean_squares(x, layer.x_axis)[None]
    taps = prod(layer.kernel)
    single = np.eye(taps).reshape(taps, 1, *layer.kernel)  # each tap alone, of each channel
    kernels = np.tile(single, (layer.channels, 1, *[1] * len(layer.kernel)))
    if layer.turned:
        kernels = kernels.reshape(layer.channels, taps, *layer.kernel)
    read = _applied(layer, x, kernels, layer.channels)
    return _mean_squares(read, layer.y_axis).reshape(layer.groups, -1)


def measured_error(layer: Linear, x: Array, moves: Array) -> Array:
    """The root of the mean square of what weights that went by ``moves`` make of ``x``.

    ``moves`` lie like the stored weights. Gives (groups, outputs in a group), as ``error_bound``.
    """
    y = _applied(layer, x, moves, layer.groups)
    found: Array = np.sqrt(_mean_squares(y, layer.y_axis)).reshape(layer.groups, -1)
    return found


def _mean_squares(array: Array, axis: int) -> Array:
    others = tuple(k for k in range(array.ndim) if k != axis % array.ndim)
    found: Array = np.mean(np.square(array, dtype=np.float64), axis=others)
    return found


def _applied(layer: Linear, x: Array, weights: Array, groups: int) -> Array:
    """The layer without its bias, on other weights, in float64."""
    pair = [weights, x] if layer.place == 0 else [x, weights]
    wide = [a.astype(np.float64) for a in pair]
    operands = tuple(Value(Tensor(a).type) for a in wide)
    attrs = dict(layer.node.attrs) | ({"group": groups} if layer.node.op in CONVS else {})
    made: Array = compute(Node(layer.node.op, operands, attrs), wide)[0]
    return made
