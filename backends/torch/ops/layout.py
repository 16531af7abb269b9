"""What operators that move axes, shapes and parts about become in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from redir.backends.torch.emit.literals import Int, Ints, Whole, bare
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.emit.text import number_mark
from redir.backends.torch.ops.reductions import product_of

_FAR = 2**31 - 1  # from here on, the end of a slice means the end of the axis


def dims_of(site: Site, place: int = 0) -> tuple[Int, ...]:
    """The sizes of an operand: the first axis, and those that are open, as it says at run time."""
    x = site.ref(place)
    sizes = [site.size(place, k) for k in range(site.rank(place))]
    return tuple(
        n if n is not None and k else Whole(f"{x}.shape[{k}]", positive=True)
        for k, n in enumerate(sizes)
    )


def _shape(site: Site) -> Result:
    array = site.array(0)
    if array is None and site.maybe_rank() is None:
        start, end = site.attr("start", 0) or "", site.attr("end", "")
        part = f"[{start}:{end}]" if start or end else ""
        return f"torch.tensor({site.ref(0)}.shape{part}{site.device()})"
    dims = tuple(array.shape) if array is not None else dims_of(site)
    return Ints(dims[slice(site.attr("start", 0), site.attr("end"))])


def _size(site: Site) -> Result:
    known = site.ints(0)
    if known is not None:
        return Ints((len(known.items),), 0)
    if site.maybe_rank() is None:
        return Ints((Whole(f"{site.ref(0)}.numel()", positive=True),), 0)
    return Ints((product_of(dims_of(site)),), 0)


def _reshape(site: Site) -> Result:
    known = site.ints(0)
    target = Ints(tuple(site.attr("shape"))) if site.version < 5 else site.ints(1)  # noqa: PLR2004
    if known is not None and target is not None and target.known in ((-1,), (1,), ()):
        return Ints(known.items, len(target.items))
    x = site.ref(0)
    if target is None:
        if site.attr("allowzero", 0):
            return f"{x}.reshape({site.numbers(1)})"
        return f"{site.helper('reshape')}({x}, {site.numbers(1)})"
    items = list(target.items)
    for axis, item in enumerate(items):
        if item == 0 and not site.attr("allowzero", 0):
            items[axis] = Whole(f"{x}.shape[{axis}]")
    if not items:
        return f"{x}.reshape(())"
    if len(items) == 2 and str(items[0]) == f"{x}.shape[0]" and items[1] == -1:  # noqa: PLR2004
        return _flat(site)
    whole = _one_block(site, items)
    return f"{x}.{whole}" if whole else f"{x}.reshape({Ints(tuple(items))})"


def _one_block(site: Site, items: list[Int]) -> str:
    """The call that makes several axes one, or one several, where a reshape does only that."""
    shape = site.shape(0) or ()
    more = len(items) - len(shape)
    if not more or min(len(items), len(shape)) < 2:  # noqa: PLR2004 - all or nothing of a tensor
        return ""
    old, new = max(1, 1 - more), max(1, 1 + more)  # how many axes of a block
    for start in range(min(len(items), len(shape)) - 1, -1, -1):
        sizes = items[start : start + new]
        if not _keeps_others(site, items, range(start, start + old), len(sizes)):
            continue
        if new == 1:
            return (
                f"flatten({start if start + old == len(shape) else f'{start}, {start + old - 1}'})"
            )
        if all(isinstance(n, int) and n != 1 for n in sizes):
            return f"unflatten({start}, ({', '.join(number_mark('size', n) for n in sizes)}))"
    return ""


def _keeps_others(site: Site, items: list[Int], block: range, count: int) -> bool:
    """Whether all axes but a block stay; ``items`` have ``count`` axes in its place."""
    x, shape, more = site.ref(0), site.shape(0) or (), count - len(block)
    sizes = [*(shape[k] for k in block), *items[block.start : block.start + count]]
    halves = sizes[: len(block)], sizes[len(block) :]
    known = all(isinstance(n, int) and n > 0 for n in sizes)
    same = known and prod(halves[0]) == prod(halves[1])  # then a -1 elsewhere is what was there
    return all(
        str(item) == f"{x}.shape[{axis}]" or item == shape[axis] or (item == -1 and same)
        for axis in range(len(shape))
        if axis not in block
        for item in [items[axis if axis < block.start else axis + more]]
    )


def _flat(site: Site) -> str:
    if site.maybe_rank() == 1:
        return f"{site.ref(0)}.reshape({site.ref(0)}.shape[0], -1)"
    layer = site.module("nn.Flatten()")
    return f"{layer}({site.ref(0)})" if layer else f"torch.flatten({site.ref(0)}, 1)"


def _flatten(site: Site) -> Result:
    axis, rank = site.axis(1), site.rank()
    if axis == 1 and rank > 1:
        return _flat(site)
    x = site.ref(0)
    if axis == 0:
        return f"{x}.reshape(1, -1)"
    if axis == rank:
        return f"{x}.reshape(-1, 1)"
    return f"{x}.flatten(0, {axis - 1}).flatten(1)"


def _transpose(site: Site) -> Result:
    perm = tuple(site.attr("perm") or range(site.rank() - 1, -1, -1))
    moved = [k for k, p in enumerate(perm) if k != p]
    if not moved:
        return site.value(0)
    if len(moved) == 2:  # noqa: PLR2004
        return f"{site.ref(0)}.transpose({moved[0]}, {moved[1]})"
    return f"{site.ref(0)}.permute({', '.join(map(str, perm))})"


def _axes(site: Site, more: int = 0) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, which makes ``more`` of them: an attribute or operand."""
    given = site.attr("axes")
    if given is None and site.has(1):
        known = site.ints(1)
        if known is None or known.known is None:
            raise site.refused("its axes are not constant")
        given = known.known
    if given is None or all(a >= 0 for a in given) or len(given) == 1:
        return None if given is None else sorted(given)
    return sorted(a % (site.rank() + more) for a in given)


