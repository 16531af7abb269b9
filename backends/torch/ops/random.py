"""What random numbers become in PyTorch."""

from __future__ import annotations

from redir.backends.torch.emit.literals import real, torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.ops import protos


def _random_like(site: Site) -> Result:
    kind = (
        f", dtype={torch_dtype(protos.dtype_from(site.attr('dtype')))}"
        if site.attr("dtype")
        else ""
    )
    return _scaled(site, "{}_like(" + site.ref(0) + kind + ")")


def _random(site: Site) -> Result:
    dtype = torch_dtype(protos.dtype_from(site.attr("dtype", 1)))
    return _scaled(site, f"{{}}({tuple(site.attr('shape'))}, dtype={dtype}{site.device()})")


def _scaled(site: Site, template: str) -> str:
    if "Uniform" in site.node.op.name:
        low, high = site.attr("low", 0.0), site.attr("high", 1.0)
        found, scale, shift = template.format("torch.rand"), high - low, low
    else:
        found = template.format("torch.randn")
        scale, shift = site.attr("scale", 1.0), site.attr("mean", 0.0)
    found = found if scale == 1 else f"{found} * {real(scale)}"
    return found if shift == 0 else f"{found} + {real(shift)}"


def _bernoulli(site: Site) -> Result:
    return f"torch.bernoulli({site.ref(0)})"


TABLE: dict[str, Emit] = {
    "Bernoulli": _bernoulli,
    "RandomNormal": _random,
    "RandomNormalLike": _random_like,
    "RandomUniform": _random,
    "RandomUniformLike": _random_like,
}
