"""Operators that repeat channels, or exchange channels and places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from redir.ir import Kept, Link, Node, Value
from redir.ir.builtin import tensor_of
from redir.ir.tensor import Array, TensorType, Type
from redir.ops import schema, symbols
from redir.ops.layout import like
from redir.ops.links import along, same_axes
from redir.ops.sizes import goal_of

_FIRST_REPEATS = 6  # the version in which Tile got its repeats in one operand


def alike(y: Value, axis: int) -> Iterator[Link]:
    """An axis of a result along which all channels hold the same."""
    size = y.type.size(axis)
    if size is not None:
        yield Link((y, axis), (y, axis), np.arange(size))


def expanded(node: Node) -> Sequence[Type]:
    """The result's type, where the sizes are told and not constant."""
    x, goal = node.inputs[0].type, goal_of(node)
    if x.shape is None or goal is None or goal.constant is not None:
        return schema.infer(node)
    told = tuple(goal.dims.get(axis) for axis in goal.axes)
    return [TensorType(x.dtype, symbols.broadcast([x.shape, told]))]


def expand(node: Node) -> Iterator[Link]:
    """Axes that have their size already, also if told 1, and those that are repeated from 1."""
    x, y, goal = node.inputs[0], node.outputs[0], goal_of(node)
    if x.rank is None or y.rank is None or goal is None:
        return
    new = y.rank - x.rank
    for axis in (a for a in range(y.rank) if goal.follows(a) or goal.dims.get(a) == 1):
        size = x.type.size(axis - new) if axis >= new else 1
        if size == y.type.size(axis):
            yield from along(x, axis - new, y, axis) if axis >= new else alike(y, axis)
        elif size == 1:
            yield from alike(y, axis)


def narrow_expand(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Write the target anew where it names a size that changed."""
    goal, y = goal_of(node), node.outputs[0]
    left = {axis: len(k) for (v, axis), k in kept.items() if v is y}
    if goal is None:
        return node.on(inputs)
    changed = {axis: size for axis, size in left.items() if goal.dims.get(axis) != 1}
    return node.on((inputs[0], goal.asking(inputs[1], changed)))


def filled(node: Node) -> Sequence[Type]:
    """The type of a ConstantOfShape of the sizes that it is told."""
    (found,), goal = schema.infer(node), goal_of(node)
    if goal is None or goal.constant is not None:
        return [found]
    return [TensorType(found.dtype, tuple(goal.dims.get(axis) for axis in goal.axes))]


def fill(node: Node) -> Iterator[Link]:
    """All channels of a ConstantOfShape hold the same."""
    goal = goal_of(node)
    for axis in () if goal is None else filter(goal.follows, goal.axes):
        yield from alike(node.outputs[0], axis)


def narrow_fill(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Ask for the sizes that are left."""
    goal, y = goal_of(node), node.outputs[0]
    left = {axis: len(k) for (v, axis), k in kept.items() if v is y}
    return node.on(inputs if goal is None else (goal.asking(inputs[0], left),))


def tile(node: Node) -> Iterator[Link]:
    """A constant number of copies, one behind the other, of each axis."""
    x, y = node.inputs[0], node.outputs[0]
    repeats = tensor_of(node.inputs[1])
    if x.rank is None or repeats is None or node.op.version < _FIRST_REPEATS:
        return
    for axis, count in enumerate(repeats.array.tolist()):
        size = x.type.size(axis)
        if size == 1 and count > 1:
            yield from alike(y, axis)
        elif size is not None:
            yield Link((y, axis), (x, axis), np.arange(size * count) % size)


def narrow_tile(node: Node, inputs: tuple[Value, ...], kept: Kept) -> Node:
    """Make fewer copies of an axis of size 1."""
    x, y = node.inputs[0], node.outputs[0]
    if tensor_of(node.inputs[1]) is None or node.op.version < _FIRST_REPEATS:
        return node.on(inputs)
    repeats = _numbers(node.inputs[1])
    counts = [len(kept.get((y, axis), range(n))) for axis, n in enumerate(repeats)]
    single = [x.type.size(axis) == 1 for axis in range(len(repeats))]
    return _rewritten(
        node, inputs, [c if s else n for c, s, n in zip(counts, single, repeats, strict=True)]
    )


def _numbers(value: Value) -> list[int]:
    tensor = tensor_of(value)
    return [] if tensor is None else [int(n) for n in tensor.array]


def _rewritten(node: Node, inputs: tuple[Value, ...], numbers: list[int]) -> Node:
    """``node`` with other numbers for its second operand."""
    same = numbers == _numbers(node.inputs[1])
    return node.on(inputs if same else (inputs[0], like(node.inputs[1], numbers)))


def depth_to_space(node: Node) -> Iterator[Link]:
    """A channel is made from one for each place of a block; places stay."""
    return _blocks(node, node.inputs[0], node.outputs[0])


def space_to_depth(node: Node) -> Iterator[Link]:
    """A channel becomes one for each place of a block; places stay."""
    return _blocks(node, node.outputs[0], node.inputs[0])


def _blocks(node: Node, deep: Value, wide: Value) -> Iterator[Link]:
    """Links of ``deep``, whose channels are those of ``wide`` for each place of a block."""
    blocks = int(node.attrs["blocksize"]) ** 2
    size = deep.type.size(1)
    yield from same_axes(node.inputs[0], node.outputs[0], (0,))
    if size is not None and size == (wide.type.size(1) or 0) * blocks:
        yield Link((deep, 1), (wide, 1), _places(size, blocks, node))


def _places(size: int, blocks: int, node: Node) -> Array:
    """The channel of each of ``size``: all in turn, or by columns a run of ``blocks`` for each."""
    runs = node.attrs.get("mode", "DCR") == "CRD"
    return np.arange(size) // blocks if runs else np.arange(size) % (size // blocks)
