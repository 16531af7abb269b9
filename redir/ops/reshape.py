"""Operators that give numbers another shape: Reshape, Flatten, Squeeze and Unsqueeze."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, takewhile
from math import prod

import numpy as np

from redir.ir import Kept, Link, Node, Port, Size, Value
from redir.ir.tensor import NO_DTYPE, Dim, Shape, TensorType, Type
from redir.ops import schema
from redir.ops.layout import left
from redir.ops.links import along, axes_of
from redir.ops.sizes import goal_of


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
    if node.attrs.get("allowzero") or asked.count(-1) > 1 or 0 in asked[rank:]:
        return None
    copied = [i for i, s in enumerate(told) if i < rank and (s.dim == 0 or s.port == (x, i))]
    marks = {i: f"{_MARK}{i}" for i in copied if x.type.shape[i] is None}
    old = tuple(marks.get(i, dim) for i, dim in enumerate(x.type.shape))
    new = [old[i] if i in copied else None if dim == -1 else dim for i, dim in enumerate(asked)]
    if new.count(None) == 1:
        place = new.index(None)
        new[place] = _quotient(old, tuple(new[:place] + new[place + 1 :]))
    return old, tuple(new)


_MARK = "\0"  # no symbol starts with it


def _is_mark(dim: Dim) -> bool:
    return isinstance(dim, str) and dim.startswith(_MARK)


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
    x, y, goal = node.inputs[0], node.outputs[0], goal_of(node)
    told = len(node.inputs) > 1
    old, new = (_shapes(node) if told else None) or (x.type.shape, y.type.shape)
    if old is None or new is None or (told and goal is None):
        return
    for ours, theirs in flatten_blocks(old, new):
        big = [a for a in ours if old[a] != 1]
        wide = [a for a in theirs if new[a] != 1]
        if goal is not None and not all(map(goal.follows, wide)):
            continue
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
