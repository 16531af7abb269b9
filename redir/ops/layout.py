"""Operators that move channels: what they tie, and how they follow a narrower operand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from redir.ir import Kept, Link, Node, Port, Value, width
from redir.ir.builtin import constant, is_absent, tensor_of
from redir.ir.tensor import TensorType, Type
from redir.ops import schema
from redir.ops.links import aligned, along, same_axes
from redir.ops.sizes import goal_of, of


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


def concat_axis(node: Node) -> Port | None:
    """The axis of the result along which a Concat puts its operands, if one can tell."""
    (y,) = node.outputs
    return None if y.rank is None else (y, int(node.attrs.get("axis", 1)) % y.rank)


def narrow_concat(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Leave out the operands of which nothing is left."""
    port = concat_axis(node)
    if port is None or port not in kept:
        return node.on(inputs)
    ends = np.cumsum([x.type.size(port[1]) or 0 for x in node.inputs])
    left = set(np.searchsorted(ends, kept[port], side="right").tolist())
    return node.on(x for i, x in enumerate(inputs) if i in left)


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
    return node.on((inputs[0], like(node.inputs[1], now.tolist())))


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
    """State the sizes of the parts where they changed; a part of which nothing is left goes."""
    x = node.inputs[0]
    axis = int(node.attrs.get("axis", 0)) % (x.rank or 1)
    if (x, axis) not in kept:
        return node.on(inputs)
    parts = {i: left(y, axis, kept) or 0 for i, y in enumerate(node.outputs)}
    gone = {i for i, size in parts.items() if not size and width((node.outputs[i], axis))}
    sizes = {i: size for i, size in parts.items() if i not in gone}
    attrs = {k: a for k, a in node.attrs.items() if k not in {"num_outputs", "split"}}
    source = node.source and node.source.giving(list(sizes))
    if node.op.version < 13:  # noqa: PLR2004 - an attribute said the sizes
        inputs, attrs = inputs[:1], {**attrs, "split": tuple(sizes.values())}
    else:
        inputs = (inputs[0], _stated_sizes(node, list(sizes.values())))
    return replace(node, inputs=inputs, attrs=attrs, arity=len(sizes), source=source)


def _stated_sizes(node: Node, sizes: Sequence[int]) -> Value:
    """The operand of a Split that says the sizes of its parts, under its name if it had one."""
    stated = len(node.inputs) > 1 and not is_absent(node.inputs[1])
    return like(node.inputs[1], sizes) if stated else constant(np.array(sizes, np.int64))


def resize(node: Node) -> Iterator[Link]:
    """An axis whose scale is the constant 1, or which is told the size that it has, stays."""
    x, y = node.inputs[0], node.outputs[0]
    if node.attrs.get("coordinate_transformation_mode") in _MOVING or x.rank is None:
        return
    scales, goal = scales_of(node), goal_of(node)
    named = {int(axis) % x.rank for axis in node.attrs.get("axes") or range(x.rank)}
    same = set(range(x.rank)) - named
    if scales is not None:
        same |= {axis for axis, scale in scales.items() if scale == 1}
    elif goal is not None and stretches(node):
        told = goal.dims.items()
        same |= {axis for axis, n in told if n == x.type.size(axis) and goal.follows(axis)}
    yield from same_axes(x, y, sorted(same))


