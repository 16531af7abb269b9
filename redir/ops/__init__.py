"""The operators: one table, in which every standard ONNX operator has its entry.

``ops.Conv(x, w, pads=(1, 1, 1, 1))`` applies one; ``ops.lookup("Conv", 11)`` is the form that it
has in an older operator set. To teach redir more of an operator, add to its entry below.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from onnx import defs

from redir.ir import Attr, Node, Op
from redir.ops import (
    control,
    einsum,
    kernels,
    layout,
    mixing,
    quantised,
    recurrent,
    schema,
    sizes,
    spread,
    ties,
)
from redir.ops.core import Absent, Const, constant, is_absent, opaque, tensor_of

__all__ = [
    "OPSET",
    "Absent",
    "Const",
    "Entry",
    "constant",
    "is_absent",
    "lookup",
    "opaque",
    "tensor_of",
]

OPSET = 21  # of a graph that does not say: what runtimes have understood for a while


@dataclass(frozen=True)
class Entry:
    """What redir knows of an operator beyond its schema; see ``redir.ir.Op`` for each part."""

    infer: Any = schema.infer
    evaluate: Any = schema.evaluate
    links: Any = lambda _: ()
    narrow: Any = lambda node, inputs, _: node.on(inputs)
    implied: Any = lambda _: {}


def _conv_implied(node: Node) -> dict[str, Attr]:
    """The groups and the kernel of a Conv follow from its operands."""
    weight = 3 if node.op.name == "QLinearConv" else 1
    x, w = node.inputs[0].type, node.inputs[weight].type
    channels, per_group = (
        t.size(1) if t.shape is not None and len(t.shape) > 1 else None for t in (x, w)
    )
    implied: dict[str, Attr] = {}
    if channels and per_group and channels % per_group == 0:
        implied["group"] = channels // per_group
    if w.shape is not None and all(isinstance(d, int) for d in w.shape[2:]):
        implied["kernel_shape"] = w.shape[2:]  # type: ignore[assignment]
    return implied


_UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor
    Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round
    Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
""".split()
_BROADCASTING = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Equal Greater GreaterOrEqual Less
    LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor
""".split()
_REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
""".split()

