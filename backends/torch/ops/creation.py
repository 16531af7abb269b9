"""What makes tensors of no other becomes in PyTorch: ranges, one number many times, random ones."""

from __future__ import annotations

import numpy as np

from redir.backends.torch.emit.literals import Ints, literal, real, torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.ir.tensor import NO_DTYPE
from redir.ops import protos


def _constant_of_shape(site: Site) -> Result:
    held = site.attr("value")
    value = np.zeros(1, np.float32) if held is None else held.array
    known, number = site.ints(0), literal(value.reshape(-1)[0])
    if known is not None and len(known.items) == 1 and value.dtype == np.int64:
        count = known.items[0]
        if isinstance(count, int) and count <= 16:  # noqa: PLR2004 - few enough to write out
            return Ints((int(value.reshape(-1)[0]),) * count)
    kind = f"dtype={torch_dtype(value.dtype)}{site.device()}"
    return f"torch.full({site.numbers(0)}, {number}, {kind})"


def _range(site: Site) -> Result:
    first, last, step = (site.number(k) for k in range(3))
    more = f", {step}" if step != "1" else ""
    bounds = f"{first}, {last}{more}" if first != "0" or more else last
    whole = all(site.ints(k) for k in range(3)) and site.dtype(0) == np.int64
    kind = "" if whole else f", dtype={torch_dtype(site.dtype(0))}"
    return f"torch.arange({bounds}{kind}{site.device()})"


def _eye_like(site: Site) -> Result:
    from_ = f"{site.ref(0)}.shape"
    rows = f"torch.arange({from_}[0]{site.device()})[:, None]"
    columns = f"torch.arange({from_}[1]{site.device()})"
    dtype = site.node.outputs[0].type.dtype
    kind = torch_dtype(dtype if dtype != NO_DTYPE else np.dtype(np.float32))
    return f"({columns} - {rows} == {site.attr('k', 0)}).to({kind})"


def _random_like(site: Site) -> Result:
    code = site.attr("dtype")
    kind = f", dtype={torch_dtype(protos.dtype_from(code))}" if code else ""
    return _scaled(site, f"{{}}_like({site.ref(0)}{kind})")


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


TABLE: dict[str, Emit] = {
    "ConstantOfShape": _constant_of_shape,
    "EyeLike": _eye_like,
    "Range": _range,
}


RANDOM: dict[str, Emit] = {
    "Bernoulli": lambda site: f"torch.bernoulli({site.ref(0)})",
    "RandomNormal": _random,
    "RandomNormalLike": _random_like,
    "RandomUniform": _random,
    "RandomUniformLike": _random_like,
}
"""What is random, apart from the rest."""
