"""Rules for attention."""

from __future__ import annotations

from redir.frontends.torch.aten.windows import MATRIX
from redir.frontends.torch.call import ABSENT, BOOL, RULES, Call, NotLowered, aten, first_only
from redir.ir import Value

_BATCH_HEADS = 4  # axes: batch, heads, places, channels


@aten("scaled_dot_product_attention")
def _attention(
    c: Call,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None = None,
    dropped: float = 0,
    causal: bool = False,
    scale: float | None = None,
    *_: object,
) -> Value:
    if dropped:
        raise c.refusal("it drops at random: call eval() on the module first")
    rank = c.rank(query)
    if rank > _BATCH_HEADS:
        raise NotLowered
    missing = range(_BATCH_HEADS - rank)
    parts = [c.unsqueeze(v, *missing) for v in (query, key, value)]
    last = ABSENT if mask is None else _wide_mask(c, mask, query)
    flags = {"is_causal": 1 if causal else None, "scale": None if scale is None else float(scale)}
    found = c.main("Attention", *parts, last, **flags)
    c.shapes[found] = (1,) * len(missing) + c.dims
    return c.squeeze(found, *missing)


def _wide_mask(c: Call, mask: Value, query: Value) -> Value:
    """The mask with a row for each query, which onnxruntime does not repeat."""
    if mask.type.dtype != BOOL:
        mask = c.cast(mask, query.type.dtype)
    rows, rank = c.shape(query)[-2], c.rank(mask)
    if c.shape(mask)[-2:-1] in {(rows,), ()} or c.shape(mask)[-2] == rows:
        return mask
    ones = [c.const([1] * (rank - 2))] if rank > MATRIX else []
    axis = c.rank(query) - 2
    shape = c.op("Concat", *ones, c.size_of(query, axis), c.const([1]), axis=0)
    return c.op("Expand", mask, shape)


RULES["_scaled_dot_product_flash_attention_for_cpu"] = first_only(
    lambda c, q, k, v, dropped=0, causal=False, mask=None, scale=None: _attention(
        c, q, k, v, mask, dropped, causal, scale
    )
)