ENTRIES: dict[str, Entry] = {
    **dict.fromkeys(_UNARY, Entry(links=ties.first_operand)),
    **dict.fromkeys(_BROADCASTING, Entry(links=ties.broadcast)),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool"), Entry(links=ties.channelwise)),
    **dict.fromkeys(("AveragePool", "LpPool"), Entry(sizes.pooled, links=ties.channelwise)),
    **dict.fromkeys(_REDUCTIONS, Entry(links=ties.reduction)),
    "Squeeze": Entry(links=layout.squeeze),
    "Unsqueeze": Entry(evaluate=kernels.unsqueeze, links=layout.squeeze),
    **dict.fromkeys(
        ("Resize", "Upsample"),
        Entry(sizes.resized, links=layout.resize, narrow=layout.narrow_resize),
    ),
    **dict.fromkeys(
        ("Softmax", "LogSoftmax", "Hardmax"),
        Entry(evaluate=kernels.softmax, links=ties.all_but_axis(-1)),
    ),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), Entry(links=quantised.rescaled)),
    **dict.fromkeys(
        ("GRU", "LSTM", "RNN"),
        Entry(evaluate=recurrent.evaluate, links=recurrent.links, implied=recurrent.implied),
    ),
    **dict.fromkeys(("ArgMax", "ArgMin"), Entry(links=mixing.arg)),
    **dict.fromkeys(("CumProd", "CumSum"), Entry(links=mixing.all_but(mixing.given_axis))),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), Entry(links=mixing.layer_norm)),
    "Attention": Entry(links=mixing.attention, narrow=mixing.narrow_attention),
    "BatchNormalization": Entry(evaluate=kernels.batch_norm, links=ties.batch_norm),
    "CastLike": Entry(links=ties.first_operand),
    "CenterCropPad": Entry(links=mixing.all_but(mixing.named_axes())),
    "Compress": Entry(links=mixing.all_but(mixing.named_axis)),
    "Concat": Entry(links=layout.concat, narrow=layout.narrow_concat),
    "Conv": Entry(evaluate=kernels.conv, links=ties.conv, implied=_conv_implied),
    "ConvTranspose": Entry(
        sizes.transposed,
        evaluate=kernels.conv_transpose,
        links=ties.conv_transpose,
        narrow=ties.narrow_conv_transpose,
    ),
    **dict.fromkeys(
        ("ConvInteger", "QLinearConv"),
        Entry(evaluate=quantised.run_conv, links=quantised.conv, implied=_conv_implied),
    ),
    **dict.fromkeys(
        ("MatMulInteger", "QLinearMatMul"),
        Entry(evaluate=quantised.run_matmul, links=quantised.matmul),
    ),
    "DepthToSpace": Entry(links=spread.depth_to_space),
    "Div": Entry(links=ties.division),
    "Dropout": Entry(links=ties.inference_only),
    "Einsum": Entry(links=einsum.links),
    "Expand": Entry(links=spread.expand, narrow=spread.narrow_expand),
    "Flatten": Entry(links=layout.reshape, narrow=layout.narrow_reshape),
    "Gather": Entry(links=layout.gather, narrow=layout.narrow_gather),
    "GatherND": Entry(links=mixing.gather_nd),
    "Gemm": Entry(links=ties.gemm),
    "GlobalMaxPool": Entry(evaluate=kernels.global_max_pool, links=ties.channelwise),
    "GridSample": Entry(links=mixing.grid_sample),
    "GroupNormalization": Entry(
        mixing.as_first, links=mixing.group_norm, narrow=mixing.narrow_group_norm
    ),
    "If": Entry(control.if_type, control.run_if),
    "InstanceNormalization": Entry(links=ties.instance_norm),
    "Loop": Entry(control.loop_type, control.run_loop),
    "LRN": Entry(evaluate=kernels.lrn, links=mixing.all_but(lambda _: (1,))),
    "LpNormalization": Entry(links=mixing.all_but(mixing.one_axis(-1))),
    "MatMul": Entry(links=ties.matmul),
    "MaxPool": Entry(sizes.pooled, evaluate=kernels.max_pool, links=ties.channelwise),
    "MeanVarianceNormalization": Entry(
        mixing.as_first, links=mixing.all_but(mixing.named_axes((0, 2, 3)))
    ),
    "OneHot": Entry(evaluate=kernels.one_hot),
    "Pad": Entry(links=layout.pad, narrow=layout.narrow_pad),
    "Reshape": Entry(layout.reshape_type, links=layout.reshape, narrow=layout.narrow_reshape),
    "ReverseSequence": Entry(links=mixing.all_but(mixing.sequence_axes)),
    "RoiAlign": Entry(links=mixing.regions),
    "Scan": Entry(control.scan_type, control.run_scan),
    "ScatterND": Entry(links=mixing.scatter_nd),
    "SequenceMap": Entry(control.body_type, control.run_body),
    "Slice": Entry(links=layout.slice_, narrow=layout.narrow_slice),
    "SpaceToDepth": Entry(links=spread.space_to_depth),
    "Split": Entry(links=layout.split, narrow=layout.narrow_split),
    "Tile": Entry(links=spread.tile, narrow=spread.narrow_tile),
    "TopK": Entry(links=mixing.all_but(mixing.one_axis(-1))),
    "Transpose": Entry(links=layout.transpose),
    "Trilu": Entry(links=mixing.all_but(lambda _: (-2, -1))),
}


def lookup(name: str, opset: int, domain: str = "") -> Op | None:
    """The standard operator ``name`` as it is in version ``opset`` of its domain, if it exists."""
    try:
        version = defs.get_schema(name, opset, domain).since_version
    except defs.SchemaError:
        return None
    return _op(name, domain, version)


@cache
def _op(name: str, domain: str, version: int) -> Op:
    entry = ENTRIES.get(name, Entry()) if domain == "" else Entry()
    return Op(
        name,
        domain,
        version,
        infer=entry.infer,
        evaluate=entry.evaluate,
        links=entry.links,
        narrow=entry.narrow,
        implied=entry.implied,
        repeatable=schema.repeatable,
    )


def __getattr__(name: str) -> Op:
    """Any standard operator, as ``ops.Relu``: as in operator set 21, or newer if it is."""
    versions = (OPSET, defs.onnx_opset_version())
    found = (lookup(name, version) for version in versions if not name.startswith("_"))
    op = next((op for op in found if op is not None), None)
    if op is None:
        raise AttributeError(f"no standard operator is called {name!r}")
    return op
