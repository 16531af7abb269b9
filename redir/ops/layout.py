"""Operators that move channels: what they tie, and how they follow a narrower operand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product, takewhile
from math import prod

import numpy as np

from redir.ir import Kept, Link, Node, Port, Value, width
from redir.ir.builtin import Const, constant, is_absent, tensor_of
from redir.ir.tensor import NO_DTYPE, Array, Dim, Shape, Tensor, TensorType, Type
from redir.ops import schema
from redir.ops.links import aligned, along, axes_of, same_axes


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
    parts = {i: _left(y, axis, kept) or 0 for i, y in enumerate(node.outputs)}
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


_END = 2**31 - 1  # of any axis


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


def takes_all(node: Node) -> bool:
    """Whether a Slice surely takes the whole of its operand, in order."""
    cut, x = _cut(node), node.inputs[0]
    return cut is not None and all(
        step == 1
        and (start == 0 or start <= -(x.type.size(axis) or _END))
        and end >= (x.type.size(axis) or _END)
        for axis, start, end, step in zip(cut.axes, cut.starts, cut.ends, cut.steps, strict=True)
    )


def slice_(node: Node) -> Iterator[Link]:
    """The channels from a constant start to a constant end; axes that are not cut stay."""
    x, y, cut = node.inputs[0], node.outputs[0], _cut(node)
    if cut is None or x.rank is None or y.rank != x.rank:
        return
    yield from same_axes(x, y, (a for a in range(x.rank) if a not in cut.axes))
    for axis, start, end, step in zip(cut.axes, cut.starts, cut.ends, cut.steps, strict=True):
        size = x.type.size(axis)
        if size is not None:
            taken = np.arange(size)[start:end:step]
            if taken.size == y.type.size(axis) and taken.size:
                yield Link((y, axis), (x, axis), taken)


def narrow_slice(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Cut where the channels that are left are now; gather those that stand unevenly."""
    from redir import ops  # noqa: PLC0415 - which imports this module

    cut = _cut(node)
    assert cut is not None
    axes = [axis for axis in cut.axes if (node.inputs[0], axis) in kept]
    places = {axis: _met(node, cut, axis, kept) for axis in axes}
    uneven = {axis: met for axis, met in places.items() if _run(met) is None}
    runs = {axis: _run(met) or (0, _END, 1) for axis, met in places.items()}
    found = _cutting(node, inputs, cut, runs)
    gather_ = ops.lookup("Gather", node.op.version)
    assert gather_ is not None
    for axis, met in uneven.items():
        indices = constant(met)
        found = Node(gather_, (found.outputs[0], indices), {"axis": axis}, source=node.source)
    return found


def _met(node: Node, cut: _Cut, axis: int, kept: Kept) -> Array:
    """The places that the channels which are left of a result have in the operand now."""
    x, y, place = node.inputs[0], node.outputs[0], cut.axes.index(axis)
    start, end, step = cut.starts[place], cut.ends[place], cut.steps[place]
    taken, before = np.arange(x.type.size(axis) or 0)[start:end:step], kept[x, axis]
    left = kept.get((y, axis), np.arange(taken.size))
    if step == 1:
        return int((before < taken[0]).sum()) + np.arange(left.size)
    return np.searchsorted(before, taken[left])


def _run(places: Array) -> tuple[int, int, int] | None:
    """The start, end and step of a cut that takes ``places``, if they stand evenly."""
    first = int(places[0])
    step = int(places[1]) - first if places.size > 1 else 1
    end = first + step * places.size
    even = step != 0 and bool(np.all(np.diff(places) == step))
    return (first, end if end >= 0 else -_END, step) if even else None


def _cutting(
    node: Node, inputs: tuple[Value, ...], cut: _Cut, runs: dict[int, tuple[int, int, int]]
) -> Node:
    """The Slice ``node`` with other starts, ends and steps for some of its axes."""
    old = zip(cut.starts, cut.ends, cut.steps, strict=True)
    new = [runs.get(axis, run) for axis, run in zip(cut.axes, old, strict=True)]
    starts, ends, steps = (list(numbers) for numbers in zip(*new, strict=True))
    if "starts" in node.attrs:
        return node.on(inputs, starts=tuple(starts), ends=tuple(ends))
    given = list(inputs)
    for place, numbers, before in (
        (1, starts, cut.starts),
        (2, ends, cut.ends),
        (4, steps, cut.steps),
    ):
        if numbers != before:
            given[place] = like(node.inputs[place], numbers)
    return node.on(given)


