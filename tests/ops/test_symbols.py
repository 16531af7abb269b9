"""Sizes that are open: what is inferred of them holds, whatever they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Value, evaluate
from redir.ir.tensor import Dim, Shape
from redir.ops.symbols import broadcast
from tests.helpers import const, ints, placeholder

X = placeholder("n", "l", 4)
TABLE = const(np.zeros((6, 4)))
MASK = placeholder("n", "k", 4)


def length(x: Value = X, axis: int = 1) -> Value:
    return ops.Gather(ops.Shape(x), ints(axis))


def number(size: Value) -> Value:
    return ops.Squeeze(size)


def cut(start: int, end: Value, step: int = 1) -> Value:
    return ops.Slice(TABLE, ints(start), end, ints(0), ints(step))


def counted(first: int, last: Value, step: int = 1) -> Value:
    return ops.Range(const(first, np.int64), last, const(step, np.int64))


def joined(*parts: Value) -> Value:
    return ops.Concat(*parts, axis=0)


NARROW = ops.Slice(X, ints(0), ints(1), ints(2))
SIZES: dict[str, tuple[Value, Shape]] = {
    "cut at an open size": (cut(0, length()), ("min(6, l)", 4)),
    "cut at its own size": (ops.Slice(X, ints(0), length(), ints(1)), ("n", "l", 4)),
    "cut from elsewhere": (cut(1, length()), (None, 4)),
    "cut in steps": (cut(0, length(), 2), (None, 4)),
    "a map cut at the size of another": (
        ops.Slice(X, ints(0), length(MASK), ints(1)),
        ("n", None, 4),
    ),
    "a table added": (ops.Add(X, cut(0, length())), ("n", "l", 4)),
    "a mean of three": (ops.Mean(X, cut(0, length()), NARROW), ("n", "l", 4)),
    "two open sizes added": (ops.Add(X, MASK), ("n", None, 4)),
    "counted": (counted(0, number(length())), ("l",)),
    "counted from one": (counted(1, number(length())), (None,)),
    "counted in twos": (counted(0, number(length()), 2), (None,)),
    "counted to a sum": (counted(0, ops.Add(number(length()), const(1, np.int64))), (None,)),
    "expanded": (ops.Expand(NARROW, joined(ints(1), length(), ints(4))), ("n", "l", 4)),
    "expanded to more axes": (ops.Expand(X, joined(ints(2, 1, 1, 1))), (2, "n", "l", 4)),
    "expanded to what may be one": (ops.Expand(X, joined(length(MASK), ints(4))), ("n", None, 4)),
    "filled": (ops.ConstantOfShape(joined(length(), ints(3))), ("l", 3)),
    "broken up": (ops.Reshape(X, ints(0, 0, 2, -1)), ("n", "l", 2, 2)),
    "put together": (ops.Reshape(X, ints(-1, 4)), ("l*n", 4)),
    "put together with a number": (ops.Reshape(X, ints(0, -1)), ("n", "4*l")),
    "back to open sizes": (
        ops.Reshape(ops.Reshape(X, ints(-1, 2)), joined(length(X, 0), ints(-1, 4))),
        ("n", "l", 4),
    ),
    "asked for zeros": (ops.Reshape(X, ints(-1, 4), allowzero=1), ("l*n", 4)),
    "no whole part": (ops.Reshape(X, ints(3, -1)), (3, None)),
    "two computed sizes": (
        ops.Reshape(X, joined(ops.Abs(length()), ops.Abs(length(X, 0)), ints(4))),
        (None, None, 4),
    ),
    "one computed size": (
        ops.Reshape(X, joined(length(X, 0), ops.Abs(length()), ints(4))),
        ("n", "l", 4),
    ),
}


@pytest.mark.parametrize("what", SIZES)
def test_sizes_are_known_as_far_as_one_can_tell(what: str) -> None:
    value, shape = SIZES[what]
    assert value.type.shape == shape


@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("sizes", [(3, 1), (3, 4), (6, 6), (9, 6)])
def test_what_is_told_of_open_sizes_holds(what: str, sizes: tuple[int, int]) -> None:
    value, shape = SIZES[what]
    zeros = {name: np.zeros((*sizes, 4), np.float32) for name in ("x", "m")}
    found = evaluate(Graph({"x": X, "m": MASK}, {"y": value}), zeros)["y"].shape
    known = {"n": sizes[0], "l": sizes[1], "k": sizes[1], "min": min}
    told = [told_size(dim, known, size) for dim, size in zip(shape, found, strict=True)]
    assert tuple(told) == found


def test_a_table_may_be_shorter_than_what_is_asked_for() -> None:
    graph = Graph({"x": X}, {"y": SIZES["cut at an open size"][0]})
    assert evaluate(graph, {"x": np.zeros((1, 9, 4), np.float32)})["y"].shape == (min(6, 9), 4)


def told_size(dim: Dim, known: dict[str, Any], size: int) -> int:
    """The number that a size comes to: any where it is not known."""
    return size if dim is None else int(eval(str(dim), known))  # noqa: S307 - of our own symbols


BROADCAST: list[tuple[list[Shape], Shape]] = [
    ([("n", 1), (1, "l")], ("n", "l")),
    ([("n",), ()], ("n",)),
    ([("n",), (5,)], (5,)),
    ([(0,), (1,)], (0,)),
    ([("n",), ("m",)], (None,)),
    ([(None,), (1,)], (None,)),
    ([(None,), (3,)], (3,)),
    ([(None,), ("n",)], (None,)),
    ([("min(6, n)",), ("n",)], ("n",)),
    ([("min(6, n)",), ("m",)], (None,)),
    ([("min(6, n)",), ("min(7, n)",)], (None,)),
]


@pytest.mark.parametrize(("shapes", "result"), BROADCAST)
def test_open_sizes_are_broadcast(shapes: list[Shape], result: Shape) -> None:
    assert broadcast(shapes) == result
    assert broadcast(shapes[::-1]) == result
