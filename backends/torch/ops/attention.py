"""What attention becomes in PyTorch."""

from __future__ import annotations

from redir.backends.torch.emit.site import Emit, Result, Site


def _attention(site: Site) -> Result:
    if site.wants(3):
        raise site.refused("its scores as an output")
    flat = site.rank() == 3  # noqa: PLR2004 - (batch, tokens, heads times size)
    refs, kv = [site.ref(k) for k in range(3)], site.attr("kv_num_heads")
    counts = (site.attr("q_num_heads"), kv, kv)
    if flat:
        pairs = zip(refs, counts, strict=True)
        refs = [site.let(f"{r}.unflatten(-1, ({n}, -1)).transpose(1, 2)") for r, n in pairs]
    if site.has(4):
        past = zip((4, 5), refs[1:], strict=True)
        refs[1:] = [site.let(f"torch.cat([{site.ref(k)}, {r}], 2)") for k, r in past]
    options = _attention_options(site)
    if options is None:
        shared = counts[0] != kv if flat else site.size(0, 1) != site.size(1, 1)
        found = f"F.scaled_dot_product_attention({', '.join(refs)}{_usual(site, shared=shared)})"
    else:
        found = f"{site.helper('attention')}({', '.join(refs)}{options})"
    return [f"{found}.transpose(1, 2).flatten(2)" if flat else found, *refs[1:]][: site.node.arity]


def _usual(site: Site, *, shared: bool) -> str:
    """What torch's own attention is told."""
    scale = site.attr("scale")
    options = f", attn_mask={site.ref(3)}" if site.has(3) else ""
    options += ", is_causal=True" if site.attr("is_causal", 0) else ""
    options += f", scale={site.real('scale')}" if scale is not None else ""
    return options + (", enable_gqa=True" if shared else "")


def _attention_options(site: Site) -> str | None:
    """What a function of our own is told where torch's attention has no form of it."""
    causal, scale = site.attr("is_causal", 0), site.attr("scale")
    softcap = site.attr("softcap", 0.0)
    window = [site.attr(f"{side}_window_size", -1) for side in ("left", "right")]
    window[1] = 0 if causal else window[1]
    short = site.has(3) and site.size(3, -1) not in {site.size(1, -2), None}
    odd = softcap or short or site.has(6) or (causal and (site.has(3) or site.has(4)))
    if not odd and window in ([-1, -1], [-1, 0] if causal else []):
        return None
    shown = ", ".join("None" if n < 0 else str(n) for n in window)
    options = {
        "mask": site.ref(3) if site.has(3) else "",
        "scale": site.real("scale") if scale is not None else "",
        "softcap": site.real("softcap") if softcap else "",
        "window": "" if window == [-1, -1] else f"({shown})",
        "before": f"{site.ref(4)}.shape[2]" if site.has(4) else "",
        "ends": site.ref(6) if site.has(6) else "",
    }
    return "".join(f", {name}={text}" for name, text in options.items() if text)


def _rotary(site: Site) -> Result:
    cos, sin = (site.ref(k) for k in (1, 2))
    if site.has(3):
        cos, sin = (f"{cache}[{site.ref(3)}]" for cache in (cos, sin))
    heads = f"({site.attr('num_heads')}, -1)" if site.rank() == _FLAT else ""
    return turned(site, heads, cos, sin)


def turned(site: Site, heads: str, cos: str, sin: str) -> str:
    """A call that turns channels, of ``heads`` that lie side by side where these are given."""
    x, neighbours = site.ref(0), bool(site.attr("interleaved", 0))
    apart = f"{x}.unflatten(-1, {heads}).transpose(1, 2)" if heads else x
    found = f"{site.helper('rotary')}({apart}, {cos}, {sin}, neighbours={neighbours})"
    return f"{found}.transpose(1, 2).flatten(2)" if heads else found


_FLAT = 3  # axes: examples, places, channels

TABLE: dict[str, Emit] = {
    "RotaryEmbedding": _rotary,
    "Attention": _attention,
}
