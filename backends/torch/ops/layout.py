"""What the operators that move numbers about become in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from redir.backends.torch.emit.emitter import Emit, Result, Site
from redir.backends.torch.emit.literals import Int, Ints, Whole, bare, literal, torch_dtype
from redir.backends.torch.emit.text import number_mark
from redir.backends.torch.ops.reductions import product_of
from redir.ir import Node
from redir.ir.tensor import NO_DTYPE

_PARTS = 4  # no more are unpacked in one statement
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
        axes, steps = _constant(site, 3), _constant(site, 4)
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


def _constant(site: Site, place: int) -> Sequence[int] | None:
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


def _gather(site: Site) -> Result:
    axis, known = site.attr("axis", 0), site.ints(1)
    whole = site.ints(0)
    if whole is not None and whole.rank and known is not None and known.known is not None:
        size = len(whole.items)
        if not all(-size <= i < size for i in known.known):
            raise site.refused(f"an index is not one of {size}")
        return Ints(tuple(whole.items[i] for i in known.known), known.rank)
    if axis < 0:
        axis = site.axis(0)
    if _is_embedding(site, axis):
        return _embedding(site)
    x, before = site.ref(0, weight=_is_table(site)), ":, " * axis
    if known is not None and known.rank == 0:
        parts = _all_parts(site, axis)
        return site.unpacked(x if axis == 0 else f"{x}.unbind({axis})", parts) or (
            f"{x}[{before}{bare(known.items[0])}]"
        )
    if known is not None and known.known is not None:
        run = _run(known.known)
        return f"{x}[{before}{run}]" if run else f"{x}[{before}[{known}]]"
    return f"{x}[{before}{site.ref(1)}]"


def _run(numbers: tuple[int, ...]) -> str | None:
    """A slice that gives the same as a list of indices, one after the other."""
    if not numbers or numbers != tuple(range(numbers[0], numbers[0] + len(numbers))):
        return None
    return f"{numbers[0] or ''}:{numbers[-1] + 1}" if numbers[0] >= 0 else None


def _is_table(site: Site) -> bool:
    array = site.array(0)
    return array is not None and array.dtype.kind in "fV" and array.ndim == 2  # noqa: PLR2004


def _is_embedding(site: Site, axis: int) -> bool:
    name = site.scene.constants.get(site.value(0), (None, ""))[1]
    named = name.endswith(".weight") or "embedding" in name.lower()
    return axis == 0 and _is_table(site) and site.array(1) is None and named and site.owned(0)


def _embedding(site: Site) -> str:
    array = site.array(0)
    assert array is not None
    rows, width = array.shape
    layer = site.layer(
        f"nn.Embedding({rows}, {width})", "embedding", {"weight": (array, site.value(0))}
    )
    return f"{layer}({site.ref(1)})"


def _indices(site: Site, axis: int) -> str:
    """The indices of operand 1, which may be counted from the end."""
    array, size = site.array(1), site.size(0, axis)
    if array is not None and (array >= 0).all():
        return site.ref(1)
    x, y = site.ref(1), f"{site.ref(0)}.shape[{axis}]" if size is None else str(size)
    return f"torch.where({x} < 0, {x} + {y}, {x})"


def _gather_elements(site: Site) -> Result:
    axis = site.axis(0)
    return f"torch.gather({site.ref(0)}, {axis}, {_indices(site, axis)})"


def _gather_nd(site: Site) -> Result:
    batch = site.attr("batch_dims", 0)
    return f"{site.helper('gather_nd')}({site.ref(0)}, {site.ref(1)}, {batch})"


def _all_parts(site: Site, axis: int) -> list[Node]:
    """What reads the operand, if each takes one part along an axis, and together they take all."""
    count, nodes = site.size(0, axis), site.scene.readers(site.value(0))
    if count is None or not 1 < count <= _PARTS or len(nodes) != count:
        return []
    sites = [Site(site.scene, node) for node in nodes]
    same = all(n.op == site.node.op and n.attrs == site.node.attrs for n in nodes)
    taken = [s.ints(1) for s in sites] if same else []
    places = {k.items[0]: s.node for k, s in zip(taken, sites, strict=False) if k and not k.rank}
    return [places[k] for k in range(count)] if places.keys() == set(range(count)) else []


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(site: Site) -> Result:
    axis, how = site.axis(0), site.attr("reduction", "none")
    start = f"{site.ref(0)}.scatter"
    operands = f"{axis}, {_indices(site, axis)}, {site.ref(2)}"
    return (
        f"{start}({operands})" if how == "none" else f'{start}_reduce({operands}, "{_REDUCE[how]}")'
    )


def _scatter_nd(site: Site) -> Result:
    how = site.attr("reduction", "none")
    if how not in ("none", "add"):
        raise site.refused(f"reduction {how!r}")
    more = ", accumulate=True" if how == "add" else ""
    operands = ", ".join(site.ref(k) for k in range(3))
    return f"{site.helper('scatter_nd')}({operands}{more})"


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


def _one_hot(site: Site) -> Result:
    depth, axis = site.number(1), site.attr("axis", -1)
    ids = site.ref(0)
    values = site.array(2)
    hot = site.let(f"{site.helper('one_hot')}({ids}, {depth}, {axis})")
    if values is None:
        return f"torch.where({hot}, {site.ref(2)}[1], {site.ref(2)}[0])"
    off, on = (literal(n) for n in values.reshape(-1))
    kind = torch_dtype(values.dtype)
    if (float(off), float(on)) == (0, 1):
        return f"{hot}.to({kind})"
    return f"torch.where({hot}, {on}, {off}).to({kind})"


# Pads


def _pad(site: Site) -> Result:
    mode, rank = site.attr("mode", "constant"), site.rank()
    pads = _pads(site, rank)
    if pads is None and mode == "constant":
        axes = f", {site.numbers(3)}" if site.has(3) else ""
        return f"{site.helper('pad')}({site.ref(0)}, {site.numbers(1)}, {_fill(site)}{axes})"
    if pads is None:
        return _pad_all(site, mode, rank)
    if not any(pads):
        return site.value(0)
    if mode == "constant":
        return f"F.pad({site.ref(0)}, {_reversed(pads, rank)}{_value(site)})"
    x = site.ref(0)
    for axis in range(rank):
        if pads[axis] or pads[axis + rank]:
            call = f"{site.helper('pad_axis')}({x}, {axis}, {pads[axis]}, {pads[axis + rank]}"
            x = site.let(f'{call}, "{mode}")')
    return [x]


def _pads(site: Site, rank: int) -> list[int] | None:
    """The pads before and behind each axis, if they are constant."""
    given = site.attr("pads", site.attr("paddings"))
    if given is None:
        known = site.ints(1)
        given = known.known if known is not None else None
    if given is None:
        return None
    if not site.has(3):
        return list(given)
    axes, half = _constant(site, 3) or (), len(given) // 2
    pads = [0] * 2 * rank
    for place, axis in enumerate(axes):
        pads[axis % rank], pads[axis % rank + rank] = given[place], given[place + half]
    return pads


def _pad_all(site: Site, mode: str, rank: int) -> Result:
    """Pads that are computed: of each axis in turn."""
    if site.has(3):
        raise site.refused("its pads are computed, and are of some axes only")
    x, known = site.ref(0), site.ints(1)
    pads = [str(i) for i in known.items] if known is not None else None
    if pads is None:
        held = site.let(site.numbers(1))
        pads = [f"{held}[{k}]" for k in range(2 * rank)]
    for axis in range(rank):
        if pads[axis] != "0" or pads[axis + rank] != "0":
            call = f"{site.helper('pad_axis')}({x}, {axis}, {pads[axis]}, {pads[axis + rank]}"
            x = site.let(f'{call}, "{mode}")')
    return [x]


def _reversed(pads: list[int], rank: int) -> str:
    """The pads as F.pad takes them: of the last axis first, and of no more axes than needed."""
    pairs = [(pads[k], pads[k + rank]) for k in range(rank - 1, -1, -1)]
    while pairs[-1] == (0, 0):
        pairs.pop()
    return f"({', '.join(number_mark('padding', n) for pair in pairs for n in pair)})"


def _fill(site: Site) -> str:
    if site.version < 11:  # noqa: PLR2004 - an attribute
        return site.real("value", 0.0)
    return site.number(2) if site.has(2) else "0"


def _value(site: Site) -> str:
    text = _fill(site)
    return "" if text in {"0", "0.0", "False"} else f", value={text}"


# Sizes of images


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
    return short or _axis_by_axis(site, mode, how, scales, sizes)


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
    layer = _upsample(site, target, kind, more)
    return (
        f"{layer}({site.ref(0)})"
        if layer
        else (f'F.interpolate({site.ref(0)}, {target}, mode="{kind}"{more})')
    )


def _upsample(site: Site, target: str, kind: str, more: str) -> str | None:
    fixed = target.startswith("scale_factor")
    return site.module(f'nn.Upsample({target}, mode="{kind}"{more})') if fixed else None


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


def _axis_by_axis(
    site: Site,
    mode: str,
    how: str,
    scales: dict[int, float] | None,
    sizes: dict[int, Int] | None,
) -> Result:
    """One axis after the other, each by the weights that ONNX states."""
    x, options = site.ref(0), _options(site, mode, how)
    for axis in sorted({*(scales or {}), *(sizes or {})}):
        target = (
            f"scale={literal(scales[axis])}"
            if scales is not None
            else f"size={(sizes or {})[axis]}"
        )
        call = f"{site.helper('resize')}({x}, {axis}, {', '.join(options)}, {target})"
        x = site.let(call)
    return [x] if x != site.ref(0) else [site.value(0)]


def _grid_sample(site: Site) -> Result:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(
        site.attr("mode", "linear"), site.attr("mode")
    )
    mode = "bilinear" if mode is None else mode
    pads, corners = site.attr("padding_mode", "zeros"), bool(site.attr("align_corners", 0))
    how = f'mode="{mode}", padding_mode="{pads}", align_corners={corners}'
    return f"F.grid_sample({site.ref(0)}, {site.ref(1)}, {how})"


def _affine_grid(site: Site) -> Result:
    corners = bool(site.attr("align_corners", 0))
    return f"F.affine_grid({site.ref(0)}, {site.numbers(1)}, align_corners={corners})"


def _compress(site: Site) -> Result:
    where = f"torch.nonzero({site.ref(1)})[:, 0]"
    if site.attr("axis") is None:
        return f"{site.ref(0)}.flatten()[{where}]"
    return f"{site.ref(0)}.index_select({site.axis(0)}, {where})"


TABLE: dict[str, Emit] = {
    "AffineGrid": _affine_grid,
    "Compress": _compress,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "GridSample": _grid_sample,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