def stretches(node: Node) -> bool:
    """Whether a Resize gives exactly the sizes that it is told."""
    return bool(node.attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch")


# With these an axis is cut, or shifted by half a place, though its size stays.
_MOVING = frozenset({"tf_crop_and_resize", "tf_half_pixel_for_nn"})


def narrow_resize(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Ask for the sizes that are left."""
    goal, y = goal_of(node), node.outputs[0]
    if goal is None:
        return node.on(inputs)
    left = {axis: len(k) for (v, axis), k in kept.items() if v is y}
    return node.on((*inputs[:3], goal.asking(inputs[3], left)))


def scales_of(node: Node) -> Mapping[int, float] | None:
    """The scale of each axis that a Resize or Upsample scales, if these are constant."""
    scales, rank = _scales(node), node.inputs[0].rank
    if scales is None or rank is None:
        return None
    axes = [int(axis) % rank for axis in node.attrs.get("axes") or range(rank)]
    return dict(zip(axes, scales, strict=True)) if len(axes) == len(scales) else None


def _scales(node: Node) -> Sequence[float] | None:
    if "scales" in node.attrs:
        stated: Sequence[float] = node.attrs["scales"]
        return stated
    place = 1 if len(node.inputs) == 2 else 2  # noqa: PLR2004 - Resize-11 put the region first
    if len(node.inputs) != place + 1 or is_absent(node.inputs[place]):
        return None
    scales = tensor_of(node.inputs[place])
    return None if scales is None else scales.array.tolist()


# Pad


Border: TypeAlias = "tuple[int | None, int | None]"
"""How much a Pad puts before an axis and behind it, where one knows."""


def padded(node: Node) -> Sequence[Type]:
    """The result's type, where the pads are not constant but some of them are known."""
    (found,), x, borders = schema.infer(node), node.inputs[0].type, borders_of(node)
    if x.shape is None or borders is None or "pads" in node.attrs or tensor_of(node.inputs[1]):
        return [found]
    pairs = enumerate(x.shape)
    dims = tuple(dim if borders.get(axis, _NONE) == _NONE else None for axis, dim in pairs)
    return [TensorType(x.dtype, dims)]


_NONE: Border = 0, 0


def borders_of(node: Node) -> dict[int, Border] | None:
    """The borders of the axes that a Pad is told of; None where that may be any."""
    rank, pads = node.inputs[0].rank, _pads(node)
    axes = _padded_axes(node)
    if rank is None or pads is None or axes is None or len(pads) != 2 * len(axes):
        return None
    pairs = zip(pads[: len(axes)], pads[len(axes) :], strict=True)
    return dict(zip(axes, pairs, strict=True))


def _pads(node: Node) -> list[int | None] | None:
    if "pads" in node.attrs:
        return list(node.attrs["pads"])
    told = of(node.inputs[1]) if len(node.inputs) > 1 else None
    dims = [] if told is None else [size.dim for size in told.reshape(-1)]
    return None if told is None else [d if isinstance(d, int) else None for d in dims]


def _padded_axes(node: Node) -> Sequence[int] | None:
    """The axes that a Pad is told of, in order, if they are constant."""
    rank = node.inputs[0].rank or 0
    if len(node.inputs) <= 3 or is_absent(node.inputs[3]):  # noqa: PLR2004 - where axes are given
        return range(rank)
    given = tensor_of(node.inputs[3])
    return None if given is None else [int(axis) % rank for axis in given.array]


def pad(node: Node) -> Iterator[Link]:
    """Channels move behind the border, whose channels are all the same constant."""
    x, y, borders = node.inputs[0], node.outputs[0], borders_of(node)
    if borders is None or x.rank is None:
        return
    written = "pads" in node.attrs or tensor_of(node.inputs[1]) is not None
    for axis in range(x.rank):
        before, behind = borders.get(axis, _NONE)
        size = x.type.size(axis)
        if before == behind == 0:
            yield from along(x, axis, y, axis)
        elif before is None or behind is None or size is None or not written:
            continue
        elif node.attrs.get("mode", "constant") == "constant" and min(before, behind) >= 0:
            yield Link((x, axis), (y, axis), np.arange(before, before + size))


def narrow_pad(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Shrink the border by the channels of it that are gone."""
    x, y, borders = node.inputs[0], node.outputs[0], borders_of(node) or {}
    left = {axis: kept[y, axis] for axis in borders if (y, axis) in kept}
    changed = False
    for axis, places in left.items():
        before, behind = borders[axis]
        if before is not None and behind is not None and (before or behind):
            end, changed = before + (x.type.size(axis) or 0), True
            borders[axis] = int((places < before).sum()), int((places >= end).sum())
    if not changed:
        return node.on(inputs)
    pads = [amount or 0 for side in zip(*borders.values(), strict=True) for amount in side]
    if "pads" in node.attrs:
        return node.on(inputs, pads=tuple(pads))
    return node.on((inputs[0], like(node.inputs[1], pads), *inputs[2:]))


def like(old: Value, numbers: Sequence[int]) -> Value:
    """The constant ``old`` holding other integers, under its old name."""
    tensor = tensor_of(old)
    assert tensor is not None
    return constant(np.array(numbers, tensor.array.dtype), old)


def left(value: Value, axis: int, kept: Kept) -> int | None:
    """How many channels are left of an axis, if one can tell."""
    channels = kept.get((value, axis))
    return value.type.size(axis) if channels is None else len(channels)
