"""What operators on images between their points become in PyTorch: resizing, grids."""

from __future__ import annotations

from collections.abc import Sequence

from redir.backends.torch.emit.literals import Int, Ints, Whole, bare, literal
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.ops.layout import dims_of

_MODES = {"nearest": "nearest", "linear": "linear", "cubic": "cubic", "bilinear": "linear"}


def _resize(site: Site) -> Result:
    if site.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise site.refused("keep_aspect_ratio_policy")
    mode = _MODES.get(site.attr("mode", "nearest"), "")
    old = site.version < 11  # noqa: PLR2004 - scales alone, from the corner
    how = "asymmetric" if old else site.attr("coordinate_transformation_mode", "half_pixel")
    if how in {"tf_crop_and_resize", "tf_half_pixel_for_nn", "half_pixel_symmetric"} or not mode:
        raise site.refused(f"mode {site.attr('mode')!r} with coordinates {how!r}")
    if site.kind().kind in "iu" and mode != "nearest":
        raise site.refused("it interpolates whole numbers")
    rank = site.rank()
    axes = [a % rank for a in site.attr("axes", range(rank))]
    scales, sizes = _scales(site, axes), _sizes(site, axes)
    if sizes is None and scales is None:
        return _resize_all(site, mode, how)
    short = _interpolated(site, mode, how, scales, sizes)
    if short:
        return short
    targets = {a: f"scale={literal(s)}" for a, s in (scales or {}).items()}
    targets = targets or {a: f"size={n}" for a, n in (sizes or {}).items()}
    return _axis_by_axis(site, _options(site, mode, how), targets)


def _resize_all(site: Site, mode: str, how: str) -> Result:
    """A resize by scales that are computed."""
    if len(site.attr("axes", range(site.rank()))) != site.rank():
        raise site.refused("its scales are computed, and are of some axes only")
    place = 1 if site.version < 11 else 2  # noqa: PLR2004
    call = f"{site.helper('resize_all')}({site.ref(0)}, {site.numbers(place)}"
    return f"{call}, {', '.join(_options(site, mode, how))})"


def _options(site: Site, mode: str, how: str) -> list[str]:
    """What the function that resizes an axis is told."""
    if site.attr("antialias", 0) or site.attr("exclude_outside", 0):
        raise site.refused("antialias or exclude_outside")
    options = [f'"{mode}"', f'"{how}"', f'"{_rounding(site)}"']
    cubic = site.real("cubic_coeff_a", -0.75)
    return [*options, cubic] if mode == "cubic" else options


def _scales(site: Site, axes: Sequence[int]) -> dict[int, float] | None:
    """The scale of each axis that has one other than 1."""
    place = {7: None, 9: 1, 10: 1}.get(site.version, 2)
    given = site.attr("scales")
    array = site.array(place) if given is None and place is not None else None
    if given is None and site.version == 1:
        given = (1.0, 1.0, site.attr("height_scale"), site.attr("width_scale"))
    numbers = given if given is not None else array.tolist() if array is not None else ()
    if not len(numbers):
        return None
    if len(numbers) != len(axes):
        raise site.refused(f"{len(numbers)} scales for {len(axes)} axes")
    return {a: float(s) for a, s in zip(axes, numbers, strict=True) if s != 1}


def _sizes(site: Site, axes: Sequence[int]) -> dict[int, Int] | None:
    """The size asked for of each axis that may change."""
    if site.version < 11 or not site.has(3):  # noqa: PLR2004
        return None
    known, x = site.ints(3), site.ref(0)
    if known is None:
        text = site.let(site.numbers(3))
        known = Ints(tuple(Whole(f"{text}[{k}]") for k in range(len(axes))))
    if len(known.items) != len(axes):
        raise site.refused(f"{len(known.items)} sizes for {len(axes)} axes")
    same = {a: {str(site.size(0, a)), f"{x}.shape[{a}]"} for a in axes}
    return {
        a: n
        for a, n in zip(axes, known.items, strict=True)
        if str(n) not in same[a]
        and not (len(axes) == site.rank() and a == 0 and n == site.size(0, 0))
    }