def resize(node: Node) -> Iterator[Link]:
    """An axis whose scale is the constant 1, or whose constant size it has, stays as it is."""
    x, y = node.inputs[0], node.outputs[0]
    moves = node.attrs.get("coordinate_transformation_mode") in _MOVING
    if moves or node.attrs.get("axes") or x.rank is None:
        return
    scales, goal = scales_of(node), _sizes_of(node)
    if scales is not None and x.rank == len(scales):
        yield from same_axes(x, y, (a for a, scale in enumerate(scales) if scale == 1))
    stretch = node.attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    if goal is not None and x.rank == len(goal) and stretch:
        yield from same_axes(x, y, (a for a, n in enumerate(goal) if n == x.type.size(a)))


# With these an axis is cut, or shifted by half a place, though its size stays.
_MOVING = frozenset({"tf_crop_and_resize", "tf_half_pixel_for_nn"})


def _sizes_of(node: Node) -> Sequence[int] | None:
    """The sizes that a Resize is to give, if they are constant."""
    place = 3
    given = tensor_of(node.inputs[place]) if len(node.inputs) > place else None
    return None if given is None else given.array.tolist()


def narrow_resize(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Ask for the sizes that are left."""
    goal, y = _sizes_of(node), node.outputs[0]
    if goal is None:
        return node.on(inputs)
    sizes = [len(kept.get((y, axis), range(n))) for axis, n in enumerate(goal)]
    return node.on(inputs if sizes == goal else (*inputs[:3], like(node.inputs[3], sizes)))


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


def pads_of(node: Node) -> list[int] | None:
    """The amounts, before every axis and then behind, if they are constant."""
    if "pads" in node.attrs:
        return list(node.attrs["pads"])
    given = tensor_of(node.inputs[1]) if len(node.inputs) > 1 else None
    some_axes = len(node.inputs) > 3 and not is_absent(node.inputs[3])  # noqa: PLR2004
    return None if given is None or some_axes else given.array.tolist()


def pad(node: Node) -> Iterator[Link]:
    """Channels move behind the border, whose channels are all the same constant."""
    x, y = node.inputs[0], node.outputs[0]
    pads = pads_of(node)
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
    pads = pads_of(node)
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
    return node.on((inputs[0], like(node.inputs[1], pads), *inputs[2:]))


def like(old: Value, numbers: Sequence[int]) -> Value:
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


def flatten_blocks(old: Shape, new: Shape) -> list[tuple[range, range]]:
    """Pair runs of old axes with runs of new axes of equal size, as far as one can tell.

    From the left up to a size that is open, and the axes at the right that are the same.
    """
    pairs = zip(reversed(old), reversed(new), strict=False)
    same = takewhile(lambda pair: isinstance(pair[0], int) and pair[0] == pair[1], pairs)
    tail = sum(1 for _ in same)
    i, j = len(old) - tail, len(new) - tail
    last = [(range(i + k, i + k + 1), range(j + k, j + k + 1)) for k in range(tail)]
    return [*_paired(old[:i], new[:j]), *last]


def _paired(old: Shape, new: Shape) -> Iterator[tuple[range, range]]:
    i = j = 0
    while i < len(old) and j < len(new):
        start, i, j = (i, j), i + 1, j + 1
        while not _alike(ours := old[start[0] : i], theirs := new[start[1] : j]):
            less = _less(ours, theirs)
            if less is None or (i == len(old) if less else j == len(new)):
                return
            i, j = (i + 1, j) if less else (i, j + 1)
        yield range(start[0], i), range(start[1], j)


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
    for ours, theirs in flatten_blocks(x.type.shape, y.type.shape):
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
            yield Link(whole.port, part.port, places % part.size, kind="either")


def narrow_reshape(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Write the target anew where it names a size that changed."""
    if node.op.name != "Reshape" or "shape" in node.attrs:
        return node.on(inputs, **_new_shape_attr(node, kept))
    target = tensor_of(node.inputs[1])
    assert target is not None
    goal = _renamed([int(t) for t in target.array], node, kept)
    same = goal == target.array.tolist()
    return node.on(inputs if same else (inputs[0], like(node.inputs[1], goal)))


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
