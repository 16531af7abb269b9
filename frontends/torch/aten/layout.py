"""Rules for what moves numbers: shapes, axes, parts and borders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redir.frontends.torch.call import (
    END,
    INT64,
    RULES,
    Call,
    NotLowered,
    Number,
    Size,
    Sym,
    aten,
    whole,
)
from redir.ir import Value

# Shapes


@aten("view.default", "reshape", "_unsafe_view")
def _view(c: Call, x: Value, sizes: Sequence[Size]) -> Value:
    return c.reshape(x, given=sizes, main=True)


@aten("unflatten.int")
def _unflatten(c: Call, x: Value, axis: int, sizes: Sequence[Size]) -> Value:
    axis = c.axis(x, axis)
    given: list[Size] = [-2] * c.rank(x)  # those that stay are copied
    return c.reshape(x, given=[*given[:axis], *sizes, *given[axis + 1 :]], main=True)


@aten("squeeze")
def _squeeze(c: Call, x: Value, axes: int | Sequence[int] | None = None) -> Value:
    named = range(c.rank(x)) if axes is None else [axes] if isinstance(axes, int) else axes
    places = sorted(c.axis(x, a) for a in named) if c.rank(x) else []
    single = [a for a in places if c.shape(x)[a] == 1]
    return c.main("Squeeze", x, c.const(single)) if single else x


@aten("transpose.int", "swapaxes", "swapdims")
def _transpose(c: Call, x: Value, a: int, b: int) -> Value:
    perm = list(range(c.rank(x)))
    if perm:
        perm[a], perm[b] = perm[b], perm[a]
    return c.transpose(x, perm, main=True)


@aten("t", "mT", "adjoint")
def _matrix_transpose(c: Call, x: Value) -> Value:
    return x if c.rank(x) < 2 else _transpose(c, x, -1, -2)  # noqa: PLR2004


@aten("movedim")
def _movedim(c: Call, x: Value, source: int | Sequence[int], to: int | Sequence[int]) -> Value:
    listed = ([p] if isinstance(p, int) else p for p in (source, to))
    old, new = ([c.axis(x, a) for a in axes] for axes in listed)
    left = iter(a for a in range(c.rank(x)) if a not in old)
    perm = [old[new.index(a)] if a in new else next(left) for a in range(c.rank(x))]
    return c.transpose(x, perm, main=True)


@aten("expand", "broadcast_to")
def _expand(c: Call, x: Value, sizes: Sequence[Size], *_: object) -> Value:
    if c.shape(x) == c.dims:
        return x
    old = (1,) * (len(c.dims) - c.rank(x)) + c.shape(x)
    same = [before == after for before, after in zip(old, c.dims, strict=True)]
    goal: list[Size] = [1 if s else n for s, n in zip(same, sizes, strict=True)]
    return c.main("Expand", x, c.sizes(goal))


@aten("broadcast_tensors")
def _broadcast_tensors(c: Call, many: Sequence[Value]) -> tuple[Value, ...]:
    shape = [whole(d) for d in c.dims]
    return tuple(x if c.shape(x) == c.dims else c.op("Expand", x, c.sizes(shape)) for x in many)


@aten("meshgrid")
def _meshgrid(c: Call, many: Sequence[Value], indexing: str = "ij") -> tuple[Value, ...]:
    places = list(range(len(many)))
    if indexing == "xy" and len(many) > 1:
        places[:2] = [1, 0]
    sizes: list[Value] = [c.size_of(x, 0) if c.rank(x) else c.const([1]) for x in many]
    ordered = [sizes[places.index(i)] for i in range(len(many))]
    shape = c.op("Concat", *ordered, axis=0)
    return tuple(
        c.op("Expand", _along(c, x, p, len(many)), shape) for x, p in zip(many, places, strict=True)
    )


def _along(c: Call, x: Value, axis: int, rank: int) -> Value:
    shape = [1] * rank
    shape[axis] = -1
    return c.op("Reshape", x, c.const(shape))


@aten("repeat", "tile")
def _repeat(c: Call, x: Value, times: Sequence[Size]) -> Value:
    rank = max(len(times), c.rank(x))
    x = c.unsqueeze(x, *range(rank - c.rank(x)))
    return c.main("Tile", x, c.sizes([1] * (rank - len(times)) + list(times)))


@aten("repeat_interleave.self_int")
def _repeat_interleave(
    c: Call, x: Value, times: Size, axis: int | None = None, *_: object
) -> Value:
    if axis is None:
        x, axis = c.op("Reshape", x, c.const([-1])), 0
        c.shapes[x] = (None,)
    axis = c.axis(x, axis)
    wide = c.unsqueeze(x, axis + 1)
    ones: list[Size] = [1] * c.rank(wide)
    copies = c.op("Expand", wide, c.sizes([*ones[: axis + 1], times, *ones[axis + 2 :]]))
    target = [0] * axis + [-1] + [d for d in c.shape(x)[axis + 1 :] if isinstance(d, int)]
    if len(target) != c.rank(x):
        raise NotLowered
    return c.main("Reshape", copies, c.const(target))


@aten("pixel_shuffle")
def _pixel_shuffle(c: Call, x: Value, factor: int) -> Value:
    if c.rank(x) != 4:  # noqa: PLR2004
        raise NotLowered
    return c.main("DepthToSpace", x, blocksize=factor, mode="CRD")


@aten("pixel_unshuffle")
def _pixel_unshuffle(c: Call, x: Value, factor: int) -> Value:
    *lead, height, width = c.shape(x)
    parts = c.reshape(x, (*lead, whole(height) // factor, factor, whole(width) // factor, factor))
    n = len(lead)
    return c.reshape(c.transpose(parts, (*range(n), n + 1, n + 3, n, n + 2)), main=True)


@aten("channel_shuffle")
def _channel_shuffle(c: Call, x: Value, groups: int) -> Value:
    batch, channels, *rest = c.shape(x)
    parts = c.reshape(x, (batch, groups, whole(channels) // groups, *rest))
    perm = (0, 2, 1, *range(3, 3 + len(rest)))
    return c.reshape(c.transpose(parts, perm), main=True)


# Parts


@aten("slice.Tensor")
def _slice(
    c: Call,
    x: Value,
    axis: int = 0,
    start: Size | None = None,
    end: Size | None = None,
    step: int = 1,
) -> Value:
    start, end = start or 0, END if end is None else end
    axis = c.axis(x, axis)
    size = c.shape(x)[axis]
    reaches = isinstance(end, int) and (end == END or (isinstance(size, int) and end >= size))
    if start == 0 and step == 1 and reaches:
        return x
    return _cut(c, x, axis, start, end, step)


def _cut(c: Call, x: Value, axis: int, start: Size, end: Size, step: int = 1) -> Value:
    places = [c.sizes([start]), c.sizes([end]), c.const([axis])]
    return c.main("Slice", x, *places, *([c.const([step])] if step != 1 else []))


@aten("narrow")
def _narrow(c: Call, x: Value, axis: int, start: Size, length: Size) -> Value:
    if isinstance(start, int) and isinstance(length, int):
        end = start + length
        return _cut(c, x, c.axis(x, axis), start, end if start >= 0 or end < 0 else END)
    ends = c.op("Add", c.sizes([start]), c.sizes([length]))
    return c.main("Slice", x, c.sizes([start]), ends, c.const([c.axis(x, axis)]))


@aten("cat", "concat", "concatenate")
def _cat(c: Call, many: Sequence[Value], axis: int = 0) -> Value:
    full = [x for x in many if c.shape(x) != (0,)]  # torch takes an empty vector with any other
    parts = [c.cast(x, c.dtype) for x in full or many[:1]]
    return parts[0] if len(parts) == 1 else c.main("Concat", *parts, axis=axis % c.rank(parts[0]))


@aten("stack")
def _stack(c: Call, many: Sequence[Value], axis: int = 0) -> Value:
    axis %= len(c.dims)
    return c.main("Concat", *(c.unsqueeze(c.cast(x, c.dtype), axis) for x in many), axis=axis)


@aten("split.Tensor", "split_with_sizes", "split.sizes", "chunk", "unsafe_split", "unsafe_chunk")
@aten("unsafe_split_with_sizes", "tensor_split.sections", "tensor_split.indices")
def _split(c: Call, x: Value, _: object, axis: int = 0) -> tuple[Value, ...]:
    """The parts of an axis that torch states the sizes of."""
    axis = c.axis(x, axis)
    if len(c.results) == 1:
        return (x,)
    sizes = [whole(t.shape[axis]) for t in c.results if t.shape is not None]
    return c.several("Split", len(sizes), x, c.sizes(sizes), axis=axis)


@aten("unbind")
def _unbind(c: Call, x: Value, axis: int = 0) -> tuple[Value, ...]:
    axis = c.axis(x, axis)
    return tuple(c.op("Gather", x, c.const(i), axis=axis) for i in range(len(c.results)))


@aten("roll")
def _roll(c: Call, x: Value, shifts: Sequence[Size], axes: Sequence[int] = ()) -> Value:
    if not axes:
        flat = c.op("Reshape", x, c.const([-1]))
        c.shapes[flat] = (None,)
        return c.reshape(_rolled(c, flat, 0, whole(shifts[0])), c.shape(x))
    for axis, shift in zip(axes, shifts, strict=True):
        x = _rolled(c, x, c.axis(x, axis), whole(shift))
    return x


def _rolled(c: Call, x: Value, axis: int, shift: int) -> Value:
    size = c.shape(x)[axis]
    shift = shift % size if isinstance(size, int) and size else shift
    if shift == 0:
        return x
    parts = c.cut(x, axis, -shift, END), c.cut(x, axis, 0, -shift)
    return c.like(x, c.op("Concat", *parts, axis=axis))


@aten("flip")
def _flip(c: Call, x: Value, axes: Sequence[int]) -> Value:
    if not axes:
        return x
    count = len(axes)
    starts, ends, steps = ([n] * count for n in (-1, -END, -1))
    places = (c.const([c.axis(x, a) for a in axes]), c.const(steps))
    return c.main("Slice", x, c.const(starts), c.const(ends), *places)


def _triangle(c: Call, x: Value, diagonal: int, upper: int) -> Value:
    """Onnxruntime has no kernel for small whole numbers or truth values: they go as int64."""
    plain = x.type.dtype if x.type.dtype.kind == "f" else INT64
    found = c.main("Trilu", c.cast(x, plain), c.const(diagonal), upper=upper)
    return c.cast(c.like(x, found), x.type.dtype)


@aten("diagonal")
def _diagonal(c: Call, x: Value, offset: int = 0, a: int = 0, b: int = 1) -> Value:
    a, b = c.axis(x, a), c.axis(x, b)
    rows = np.arange(whole(c.dims[-1])) + max(-offset, 0)
    x = c.transpose(x, [*(i for i in range(c.rank(x)) if i not in (a, b)), a, b])
    lead = c.rank(x) - 2
    x = c.transpose(x, [lead, lead + 1, *range(lead)])
    places = np.stack([rows, rows + offset], axis=1)
    found = c.op("GatherND", x, c.const(places))
    return found if lead == 0 else c.op("Transpose", found, perm=(*range(1, lead + 1), 0))


@aten("unfold")
def _unfold(c: Call, x: Value, axis: int, size: int, step: int) -> Value:
    axis = c.axis(x, axis)
    starts = np.arange(0, c.size(x, axis) - size + 1, step)
    taken = c.op("Gather", x, c.const(starts[:, None] + np.arange(size)), axis=axis)
    rest = [i for i in range(c.rank(x) + 1) if i != axis + 1]
    return c.op("Transpose", taken, perm=(*rest, axis + 1))


# Borders


def _bordered(c: Call, x: Value, amounts: Sequence[Size], *held: Value, **attrs: str) -> Value:
    """A border; torch starts from the last axis, and cuts where an amount is negative.

    ONNX says the amounts before every axis, and then those behind.
    """
    rank = c.rank(x)
    before: list[Size] = [0] * rank
    behind: list[Size] = [0] * rank
    for i in range(len(amounts) // 2):
        before[rank - 1 - i], behind[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    for axis in range(rank):
        start, end = (
            n if isinstance(n, int) and n < 0 else 0 for n in (before[axis], behind[axis])
        )
        x = c.cut(x, axis, -start, end or END) if start or end else x
    pads = [0 if isinstance(n, int) and n < 0 else n for n in (*before, *behind)]
    if not any(isinstance(n, Sym) or n for n in pads):
        return x
    return c.main("Pad", x, c.sizes(pads), *held, **attrs)


@aten("constant_pad_nd")
def _constant_pad(c: Call, x: Value, amounts: Sequence[Size], held: Number = 0) -> Value:
    return _bordered(c, x, amounts, *([c.const(held, c.dtype)] if held else []))


@aten("pad")
def _pad(
    c: Call, x: Value, amounts: Sequence[Size], mode: str = "constant", held: Number | None = None
) -> Value:
    if mode == "constant":
        return _constant_pad(c, x, amounts, held or 0)
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return _bordered(c, x, amounts, mode=modes[mode])


_SAME_ORDER = "flatten.using_ints ravel view_as reshape_as split_dim collapse_view".split()

RULES.update(dict.fromkeys(_SAME_ORDER, lambda c, x, *_: c.reshape(x, main=True)))
RULES |= {
    "expand_as": lambda c, x, other: (
        x if c.shape(x) == c.dims else c.main("Expand", x, c.shape_of(other))
    ),
    "numpy_T": lambda c, x: c.transpose(x, range(c.rank(x))[::-1], main=True),
    "permute": lambda c, x, axes: c.transpose(x, axes, main=True),
    "select.int": lambda c, x, axis, place: c.main(
        "Gather", x, c.operand(place, INT64), axis=c.axis(x, axis)
    ),
    "tril": lambda c, x, diagonal=0: _triangle(c, x, diagonal, upper=0),
    "triu": lambda c, x, diagonal=0: _triangle(c, x, diagonal, upper=1),
    "unsqueeze": lambda c, x, axis: c.main("Unsqueeze", x, c.const([axis % len(c.dims)])),
    "view_of": lambda _, x: x,
}
for _spatial in (1, 2, 3):
    RULES[f"reflection_pad{_spatial}d"] = lambda c, x, amounts: _pad(c, x, amounts, "reflect")
    RULES[f"replication_pad{_spatial}d"] = lambda c, x, amounts: _pad(c, x, amounts, "replicate")
for _name in "expand permute view unsqueeze squeeze transpose slice select split t".split():
    for _key in [k for k in RULES if k.partition(".")[0] == _name]:
        RULES[_key.replace(_name, f"{_name}_copy", 1)] = RULES[_key]