def _interpolated(
    site: Site,
    mode: str,
    how: str,
    scales: dict[int, float] | None,
    sizes: dict[int, Int] | None,
) -> str | None:
    """The call of F.interpolate that does the same, if there is one."""
    rank, changed = site.rank(), set(scales or {}) | set(sizes or {})
    axes = range(2, rank)
    floating = site.kind().kind not in "iub"
    if not floating or not changed or not changed <= set(axes) or rank not in (3, 4, 5):
        return None
    names = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear"}
    kind = {"nearest": _nearest(site, how, scales), "cubic": "bicubic" if rank == 4 else None}.get(  # noqa: PLR2004
        mode, names.get((mode, rank))
    )
    plain = site.attr("cubic_coeff_a", -0.75) == -0.75 and not site.attr("exclude_outside", 0)  # noqa: PLR2004
    corners = how == "align_corners"
    fits = mode == "nearest" or how in {"half_pixel", "align_corners"}
    if kind is None or not plain or not fits or site.attr("antialias", 0):
        return None
    if scales is not None:
        target = "scale_factor=" + _numbers([literal(scales.get(a, 1.0)) for a in axes])
    else:
        dims = dims_of(site)
        target = "size=" + _numbers([bare((sizes or {}).get(a, dims[a])) for a in axes])
    more = f", align_corners={corners}" if mode != "nearest" else ""
    call = f'{target}, mode="{kind}"{more})'
    layer = site.module(f"nn.Upsample({call}") if scales is not None else None
    return f"{layer}({site.ref(0)})" if layer else f"F.interpolate({site.ref(0)}, {call}"


def _numbers(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def _nearest(site: Site, how: str, scales: dict[int, float] | None) -> str | None:
    """The mode of F.interpolate that takes the same neighbours, if one does."""
    rounding = _rounding(site)
    if rounding == "simple":  # up to the next neighbour where it shrinks
        return "nearest" if scales is not None and min(scales.values()) >= 1 else None
    if how == "asymmetric" and rounding == "floor":
        return "nearest"
    twice = scales is not None and set(scales.values()) <= {2.0}
    if twice and (how, rounding) in _TWICE:
        return "nearest"
    return "nearest-exact" if (how, rounding) == ("half_pixel", "round_prefer_ceil") else None


def _rounding(site: Site) -> str:
    """Which neighbour it takes; before operator set 11 none was said, and onnxruntime's counts."""
    default = "simple" if site.version < 11 else "round_prefer_floor"  # noqa: PLR2004
    return str(site.attr("nearest_mode", default))


_TWICE = {
    ("asymmetric", "round_prefer_floor"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round_prefer_floor"),
    ("pytorch_half_pixel", "round_prefer_ceil"),
}


def _axis_by_axis(site: Site, options: Sequence[str], targets: dict[int, str]) -> Result:
    """One axis after the other, each by the weights that ONNX states."""
    x = site.ref(0)
    for axis, target in sorted(targets.items()):
        x = site.let(f"{site.helper('resize')}({x}, {axis}, {', '.join([*options, target])})")
    return [x] if targets else [site.value(0)]


def _grid_sample(site: Site) -> Result:
    mode = site.attr("mode", "linear")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    pads, corners = site.attr("padding_mode", "zeros"), bool(site.attr("align_corners", 0))
    how = f'mode="{mode}", padding_mode="{pads}", align_corners={corners}'
    return f"F.grid_sample({site.ref(0)}, {site.ref(1)}, {how})"


def _affine_grid(site: Site) -> Result:
    corners = bool(site.attr("align_corners", 0))
    return f"F.affine_grid({site.ref(0)}, {site.numbers(1)}, align_corners={corners})"


TABLE: dict[str, Emit] = {
    "AffineGrid": _affine_grid,
    "GridSample": _grid_sample,
    "Resize": _resize,
    "Upsample": _resize,
}
