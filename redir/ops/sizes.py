"""Vectors of sizes: what is known of their numbers, and which operators take their sizes there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from redir.ir import Node, Size, Value
from redir.ir.builtin import constant, is_absent, tensor_of
from redir.ir.tensor import Array, Dim

_MOST = 64  # numbers of a vector of sizes


def of(value: Value) -> Array | None:
    """A ``Size`` for each number of a small value of whole numbers, in its shape."""
    tensor = tensor_of(value)
    if tensor is not None and holds_sizes(value):
        return array([Size(int(n)) for n in tensor.array.reshape(-1)], tensor.array.shape)
    if value.node is not None and value.node.sizes is not None:
        return _part(value.node, value.index)
    shape = value.type.static
    return array([Size()] * prod(shape), shape) if shape and holds_sizes(value) else None


def _part(node: Node, index: int) -> Array | None:
    """What a node tells of one of its results."""
    if node.sizes is None or node.arity == 1:
        return node.sizes
    ends = np.cumsum([0, *(y.type.size(0) or 0 for y in node.outputs)])
    return node.sizes[ends[index] : ends[index + 1]]


def holds_sizes(value: Value) -> bool:
    """Whether a value may hold sizes: a few whole numbers, or what compares them."""
    shape = value.type.static
    return shape is not None and value.type.dtype.kind in "iub" and prod(shape) <= _MOST


def array(sizes: Iterable[Size], shape: Sequence[int]) -> Array:
    """Sizes as an array of objects."""
    listed = list(sizes)
    held = np.empty(len(listed), object)
    held[:] = listed
    return held.reshape(tuple(shape))


def is_of(size: Size, x: Value, axis: int) -> bool:
    """Whether a size is surely that of an axis of ``x``, though it is not known."""
    dims = x.type.shape or ()
    if axis >= len(dims) or isinstance(dims[axis], int):
        return False
    return size.port == (x, axis) or (size.dim is not None and size.dim == dims[axis])


@dataclass(frozen=True)
class Goal:
    """The vector in which an operator is told the sizes of its result, each for one of its axes."""

    vector: Value
    axes: tuple[int, ...]

    @property
    def sizes(self) -> Mapping[int, Size]:
        """What is known of the size that each axis is told; nothing where there may be any."""
        told = of(self.vector)
        return {} if told is None else dict(zip(self.axes, told.reshape(-1), strict=True))

    @property
    def dims(self) -> Mapping[int, Dim]:
        """The sizes as far as they are known."""
        return {axis: size.dim for axis, size in self.sizes.items()}

    @property
    def constant(self) -> Sequence[int] | None:
        """The sizes, if they are constant."""
        tensor = tensor_of(self.vector)
        return None if tensor is None else tensor.array.reshape(-1).tolist()

    def follows(self, axis: int) -> bool:
        """Whether the size of an axis can follow: it is written, or is that of another axis."""
        if axis not in self.axes or tensor_of(self.vector) is not None:
            return True
        size = self.sizes.get(axis)
        return size is not None and (
            size.port is not None or _is_written(self.vector, self.axes.index(axis))
        )

    def asking(self, new: Value, sizes: Mapping[int, int]) -> Value:
        """``new``, which stands for the vector, with other ``sizes`` written for some axes."""
        places = {self.axes.index(axis): size for axis, size in sizes.items() if axis in self.axes}
        return _rewritten(self.vector, new, places)


def _is_written(vector: Value, place: int) -> bool:
    """Whether the number at a place of a vector is one of a constant that a Concat holds."""
    if tensor_of(vector) is not None:
        return True
    for part, start, size in _parts(vector):
        if start <= place < start + size:
            return _is_written(part, place - start)
    return False


def _parts(vector: Value) -> Iterable[tuple[Value, int, int]]:
    """The operands of a Concat that makes a vector, each with where it starts and its size."""
    start = 0
    if vector.node is not None and vector.node.op.standard == "Concat" and vector.rank == 1:
        for part in vector.node.inputs:
            size = part.type.size(0) or 0
            yield part, start, size
            start += size


def _rewritten(old: Value, new: Value, numbers: Mapping[int, int]) -> Value:
    """``new``, which stands for ``old``, with other numbers written at some places."""
    tensor = tensor_of(old)
    if tensor is not None:
        held = [numbers.get(place, int(n)) for place, n in enumerate(tensor.array.reshape(-1))]
        same = held == tensor.array.reshape(-1).tolist()
        return new if same else constant(np.array(held, tensor.array.dtype), old)
    parts = list(_parts(old))
    if not parts or new.node is None:
        return new
    now = [
        _rewritten(part, v, {p - start: n for p, n in numbers.items() if 0 <= p - start < size})
        for (part, start, size), v in zip(parts, new.node.inputs, strict=True)
    ]
    return new.node.on(now).outputs[0]


_GOALS = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Resize": 3}
_OLD_AXES = {"Expand", "Resize"}  # keep the axes of which they are told nothing


def goal_of(node: Node) -> Goal | None:
    """Where an operator is told the sizes of its result, if it is."""
    place = _GOALS.get(node.op.name)
    if place is None or len(node.inputs) <= place or is_absent(node.inputs[place]):
        return None
    vector = node.inputs[place]
    count = vector.type.size(0) if vector.rank == 1 else None
    old = node.inputs[0].rank if node.op.name in _OLD_AXES else 0
    if count is None or old is None:
        return None
    rank = max(count, old)
    axes = tuple(int(axis) % rank for axis in node.attrs.get("axes") or range(rank - count, rank))
    return Goal(vector, axes) if len(axes) == count else None
