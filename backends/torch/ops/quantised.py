"""What quantised arithmetic becomes in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from redir.backends.torch.emit.literals import literal, torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.errors import Unsupported


def _behind(site: Site) -> int:
    """How many axes of operand 0 lie behind the one that its scales are of."""
    if site.attr("block_size", 0):
        raise site.refused("it scales blocks of elements")
    return site.rank() - site.axis(1) - 1 if site.rank() else 0


def _quantize(site: Site) -> Result:
    behind = _behind(site)
    dtype = site.dtype(2) if site.has(2) else np.dtype(np.uint8)
    zero = vector(site, 2, behind) if site.has(2) else "0"
    return _stored(site, f"{site.ref(0)} / {vector(site, 1, behind)}", zero, dtype)


def _stored(site: Site, text: str, zero: str, dtype: np.dtype[Any]) -> str:
    """Numbers rounded to the nearest that ``dtype`` holds, ties to even."""
    try:
        kind = torch_dtype(dtype)
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    except (Unsupported, ValueError):
        raise site.refused(f"it gives {dtype.name}") from None
    shifted = f"torch.round({text})" if zero == "0" else f"torch.round({text}) + {zero}"
    return f"torch.clamp({shifted}, {low}, {high}).to({kind})"


def _dequantize(site: Site) -> Result:
    behind = _behind(site)
    scale = vector(site, 1, behind)
    kind = torch_dtype(site.dtype(1))
    if not site.has(2):
        return f"{site.ref(0)}.to({kind}) * {scale}"
    zero = vector(site, 2, behind)
    return f"({site.ref(0)}.to({kind}) - {zero}) * {scale}"


def _dynamic_quantize(site: Site) -> Result:
    return site.lets(f"{site.helper('dynamic_quantize')}({site.ref(0)})", 3)


def exact(site: Site, place: int, zero: int, behind: int = 0) -> str:
    """A quantised operand less its zero point, in float64, where sums of products are exact."""
    text = f"{site.ref(place)}.to(torch.float64)"
    if not site.has(zero):
        return text
    array = site.array(zero)
    if array is not None and not np.any(array):
        return text
    return f"({text} - {vector(site, zero, behind)})"


def vector(site: Site, place: int, behind: int) -> str:
    """One number, or one for each channel with ``behind`` axes behind it."""
    array = site.array(place)
    if array is not None and array.size == 1:
        return literal(array.reshape(-1)[0])
    text = site.ref(place)
    many = site.rank(place) == 1 and site.size(place, 0) != 1
    return f"{text}[{', '.join([':', *['None'] * behind])}]" if many and behind else text


def requantized(site: Site, text: str, scales: tuple[str, str, str], zero: int) -> str:
    """Sums of products, in the scale of the result."""
    a, b, c = scales
    total = site.let(f"{text}.to(torch.float32)")
    scale = site.let(f"{a} * {b} / {c}")
    return _stored(site, f"{total} * {scale}", vector(site, zero, 0), site.dtype(zero))


def _qlinear_matmul(site: Site) -> Result:
    product = f"({exact(site, 0, 2, 1)} @ {exact(site, 3, 5)})"
    scales = (vector(site, 1, 1), vector(site, 4, 0), vector(site, 6, 0))
    return requantized(site, product, scales, 7)


def _qlinear_add(site: Site) -> Result:
    zeros = [vector(site, k, 0) if site.has(k) else "0" for k in (2, 5, 7)]
    parts = [
        f"({site.ref(k)}.to(torch.float32) - {zero}) * {vector(site, k + 1, 0)}"
        for k, zero in zip((0, 3), zeros, strict=False)
    ]
    total = f"({' + '.join(parts)}) / {vector(site, 6, 0)}"
    return _stored(site, total, zeros[2], site.dtype(0))


TABLE: dict[str, Emit] = {
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "MatMulInteger": lambda site: f"({exact(site, 0, 2, 1)} @ {exact(site, 1, 3)}).to(torch.int32)",
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
    "com.microsoft.QLinearAdd": _qlinear_add,
}
