"""Operators that move channels: what they tie, and how they follow a narrower operand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from redir.ir import Kept, Link, Node, Port, Value
from redir.ops import schema
from redir.ops.core import Const, is_absent, tensor_of
from redir.ops.ties import aligned, along, axes_of, same_axes
from redir.tensor import NO_DTYPE, Dim, Shape, Tensor, TensorType, Type


def transpose(node: Node) -> Iterator[Link]:
    """Axis i of the result is axis perm[i] of the operand."""
    (x,), (y,) = node.inputs, node.outputs
    if x.rank is not None:
        perm: Sequence[int] = node.attrs.get("perm", tuple(range(x.rank))[::-1])
        for to, axis in enumerate(perm):
            yield from along(x, axis, y, to)


def concat(node: Node) -> Iterator[Link]:
    """Channels stand behind each other along one axis."""
    (y,) = node.outputs
    if y.rank is None:
        return
    axis = int(node.attrs.get("axis", 1)) % y.rank
    if any(x.rank != y.rank for x in node.inputs):
        return
    for other in (a for a in range(y.rank) if a != axis):
        yield from aligned(node.inputs, y, other)
    sizes = [x.type.size(axis) for x in node.inputs]
    known = [s for s in sizes if s is not None]
    if len(known) == len(sizes):
        for x, size, end in zip(node.inputs, known, np.cumsum(known), strict=True):
            yield Link((x, axis), (y, axis), np.arange(end - size, end))


def gather(node: Node) -> Iterator[Link]:
    """A Gather at constant places along one axis; the others stay."""
    x, indices, y = node.inputs[0], node.inputs[1], node.outputs[0]
    if x.rank is None or indices.rank is None:
        return
    axis = int(node.attrs.get("axis", 0)) % x.rank
    for other in (a for a in range(x.rank) if a != axis):
        yield from along(x, other, y, other if other < axis else other + indices.rank - 1)
    places, size = tensor_of(indices), x.type.size(axis)
    if places is None or size is None or places.array.ndim != 1:
        return
    if np.all((places.array >= -size) & (places.array < size)):
        yield Link((y, axis), (x, axis), places.array % size)


def narrow_gather(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Take the places that are left, as they are counted now."""
    x, y = node.inputs[0], node.outputs[0]
    axis = int(node.attrs.get("axis", 0)) % (x.rank or 1)
    places, size = tensor_of(node.inputs[1]), x.type.size(axis)
    if places is None or size is None or places.array.ndim != 1:
        return node.on(inputs)  # the axis is pinned
    if (x, axis) not in kept and (y, axis) not in kept:
        return node.on(inputs)
    wanted = (places.array % size)[kept.get((y, axis), np.arange(places.array.size))]
    now = np.searchsorted(kept.get((x, axis), np.arange(size)), wanted)
    return node.on((inputs[0], _like(node.inputs[1], now.tolist())))


def split(node: Node) -> Iterator[Link]:
    """The parts of an axis, one behind the other; the other axes stay."""
    x = node.inputs[0]
    if x.rank is None or any(y.rank != x.rank for y in node.outputs):
        return
    axis, start = int(node.attrs.get("axis", 0)) % x.rank, 0
    for y in node.outputs:
        yield from same_axes(x, y, (a for a in range(x.rank) if a != axis))
    sizes = [y.type.size(axis) for y in node.outputs]
    known = [s for s in sizes if s is not None]
    if len(known) < len(sizes) or sum(known) != x.type.size(axis):
        return
    for y, size in zip(node.outputs, known, strict=True):
        yield Link((y, axis), (x, axis), np.arange(start, start + size))
        start += size


