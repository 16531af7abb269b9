"""The operators: one table, in which every standard ONNX operator has its entry.

``ops.Conv(x, w, pads=(1, 1, 1, 1))`` applies one; ``ops.lookup("Conv", 11)`` is the form that it
has in an older operator set. To teach redir more of an operator, add to its entry below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from onnx import defs

from redir.ir import Attr, Node, Op
from redir.ir.builtin import Absent, Const, constant, is_absent, opaque, tensor_of
from redir.ops import (
    agreement,
    control,
    einsum,
    expansion,
    fits,
    inference,
    kernels,
    layout,
    links,
    mixing,
    quantised,
    recurrent,
    schema,
    steps,
    wants,
)

__all__ = [
    "OPSET",
    "Absent",
    "Const",
    "Entry",
    "beyond",
    "constant",
    "is_absent",
    "lookup",
    "opaque",
    "tensor_of",
]

OPSET = 21  # of a graph that does not say: what runtimes have understood for a while
READ = 28  # the newest operator set that the table was read against


@dataclass(frozen=True)
class Entry:
    """What redir knows of an operator beyond its schema; see ``redir.ir.Op`` for each part.

    Four parts that are alike for many operators stand in the ``RULES`` of their own modules, by
    the names of operators, and are put into the entries below; so is ``bounded``.
    ``attributes`` are those that it understands, in any version up to ``newest``. A node that has
    another one, not at its default, or that is of a newer version, is opaque.
    """

    infer: Any = schema.infer
    evaluate: Any = schema.evaluate
    links: Any = lambda _: ()
    narrow: Any = lambda node, inputs, _: node.on(inputs)
    implied: Any = lambda _: {}
    agreed: Any = agreement.finite
    misfit: Any = lambda *_: ""
    step: Any = lambda _: None
    wants: Any = lambda *_: ()
    bounded: bool = False
    attributes: str = ""
    newest: int = READ

    @cached_property
    def names(self) -> frozenset[str]:
        """The attributes, one by one."""
        return frozenset({*self.attributes.split(), "captures"})

    def beyond(self, node: Node) -> str | None:
        """What of ``node`` goes beyond the entry, if anything does."""
        others = sorted(node.attrs.keys() - self.names)
        odd = next((name for name in others if not schema.is_default(node, name)), None)
        newer = node.op.version > self.newest
        return f"version {node.op.version}" if newer else odd and f"attribute {odd!r}"


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

_SLIDING = "auto_pad dilations kernel_shape pads strides"
_CELL = "activation_alpha activation_beta activations clip direction hidden_size layout "

ENTRIES: dict[str, Entry] = {
    **dict.fromkeys(
        _UNARY,
        Entry(
            links=links.first_operand,
            attributes="alpha approximate beta bias consumed_inputs detect_negative "
            "detect_positive gamma lambd max min round_mode saturate to",
        ),
    ),
    **dict.fromkeys(
        _BROADCASTING,
        Entry(links=links.broadcast, attributes="axis broadcast consumed_inputs direction fmod"),
    ),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalLpPool"), Entry(links=links.channelwise, attributes="p")
    ),
    **dict.fromkeys(
        ("AveragePool", "LpPool"),
        Entry(
            inference.pooled,
            links=links.channelwise,
            attributes=f"{_SLIDING} ceil_mode count_include_pad p",
        ),
    ),
    **dict.fromkeys(
        _REDUCTIONS, Entry(links=links.reduction, attributes="axes keepdims noop_with_empty_axes")
    ),
    "Squeeze": Entry(links=layout.squeeze, attributes="axes"),
    "Unsqueeze": Entry(evaluate=kernels.unsqueeze, links=layout.squeeze, attributes="axes"),
    **dict.fromkeys(
        ("Resize", "Upsample"),
        Entry(
            inference.resized,
            links=layout.resize,
            narrow=layout.narrow_resize,
            attributes="antialias axes coordinate_transformation_mode cubic_coeff_a "
            "exclude_outside extrapolation_value height_scale keep_aspect_ratio_policy mode "
            "nearest_mode scales width_scale",
        ),
    ),
    **dict.fromkeys(
        ("Softmax", "LogSoftmax", "Hardmax"),
        Entry(evaluate=kernels.softmax, links=links.all_but_axis(-1), attributes="axis"),
    ),
    **dict.fromkeys(
        ("QuantizeLinear", "DequantizeLinear"),
        Entry(
            links=quantised.rescaled, attributes="axis block_size output_dtype precision saturate"
        ),
    ),
    **dict.fromkeys(
        ("GRU", "LSTM", "RNN"),
        Entry(
            evaluate=recurrent.evaluate,
            links=recurrent.links,
            implied=recurrent.implied,
            attributes=f"{_CELL} input_forget linear_before_reset",
        ),
    ),
    **dict.fromkeys(
        ("ArgMax", "ArgMin"), Entry(links=mixing.arg, attributes="axis keepdims select_last_index")
    ),
    **dict.fromkeys(
        ("CumProd", "CumSum"),
        Entry(links=mixing.all_but(mixing.given_axis), attributes="exclusive reverse"),
    ),
    **dict.fromkeys(
        ("LayerNormalization", "RMSNormalization"),
        Entry(links=mixing.layer_norm, attributes="axis epsilon stash_type"),
    ),
    "Attention": Entry(
        links=mixing.attention,
        narrow=mixing.narrow_attention,
        attributes="is_causal kv_num_heads left_window_size q_num_heads qk_matmul_output_mode "
        "right_window_size scale softcap softmax_precision",
    ),
    "BatchNormalization": Entry(
        evaluate=kernels.batch_norm,
        links=links.batch_norm,
        attributes="consumed_inputs epsilon is_test momentum spatial training_mode",
    ),
    "CastLike": Entry(links=links.first_operand, attributes="round_mode saturate"),
    "CenterCropPad": Entry(links=mixing.all_but(mixing.named_axes()), attributes="axes"),
    "Compress": Entry(links=mixing.all_but(mixing.named_axis), attributes="axis"),
    "Concat": Entry(links=layout.concat, narrow=layout.narrow_concat, attributes="axis"),
    "Conv": Entry(
        evaluate=kernels.conv,
        links=links.conv,
        implied=_conv_implied,
        attributes=f"{_SLIDING} group",
    ),
    "ConvTranspose": Entry(
        inference.transposed,
        evaluate=kernels.conv_transpose,
        links=links.conv_transpose,
        narrow=links.narrow_conv_transpose,
        attributes=f"{_SLIDING} group output_padding output_shape",
    ),
    **dict.fromkeys(
        ("ConvInteger", "QLinearConv"),
        Entry(
            evaluate=quantised.run_conv,
            links=quantised.conv,
            implied=_conv_implied,
            attributes=f"{_SLIDING} group",
        ),
    ),
    **dict.fromkeys(
        ("MatMulInteger", "QLinearMatMul"),
        Entry(evaluate=quantised.run_matmul, links=quantised.matmul),
    ),
    "DepthToSpace": Entry(links=expansion.depth_to_space, attributes="blocksize mode"),
    "Div": Entry(links=links.division, attributes="axis broadcast consumed_inputs"),
    "Dropout": Entry(links=links.inference_only, attributes="consumed_inputs is_test ratio seed"),
    "DynamicQuantizeLinear": Entry(),
    "Einsum": Entry(links=einsum.links, attributes="equation"),
    "Expand": Entry(links=expansion.expand, narrow=expansion.narrow_expand),
    "Flatten": Entry(links=layout.reshape, narrow=layout.narrow_reshape, attributes="axis"),
    "Gather": Entry(links=layout.gather, narrow=layout.narrow_gather, attributes="axis"),
    "GatherElements": Entry(attributes="axis"),
    "GatherND": Entry(links=mixing.gather_nd, attributes="batch_dims"),
    "Gemm": Entry(
        evaluate=kernels.gemm,
        links=links.gemm,
        attributes="alpha beta broadcast transA transB",
    ),
    "GlobalMaxPool": Entry(evaluate=kernels.global_max_pool, links=links.channelwise),
    "GridSample": Entry(links=mixing.grid_sample, attributes="align_corners mode padding_mode"),
    "GroupNormalization": Entry(
        mixing.as_first,
        links=mixing.group_norm,
        narrow=mixing.narrow_group_norm,
        attributes="epsilon num_groups stash_type",
    ),
    "If": Entry(control.if_type, control.run_if, attributes="else_branch then_branch"),
    "InstanceNormalization": Entry(links=links.instance_norm, attributes="consumed_inputs epsilon"),
    "Loop": Entry(control.loop_type, control.run_loop, attributes="body"),
    "LRN": Entry(
        evaluate=kernels.lrn,
        links=mixing.all_but(lambda _: (1,)),
        attributes="alpha beta bias size",
    ),
    "LpNormalization": Entry(links=mixing.all_but(mixing.one_axis(-1)), attributes="axis p"),
    "MatMul": Entry(links=links.matmul),
    "MaxPool": Entry(
        inference.pooled,
        evaluate=kernels.max_pool,
        links=links.channelwise,
        attributes=f"{_SLIDING} ceil_mode storage_order",
    ),
    "MeanVarianceNormalization": Entry(
        mixing.as_first,
        links=mixing.all_but(mixing.named_axes((0, 2, 3))),
        attributes="axes",
    ),
    "NonMaxSuppression": Entry(attributes="center_point_box"),
    "OneHot": Entry(evaluate=kernels.one_hot, attributes="axis"),
    "Pad": Entry(links=layout.pad, narrow=layout.narrow_pad, attributes="mode paddings pads value"),
    "Range": Entry(inference.counted, attributes="stash_type"),
    "Reshape": Entry(
        layout.reshape_type,
        links=layout.reshape,
        narrow=layout.narrow_reshape,
        attributes="allowzero consumed_inputs shape",
    ),
    "ReverseSequence": Entry(
        links=mixing.all_but(mixing.sequence_axes), attributes="batch_axis time_axis"
    ),
    "RoiAlign": Entry(
        evaluate=kernels.roi_align,
        links=mixing.regions,
        attributes="coordinate_transformation_mode mode output_height output_width "
        "sampling_ratio spatial_scale",
    ),
    "Scan": Entry(
        control.scan_type,
        control.run_scan,
        attributes="body directions num_scan_inputs scan_input_axes scan_input_directions "
        "scan_output_axes scan_output_directions",
    ),
    "ScatterElements": Entry(attributes="axis reduction"),
    "ScatterND": Entry(links=mixing.scatter_nd, attributes="reduction"),
    "SequenceMap": Entry(control.body_type, control.run_body, attributes="body"),
    "Slice": Entry(links=layout.slice_, narrow=layout.narrow_slice, attributes="axes ends starts"),
    "SpaceToDepth": Entry(links=expansion.space_to_depth, attributes="blocksize mode"),
    "Split": Entry(
        links=layout.split, narrow=layout.narrow_split, attributes="axis num_outputs split"
    ),
    "Tile": Entry(links=expansion.tile, narrow=expansion.narrow_tile),
    "TopK": Entry(links=mixing.all_but(mixing.one_axis(-1)), attributes="axis k largest sorted"),
    "Transpose": Entry(links=layout.transpose, attributes="perm"),
    "Trilu": Entry(links=mixing.all_but(lambda _: (-2, -1)), attributes="upper"),
}

_BOUNDED = """
    Clip Erf Hardmax HardSigmoid LogSoftmax Max MaxPool ReduceMax Sigmoid Softmax Softsign Tanh
