"""The table of operators: what redir knows of each beyond its schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from redir.ir import Attr, Node, Op
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
    multiply_adds,
    powers,
    quantised,
    recurrent,
    reshape,
    schema,
    slicing,
    steps,
    told,
    traits,
    wants,
)

READ = 28  # the newest operator set that the table was read against


def entry(
    infer: Any = schema.infer,
    evaluate: Any = schema.evaluate,
    *,
    attributes: str = "",
    newest: int = READ,
    **facts: Any,
) -> Op:
    """What is known of an operator, in any version: by its schema alone where nothing is given.

    ``facts`` are other parts of an ``Op``. Those that are alike for many operators stand in the
    ``RULES`` of their own modules, by the names of operators, and are joined to the entries below.
    """
    known = frozenset({*attributes.split(), "captures"})
    alike = {"agreed": agreement.finite, "needs": schema.needs, "repeatable": schema.repeatable}
    return Op(
        "", infer=infer, evaluate=evaluate, attributes=known, newest=newest, **(alike | facts)
    )


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
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Exp Floor
    Gelu HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round
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

ENTRIES: dict[str, Op] = {
    **dict.fromkeys(
        _UNARY,
        entry(
            links=links.first_operand,
            attributes="alpha approximate beta bias consumed_inputs detect_negative "
            "detect_positive gamma lambd max min round_mode saturate to",
        ),
    ),
    **dict.fromkeys(
        _BROADCASTING,
        entry(
            inference.spread,
            links=links.broadcast,
            attributes="axis broadcast consumed_inputs direction fmod",
        ),
    ),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalLpPool"), entry(links=links.channelwise, attributes="p")
    ),
    **dict.fromkeys(
        _REDUCTIONS, entry(links=links.reduction, attributes="axes keepdims noop_with_empty_axes")
    ),
    "Squeeze": entry(links=reshape.squeeze, attributes="axes"),
    "Unsqueeze": entry(evaluate=kernels.unsqueeze, links=reshape.squeeze, attributes="axes"),
    **dict.fromkeys(
        ("Resize", "Upsample"),
        entry(
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
        entry(evaluate=kernels.softmax, links=links.all_but_axis(-1), attributes="axis"),
    ),
    **dict.fromkeys(
        ("QuantizeLinear", "DequantizeLinear"),
        entry(
            links=quantised.rescaled, attributes="axis block_size output_dtype precision saturate"
        ),
    ),
    **dict.fromkeys(
        ("GRU", "LSTM", "RNN"),
        entry(
            evaluate=recurrent.evaluate,
            links=recurrent.links,
            implied=recurrent.implied,
            attributes=f"{_CELL} input_forget linear_before_reset",
        ),
    ),
    **dict.fromkeys(
        ("ArgMax", "ArgMin"), entry(links=mixing.arg, attributes="axis keepdims select_last_index")
    ),
    **dict.fromkeys(
        ("CumProd", "CumSum"),
        entry(links=mixing.all_but(mixing.given_axis), attributes="exclusive reverse"),
    ),
    "LayerNormalization": entry(links=mixing.layer_norm, attributes="axis epsilon stash_type"),
    "RMSNormalization": entry(
        links=mixing.rms_norm,
        narrow=mixing.narrow_rms_norm,
        attributes="axis epsilon stash_type",
    ),
    "Attention": entry(
        links=mixing.attention,
        narrow=mixing.narrow_attention,
        attributes="is_causal kv_num_heads left_window_size q_num_heads qk_matmul_output_mode "
        "right_window_size scale softcap softmax_precision",
    ),
    "AveragePool": entry(
        inference.pooled,
        evaluate=kernels.average_pool,
        links=links.channelwise,
        attributes=f"{_SLIDING} ceil_mode count_include_pad p",
    ),
    "BatchNormalization": entry(
        evaluate=kernels.batch_norm,
        links=links.batch_norm,
        attributes="consumed_inputs epsilon is_test momentum spatial training_mode",
    ),
    "CastLike": entry(links=links.first_operand, attributes="round_mode saturate"),
    "CenterCropPad": entry(links=mixing.all_but(mixing.named_axes()), attributes="axes"),
    "Compress": entry(links=mixing.all_but(mixing.named_axis), attributes="axis"),
    "Concat": entry(links=layout.concat, narrow=layout.narrow_concat, attributes="axis"),
    "ConstantOfShape": entry(
        expansion.filled, links=expansion.fill, narrow=expansion.narrow_fill, attributes="value"
    ),
    "Conv": entry(
        evaluate=kernels.conv,
        links=links.conv,
        implied=_conv_implied,
        attributes=f"{_SLIDING} group",
    ),
    "ConvTranspose": entry(
        inference.transposed,
        evaluate=kernels.conv_transpose,
        links=links.conv_transpose,
        narrow=links.narrow_conv_transpose,
        attributes=f"{_SLIDING} group output_padding output_shape",
    ),
    "DeformConv": entry(
        links=links.deformed,
        implied=_conv_implied,
        attributes="dilations group kernel_shape offset_group pads strides",
    ),
    **dict.fromkeys(
        ("ConvInteger", "QLinearConv"),
        entry(
            evaluate=quantised.run_conv,
            links=quantised.conv,
            implied=_conv_implied,
            attributes=f"{_SLIDING} group",
        ),
    ),
    **dict.fromkeys(
        ("MatMulInteger", "QLinearMatMul"),
        entry(evaluate=quantised.run_matmul, links=quantised.matmul),
    ),
    "DepthToSpace": entry(links=expansion.depth_to_space, attributes="blocksize mode"),
    "Div": entry(
        inference.spread, links=links.division, attributes="axis broadcast consumed_inputs"
    ),
    "Dropout": entry(links=links.inference_only, attributes="consumed_inputs is_test ratio seed"),
    "DynamicQuantizeLinear": entry(links=quantised.measured),
    "Erf": entry(evaluate=kernels.erf, links=links.first_operand),
    "Einsum": entry(links=einsum.links, attributes="equation"),
    "Expand": entry(expansion.expanded, links=expansion.expand, narrow=expansion.narrow_expand),
    "EyeLike": entry(attributes="dtype k"),
    "Flatten": entry(links=reshape.reshape, narrow=reshape.narrow_reshape, attributes="axis"),
    "Gather": entry(links=layout.gather, narrow=layout.narrow_gather, attributes="axis"),
    "GatherElements": entry(evaluate=kernels.gather_elements, attributes="axis"),
    "GatherND": entry(links=mixing.gather_nd, attributes="batch_dims"),
    "Gemm": entry(
        evaluate=kernels.gemm,
        links=links.gemm,
        attributes="alpha beta broadcast transA transB",
    ),
    "GlobalMaxPool": entry(evaluate=kernels.global_max_pool, links=links.channelwise),
    "GridSample": entry(links=mixing.grid_sample, attributes="align_corners mode padding_mode"),
    "GroupNormalization": entry(
        mixing.group_norm_type,
        links=mixing.group_norm,
        narrow=mixing.narrow_group_norm,
        attributes="epsilon num_groups stash_type",
    ),
    "Identity": entry(evaluate=kernels.identity, links=links.first_operand),
    "If": entry(control.if_type, control.run_if, attributes="else_branch then_branch"),
    "InstanceNormalization": entry(links=links.instance_norm, attributes="consumed_inputs epsilon"),
    "Loop": entry(control.loop_type, control.run_loop, attributes="body"),
    "LRN": entry(
        evaluate=kernels.lrn,
        links=mixing.all_but(lambda _: (1,)),
        attributes="alpha beta bias size",
    ),
    "LpNormalization": entry(links=mixing.all_but(mixing.one_axis(-1)), attributes="axis p"),
    "LpPool": entry(
        inference.pooled,
        links=links.channelwise,
        attributes=f"{_SLIDING} ceil_mode count_include_pad p",
    ),
    "MatMul": entry(links=links.matmul),
    "MaxPool": entry(
        inference.pooled,
        evaluate=kernels.max_pool,
        links=links.channelwise,
        attributes=f"{_SLIDING} ceil_mode storage_order",
    ),
    "MeanVarianceNormalization": entry(
        mixing.as_first,
        links=mixing.all_but(mixing.named_axes((0, 2, 3))),
        attributes="axes",
    ),
    "NonMaxSuppression": entry(attributes="center_point_box"),
    "OneHot": entry(evaluate=kernels.one_hot, attributes="axis"),
    "Pad": entry(
        layout.padded,
        links=layout.pad,
        narrow=layout.narrow_pad,
        attributes="mode paddings pads value",
    ),
    "Range": entry(inference.counted, attributes="stash_type"),
    "Reshape": entry(
        reshape.infer,
        links=reshape.reshape,
        narrow=reshape.narrow_reshape,
        attributes="allowzero consumed_inputs shape",
    ),
    "RotaryEmbedding": entry(
        links=mixing.rotary, attributes="interleaved num_heads rotary_embedding_dim"
    ),
    "ReverseSequence": entry(
        links=mixing.all_but(mixing.sequence_axes), attributes="batch_axis time_axis"
    ),
    "RoiAlign": entry(
        evaluate=kernels.roi_align,
        links=mixing.regions,
        attributes="coordinate_transformation_mode mode output_height output_width "
        "sampling_ratio spatial_scale",
    ),
    "Scan": entry(
        control.scan_type,
        control.run_scan,
        attributes="body directions num_scan_inputs scan_input_axes scan_input_directions "
        "scan_output_axes scan_output_directions",
    ),
    "ScatterElements": entry(attributes="axis reduction"),
    "ScatterND": entry(links=mixing.scatter_nd, attributes="reduction"),
    "SequenceMap": entry(control.body_type, control.run_body, attributes="body"),
    "Shape": entry(attributes="end start"),
    "Size": entry(),
    "Slice": entry(
        slicing.infer,
        links=slicing.slice_,
        narrow=slicing.narrow_slice,
        attributes="axes ends starts",
    ),
    "SpaceToDepth": entry(links=expansion.space_to_depth, attributes="blocksize mode"),
    "Split": entry(
        links=layout.split, narrow=layout.narrow_split, attributes="axis num_outputs split"
    ),
    "Tile": entry(links=expansion.tile, narrow=expansion.narrow_tile),
    "TopK": entry(links=mixing.all_but(mixing.one_axis(-1)), attributes="axis k largest sorted"),
    "Transpose": entry(links=layout.transpose, attributes="perm"),
    "Trilu": entry(links=mixing.all_but(lambda _: (-2, -1)), attributes="upper"),
}

_BOUNDED = """
    Clip Erf Hardmax HardSigmoid LogSoftmax Max MaxPool ReduceMax Sigmoid Softmax Softsign Tanh
""".split()

_RULES: dict[str, Mapping[str, Any]] = {
    "agreed": agreement.RULES,
    "has": traits.RULES,
    "terms": traits.TERMS,
    "bounded": dict.fromkeys(_BOUNDED, True),
    "misfit": fits.RULES,
    "multiply_adds": multiply_adds.RULES,
    "power": powers.RULES,
    "sizes": told.RULES,
    "step": steps.RULES,
    "wants": wants.RULES,
}
for _fact, _rules in _RULES.items():
    ENTRIES.update({name: replace(ENTRIES[name], **{_fact: rule}) for name, rule in _rules.items()})
