"""What operators that onnxruntime adds to the standard become in PyTorch."""

from __future__ import annotations

from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.ops.attention import turned
from redir.ops.contrib_schemas import MICROSOFT

_TINY = 1e-12  # the epsilon of a norm of a sum that states none
_HIDDEN = -10000.0  # what is added to a score where a mask hides a key


def _gelu(how: str) -> Emit:
    def emit(site: Site) -> Result:
        bias = f" + {site.ref(1)}" if site.has(1) else ""
        return f"F.gelu({site.ref(0)}{bias}{how})"

    return emit


def _quick_gelu(site: Site) -> Result:
    return f"{site.ref(0)} * torch.sigmoid({site.real('alpha', 1.702)} * {site.ref(0)})"


def _matmul(site: Site) -> Result:
    a, b = (site.ref(k) + (".mT" if site.attr(f"trans{n}") else "") for k, n in enumerate("AB"))
    alpha = site.attr("alpha", 1.0)
    return f"{a} @ {b}" if alpha == 1 else f"{site.real('alpha')} * ({a} @ {b})"


def _added(site: Site, *places: int) -> str:
    """The sum of operands, as far as they are given."""
    return site.let(" + ".join(site.ref(k) for k in places if site.has(k)))


def _normed(site: Site, total: str, scale: int, bias: int | None) -> str:
    """A norm of a sum along its last axis, by its deviation, or by its mean square."""
    more = f", eps={site.real('epsilon', _TINY)})"
    call = f"({total}, {total}.shape[-1:], {site.ref(scale, weight=True)}"
    if bias is None:
        return f"F.rms_norm{call}{more}"
    return f"F.layer_norm{call}, {site.ref(bias, weight=True) if site.has(bias) else 'None'}{more}"


def _skip_norm(site: Site) -> Result:
    if site.wants(1) or site.wants(2):
        raise site.refused("its mean and deviation as outputs")
    simple = site.node.op.name.startswith("SkipSimplified")
    total = _added(site, 0, 1, 3 if simple else 4)
    y = _normed(site, total, 2, None if simple else 3)
    return [y, total, total, total][: site.node.arity]


def _embed_norm(site: Site) -> Result:
    ids, words, places = (site.ref(k) for k in (0, 2, 3))
    where = site.ref(8) if site.has(8) else f"torch.arange({ids}.shape[1]{site.device()})"
    kinds = f" + {site.ref(4)}[{site.ref(1) if site.has(1) else 0}]" if site.has(4) else ""
    total = site.let(f"{words}[{ids}] + {places}[{where}]{kinds}")
    counted = f"{site.ref(7)}.sum(1)" if site.has(7) else f"{ids}.new_zeros({ids}.shape[0])"
    return [_normed(site, total, 5, 6), f"{counted}.to(torch.int32)", total][: site.node.arity]


def _rotary(site: Site) -> Result:
    width, places = site.attr("rotary_embedding_dim", 0), site.ref(1)
    if site.rank(1) == 1:
        length = f"{site.ref(0)}.shape[{-2}]"
        places = site.let(f"({places} + torch.arange({length}{site.device()}))[None]")
    cos, sin = (f"{site.ref(k)}[{places}]" for k in (2, 3))
    if site.rank() > 3:  # noqa: PLR2004 - heads are an axis of their own
        return turned(site, "", cos, sin)
    heads = (site.attr("num_heads"), -1) if width else (-1, f"2 * {site.ref(2)}.shape[1]")
    return turned(site, f"({heads[0]}, {heads[1]})", cos, sin)


def _attention(site: Site) -> Result:
    if site.node.arity > 1 or site.has(4) or site.has(6):
        raise site.refused("keys and values of before")
    made = site.let(f"{site.ref(0)} @ {site.ref(1, weight=True)}" + _plus(site, 2))
    sizes = site.attr("qkv_hidden_sizes")
    cut = f"split({tuple(sizes)}, -1)" if sizes else "chunk(3, -1)"
    return _attended(site, site.lets(f"{made}.{cut}", 3), 3, 5)


def _plus(site: Site, place: int) -> str:
    return f" + {site.ref(place, weight=True)}" if site.has(place) else ""


def _multi_head(site: Site) -> Result:
    if site.node.arity > 1 or any(map(site.has, range(6, 10))):
        raise site.refused("keys and values of before")
    parts = [site.ref(k) for k in range(3)]
    if site.has(3):
        sizes = ", ".join(f"{x}.shape[2]" for x in parts)
        biases = site.lets(f"{site.ref(3, weight=True)}.split(({sizes}))", 3)
        parts = [f"({x} + {b})" for x, b in zip(parts, biases, strict=True)]
    return _attended(site, parts, 4, 5)


def _attended(site: Site, parts: list[str], mask: int, added: int) -> str:
    """Heads of queries, keys and values that lie side by side."""
    heads = f"unflatten(-1, ({site.attr('num_heads')}, -1)).transpose(1, 2)"
    q, k, v = (site.let(f"{part}.{heads}") for part in parts)
    terms = [site.ref(added)] if site.has(added) else []
    if site.has(mask):
        shown = f"{site.helper('seen')}({site.ref(mask)}, {parts[1]})"
        terms.append(f"(~{shown} * {site.real('mask_filter_value', _HIDDEN)}).to({q}.dtype)")
    causal = bool(site.attr("unidirectional", 0))
    if causal and terms:
        raise site.refused("a mask beside a causal one")
    if causal and not _as_long(site):
        raise site.refused("other places of keys than of causal queries")
    scale = f", scale={site.real('scale')}" if site.attr("scale") else ""
    options = f", attn_mask={' + '.join(terms)}" if terms else ", is_causal=True" * causal
    call = f"F.scaled_dot_product_attention({q}, {k}, {v}{options}{scale})"
    return f"{call}.transpose(1, 2).flatten(2)"


def _as_long(site: Site) -> bool:
    """Whether there are as many keys as queries."""
    if site.node.op.name == "Attention":
        return True
    queries, keys = ((site.value(k).type.shape or (None,) * 3)[1] for k in (0, 1))
    return queries is not None and queries == keys


TABLE: dict[str, Emit] = {
    f"{MICROSOFT}.{name}": emit
    for name, emit in {
        "Attention": _attention,
        "BiasGelu": _gelu(""),
        "EmbedLayerNormalization": _embed_norm,
        "FastGelu": _gelu(', approximate="tanh"'),
        "FusedMatMul": _matmul,
        "Gelu": _gelu(""),
        "MultiHeadAttention": _multi_head,
        "QuickGelu": _quick_gelu,
        "RotaryEmbedding": _rotary,
        "SkipLayerNormalization": _skip_norm,
        "SkipSimplifiedLayerNormalization": _skip_norm,
    }.items()
}
