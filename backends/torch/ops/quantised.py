"""What quantised arithmetic becomes in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from redir.backends.torch.emit.literals import literal, torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.errors import Unsupported


def _along(site: Site, place: int, axis: int) -> str:
    """A scale or zero point, aligned with an axis of operand 0."""
    if site.rank(place) == 0 or (site.size(place, 0) == 1 and site.rank(place) == 1):
        array = site.array(place)
        return literal(array.reshape(-1)[0]) if array is not None else site.ref(place)
    behind = site.rank(0) - axis - 1
    text = site.ref(place)
    return f"{text}[{', '.join([':', *['None'] * behind])}]" if behind else text


def _blocked(site: Site) -> None:
    if site.attr("block_size", 0):
        raise site.refused("it scales blocks of elements")


def _quantize(site: Site) -> Result:
    _blocked(site)
    axis = site.axis(1) if site.rank() else 0
    dtype = site.dtype(2) if site.has(2) else np.dtype(np.uint8)
    zero = _along(site, 2, axis) if site.has(2) else "0"
    return _stored(site, f"{site.ref(0)} / {_along(site, 1, axis)}", zero, dtype)


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
    _blocked(site)
    axis = site.axis(1) if site.rank() else 0
    scale = _along(site, 1, axis)
    kind = torch_dtype(site.dtype(1))
    if not site.has(2):
        return f"{site.ref(0)}.to({kind}) * {scale}"
    zero = _along(site, 2, axis)
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


def _matmul_integer(site: Site) -> Result:
    return f"({exact(site, 0, 2, 1)} @ {exact(site, 1, 3)}).to(torch.int32)"


def _qlinear_add(site: Site) -> Result:
    parts = []
    for place in (0, 3):
        zero = vector(site, place + 2, 0) if site.has(place + 2) else "0"
        parts.append(
            f"({site.ref(place)}.to(torch.float32) - {zero}) * {vector(site, place + 1, 0)}"
        )
    total = f"({parts[0]} + {parts[1]}) / {vector(site, 6, 0)}"
    zero = vector(site, 7, 0) if site.has(7) else "0"
    return _stored(site, total, zero, site.dtype(0))


TABLE: dict[str, Emit] = {
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
    "com.microsoft.QLinearAdd": _qlinear_add,
}
