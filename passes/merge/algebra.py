"""What operators make of multiples and of sums of channels."""

from __future__ import annotations

import numpy as np

from redir.ir import Node
from redir.ops import is_absent, tensor_of

_LAYOUT = frozenset(
    """Concat Dropout Flatten Gather Identity Pad Reshape Resize Slice Split Squeeze Transpose
    Unsqueeze Upsample""".split()
)
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_LINEAR = frozenset(
    """Add AveragePool BatchNormalization Div GlobalAveragePool Mean Mul Neg ReduceMean ReduceSum
    Sub Sum""".split()
)
_EVERY = frozenset("Add Concat Max Mean Min Sub Sum".split())
_FIRST = _LAYOUT - _EVERY | frozenset(
    """Abs AveragePool Div GlobalAveragePool GlobalLpPool GlobalMaxPool LeakyRelu LpPool MaxPool
    Neg PRelu ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Relu""".split()
)
_FACTORS: dict[str, tuple[tuple[int, ...], ...]] = {
    "BatchNormalization": ((0, 1), (3, 1), (2,)),
    "InstanceNormalization": ((1,), (2,)),
    "Mul": ((0, 1),),
    "Where": ((1,), (2,)),
    **dict.fromkeys(_WEIGHTED, ((0, 1), (2,))),
}


def terms(node: Node) -> list[tuple[int, ...]]:
    """The places of the operands that are multiplied, for each term of the sum that a node is.

    Where each product is made k times as large, for a positive k, so is the result. Operands that
    are in no product must stay the same for that. There are none where the node is no such sum.
    """
    name, given = node.op.standard, [i for i, v in enumerate(node.inputs) if not is_absent(v)]
    if not name or (name == "Pad" and not _pads_zeros(node)):
        return []
    if name in _WEIGHTED and len({node.inputs[i] for i in given}) < len(given):
        return []  # which of its operands a link is meant for, it does not say
    every = [(i,) for i in given] if name in _EVERY else _FACTORS.get(name, ())
    found = [(0,)] if name in _FIRST else every
    return [places for places in found if set(places) <= set(given)]


def is_linear(node: Node) -> bool:
    """Whether the sum of two results is that of the sums, factor by factor, of their ``terms``."""
    return bool(terms(node)) and node.op.name in _LINEAR | _LAYOUT | _WEIGHTED


def _pads_zeros(node: Node) -> bool:
    """Whether a Pad has a border of zeros, or one that it copies from within."""
    if node.attrs.get("mode", "constant") != "constant":
        return True
    if len(node.inputs) < 3 or is_absent(node.inputs[2]):  # noqa: PLR2004 - the border is given
        return not node.attrs.get("value")
    border = tensor_of(node.inputs[2])
    return border is not None and not np.any(border.array)