def _squeeze(site: Site) -> Result:
    known = site.ints(0)
    if known is not None and known.rank == 1 and len(known.items) == 1:
        return Ints(known.items, 0)
    axes = _axes(site)
    if axes is None:
        return f"{site.ref(0)}.squeeze()"
    dims = str(axes[0]) if len(axes) == 1 else f"({', '.join(map(str, axes))})"
    return f"{site.ref(0)}.squeeze({dims})" if axes else site.value(0)


def _unsqueeze(site: Site) -> Result:
    given = site.attr("axes") or (known.known if (known := site.ints(1)) else None) or ()
    whole = site.ints(0)
    if whole is not None and whole.rank == 0 and len(given) == 1:
        return Ints(whole.items, 1)
    axes = _axes(site, len(given)) or []
    return site.ref(0) + "".join(f".unsqueeze({a})" for a in axes)


def _concat(site: Site) -> Result:
    count = len(site.node.inputs)
    parts = [site.ints(k) for k in range(count)]
    held = any(site.value(k) in site.scene.env for k in range(count))
    if held and all(p is not None and p.rank == 1 for p in parts):
        return Ints(tuple(i for p in parts if p is not None for i in p.items))
    if count == 1:
        return site.value(0)
    return f"torch.cat([{', '.join(site.ref(k) for k in range(count))}], {site.attr('axis', 1)})"


def _split(site: Site) -> Result:
    axis, sizes = site.attr("axis", 0), site.attr("split")
    x, count = site.ref(0), site.node.arity
    if sizes is None and site.has(1):
        text = site.numbers(1)
    elif sizes is not None:
        text = str(list(sizes))
    else:
        text = _even(site, axis, count)
    call = f"torch.split({x}, {text}, {axis})"
    return f"{call}[0]" if count == 1 else call


