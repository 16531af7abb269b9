"""Which channels hold zeros only, whatever the inputs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from redir.ir import Link, Node, Port, Value, width
from redir.ops import is_absent, tensor_of
from redir.tensor import Array

if TYPE_CHECKING:
    from redir.coupling import Coupling

_ZERO_FOR_ZERO = frozenset(
    """Abs AveragePool Cast Celu Concat Dropout Elu Erf Flatten Gather Gelu GlobalAveragePool
    GlobalMaxPool HardSwish Identity LeakyRelu MaxPool Mish Neg PRelu ReduceL1 ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceSum Relu Reshape Selu Sign Slice Softsign Split Sqrt Squeeze Swish
    Tan Tanh Transpose Unsqueeze""".split()
)
_SUMS = frozenset({"Add", "Max", "Mean", "Min", "Sub", "Sum"})
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def zeros(coupling: Coupling, *, silenced: bool = False) -> dict[Port, Array]:
    """For each port a mask of the channels that are always zero; False where one cannot tell.

    A result's channel is zero where the weights and biases that make it are zero, where zeros are
    added up or multiplied with anything finite, and where a function that gives 0 for 0 gets one.
    With ``silenced`` it is so if all that the constants hold for its group were zero.
    """
    zero: dict[Port, Array] = {}
    for port in coupling.ports:
        tensor, node = tensor_of(port[0]), port[0].node
        zero[port] = np.zeros(width(port), bool)
        if tensor is not None:
            zero[port] = ~zero[port] if silenced else ~used_slices(tensor.array, port[1])
        elif node is not None and node.inputs and node.op.domain == "":
            zero[port] = _of_result(node, _reaching(coupling, node, port, zero), zero[port])
    return zero


def used_slices(array: Array, axis: int) -> Array:
    """Which slices of ``array`` along ``axis`` hold anything but zeros."""
    others = tuple(a for a in range(array.ndim) if a != axis)
    found: Array = np.any(array != 0, axis=others)
    return found


def _reaching(
    coupling: Coupling, node: Node, port: Port, zero: dict[Port, Array]
) -> dict[Value, Array]:
    """For each operand that reaches ``port``: where it brings zero, or nothing at all."""
    masks: dict[Value, Array] = {}
    for owner, link in coupling.links_of(port):
        if owner is node and not (link.summed or link.together):
            source = link.b if link.a == port else link.a
            mask = _carried(link, port, zero[source])
            masks[source[0]] = masks.get(source[0], True) & mask
    return masks


def _carried(link: Link, port: Port, source: Array) -> Array:
    if link.a == port:
        return source[link.index]
    reached = np.ones(width(port), bool)
    np.logical_and.at(reached, link.index, source)
    return reached


def _of_result(node: Node, masks: dict[Value, Array], nothing: Array) -> Array:
    name, given = node.op.name, [v for v in node.inputs if not is_absent(v)]
    if not masks:
        return nothing
    every: Array = np.logical_and.reduce(list(masks.values()))
    some: Array = np.logical_or.reduce(list(masks.values()))
    if name in _ZERO_FOR_ZERO or (name in _SUMS and all(v in masks for v in given)):
        return every
    if name == "Mul":
        return some
    if name == "Pad" and len(given) < 3 and not node.attrs.get("value"):  # noqa: PLR2004
        return every
    if name in _WEIGHTED and all(v in masks for v in given[2:]):
        silent: Array = np.logical_or.reduce([masks.get(v, nothing) for v in given[:2]])
        for bias in given[2:]:
            silent = silent & masks[bias]
        return silent
    return nothing
