"""Kernels of our own, where the reference one of onnx is wrong, too slow or missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from redir.ir import Array, Node
from redir.ops import schema
from redir.ops.schema import trains


def batch_norm(node: Node, *arrays: Any) -> Sequence[Any]:
    """(x - mean) scale / sqrt(var + epsilon) + bias; the reference trains before opset 14."""
    if trains(node) or node.arity > 1 or node.attrs.get("spatial", 1) != 1:
        return schema.evaluate(node, *arrays)
    x, scale, bias, mean, var = arrays
    along = (-1, *[1] * (x.ndim - 2))
    ratio = scale / np.sqrt(var + var.dtype.type(node.attrs.get("epsilon", 1e-5)))
    y = (x - mean.reshape(along)) * ratio.reshape(along) + bias.reshape(along)
    return [y.astype(x.dtype)]


def conv(node: Node, *arrays: Any) -> Sequence[Any]:
    """One matrix product for each place of the kernel; the reference is ten times slower."""
    if node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return schema.evaluate(node, *arrays)
    x, w, *bias = arrays
    rank = x.ndim - 2
    strides: Sequence[int] = node.attrs.get("strides", (1,) * rank)  # type: ignore[assignment]
    dilations: Sequence[int] = node.attrs.get("dilations", (1,) * rank)  # type: ignore[assignment]
    pads: Sequence[int] = node.attrs.get("pads", (0,) * 2 * rank)  # type: ignore[assignment]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    sizes = [(n - e) // s + 1 for n, e, s in zip(padded.shape[2:], spans, strides, strict=True)]
    groups = x.shape[1] // w.shape[1]
    kernel = w.reshape(groups, -1, *w.shape[1:])
    y = np.zeros((len(x), groups, kernel.shape[1], *sizes), x.dtype)
    for place in product(*map(range, w.shape[2:])):
        steps = zip(place, dilations, sizes, strides, strict=True)
        window = padded[(..., *(slice(p * d, p * d + (n - 1) * s + 1, s) for p, d, n, s in steps))]
        split = window.reshape(len(x), groups, w.shape[1], -1)
        y += (kernel[(..., *place)] @ split).reshape(y.shape)
    y = y.reshape(len(x), -1, *sizes)
    return [y + bias[0].reshape(-1, *[1] * rank) if bias and bias[0] is not None else y]


def conv_transpose(node: Node, *arrays: Any) -> Sequence[Any]:
    """The adjoint of Conv; the reference mixes up groups and dilations."""
    attrs = node.attrs
    if attrs.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in attrs:
        return schema.evaluate(node, *arrays)
    x, w, *bias = arrays
    rank = x.ndim - 2
    strides: Sequence[int] = attrs.get("strides", (1,) * rank)  # type: ignore[assignment]
    dilations: Sequence[int] = attrs.get("dilations", (1,) * rank)  # type: ignore[assignment]
    pads: Sequence[int] = attrs.get("pads", (0,) * 2 * rank)  # type: ignore[assignment]
    more: Sequence[int] = attrs.get("output_padding", (0,) * rank)  # type: ignore[assignment]
    groups = int(attrs.get("group", 1))  # type: ignore[call-overload]
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    sizes = [(n - 1) * s + e for n, s, e in zip(x.shape[2:], strides, spans, strict=True)]
    full = np.zeros((len(x), w.shape[1] * groups, *(n + m for n, m in zip(sizes, more, strict=True))), x.dtype)
    for place, part in _products(x, w, groups):
        steps = zip(place, dilations, x.shape[2:], strides, strict=True)
        full[(..., *(slice(p * d, p * d + (n - 1) * s + 1, s) for p, d, n, s in steps))] += part
    ends = [n - behind for n, behind in zip(full.shape[2:], pads[rank:], strict=True)]
    y = full[(..., *map(slice, pads[:rank], ends))]
    return [y + bias[0].reshape(-1, *[1] * rank) if bias and bias[0] is not None else y]


def one_hot(node: Node, *arrays: Any) -> Sequence[Any]:
    """The depth may be one number in a vector, which the reference refuses."""
    indices, depth, values = arrays
    return schema.evaluate(node, indices, np.reshape(depth, ()), values)


def _products(x: Array, w: Array, groups: int) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each place of the kernel, the operand times the weights there: (n, m, ...)."""
    xs, ws = np.split(x, groups, 1), np.split(w, groups, 0)
    for place in product(*map(range, w.shape[2:])):
        parts = [np.einsum("nc...,cm->nm...", a, b[(..., *place)]) for a, b in zip(xs, ws, strict=True)]
        yield place, np.concatenate(parts, 1)