def narrow_split(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """State the sizes of the parts where they changed."""
    x = node.inputs[0]
    axis = int(node.attrs.get("axis", 0)) % (x.rank or 1)
    if (x, axis) not in kept:
        return node.on(inputs)
    sizes = [_left(y, axis, kept) or 0 for y in node.outputs]
    if node.op.version < 13:  # noqa: PLR2004 - an attribute said the sizes
        return node.on(inputs[:1], split=tuple(sizes))
    attrs = {k: a for k, a in node.attrs.items() if k != "num_outputs"}
    stated = len(node.inputs) > 1 and not is_absent(node.inputs[1])
    new = Const(value=Tensor(np.array(sizes, np.int64)))
    parts = _like(node.inputs[1], sizes) if stated else new
    return replace(node, inputs=(inputs[0], parts), attrs=attrs)


@dataclass(frozen=True)
class _Cut:
    """What a Slice takes: starts and ends by axis, and the axes it steps over."""

    axes: list[int]
    starts: list[int]
    ends: list[int]
    steps: list[int]


def _cut(node: Node) -> _Cut | None:
    """The literals of a Slice, if they are constant."""
    rank = node.inputs[0].rank
    if rank is None:
        return None
    if "starts" in node.attrs:
        starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
        axes = node.attrs.get("axes", range(len(starts)))
        return _Cut([a % rank for a in axes], starts, ends, [1] * len(starts))
    given = [None if is_absent(v) else tensor_of(v) for v in node.inputs[1:]]
    if any(t is None and not is_absent(v) for t, v in zip(given, node.inputs[1:], strict=True)):
        return None
    starts, ends, *rest = ([] if t is None else t.array.tolist() for t in given)
    axes = (rest and rest[0]) or list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 and rest[1] else [1] * len(starts)
    return _Cut([a % rank for a in axes], starts, ends, steps)


def slice_(node: Node) -> Iterator[Link]:
    """The channels from a constant start to a constant end; axes that are not cut stay."""
    x, y, cut = node.inputs[0], node.outputs[0], _cut(node)
    if cut is None or x.rank is None or y.rank != x.rank:
        return
    yield from same_axes(x, y, (a for a in range(x.rank) if a not in cut.axes))
    for axis, start, end, step in zip(cut.axes, cut.starts, cut.ends, cut.steps, strict=True):
        size = x.type.size(axis)
        if step == 1 and size is not None:
            taken = np.arange(size)[start:end]
            if taken.size == y.type.size(axis) and taken.size:
                yield Link((y, axis), (x, axis), taken)


def narrow_slice(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Cut where the first channel that is left is now."""
    x, y, cut = node.inputs[0], node.outputs[0], _cut(node)
    assert cut is not None
    starts, ends = list(cut.starts), list(cut.ends)
    for place, axis in enumerate(cut.axes):
        left = kept.get((x, axis))
        size = x.type.size(axis)
        if left is not None and size is not None:
            first = int(np.arange(size)[starts[place] : ends[place]][0])
            starts[place] = int((left < first).sum())
            ends[place] = starts[place] + (_left(y, axis, kept) or 0)
    if "starts" in node.attrs:
        return node.on(inputs, starts=tuple(starts), ends=tuple(ends))
    if starts == cut.starts and ends == cut.ends:
        return node.on(inputs)
    cuts = (_like(node.inputs[1], starts), _like(node.inputs[2], ends))
    return node.on((inputs[0], *cuts, *inputs[3:]))


def resize(node: Node) -> Iterator[Link]:
    """An axis whose scale is the constant 1 stays as it is."""
    x, y = node.inputs[0], node.outputs[0]
    scales = scales_of(node)
    crops = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if crops:
        return
    if scales is not None and x.rank == len(scales) and not node.attrs.get("axes"):
        yield from same_axes(x, y, (a for a, scale in enumerate(scales) if scale == 1))


def scales_of(node: Node) -> Sequence[float] | None:
    """The scales of a Resize or Upsample, if it has constant ones."""
    if "scales" in node.attrs:
        stated: Sequence[float] = node.attrs["scales"]
        return stated
    place = 1 if len(node.inputs) == 2 else 2  # noqa: PLR2004 - Resize-11 put the region first
    if len(node.inputs) != place + 1 or is_absent(node.inputs[place]):
        return None
    scales = tensor_of(node.inputs[place])
    return None if scales is None else scales.array.tolist()


# Pad


def _pads(node: Node) -> list[int] | None:
    """The amounts, before every axis and then behind, if they are constant."""
    if "pads" in node.attrs:
        return list(node.attrs["pads"])
    given = tensor_of(node.inputs[1]) if len(node.inputs) > 1 else None
    some_axes = len(node.inputs) > 3 and not is_absent(node.inputs[3])  # noqa: PLR2004
    return None if given is None or some_axes else given.array.tolist()


def pad(node: Node) -> Iterator[Link]:
    """Channels move behind the border, whose channels are all the same constant."""
    x, y = node.inputs[0], node.outputs[0]
    pads = _pads(node)
    if pads is None or x.rank is None:
        return
    for axis, (before, behind) in enumerate(zip(pads[: x.rank], pads[x.rank :], strict=True)):
        if before == behind == 0:
            yield from along(x, axis, y, axis)
        elif node.attrs.get("mode", "constant") == "constant" and min(before, behind) >= 0:
            size = x.type.size(axis)
            if size is not None:
                yield Link((x, axis), (y, axis), np.arange(before, before + size))


def narrow_pad(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Shrink the border by the channels of it that are gone."""
    x, y = node.inputs[0], node.outputs[0]
    pads = _pads(node)
    assert pads is not None
    assert x.rank is not None
    for axis in range(x.rank):
        left = kept.get((y, axis))
        if left is not None:
            end = pads[axis] + (x.type.size(axis) or 0)
            pads[axis], pads[axis + x.rank] = (
                int((left < pads[axis]).sum()),
                int((left >= end).sum()),
            )
    if "pads" in node.attrs:
        return node.on(inputs, pads=tuple(pads))
    return node.on((inputs[0], _like(node.inputs[1], pads), *inputs[2:]))


def _like(old: Value, numbers: Sequence[int]) -> Value:
    """The constant ``old`` holding other integers, under its old name."""
    tensor = tensor_of(old)
    assert tensor is not None
    assert old.node is not None
    return Node(
        Const, (), {"value": Tensor(np.array(numbers, tensor.array.dtype))}, source=old.node.source
    ).outputs[0]


# Reshape and Flatten


def reshape_type(node: Node) -> Sequence[Type]:
    """The result's type, where symbolic dimensions cancel: (n, 4, 2) to (-1, 8) is (n, 8)."""
    x = node.inputs[0].type
    target = tensor_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if x.shape is None or x.dtype == NO_DTYPE or target is None:
        return schema.infer(node)
    if node.attrs.get("allowzero") or target.array.tolist().count(-1) > 1:
        return schema.infer(node)
    goal = [int(t) for t in target.array]
    if any(t == 0 and i >= len(x.shape) for i, t in enumerate(goal)):
        return schema.infer(node)
    shape: list[Dim] = [x.shape[i] if t == 0 else t for i, t in enumerate(goal)]
    if -1 in goal:
        place = goal.index(-1)
        shape[place] = _quotient(x.shape, tuple(shape[:place] + shape[place + 1 :]))
    if None in shape:
        return [TensorType(x.dtype, tuple(shape))]
    schema.infer(node)  # for its check that the sizes agree
    return [TensorType(x.dtype, tuple(shape))]


def _quotient(whole: Shape, rest: Shape) -> Dim:
    """What is left of a product of dimensions divided by others, where one can tell."""
    over, under = list(whole), list(rest)
    for dim in rest:
        if isinstance(dim, str) and dim in over:
            over.remove(dim)
            under.remove(dim)
    symbols = [d for d in over if not isinstance(d, int)]
    top, bottom = (prod(d for d in dims if isinstance(d, int)) for dims in (over, under))
    if not all(isinstance(d, int) for d in under) or bottom == 0 or top % bottom:
        return None
    if not symbols:
        return top // bottom
    return symbols[0] if len(symbols) == 1 and top == bottom else None


def flatten_blocks(old: Shape, new: Shape) -> list[tuple[range, range]] | None:
    """Pair runs of old axes with runs of new axes of equal size; None if one cannot tell."""
    blocks, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        start, i, j = (i, j), i + 1, j + 1
        while not _alike(ours := old[start[0] : i], theirs := new[start[1] : j]):
            less = _less(ours, theirs)
            if less is None or (i == len(old) if less else j == len(new)):
                return None
            i, j = (i + 1, j) if less else (i, j + 1)
        blocks.append((range(start[0], i), range(start[1], j)))
    return blocks if all(d == 1 for d in (*old[i:], *new[j:])) else None


def _alike(ours: Shape, theirs: Shape) -> bool:
    """Whether two runs of axes surely hold as many numbers."""
    if None in ours or ours == theirs:
        return None not in ours
    return _less(ours, theirs) is False and _less(theirs, ours) is False


def _less(ours: Shape, theirs: Shape) -> bool | None:
    """Whether the first run holds fewer numbers; None where a size is open."""
    known = [[d for d in dims if isinstance(d, int)] for dims in (ours, theirs)]
    closed = (len(known[0]), len(known[1])) == (len(ours), len(theirs))
    return prod(known[0]) < prod(known[1]) if closed else None


def reshape(node: Node) -> Iterator[Link]:
    """Axes that are kept, axes flattened into one, and an axis broken into several.

    Of what is flattened a channel becomes a block; of an axis that is broken, as by a channel
    shuffle or into attention heads, the channels at one place of each part go together.
    """
    x, y = node.inputs[0], node.outputs[0]
    if x.type.shape is None or y.type.shape is None:
        return
    if len(node.inputs) > 1 and tensor_of(node.inputs[1]) is None:
        return  # the sizes come from elsewhere, and would not follow
    for ours, theirs in flatten_blocks(x.type.shape, y.type.shape) or ():
        big = [a for a in ours if x.type.shape[a] != 1]
        wide = [a for a in theirs if y.type.shape[a] != 1]
        if len(big) == len(wide) == 1:
            yield from along(x, big[0], y, wide[0])
        else:
            yield from _broken(_factors(x, big), _factors(y, wide))


@dataclass(frozen=True)
class _Factor:
    """An axis among those that are flattened: of ``size``, each step ``stride`` places long."""

    port: Port
    size: int
    stride: int


def _factors(value: Value, axes: Sequence[int]) -> list[_Factor]:
    sizes = [value.type.size(a) or 0 for a in axes]
    strides = [prod(sizes[i + 1 :]) for i in range(len(axes))]
    ports = [(value, a) for a in axes]
    return [_Factor(*factor) for factor in zip(ports, sizes, strides, strict=True)]


def _broken(ours: Sequence[_Factor], theirs: Sequence[_Factor]) -> Iterator[Link]:
    """Tie each axis to every axis of the other side that is a factor of it."""
    for x, y in product(ours, theirs):
        whole, part = (x, y) if x.size > y.size else (y, x)
        if not part.stride % whole.stride and not (whole.size * whole.stride) % (
            part.size * part.stride
        ):
            places = np.arange(whole.size) // (part.stride // whole.stride)
            yield Link(whole.port, part.port, places % part.size, either=True)


def narrow_reshape(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Write the target anew where it names a size that changed."""
    if node.op.name != "Reshape" or "shape" in node.attrs:
        return node.on(inputs, **_new_shape_attr(node, kept))
    target = tensor_of(node.inputs[1])
    assert target is not None
    goal = _renamed([int(t) for t in target.array], node, kept)
    same = goal == target.array.tolist()
    return node.on(inputs if same else (inputs[0], _like(node.inputs[1], goal)))


def _new_shape_attr(node: Node, kept: Kept) -> dict[str, tuple[int, ...]]:
    if "shape" not in node.attrs:
        return {}
    goal: list[int] = list(node.attrs["shape"])
    return {"shape": tuple(_renamed(goal, node, kept))}


def _renamed(goal: list[int], node: Node, kept: Kept) -> list[int]:
    """The sizes asked for now; a 0 copies the operand's size only if that is still the same."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = [_left(y, axis, kept) for axis in range(len(goal))]
    copied = [t == 0 and _left(x, axis, kept) == sizes[axis] for axis, t in enumerate(goal)]
    keep = [
        t < 0 or copy or size is None for t, copy, size in zip(goal, copied, sizes, strict=True)
    ]
    return [t if k else size or 0 for t, k, size in zip(goal, keep, sizes, strict=True)]


def _left(value: Value, axis: int, kept: Kept) -> int | None:
    left = kept.get((value, axis))
    return value.type.size(axis) if left is None else len(left)


def squeeze(node: Node) -> Iterator[Link]:
    """Squeeze and Unsqueeze only add or drop axes of size 1."""
    x, y = node.inputs[0], node.outputs[0]
    if x.rank is None or y.rank is None:
        return
    short, long = (y, x) if node.op.name == "Squeeze" else (x, y)
    assert short.rank is not None
    assert long.rank is not None
    axes = axes_of(node, long.rank)
    if axes is None or len(axes) != long.rank - short.rank:
        return
    for place, axis in enumerate(a for a in range(long.rank) if a not in axes):
        ends = {id(short): place, id(long): axis}
        yield from along(x, ends[id(x)], y, ends[id(y)])