""".split()

_RULES: dict[str, Mapping[str, Any]] = {
    "agreed": agreement.RULES,
    "bounded": dict.fromkeys(_BOUNDED, True),
    "misfit": fits.RULES,
    "step": steps.RULES,
    "wants": wants.RULES,
}
for _fact, _rules in _RULES.items():
    ENTRIES.update({name: replace(ENTRIES[name], **{_fact: rule}) for name, rule in _rules.items()})


@cache
def lookup(name: str, opset: int, domain: str = "") -> Op | None:
    """The standard operator ``name`` as it is in version ``opset`` of its domain, if it exists.

    Of an operator set that is newer than the installed onnx nothing is known.
    """
    if domain == "" and opset > defs.onnx_opset_version():
        return None
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
        evaluate=schema.checked(entry.evaluate),
        links=entry.links,
        narrow=entry.narrow,
        implied=entry.implied,
        agreed=entry.agreed,
        misfit=entry.misfit,
        step=entry.step,
        wants=entry.wants,
        bounded=entry.bounded,
        repeatable=schema.repeatable,
        form=_form,
        needs=schema.needs,
        table=lookup,
    )


def _form(node: Node) -> Op:
    """The operator of ``node``, or by its schema alone where the node goes beyond its entry."""
    if beyond(node) is None:
        return node.op
    op = opaque(node.op.name, node.op.domain, node.op.version, (), schema.checked(schema.evaluate))
    return replace(op, infer=schema.infer, stated=None, table=lookup)


def beyond(node: Node) -> str | None:
    """What of a node redir does not know of its standard operator, if there is such a thing."""
    entry = ENTRIES.get(node.op.name) if node.op.domain == "" else None
    return schema.foreign(node) or (None if entry is None else entry.beyond(node))


def __getattr__(name: str) -> Op:
    """Any standard operator, as ``ops.Relu``: as in operator set 21, or newer if it is."""
    op = None if name.startswith("_") else _newest(name)
    if op is None:
        raise AttributeError(f"no standard operator is called {name!r}")
    return op


@cache
def _newest(name: str) -> Op | None:
    return lookup(name, OPSET) or lookup(name, defs.onnx_opset_version())
