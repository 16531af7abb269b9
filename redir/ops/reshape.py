"""Operators that give numbers another shape: Reshape, Flatten, Squeeze and Unsqueeze."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeAlias

import numpy as np

from redir.ir import Kept, Link, Node, Port, Size, Value
from redir.ir.tensor import NO_DTYPE, Dim, Shape, TensorType, Type
from redir.ops import schema
from redir.ops.layout import left
from redir.ops.links import along, axes_of
from redir.ops.sizes import goal_of
from redir.ops.symbols import Product, product


def infer(node: Node) -> Sequence[Type]:
    """The result's type, where symbolic dimensions cancel: (n, 4, 2) to (-1, 8) is (n, 8)."""
    x, shapes = node.inputs[0].type, _shapes(node)
    if shapes is None:
        return schema.infer(node)
    dims = tuple(None if _is_mark(dim) else dim for dim in shapes[1])
    if None not in dims:
        schema.infer(node)  # for its check that the sizes agree
    return [TensorType(x.dtype, dims)]


def _shapes(node: Node) -> tuple[Shape, Shape] | None:
    """The sizes before and after a Reshape; those that are open have marks where they are equal."""
    x, goal = node.inputs[0], goal_of(node)
    if x.type.shape is None or x.type.dtype == NO_DTYPE or goal is None:
        return None
    told = [goal.sizes.get(place, Size()) for place in range(len(goal.axes))]
    rank, asked = len(x.type.shape), [size.dim for size in told]
    literal = bool(node.attrs.get("allowzero"))
    if asked.count(-1) > 1 or 0 in asked[0 if literal else rank :]:
        return None
    copied = [i for i, s in enumerate(told) if i < rank and (s.dim == 0 or s.port == (x, i))]
    old = tuple(f"{_MARK}{i}" if dim is None else dim for i, dim in enumerate(x.type.shape))
    new = [old[i] if i in copied else None if dim == -1 else dim for i, dim in enumerate(asked)]
    if new.count(None) == 1:
        place, whole = new.index(None), product(old)
        rest = product(new[:place] + new[place + 1 :])
        found = whole / rest if whole and rest else None
        new[place] = found.dim if found else None
    return old, tuple(new)


_MARK = "\0"  # no symbol starts with it


def _is_mark(dim: Dim) -> bool:
    return isinstance(dim, str) and _MARK in dim


Block: TypeAlias = tuple[range, range]


def flatten_blocks(old: Shape, new: Shape) -> list[Block]:
    """Pair runs of old axes with runs of new axes that hold as many numbers.

    From the left as far as one can tell, and at the right the axes that are the same; what is
    between is one pair.
    """
    blocks = list(_paired(old, new))
    i, j = (axes.stop for axes in blocks[-1]) if blocks else (0, 0)
    pairs = zip(reversed(old[i:]), reversed(new[j:]), strict=False)
    same = takewhile(lambda pair: pair[0] == pair[1] is not None, pairs)
    tail = sum(1 for _ in same)
    m, n = len(old) - tail, len(new) - tail
    ends = [(range(m + k, m + k + 1), range(n + k, n + k + 1)) for k in range(tail)]
    return [*blocks, (range(i, m), range(j, n)), *ends]


def _paired(old: Shape, new: Shape) -> Iterator[Block]:
    i = j = 0
    while i < len(old) and j < len(new):
        start, i, j = (i, j), i + 1, j + 1
        while (less := _less(old[start[0] : i], new[start[1] : j])) != 0:
            if less is None or (i == len(old) if less > 0 else j == len(new)):
                return
            i, j = (i + 1, j) if less > 0 else (i, j + 1)
        yield range(start[0], i), range(start[1], j)


def _less(ours: Shape, theirs: Shape) -> int | None:
    """How many more numbers the second run holds, or a negative; None where one cannot tell."""
    a, b = product(ours), product(theirs)
    if a is None or b is None:
        return None
    if a.symbols == b.symbols:
        return b.number - a.number
    return 1 if b / a else -1 if a / b else None


