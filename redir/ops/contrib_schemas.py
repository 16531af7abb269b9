"""Schemas of operators that onnxruntime adds to the standard, and that redir knows.

Its optimiser puts them in the place of several operators of the standard. onnx knows none of them.
``tests/ops/test_contrib.py`` compares what stands here with what onnxruntime says.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterator
from functools import cache

import onnx
from onnx import defs

MICROSOFT = "com.microsoft"
_VERSION = 1  # onnxruntime has none of them in a second one
_STANDARD = {"LayerNormalization": 17}  # the operator sets since which the standard has them

# Operands -> results, ? behind those that may be left out; attributes, each with a type or default.
SCHEMAS: dict[tuple[str, str], str] = {
    ("", "LayerNormalization"): """X Scale B? -> Y Mean? InvStdDev? |
        axis=-1 epsilon=1e-5 stash_type=1""",
    ("", "SimplifiedLayerNormalization"): """X scale -> Y inv_std_var? |
        axis=-1 epsilon=1e-5 stash_type=1""",
    (MICROSOFT, "Attention"): """input weights bias? mask_index? past? attention_bias?
        past_sequence_length? -> output present? |
        do_rotary:INT mask_filter_value:FLOAT num_heads:INT! past_present_share_buffer:INT
        qkv_hidden_sizes:INTS rotary_embedding_dim:INT scale:FLOAT unidirectional=0""",
    (MICROSOFT, "BiasGelu"): "A B -> C |",
    (MICROSOFT, "EmbedLayerNormalization"): """input_ids segment_ids? word_embedding
        position_embedding segment_embedding? gamma beta mask? position_ids? ->
        output mask_index? embedding_sum? | epsilon=1e-12 mask_index_type:INT""",
    (MICROSOFT, "FastGelu"): "X bias? -> Y |",
    (MICROSOFT, "FusedMatMul"): """A B -> Y |
        alpha=1.0 transA=0 transB=0 transBatchA=0 transBatchB=0""",
    (MICROSOFT, "Gelu"): "X -> Y |",
    (MICROSOFT, "GroupQueryAttention"): """query key? value? past_key? past_value? seqlens_k
        total_sequence_length cos_cache? sin_cache? position_ids? attention_bias? head_sink?
        k_scale? v_scale? q_norm_weight? k_norm_weight? ->
        output present_key? present_value? output_qk? |
        causal=1 do_rotary:INT k_quant_type='NONE' kv_cache_bit_width:INT kv_num_heads:INT!
        local_window_size=-1 num_heads:INT! qk_norm_epsilon=1e-6 qk_output=0
        rotary_interleaved:INT scale:FLOAT sliding_window_cache=0 smooth_softmax=-1
        softcap:FLOAT v_quant_type='NONE'""",
    (MICROSOFT, "MultiHeadAttention"): """query key? value? bias? key_padding_mask? attention_bias?
        past_key? past_value? past_sequence_length? cache_indirection? ->
        output present_key? present_value? qk? |
        mask_filter_value:FLOAT num_heads:INT! scale:FLOAT unidirectional=0""",
    (MICROSOFT, "QuickGelu"): "X -> Y | alpha=1.702",
    (MICROSOFT, "RotaryEmbedding"): """input position_ids cos_cache sin_cache -> output |
        interleaved:INT is_packed_batching:INT num_heads:INT rotary_embedding_dim:INT
        scale:FLOAT""",
    (MICROSOFT, "SkipLayerNormalization"): """input skip gamma beta? bias? ->
        output mean? inv_std_var? input_skip_bias_sum? | epsilon=1e-12""",
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): """input skip gamma bias? ->
        output mean? inv_std_var? input_skip_bias_sum? | epsilon=1e-12""",
}


def is_added(name: str, version: int, domain: str = "") -> bool:
    """Whether an operator is onnxruntime's own in version ``version`` of its domain."""
    return (domain, name) in SCHEMAS and version < _STANDARD.get(name, _NEVER)


_NEVER = 2**31


def schema_of(name: str, version: int, domain: str = "") -> defs.OpSchema:
    """The schema of an operator as it is in version ``version`` of its domain.

    Raises:
        onnx.defs.SchemaError: neither onnx nor redir has one.
    """
    if is_added(name, version, domain):
        return _made(domain, name)
    return defs.get_schema(name, version, domain)


@cache
def _made(domain: str, name: str) -> defs.OpSchema:
    inputs, outputs, attributes = re.split(r"->|\|", SCHEMAS[domain, name])
    return defs.OpSchema(
        name,
        domain,
        _VERSION,
        inputs=list(_parameters(inputs)),
        outputs=list(_parameters(outputs)),
        type_constraints=[("T", ["tensor(float)"], "")],
        attributes=[_attribute(text) for text in attributes.split()],
    )


def _parameters(names: str) -> Iterator[defs.OpSchema.FormalParameter]:
    options = defs.OpSchema.FormalParameterOption
    for name in names.split():
        option = options.Optional if name.endswith("?") else options.Single
        yield defs.OpSchema.FormalParameter(name.rstrip("?"), "T", param_option=option)


def _attribute(text: str) -> defs.OpSchema.Attribute:
    name, has_default, default = text.partition("=")
    if has_default:
        held = onnx.helper.make_attribute(name, literal_eval(default))
        return defs.OpSchema.Attribute(name, held)
    name, _, kind = text.partition(":")
    type_ = getattr(defs.OpSchema.AttrType, kind.rstrip("!"))
    return defs.OpSchema.Attribute(name, type_, required=kind.endswith("!"))
