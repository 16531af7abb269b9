"""What pools become in PyTorch: layers where they can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.ops.functions import kept
from redir.backends.torch.ops.windows import IMAGE, Window, padded, shortened, window_of


def _max_pool(site: Site) -> Result:
    window, ceil = _pool_window(site), bool(site.attr("ceil_mode", 0))
    if site.wants(1):
        raise site.refused("its second output, the indices")
    if not window.even and ceil:
        raise site.refused("ceil_mode with uneven pads")
    dtype = site.kind()
    least = 'float("-inf")' if dtype.kind not in "iu" else str(np.iinfo(dtype).min)
    x = padded(site, window, f", value={least}")
    names, more = ("max_pool", "MaxPool"), ", ceil_mode=True" if ceil else ""
    if dtype.kind in "iu" and window.rank == 1:  # torch has none of bytes
        wide = site.let(f"{x}.to(torch.float64)")
        return kept(site, f"F.max_pool1d({wide}, {_pool_text(window)}{more})")
    return _pooled(site, names, window, x, more)


def _pool_window(site: Site) -> Window:
    """The window of a pool; pads wider than half of it are taken before."""
    window = window_of(site, site.attr("kernel_shape"))
    wide = any(2 * p > k for p, k in zip(window.begin, window.kernel, strict=True))
    return replace(window, before=wide)


def _pool_text(window: Window) -> str:
    """The arguments of a pool."""
    arguments = [shortened(window.kernel), f"stride={shortened(window.strides)}"]
    if window.even and any(window.begin):
        arguments.append(f"padding={shortened(window.begin)}")
    if set(window.dilations) != {1}:
        arguments.append(f"dilation={shortened(window.dilations)}")
    return ", ".join(arguments)


def _pooled(site: Site, names: tuple[str, str], window: Window, x: str, more: str) -> Result:
    text = _pool_text(window) + more
    layer = site.module(f"nn.{names[1]}{window.rank}d({text})") if window.even else None
    return f"{layer}({x})" if layer else f"F.{names[0]}{window.rank}d({x}, {text})"


def _average_pool(site: Site) -> Result:
    window, ceil = _pool_window(site), bool(site.attr("ceil_mode", 0))
    if set(window.dilations) != {1}:
        raise site.refused("dilations of an average")
    inside = not site.attr("count_include_pad", 0)
    if window.even:
        more = ", ceil_mode=True" if ceil else ""
        more += ", count_include_pad=False" if inside and (ceil or any(window.begin)) else ""
        return _pooled(site, ("avg_pool", "AvgPool"), window, site.ref(0), more)
    if ceil or (window.automatic and not inside):
        raise site.refused("ceil_mode or auto_pad with uneven pads")
    if inside and window.automatic:
        raise site.refused("auto_pad with an open size")
    if inside:  # that of the padded operand over that of padded ones
        sizes = f"{window.kernel}, {window.strides}, {window.pads}"
        return f"{site.helper('average_pool')}({site.ref(0)}, {sizes})"
    return _pooled(site, ("avg_pool", "AvgPool"), window, padded(site, window), "")


def _lp_pool(site: Site) -> Result:
    window, p = window_of(site, site.attr("kernel_shape")), site.attr("p", 2)
    if set(window.dilations) != {1} or site.attr("ceil_mode", 0):
        raise site.refused("dilations or ceil_mode of a norm")
    pads = any((*window.begin, *window.end))
    x = padded(site, replace(window, before=pads))
    sizes = f"{shortened(window.kernel)}, stride={shortened(window.strides)}"
    count = int(np.prod(window.kernel))
    return f"(F.avg_pool{window.rank}d({x}.abs() ** {p}, {sizes}) * {count}) ** (1 / {p})"


def _global(module: str, function: str) -> Emit:
    def emit(site: Site) -> Result:
        rank = site.rank()
        if rank < 3:  # noqa: PLR2004 - no axis behind the channels
            return site.value(0)
        fits = rank - 2 <= IMAGE
        layer = site.module(f"nn.{module}{rank - 2}d(1)") if fits else None
        dims = "2" if rank == 3 else f"({', '.join(map(str, range(2, rank)))})"  # noqa: PLR2004
        x = site.ref(0)
        return f"{layer}({x})" if layer else f"{x}.{function}({dims}, keepdim=True)"

    return emit


def _global_norm(site: Site) -> Result:
    dims = tuple(range(2, site.rank()))
    return f"torch.linalg.vector_norm({site.ref(0)}, {site.attr('p', 2)}, {dims}, keepdim=True)"


TABLE: dict[str, Emit] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global("AdaptiveAvgPool", "mean"),
    "GlobalLpPool": _global_norm,
    "GlobalMaxPool": _global("AdaptiveMaxPool", "amax"),
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
}
