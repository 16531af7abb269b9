"""Ranks and element types that inference leaves open, of graphs with shapes that are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from redir import ops
from redir.ir import Node
from redir.ir.tensor import NO_DTYPE, DType, TensorType
from redir.ops import protos

Ranks = Sequence[int | None]

_SAME = frozenset(
    """AveragePool BatchNormalization Cast CastLike Clip CumSum DequantizeLinear Dropout Elu Gelu
    GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Hardmax Identity InstanceNormalization
    LRN LayerNormalization LeakyRelu LogSoftmax LpPool MaxPool PRelu Pad QuantizeLinear Resize
    ScatterElements ScatterND Slice Softmax Split Tile TopK Trilu Upsample Abs Ceil Cos Erf Exp
    Floor Log Neg Not Reciprocal Relu Round Sigmoid Sign Sin Softplus Sqrt Tanh DepthToSpace
    SpaceToDepth GroupNormalization RMSNormalization Selu Mish IsNaN IsInf""".split()
)
_MIXED = frozenset(
    """Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Expand Greater GreaterOrEqual Less
    LessOrEqual MatMul Max Mean Min Mod Mul Or Pow QLinearAdd Sub Sum Where Xor""".split()
)
_TRUTH = frozenset(
    "And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Xor IsNaN IsInf".split()
)


def rank_of(node: Node, ranks: Ranks, length: int | None) -> int | None:
    """The rank of the outputs of ``node``; ``length`` is that of the shape it is given, if any."""
    declared = next((t for t in node.source.declared if t), None) if node.source else None
    if declared is not None and declared.shape is not None:
        return len(declared.shape)
    name, known = node.op.name, [r for r in ranks if r is not None]
    if name in _MIXED:
        return max(known) if len(known) == len(ranks) else None
    reduces = name.startswith(("Reduce", "Arg"))
    if name in _SAME or (reduces and node.attrs.get("keepdims", 1)):
        return ranks[0]
    if reduces:
        return _reduced(node, ranks, length)
    rule = _RULES.get(name)
    return rule(node, ranks, length) if rule is not None else None


def _gathered(_: Node, ranks: Ranks, __: int | None) -> int | None:
    data, places = ranks[:2]
    return None if data is None or places is None else data + places - 1


def _changed(sign: int) -> Callable[[Node, Ranks, int | None], int | None]:
    def rule(node: Node, ranks: Ranks, length: int | None) -> int | None:
        axes = node.attrs.get("axes")
        count = len(axes) if axes is not None else length
        return None if ranks[0] is None or count is None else ranks[0] + sign * count

    return rule


def _reduced(node: Node, ranks: Ranks, length: int | None) -> int | None:
    if node.op.name.startswith("Arg"):
        return None if ranks[0] is None else ranks[0] - 1
    none = node.attrs.get("axes") is None and length is None
    return 0 if none else _changed(-1)(node, ranks, length)


def _first(_: Node, ranks: Ranks, __: int | None) -> int | None:
    return next((r for r in ranks if r is not None), None)


_RULES: dict[str, Callable[[Node, Ranks, int | None], int | None]] = {
    "Concat": _first,
    "ConstantOfShape": lambda _, __, length: length,
    "Conv": lambda _, ranks, __: ranks[1],
    "ConvTranspose": lambda _, ranks, __: ranks[1],
    "Flatten": lambda *_: 2,
    "GRU": lambda *_: 4,
    "Gather": _gathered,
    "Gemm": lambda *_: 2,
    "LSTM": lambda *_: 4,
    "QLinearConv": lambda _, ranks, __: ranks[3],
    "QLinearMatMul": lambda _, ranks, __: ranks[0],
    "Range": lambda *_: 1,
    "Reshape": lambda _, __, length: length,
    "Shape": lambda *_: 1,
    "Size": lambda *_: 0,
    "Squeeze": _changed(-1),
    "Transpose": lambda node, ranks, _: (
        len(node.attrs["perm"]) if "perm" in node.attrs else ranks[0]
    ),
    "Unsqueeze": _changed(1),
}


def dtype_of(node: Node, dtypes: Sequence[DType]) -> DType:
    """The element type of the outputs of ``node``."""
    declared = next((t for t in node.source.declared if t), None) if node.source else None
    if isinstance(declared, TensorType) and declared.dtype != NO_DTYPE:
        return declared.dtype
    if node.op.name in _TRUTH:
        return np.dtype(bool)
    if node.op.name in {"Shape", "Size", "ArgMax", "ArgMin", "NonZero"}:
        return np.dtype(np.int64)
    if node.op.name == "Cast":
        return protos.dtype_from(node.attrs["to"])
    if node.op.name in {"DequantizeLinear", "Where"}:
        return dtypes[1]
    if node.op.name in {"QLinearConv", "QLinearMatMul"}:
        return dtypes[7]
    if node.op.name == "QuantizeLinear":
        return dtypes[2] if len(dtypes) > 2 else np.dtype(np.uint8)  # noqa: PLR2004
    return dtypes[0] if node.inputs and not ops.is_absent(node.inputs[0]) else NO_DTYPE
