"""What operators that reduce, order or cut along axes become in PyTorch."""

from __future__ import annotations

from redir.backends.torch.emit.literals import Int, Ints, torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.ops.arithmetic import one_whole
from redir.backends.torch.ops.functions import kept


def axes_of(site: Site, since: int) -> list[int] | None:
    """The axes of a reduction, an attribute or an operand; all of them if none are given.

    None where nothing is to be reduced.
    """
    given = site.attr("axes")
    if given is None and site.version >= since and site.has(1):
        known = site.ints(1)
        if known is None or known.known is None:
            raise site.refused("its axes are not constant")
        given = known.known
    if not given:
        return None if site.attr("noop_with_empty_axes", 0) else list(range(site.rank()))
    return sorted(a % site.rank() if a < 0 else a for a in given)


def _reduction(template: str, since: int = 18, wide: str = "") -> Emit:
    """``template`` has the operand, the axes and keepdim; ``wide`` what whole numbers need."""

    def emit(site: Site) -> Result:
        axes = axes_of(site, since)
        if axes is None:
            return _unreduced(site)
        keep = ", keepdim=True" if site.attr("keepdims", 1) else ""
        whole = site.kind().kind in "iu"
        kind = f", dtype={torch_dtype(site.dtype())}" if whole and wide else ""
        dims = str(axes[0]) if len(axes) == 1 else f"({', '.join(map(str, axes))})"
        return template.format(x=site.ref(0), axes=dims, keep=keep, kind=kind)

    return emit


def _logarithmic(template: str) -> Emit:
    """A reduction that whole numbers go through as floating-point ones."""

    def emit(site: Site) -> Result:
        whole = "{x}.to(torch.float64)" if site.kind().kind in "iu" else "{x}"
        found = _reduction(template.replace("{x}", whole))(site)
        return kept(site, found) if isinstance(found, str) else found

    return emit


def _unreduced(site: Site) -> Result:
    x = site.ref(0)
    forms = {
        "ReduceL1": f"torch.abs({x})",
        "ReduceL2": f"torch.abs({x})",
        "ReduceLogSum": f"torch.log({x})",
        "ReduceSumSquare": f"{x} * {x}",
    }
    return forms.get(site.node.op.name, site.value(0))


def _reduce_mean(site: Site) -> Result:
    """Whole numbers are rounded towards 0."""
    axes = axes_of(site, 18)
    if axes is None or site.kind().kind not in "iu":
        return _reduction("{x}.mean({axes}{keep})")(site)
    x, keep = site.ref(0), ", keepdim=True" if site.attr("keepdims", 1) else ""
    total = f"{x}.sum({tuple(axes)}{keep})"
    count = " * ".join(f"{x}.shape[{a}]" for a in axes) or "1"
    kind = torch_dtype(site.dtype())
    return f'torch.div({total}, {count}, rounding_mode="trunc").to({kind})'


def _reduce_prod(site: Site) -> Result:
    known = site.ints(0)
    if known is not None and known.rank and site.rank() == 1:
        return Ints((product_of(known.items),), int(bool(site.attr("keepdims", 1))))
    axes = axes_of(site, 18)
    if axes is None:
        return site.value(0)
    keep = ", keepdim=True" if site.attr("keepdims", 1) else ""
    whole = site.kind().kind in "iu"
    kind = f", dtype={torch_dtype(site.dtype())}" if whole else ""
    found = site.ref(0)
    for axis in reversed(axes):
        found = f"{found}.prod({axis}{keep}{kind})"
    return found


def product_of(items: tuple[Int, ...]) -> Int:
    """The product of plain numbers."""
    found: Int = 1
    for item in items:
        product = one_whole("*", found, item)
        assert product is not None
        found = product
    return found


def _arg(function: str) -> Emit:
    def emit(site: Site) -> Result:
        axis, keep = site.axis(0), ", keepdim=True" if site.attr("keepdims", 1) else ""
        if not site.attr("select_last_index", 0):
            return f"{site.ref(0)}.{function}({axis}{keep})"
        x = site.ref(0)
        return f"{x}.shape[{axis}] - 1 - {x}.flip({axis}).{function}({axis}{keep})"

    return emit


def _cumsum(site: Site) -> Result:
    axis = site.number(1)
    x, kind = site.ref(0), f", dtype={torch_dtype(site.dtype())}"
    if site.attr("reverse", 0):
        x = site.let(f"{x}.flip({axis})")
    found = f"torch.cumsum({x}, {axis}{kind})"
    if site.attr("exclusive", 0):
        found = f"{found} - {x}"
    return f"({found}).flip({axis})" if site.attr("reverse", 0) else found


def _norm(site: Site) -> Result:
    x, p = site.ref(0), site.attr("p", 2)
    length = site.let(f"torch.linalg.vector_norm({x}, {p}, {site.axis(-1)}, keepdim=True)")
    return f"{x} / torch.where({length} == 0, 1.0, {length})"


def _mean_variance(site: Site) -> Result:
    axes = tuple(site.attr("axes", (0, 2, 3)))
    x = site.let(f"{site.ref(0)} - {site.ref(0)}.mean({axes}, keepdim=True)")
    return f"{x} / (torch.sqrt(({x} * {x}).mean({axes}, keepdim=True)) + 1e-9)"


def _top_k(site: Site) -> Result:
    count = str(site.attr("k")) if site.attr("k") is not None else site.number(1)
    largest = bool(site.attr("largest", 1))
    call = f"{site.helper('top_k')}({site.ref(0)}, {count}, {site.axis(-1)}, largest={largest})"
    return site.lets(call, 2)


def _trilu(site: Site) -> Result:
    function = "triu" if site.attr("upper", 1) else "tril"
    diagonal = f", {site.number(1)}" if site.has(1) else ""
    return f"torch.{function}({site.ref(0)}{diagonal})"


TABLE: dict[str, Emit] = {
    "ArgMax": _arg("argmax"),
    "ArgMin": _arg("argmin"),
    "CumSum": _cumsum,
    "LpNormalization": _norm,
    "MeanVarianceNormalization": _mean_variance,
    "ReduceL1": _reduction("{x}.abs().sum({axes}{keep}{kind})", wide="yes"),
    "ReduceL2": _logarithmic("torch.linalg.vector_norm({x}, 2, {axes}{keep})"),
    "ReduceLogSum": _logarithmic("torch.log({x}.sum({axes}{keep}))"),
    "ReduceLogSumExp": _logarithmic("torch.logsumexp({x}, {axes}{keep})"),
    "ReduceMax": _reduction("{x}.amax({axes}{keep})"),
    "ReduceMean": _reduce_mean,
    "ReduceMin": _reduction("{x}.amin({axes}{keep})"),
    "ReduceProd": _reduce_prod,
    "ReduceSum": _reduction("{x}.sum({axes}{keep}{kind})", since=13, wide="yes"),
    "ReduceSumSquare": _reduction("({x} * {x}).sum({axes}{keep}{kind})", wide="yes"),
    "TopK": _top_k,
    "Trilu": _trilu,
}
