"""What convolutions become in PyTorch: layers where they can."""

from __future__ import annotations

from collections.abc import Sequence

from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.emit.text import STRIDE, number_mark
from redir.backends.torch.ops.quantised import exact, requantized, vector
from redir.backends.torch.ops.windows import Window, lined, padded, shortened, window_of


def _conv(site: Site) -> Result:
    window, groups = window_of(site, (site.shape(1) or ())[2:]), site.attr("group", 1)
    x, weight, bias = padded(site, window), site.array(1), site.has(2)
    if weight is None or not site.owned(1, 2):
        tail = f", {site.ref(2, weight=True)}" if bias else ""
        options = _options(window, groups)
        return f"F.conv{window.rank}d({x}, {site.ref(1, weight=True)}{tail}{options})"
    sizes = weight.shape[1] * groups, weight.shape[0]
    text = _conv_text(f"Conv{window.rank}d", sizes, window, groups, "" if bias else ", bias=False")
    return f"{site.layer(text, 'conv', {'weight': 1, 'bias': 2})}({x})"


def _options(window: Window, groups: int) -> str:
    """The arguments of a functional convolution that are not usual."""
    padding = window.begin if window.even else (0,)
    text = ""
    for name, numbers, usual in (
        ("stride", window.strides, 1),
        ("padding", padding, 0),
        ("dilation", window.dilations, 1),
    ):
        text += "" if set(numbers) == {usual} else f", {name}={shortened(numbers)}"
    return text + (f", groups={groups}" if groups != 1 else "")


def _conv_text(
    kind: str, sizes: tuple[int, int], window: Window, groups: int, more: str = ""
) -> str:
    """The call that makes a convolution; numbers that instances may differ in are marked."""
    parts = [
        number_mark("in_channels", sizes[0]),
        number_mark("out_channels", sizes[1]),
        number_mark("kernel_size", shortened(window.kernel)),
        f"stride={number_mark(STRIDE, shortened(window.strides))}",
    ]
    padding = shortened(window.begin) if window.even else "0"
    if padding != "0":
        parts.append(f"padding={number_mark('padding', padding)}")
    if set(window.dilations) != {1}:
        parts.append(f"dilation={number_mark('dilation', shortened(window.dilations))}")
    if groups != 1:
        parts.append(f"groups={number_mark('groups', groups)}")
    return f"nn.{kind}({', '.join(parts)}{more})"


def _conv_transpose(site: Site) -> Result:
    window, extra, crop = _transposed(site, _window_size(site))
    groups, bias, weight, x = site.attr("group", 1), site.has(2), site.array(1), site.ref(0)
    more = f", output_padding={shortened(extra)}" if any(extra) else ""
    if weight is None or not site.owned(1, 2):
        tail = f", {site.ref(2, weight=True)}" if bias else ""
        options = _options(window, groups) + more
        call = f"F.conv_transpose{window.rank}d"
        found = f"{call}({x}, {site.ref(1, weight=True)}{tail}{options})"
    else:
        sizes = weight.shape[0], weight.shape[1] * groups
        more += "" if bias else ", bias=False"
        text = _conv_text(f"ConvTranspose{window.rank}d", sizes, window, groups, more)
        found = f"{site.layer(text, 'deconv', {'weight': 1, 'bias': 2})}({x})"
    return f"F.pad({found}, {crop})" if crop else found


def _window_size(site: Site) -> tuple[int, ...]:
    """The size of the kernel of a transposed convolution."""
    return window_of(site, (site.shape(1) or ())[2:]).kernel


def _transposed(site: Site, kernel: Sequence[int]) -> tuple[Window, tuple[int, ...], str]:
    """The window, the padding of the output, and what is cropped from it afterwards."""
    rank, ones = len(kernel), (1,) * len(kernel)
    strides, dilations = tuple(site.attr("strides", ones)), tuple(site.attr("dilations", ones))
    extra = tuple(site.attr("output_padding", (0,) * rank))
    wanted, how = site.attr("output_shape"), site.attr("auto_pad", "NOTSET")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = list(site.attr("pads", (0,) * 2 * rank))
    pads = [0] * 2 * rank if how == "VALID" else pads
    if how.startswith("SAME") or wanted is not None:
        pads = _excess(site, [s + e for s, e in zip(spans, extra, strict=True)], strides, wanted)
    begin, end = pads[:rank], pads[rank:]
    low = tuple(max(0, min(p, q)) for p, q in zip(begin, end, strict=True))
    rest = [(p - m, q - m) for p, q, m in zip(begin, end, low, strict=True)]
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        rest = [(p, q - e) for (p, q), e in zip(rest, extra, strict=True)]
        extra = (0,) * rank
    window = Window(tuple(kernel), strides, dilations, low, low)
    crop = ", ".join(str(-n) for pair in reversed(rest) for n in pair)
    return window, extra, f"({crop})" if any(n for pair in rest for n in pair) else ""


def _excess(
    site: Site, spans: Sequence[int], strides: Sequence[int], wanted: Sequence[int] | None
) -> list[int]:
    """The pads that give the size asked for, or a multiple of the operand's."""
    begin, end = [], []
    for axis, (s, span) in enumerate(zip(strides, spans, strict=True)):
        total = span - s
        if wanted is not None:
            size = site.size(0, axis + 2)
            if size is None:
                raise site.refused("its output_shape needs a size that is open")
            total += size * s - wanted[len(wanted) - len(strides) + axis]
        upper = site.attr("auto_pad", "NOTSET") == "SAME_UPPER"
        small, large = total // 2, total - total // 2
        begin.append(small if upper else large)
        end.append(large if upper else small)
    return [*begin, *end]


def _conv_integer(site: Site) -> Result:
    return f"{_exact_conv(site, (0, 2), (1, 3))}.to(torch.int32)"


def _qlinear_conv(site: Site) -> Result:
    product, behind = _exact_conv(site, (0, 2), (3, 5)), site.rank(3) - 2
    if site.has(8):
        product = f"({product} + {site.ref(8)}{lined(behind)})"
    scales = (vector(site, 1, 0), vector(site, 4, behind), vector(site, 6, 0))
    return requantized(site, product, scales, 7)


def _exact_conv(site: Site, x: tuple[int, int], w: tuple[int, int]) -> str:
    """The sums of products of whole numbers, in float64."""
    window, groups = window_of(site, (site.shape(w[0]) or ())[2:]), site.attr("group", 1)
    operand, weight = exact(site, *x), exact(site, *w, window.rank + 1)
    if window.automatic:
        raise site.refused("auto_pad with an open size")
    if not window.even:
        operand = site.let(f"F.pad({operand}, {window.pads})")
    return f"F.conv{window.rank}d({operand}, {weight}{_options(window, groups)})"


TABLE: dict[str, Emit] = {
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "ConvTranspose": _conv_transpose,
    "QLinearConv": _qlinear_conv,
}