def reshape(node: Node) -> Iterator[Link]:
    """Axes that are kept, axes flattened into one, and an axis broken into several.

    Of what is flattened a channel becomes a block; of an axis that is broken, as by a channel
    shuffle or into attention heads, the channels at one place of each part go together.
    """
    x, y, goal = node.inputs[0], node.outputs[0], goal_of(node)
    told = len(node.inputs) > 1
    old, new = (_shapes(node) if told else None) or (x.type.shape, y.type.shape)
    if old is None or new is None or (told and goal is None):
        return
    for ours, theirs in flatten_blocks(old, new):
        big = [a for a in ours if old[a] != 1]
        wide = [a for a in theirs if new[a] != 1]
        known = [a for a in wide if goal is None or goal.follows(a)]
        if len(big) == len(wide) == len(known) == 1:
            yield from along(x, big[0], y, wide[0])
        else:
            follow = [f for f in _factors(y, wide) if f.port[1] in known]
            yield from _broken([*_factors(x, big)], follow)


@dataclass(frozen=True)
class _Factor:
    """An axis of ``size`` among those that are flattened.

    ``behind`` are the numbers in each step of it, and ``upto`` the steps that there are, as far as
    one can tell.
    """

    port: Port
    size: int
    behind: Product | None
    upto: Product | None

    def steps(self, part: _Factor) -> int | None:
        """How many of its steps are one of ``part``, if that is a whole number."""
        found = (part.behind and self.behind and part.behind / self.behind) or (
            part.upto and self.upto and self.upto / part.upto
        )
        return found.number if found and not found.symbols else None


def _factors(value: Value, axes: Sequence[int]) -> Iterator[_Factor]:
    """The axes of known size."""
    dims = [(value.type.shape or ())[axis] for axis in axes]
    for place, (axis, size) in enumerate(zip(axes, dims, strict=True)):
        if isinstance(size, int) and size:
            behind, upto = product(dims[place + 1 :]), product(dims[: place + 1])
            yield _Factor((value, axis), size, behind, upto)


def _broken(ours: Sequence[_Factor], theirs: Sequence[_Factor]) -> Iterator[Link]:
    """Tie each axis to every axis of the other side that is a factor of it."""
    for x, y in ((x, y) for x in ours for y in theirs):
        whole, part = (x, y) if x.size > y.size else (y, x)
        steps = whole.steps(part)
        if steps is not None and whole.size % (part.size * steps) == 0:
            places = np.arange(whole.size) // steps % part.size
            yield Link(whole.port, part.port, places, kind="either")


def narrow_reshape(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Write the target anew where it names a size that changed."""
    goal = goal_of(node)
    if goal is None or "shape" in node.attrs:
        return node.on(inputs, **_new_shape_attr(node, kept))
    told = [d if isinstance(d, int) else -1 for _, d in sorted(goal.dims.items())]
    asked = dict(enumerate(_renamed(told, node, kept)))
    return node.on((inputs[0], goal.asking(inputs[1], asked)))


def _new_shape_attr(node: Node, kept: Kept) -> dict[str, tuple[int, ...]]:
    if "shape" not in node.attrs:
        return {}
    goal: list[int] = list(node.attrs["shape"])
    return {"shape": tuple(_renamed(goal, node, kept))}


def _renamed(goal: list[int], node: Node, kept: Kept) -> list[int]:
    """The sizes asked for now; a 0 copies the operand's size only if that is still the same."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = [left(y, axis, kept) for axis in range(len(goal))]
    copied = [t == 0 and left(x, axis, kept) == sizes[axis] for axis, t in enumerate(goal)]
    keep = [
        t < 0 or copy or size is None for t, copy, size in zip(goal, copied, sizes, strict=True)
    ]
    return [t if k else size or 0 for t, k, size in zip(goal, keep, sizes, strict=True)]


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
