"""The types of the results of onnxruntime's own operators, of which onnx infers none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from redir.errors import IllTyped
from redir.ir import Node, Value
from redir.ir.builtin import is_absent
from redir.ir.tensor import UNKNOWN, Dim, TensorType, Type
from redir.ops import symbols

Infer = Callable[[Node], Sequence[Type]]
_FLAT = 3  # axes: examples, places, channels


def _open(node: Node) -> bool:
    """Whether nothing is known of the rank of an operand."""
    return any(v.rank is None and not is_absent(v) for v in node.inputs)


def _expect(fits: bool, node: Node) -> None:  # noqa: FBT001 - what is expected
    """Refuse operands of other sizes.

    Raises:
        IllTyped: they do not fit.
    """
    if not fits:
        types = ", ".join(str(v.type) for v in node.inputs if not is_absent(v))
        raise IllTyped(f"{node}: operands ({types}) do not fit")


def _alike(*dims: Dim) -> bool:
    """Whether sizes may be the same."""
    return len({d for d in dims if isinstance(d, int)}) <= 1


def _last(value: Value) -> Dim:
    return value.type.shape[-1] if value.type.shape else None


def as_first(node: Node) -> Sequence[Type]:
    """All results are of the type of the first operand, and vectors are as long as its last axis.

    Raises:
        IllTyped: they are not.
    """
    x, *vectors = node.inputs
    given = [v for v in vectors if not is_absent(v)]
    _expect(all(v.rank in {None, 1} and _alike(_last(v), _last(x)) for v in given), node)
    return [x.type] * node.arity


def same(node: Node) -> Sequence[Type]:
    """The type of the first operand, whatever the others are."""
    return [node.inputs[0].type]


def normed(node: Node) -> Sequence[Type]:
    """The type of the operand, and the sizes of what is not normalised."""
    x = node.inputs[0].type
    if x.shape is None:
        return [x, UNKNOWN, UNKNOWN][: node.arity]
    axis = int(node.attrs.get("axis", -1)) % len(x.shape)
    ones = (*x.shape[:axis], *[1] * (len(x.shape) - axis))
    return [x, *[TensorType(x.dtype, ones)] * 2][: node.arity]


def skip_norm(node: Node) -> Sequence[Type]:
    """The types of a norm of a sum, of its mean and deviation, and of the sum."""
    x, skip, *vectors = node.inputs
    given = [v for v in vectors if not is_absent(v)]
    _expect(all(v.rank in {None, 1} and _alike(_last(v), _last(x)) for v in given), node)
    _expect(_alike(_last(x), _last(skip)) and (skip.rank or 0) <= (x.rank or 9), node)
    shape = x.type.shape
    row = TensorType(x.type.dtype, None if shape is None else (*shape[:-1], 1))
    return [x.type, row, row, x.type][: node.arity]


def embed_norm(node: Node) -> Sequence[Type]:
    """As many rows of a table as there are numbers, and a length for each example."""
    ids, words = node.inputs[0].type, node.inputs[2].type
    if ids.shape is None or words.shape is None:
        return [TensorType(words.dtype), TensorType(np.dtype(np.int32)), UNKNOWN][: node.arity]
    _expect(len(ids.shape) == len(words.shape) == 2, node)  # noqa: PLR2004 - a matrix
    rows = TensorType(words.dtype, (*ids.shape, words.shape[1]))
    return [rows, TensorType(np.dtype(np.int32), ids.shape[:1]), rows][: node.arity]


def fused_matmul(node: Node) -> Sequence[Type]:
    """What a product of matrices has for axes, if either may be transposed first."""
    dtype = node.inputs[0].type.dtype
    if _open(node):
        return [TensorType(dtype)]
    shapes = [list(v.type.shape or ()) for v in node.inputs]
    _expect(min(map(len, shapes)) > 1, node)
    for shape, name in zip(shapes, ("transA", "transB"), strict=True):
        if node.attrs.get(name):
            shape[-2:] = shape[:-3:-1]
    left, right = shapes
    _expect(_alike(left[-1], right[-2]), node)
    around = symbols.broadcast([tuple(left[:-2]), tuple(right[:-2])])
    return [TensorType(dtype, (*around, left[-2], right[-1]))]


def attention(node: Node) -> Sequence[Type]:
    """Examples and places of the operand, with the channels of the values."""
    x, weights, *rest = node.inputs
    heads = int(node.attrs["num_heads"])
    if x.rank is None or weights.rank is None:
        return [TensorType(x.type.dtype)] * node.arity
    _expect(x.rank == _FLAT and weights.rank == 2, node)  # noqa: PLR2004 - a matrix
    _expect(_alike(_last(x), (weights.type.shape or ())[0]), node)
    total, sizes = weights.type.size(1), node.attrs.get("qkv_hidden_sizes")
    if sizes is None and total is not None:
        _expect(total % (3 * heads) == 0, node)
        sizes = (total // 3,) * 3
    _expect(sizes is None or (len(sizes) == 3 and total in {None, sum(sizes)}), node)  # noqa: PLR2004
    _expect(all(_alike(_last(v), total) for v in rest[:1] if not is_absent(v)), node)
    batch, length = (x.type.shape or ())[:2]
    wide = sizes[2] if sizes else None
    cache = (2, batch, heads, None, wide // heads if wide else None)
    types = [TensorType(x.type.dtype, shape) for shape in ((batch, length, wide), cache)]
    return types[: node.arity]


def multi_head(node: Node) -> Sequence[Type]:
    """Examples and places of the queries, with the channels of the values.

    Raises:
        IllTyped: operands are packed, or they do not fit.
    """
    q, k, v = (*node.inputs, *node.inputs[:1] * 2)[:3]
    heads = int(node.attrs["num_heads"])
    _expect(len(node.inputs) > 2 and not is_absent(k), node)  # noqa: PLR2004 - it has values
    if any(x.rank is None for x in (q, k, v)):
        return [TensorType(q.type.dtype)] * node.arity
    _expect(q.rank == k.rank == v.rank == _FLAT, node)
    _expect(_alike(_last(q), _last(k)), node)
    _expect(all(x.type.size(2) is None or x.type.size(2) % heads == 0 for x in (q, k, v)), node)  # type: ignore[operator]
    batch, length, _ = q.type.shape or ()
    shapes: list[tuple[Dim, ...]] = [(batch, length, _last(v))]
    shapes += [(batch, heads, None, _each(x, heads)) for x in (k, v)]
    shapes += [(batch, heads, length, None)]
    return [TensorType(q.type.dtype, shape) for shape in shapes[: node.arity]]


def _each(value: Value, heads: int) -> Dim:
    size = value.type.size(2)
    return None if size is None else size // heads


def grouped_query(node: Node) -> Sequence[Type]:
    """The type of the queries, and of caches of keys and values."""
    q, k, _ = node.inputs[:3]
    heads, shared = int(node.attrs["num_heads"]), int(node.attrs["kv_num_heads"])
    if q.rank is None:
        return [TensorType(q.type.dtype)] * node.arity
    _expect(q.rank == _FLAT and heads % shared == 0, node)
    width, packed = q.type.size(2), is_absent(k)
    count = heads + 2 * shared if packed else heads
    _expect(width is None or width % count == 0, node)
    each = None if width is None else width // count
    wide: Dim = None if each is None else each * heads
    cache = TensorType(q.type.dtype, ((q.type.shape or ())[0], shared, None, each))
    own = TensorType(q.type.dtype, (*(q.type.shape or ())[:2], wide)) if packed else q.type
    return [own, cache, cache, UNKNOWN][: node.arity]
