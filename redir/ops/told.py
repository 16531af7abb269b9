"""What a node tells of the sizes that its result holds, where it moves or compares such.

A rule is given the node, and gives a ``Size`` for each number of its result, or None; of several
results, which are vectors then, one behind the other. What it says holds whatever the sizes are,
but for those that it moves: it computes with none.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from redir.ir import Node, Size, Value
from redir.ir.builtin import tensor_of
from redir.ir.tensor import Array
from redir.ops import sizes
from redir.ops.slicing import cut_of

Rule = Callable[[Node], "Array | None"]


def shape(node: Node) -> Array | None:
    """The size of each axis."""
    x = node.inputs[0]
    if x.type.shape is None:
        return None
    whole = [Size(dim, (x, axis)) for axis, dim in enumerate(x.type.shape)]
    part = whole[slice(node.attrs.get("start", 0), node.attrs.get("end"))]
    return sizes.array(part, (len(part),))


def moved(node: Node) -> Array | None:
    """All numbers of the operand, in their order."""
    return sizes.of(node.inputs[0])


def cast(node: Node) -> Array | None:
    """The numbers of the operand in a type that holds them."""
    return sizes.of(node.inputs[0]) if node.outputs[0].type.dtype in (np.int64, np.int32) else None


def concat(node: Node) -> Array | None:
    """The numbers of the operands behind each other."""
    parts = [sizes.of(v) for v in node.inputs]
    known = [part for part in parts if part is not None]
    axis = int(node.attrs.get("axis", 1))
    return np.concatenate(known, axis) if len(known) == len(parts) else None


def gather(node: Node) -> Array | None:
    """The numbers at constant places."""
    x, places = sizes.of(node.inputs[0]), tensor_of(node.inputs[1])
    if x is None or places is None:
        return None
    axis, held = int(node.attrs.get("axis", 0)), places.array
    inside = np.all((held >= -x.shape[axis]) & (held < x.shape[axis]))
    return np.asarray(np.take(x, held, axis)) if inside else None


def cut(node: Node) -> Array | None:
    """The numbers from a constant start to a constant end."""
    x, taken = sizes.of(node.inputs[0]), cut_of(node)
    if x is None or taken is None:
        return None
    runs = {axis: slice(*run) for axis, run in taken.runs}
    return x[tuple(runs.get(axis, slice(None)) for axis in range(x.ndim))]


def transpose(node: Node) -> Array | None:
    """The numbers with their axes in another order."""
    x = sizes.of(node.inputs[0])
    return None if x is None else x.transpose(node.attrs.get("perm"))


def filled(node: Node) -> Array | None:
    """The number of a ConstantOfShape, as often as its type says."""
    shape, value = node.outputs[0].type.static, node.attrs.get("value")
    number = 0 if value is None else int(value.array.item())
    return None if shape is None else sizes.array([Size(number)] * prod(shape), shape)


def parts(node: Node) -> Array | None:
    """The numbers of a vector that a Split cuts, as they are."""
    return sizes.of(node.inputs[0]) if all(map(_is_vector, node.outputs)) else None


def _is_vector(value: Value) -> bool:
    return value.rank == 1 and sizes.holds_sizes(value)


def product(node: Node) -> Array | None:
    """The products of numbers that are written."""
    pairs = _together(node)
    if pairs is None or any(s.port is not None or s.dim is None for s in pairs.flat):
        return None
    found = (Size(a.dim * b.dim) for a, b in pairs.reshape(-1, 2))
    return sizes.array(found, pairs.shape[:-1])


def equal(node: Node) -> Array | None:
    """Whether numbers are equal, where that is the same for all sizes."""
    pairs = _together(node)
    found = [_is_equal(*pair) for pair in pairs.reshape(-1, 2)] if pairs is not None else [None]
    if pairs is None or None in found:
        return None
    return sizes.array((Size(int(bool(f))) for f in found), pairs.shape[:-1])


def _is_equal(a: Size, b: Size) -> bool | None:
    if a.port is None is b.port and isinstance(a.dim, int) and isinstance(b.dim, int):
        return a.dim == b.dim
    written = a if b.port is not None else b
    negative = isinstance(written.dim, int) and written.dim < 0
    return False if negative and (a.port or b.port) else None


def where(node: Node) -> Array | None:
    """One of two numbers at each place, if one knows which."""
    found = _together(node)
    if found is None or any(f.port is not None or f.dim is None for f in found[..., 0].flat):
        return None
    return np.asarray(np.where(found[..., 0] == Size(0), found[..., 2], found[..., 1]))


def _together(node: Node) -> Array | None:
    """The numbers of all operands at each place of the result."""
    given = [sizes.of(v) for v in node.inputs]
    known = [numbers for numbers in given if numbers is not None]
    return np.stack(np.broadcast_arrays(*known), -1) if len(known) == len(given) else None


def _told(rule: Rule) -> Rule:
    """``rule``, for nodes with one result that may hold sizes."""

    def told(node: Node) -> Array | None:
        if node.arity > 1 or not sizes.holds_sizes(node.outputs[0]):
            return None
        found = rule(node)
        return None if found is None else found.reshape(node.outputs[0].type.static)

    return told


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"), _told(moved)),
    "Cast": _told(cast),
    "Concat": _told(concat),
    "ConstantOfShape": _told(filled),
    "Equal": _told(equal),
    "Gather": _told(gather),
    "Mul": _told(product),
    "Shape": _told(shape),
    "Slice": _told(cut),
    "Split": parts,
    "Transpose": _told(transpose),
    "Where": _told(where),
}
