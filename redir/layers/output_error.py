"""How far a layer's output goes when its weights move: the bound, the estimate, the measured."""

from __future__ import annotations

from math import prod

import numpy as np

from redir import ops
from redir.ir import Node, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import Array, Tensor


def error_bound(moves: Array, moments: Array) -> Array:
    """The most that the outputs of a layer can be off, as a root of a mean square.

    ``moves`` (..., outputs, inputs) are the distances that weights moved, or bounds of them;
    ``moments`` (..., inputs) the means of x^2 of what they multiply, in any unit squared. By
    Minkowski's inequality, sqrt(E |sum_j d_j x_j|^2) <= sum_j |d_j| sqrt(E x_j^2), however the
    inputs depend on each other. Gives (..., outputs).
    """
    return _summed(np.abs(moves), np.sqrt(moments))


def error_estimate(moves: Array, moments: Array) -> Array:
    """What the outputs of a layer are off if its inputs are uncorrelated and of mean zero.

    Arguments and result are those of ``error_bound``: sqrt(sum_j d_j^2 E x_j^2).
    """
    found: Array = np.sqrt(_summed(np.square(moves), moments))
    return found


def relative_error(old: Array, new: Array) -> float:
    """The estimated error of a layer's output as a share of that output, from weights alone.

    It is |new - old| / |old| (Frobenius), which holds for uncorrelated inputs of equal power.
    """
    a, b = old.astype(np.float64), new.astype(np.float64)
    return float(np.linalg.norm(b - a) / (np.linalg.norm(a) or 1.0))


def _summed(matrix: Array, vector: Array) -> Array:
    found: Array = np.matmul(matrix, vector[..., None])[..., 0]
    return found


def rows(node: Node, weights: Array) -> Array:
    """The weights of a linear layer as (groups, outputs in a group, inputs of one output).

    ``node`` is a Conv, a ConvTranspose, a Gemm or a MatMul with a matrix; ``weights`` are like
    its second operand. What Gemm calls alpha is in them.
    """
    if node.op == ops.MatMul:
        return weights.T[None]
    if node.op == ops.Gemm:
        turned = weights if node.attrs.get("transB") else weights.T
        return turned[None] * float(node.attrs.get("alpha", 1.0))
    groups = _groups(node, weights)
    if node.op == ops.Conv:
        return weights.reshape(groups, len(weights) // groups, -1)
    split = weights.reshape(groups, len(weights) // groups, weights.shape[1], -1)
    return split.swapaxes(1, 2).reshape(groups, weights.shape[1], -1)


def second_moments(node: Node, x: Array, weights: Array) -> Array:
    """The means of x^2 of what each of ``rows(node, weights)`` multiplies: (groups, inputs).

    The mean is over the examples and places of ``x``, the first operand of ``node``; a border
    counts as the zeros that are read there.
    """
    if node.op in (ops.MatMul, ops.Gemm):
        read = x.T if node.op == ops.Gemm and node.attrs.get("transA") else x
        return _mean_squares(read, read.ndim - 1)[None]
    taps = prod(weights.shape[2:])
    single = np.eye(taps).reshape(taps, 1, *weights.shape[2:])  # each tap alone, of each channel
    kernels = np.tile(single, (x.shape[1], 1, *[1] * (x.ndim - 2)))
    if node.op == ops.ConvTranspose:
        kernels = kernels.reshape(x.shape[1], taps, *weights.shape[2:])
    read = _applied(node, x, kernels, x.shape[1])
    return _mean_squares(read, 1).reshape(_groups(node, weights), -1)


def measured_error(node: Node, x: Array, moves: Array) -> Array:
    """The root of the mean square of what weights that went by ``moves`` make of ``x``.

    Gives (groups, outputs in a group), as ``error_bound`` does, for the nodes of ``rows``.
    """
    groups = _groups(node, moves)
    y = _applied(node, x, moves, groups)
    axis = 1 if node.op in (ops.Conv, ops.ConvTranspose) else y.ndim - 1
    found: Array = np.sqrt(_mean_squares(y, axis)).reshape(groups, -1)
    return found


def _mean_squares(array: Array, axis: int) -> Array:
    others = tuple(k for k in range(array.ndim) if k != axis)
    found: Array = np.mean(np.square(array, dtype=np.float64), axis=others)
    return found


def _groups(node: Node, weights: Array) -> int:
    channels = node.inputs[0].type.size(1) if node.op == ops.Conv else None
    return int(node.attrs.get("group", 1) if channels is None else channels // weights.shape[1])


def _applied(node: Node, x: Array, weights: Array, groups: int) -> Array:
    """The layer without its bias, on other weights, in float64."""
    wide = [a.astype(np.float64) for a in (x, weights)]
    operands = tuple(Value(Tensor(a).type) for a in wide)
    attrs = dict(node.attrs)
    if node.op in (ops.Conv, ops.ConvTranspose):
        attrs |= {"group": groups}
    made: Array = compute(Node(node.op, operands, attrs), wide)[0]
    return made