def _even(site: Site, axis: int, count: int) -> str:
    """Parts of one size; before operator set 18 the last is as long, later it may be shorter."""
    size = site.size(0, axis)
    if size is not None:
        part = -(-size // count)
        return str(part) if part * (count - 1) < size else str([*[part] * (count - 1), 0])
    return f"-(-{site.ref(0)}.shape[{axis}] // {count})"


def _slice(site: Site) -> Result:
    if site.version < 10:  # noqa: PLR2004 - the bounds were attributes
        starts, ends = (Ints(tuple(site.attr(k))) for k in ("starts", "ends"))
        axes: Sequence[int] | None = site.attr("axes")
        steps: Sequence[int] | None = None
    else:
        starts, ends = _bounds(site, 1), _bounds(site, 2)
        axes, steps = constant_numbers(site, 3), constant_numbers(site, 4)
    axes = list(range(len(starts.items))) if axes is None else axes
    steps = [1] * len(axes) if steps is None else steps
    return _cut(site, starts, ends, axes, steps)


def _bounds(site: Site, place: int) -> Ints:
    known = site.ints(place)
    if known is not None:
        return known
    count, x = site.size(place, 0), site.ref(place)
    if count is None:
        raise site.refused("how many axes it cuts is not known")
    return Ints(tuple(Whole(f"{x}[{k}]") for k in range(count)))


def constant_numbers(site: Site, place: int) -> Sequence[int] | None:
    """An operand of constant whole numbers, such as axes, if it is given."""
    if not site.has(place):
        return None
    known = site.ints(place)
    if known is None or known.known is None:
        raise site.refused("its axes or steps are not constant")
    return known.known


def _cut(site: Site, starts: Ints, ends: Ints, axes: Sequence[int], steps: Sequence[int]) -> Result:
    whole = site.ints(0)
    if whole is not None and whole.rank == 1 and starts.known and ends.known:
        return Ints(whole.items[slice(starts.known[0], min(ends.known[0], _FAR), steps[0])])
    if len({len(starts.items), len(ends.items), len(axes), len(steps)}) > 1:
        raise site.refused("its starts, ends, axes and steps are not equally many")
    parts: dict[int, str] = {}
    x = site.ref(0)
    for start, end, axis, step in zip(starts.items, ends.items, axes, steps, strict=True):
        place = axis + site.rank() if axis < 0 else axis
        if step < 0:
            bounds = f"{start}, {end}, {step}"
            x = site.let(f"{site.helper('backwards')}({x}, {place}, {bounds})")
            continue
        if start == 0 and step == 1 and isinstance(end, int) and end >= _FAR:
            continue
        left = "" if start == 0 else bare(start)
        right = "" if isinstance(end, int) and end >= _FAR else bare(end)
        parts[place] = f"{left}:{right}" + (f":{step}" if step != 1 else "")
    if not parts:
        return [x] if x != site.ref(0) else [site.value(0)]
    return f"{x}[{', '.join(parts.get(k, ':') for k in range(max(parts) + 1))}]"


def _expand(site: Site) -> Result:
    x, known = site.ref(0), site.ints(1)
    same = known is not None and known.known is not None and set(known.known) <= {1}
    if same and known is not None and len(known.items) <= site.rank():
        return site.value(0)
    grown = _grown(site, known) if known is not None else None
    if grown is not None:
        return f"{x}.expand({grown})"
    return f"{site.helper('expand')}({x}, {site.numbers(1)})"


def _grown(site: Site, known: Ints) -> Ints | None:
    """The sizes to expand to, -1 where an axis stays; none if both may be more than 1."""
    shape = site.shape(0)
    new = len(known.items) - len(shape) if shape is not None else -1
    if shape is None or new < 0:
        return None
    pairs = list(zip(shape, known.items[new:], strict=True))
    if not all(i in {1, d} or d == 1 for d, i in pairs):
        return None
    return Ints((*known.items[:new], *(-1 if i in {1, d} else i for d, i in pairs)))


def _tile(site: Site) -> Result:
    known = site.ints(1)
    if known is not None and known.known is not None and set(known.known) <= {1}:
        return site.value(0)
    return f"{site.ref(0)}.repeat({known if known is not None else site.numbers(1)})"


def _depth_to_space(site: Site) -> Result:
    b, x = site.attr("blocksize"), site.ref(0)
    if site.attr("mode", "DCR") == "CRD":
        layer = site.module(f"nn.PixelShuffle({b})")
        return f"{layer}({x})" if layer else f"F.pixel_shuffle({x}, {b})"
    parts = site.let(f"{x}.unflatten(1, ({b * b}, -1)).transpose(1, 2).flatten(1, 2)")
    return f"F.pixel_shuffle({parts}, {b})"


def _space_to_depth(site: Site) -> Result:
    b = site.attr("blocksize")
    if site.attr("mode", "DCR") == "CRD":
        layer = site.module(f"nn.PixelUnshuffle({b})")
        return f"{layer}({site.ref(0)})" if layer else f"F.pixel_unshuffle({site.ref(0)}, {b})"
    parts = site.let(f"F.pixel_unshuffle({site.ref(0)}, {b})")
    return f"{parts}.unflatten(1, (-1, {b * b})).transpose(1, 2).flatten(1, 2)"


TABLE: dict[str, Emit] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
