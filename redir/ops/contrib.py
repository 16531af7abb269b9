"""The table of onnxruntime's own operators that redir knows, beside that of the standard.

A node that has an attribute which its entry does not understand is opaque, as is one whose operands
do not fit what is inferred here.
"""

from __future__ import annotations

from typing import Any

from redir.ir import Node, Op
from redir.ir.builtin import is_absent
from redir.ops import contrib_kernels as kernels
from redir.ops import contrib_links as links
from redir.ops import contrib_types as types
from redir.ops import mixing, traits, wants
from redir.ops.contrib_schemas import MICROSOFT
from redir.ops.links import first_operand
from redir.ops.multiply_adds import attention, dims, matmul
from redir.ops.table import entry


def _projected(node: Node) -> int:
    """Multiply-adds of the layer in an Attention, of its scores, and of what they weigh."""
    x, weights = node.inputs[:2]
    (batch, length, depth), total = dims(x), dims(weights)[-1]
    wide = dims(node.outputs[0])[-1]
    return batch * length * (depth * total + length * ((total - wide) // 2 + wide))


def _rows(node: Node, inputs: wants.Operands, wanted: Any) -> list[wants.Numbers]:
    """Numbers are places of tables; a mask is 0 or 1."""
    del node, wanted
    found = [wants.ANY] * len(inputs)
    for ids, table in ((0, 2), (1, 4), (8, 3)):
        if len(inputs) > ids and not is_absent(inputs[ids]) and inputs[table].type.shape:
            found[ids] = wants.places(inputs[table].type.size(0))
    if len(inputs) > 7:  # noqa: PLR2004 - the mask
        found[7] = wants.FLAG
    return found


def _mask(place: int) -> wants.Rule:
    """A mask of two or three axes is 0 or 1."""

    def rule(node: Node, inputs: wants.Operands, wanted: Any) -> list[wants.Numbers]:
        del node, wanted
        found = [wants.ANY] * len(inputs)
        if len(inputs) > place and (inputs[place].rank or 0) > 1:
            found[place] = wants.FLAG
        return found

    return rule


def _only_weighs(node: Node) -> bool:
    """Whether nothing is added to the values of a MultiHeadAttention, or stands beside them."""
    more = (v for place, v in enumerate(node.inputs) if place in _BESIDE)
    return node.arity == 1 and all(map(is_absent, more))


_BESIDE = (3, 6, 7, 8, 9)  # operands: biases, and what caches hold
_SMOOTH = traits.always("elementwise", "keeps_zero")

ENTRIES: dict[tuple[str, str], Op] = {
    ("", "LayerNormalization"): entry(
        types.normed, links=mixing.layer_norm, attributes="axis epsilon stash_type"
    ),
    ("", "SimplifiedLayerNormalization"): entry(
        types.normed,
        kernels.rms_norm,
        links=links.rms_norm,
        narrow=mixing.narrow_rms_norm,
        has=traits.always("keeps_zero"),
        attributes="axis epsilon stash_type",
    ),
    **dict.fromkeys(
        ((MICROSOFT, "BiasGelu"), (MICROSOFT, "FastGelu"), (MICROSOFT, "Gelu")),
        entry(
            types.as_first,
            kernels.biased_gelu,
            links=links.biased,
            has=_SMOOTH,
            terms=traits.every,
        ),
    ),
    (MICROSOFT, "QuickGelu"): entry(
        types.same,
        kernels.quick_gelu,
        links=first_operand,
        has=_SMOOTH,
        attributes="alpha",
    ),
    (MICROSOFT, "FusedMatMul"): entry(
        types.fused_matmul,
        kernels.fused_matmul,
        links=links.fused_matmul,
        has=traits.always("linear", "keeps_zero", "grows"),
        terms=traits.product,
        multiply_adds=matmul,
        attributes="alpha transA transB",
    ),
    (MICROSOFT, "SkipLayerNormalization"): entry(
        types.skip_norm, kernels.skip_norm, links=links.skip_norm, attributes="epsilon"
    ),
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): entry(
        types.skip_norm,
        kernels.skip_norm,
        links=links.skip_rms_norm,
        narrow=links.narrow_skip_rms_norm,
        has=traits.always("keeps_zero"),
        terms=traits.terms((0,), (1,), (3,)),
        attributes="epsilon",
    ),
    (MICROSOFT, "EmbedLayerNormalization"): entry(
        types.embed_norm, kernels.embed_norm, wants=_rows, attributes="epsilon mask_index_type"
    ),
    (MICROSOFT, "RotaryEmbedding"): entry(
        types.same,
        kernels.rotary,
        links=links.rotary,
        has=traits.always("linear", "keeps_zero", "exact_on_whole_numbers", "grows"),
        attributes="interleaved num_heads rotary_embedding_dim",
    ),
    (MICROSOFT, "Attention"): entry(
        types.attention,
        kernels.attention,
        links=links.attention,
        narrow=links.narrow_attention,
        wants=_mask(3),
        multiply_adds=_projected,
        attributes="mask_filter_value num_heads qkv_hidden_sizes scale unidirectional",
    ),
    (MICROSOFT, "MultiHeadAttention"): entry(
        types.multi_head,
        kernels.multi_head,
        links=links.multi_head,
        narrow=links.narrow_heads,
        wants=_mask(4),
        has=traits.having({"linear": _only_weighs}),
        terms=traits.terms((2,)),
        multiply_adds=attention,
        attributes="mask_filter_value num_heads scale unidirectional",
    ),
    (MICROSOFT, "GroupQueryAttention"): entry(
        types.grouped_query,
        kernels.grouped_query,
        links=links.grouped_query,
        multiply_adds=attention,
        attributes="do_rotary kv_num_heads local_window_size num_heads rotary_interleaved scale "
        "softcap",
    ),
}
