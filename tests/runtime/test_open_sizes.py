"""Sizes for what a model leaves open: found from the graph, without running it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.check.outputs import verify
from redir.cost import Sizes
from redir.errors import BadInput, Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Dim, Tensor, TensorType
from redir.pipeline import Pipeline, compress
from redir.runtime.inputs import runnable
from redir.runtime.open_sizes import check_shapes, chosen_shapes, parsed_shapes
from tests.helpers import ints, placeholder

FLOAT = np.dtype(np.float32)


def floats(*shape: Dim) -> Value:
    return Value(TensorType(FLOAT, shape))


def weight(*shape: int) -> Value:
    made: Value = ops.Const(
        value=Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    )
    return made


def applied(make: Callable[..., Value], *shapes: tuple[Dim, ...]) -> Graph:
    inputs = dict(zip("xyz", (floats(*shape) for shape in shapes), strict=False))
    return Graph(inputs, {"out": make(*inputs.values())})


def flattened(x: Value) -> Value:
    """A Flatten at the end wants 10x10 places after a stride of 4."""
    y = ops.Conv(x, weight(8, 3, 4, 4), strides=(4, 4))
    y = ops.Conv(ops.Relu(y), weight(4, 8, 1, 1))
    return ops.MatMul(ops.Flatten(y), weight(400, 5))


def one_batch(x: Value) -> Value:
    """A Reshape to a constant wants one example, of 10x10 places."""
    y = ops.Conv(x, weight(4, 3, 4, 4), strides=(4, 4))
    return ops.MatMul(ops.Reshape(y, ints(1, 400)), weight(400, 5))


def plain(x: Value) -> Value:
    y = ops.Conv(x, weight(8, 3, 3, 3), weight(8))
    return ops.Conv(ops.Relu(y), weight(2, 8, 1, 1))


def halved_and_doubled(x: Value, times: int = 5) -> Value:
    """Sizes must be multiples of 32: what was halved five times is doubled, and added."""
    y = x
    for _ in range(times):
        y = ops.MaxPool(y, kernel_shape=(2, 2), strides=(2, 2))
    scales = ops.Const(value=Tensor(np.array([1, 1, 2**times, 2**times], np.float32)))
    return ops.Add(x, ops.Resize(y, ops.Absent(), scales))


def positioned(x: Value) -> Value:
    """What a fixed table of positions is added to has its length, as in whisper."""
    y = ops.Conv(x, weight(6, 4, 3), pads=(1, 1), strides=(2,))
    return ops.Add(ops.Transpose(y, perm=(0, 2, 1)), weight(1500, 6))


def wide(x: Value) -> Value:
    """Features of 48 rows are flattened, and 12 columns: the height is not the width."""
    rows = ops.MatMul(ops.Transpose(x, perm=(0, 1, 3, 2)), weight(48, 7))
    return ops.MatMul(ops.Transpose(rows, perm=(0, 1, 3, 2)), weight(12, 7))


def square(x: Value) -> Value:
    return ops.Add(x, ops.Transpose(x, perm=(0, 2, 1)))


def own_size(x: Value) -> Value:
    """The flattened size is computed from the shape, as exporters write it."""
    y = ops.Conv(x, weight(4, 3, 4, 4), strides=(4, 4))
    batch = ops.Gather(ops.Shape(y), ints(0))
    return ops.MatMul(ops.Reshape(y, ops.Concat(batch, ints(-1), axis=0)), weight(144, 5))


def long_window(x: Value) -> Value:
    return ops.Conv(ops.Unsqueeze(x, ints(1)), weight(2, 1, 400), strides=(160,))


@pytest.mark.parametrize(
    ("make", "shape", "found"),
    [
        (flattened, ("N", 3, "H", "W"), (2, 3, 40, 40)),
        (one_batch, ("N", 3, "H", "W"), (1, 3, 40, 40)),
        (plain, (None, None, None, None), (2, 3, 64, 64)),
        (halved_and_doubled, (1, 3, "H", "W"), (1, 3, 64, 64)),
        (halved_and_doubled, (1, 3, None, None), (1, 3, 64, 64)),
        (positioned, ("N", 4, "T"), (2, 4, 3000)),
        (wide, ("N", 3, "H", "W"), (2, 3, 48, 12)),
        (square, ("N", "rows", "columns"), (2, 64, 64)),
        (own_size, ("N", 3, "H", "W"), (2, 3, 24, 24)),
        (long_window, ("N", "samples"), (2, 400)),
        (ops.Relu, ("samples",), (64,)),
    ],
)
def test_sizes_that_fit_are_found(make: Any, shape: tuple[Dim, ...], found: Any) -> None:
    graph = applied(make, shape)
    assert chosen_shapes(graph)["x"] == found
    (feeds,) = runnable(graph, lambda given: evaluate(graph, given), 1)
    assert feeds["x"].shape == found


def test_inputs_of_one_symbol_get_one_size() -> None:
    graph = applied(lambda x, y: ops.Concat(x, y, axis=1), ("N", "L"), ("N", "M"))
    assert chosen_shapes(graph, {"x": (3, 5)}) == {"x": (3, 5), "y": (3, 64)}


def test_symbols_that_must_agree_get_one_size() -> None:
    graph = applied(lambda x, y: ops.Add(ops.Flatten(x), y), ("N", 3, "L"), ("M", "K"))
    assert chosen_shapes(graph) == {"x": (2, 3, 64), "y": (2, 192)}


@pytest.mark.parametrize("name", ["None", "?", ""])
def test_a_name_that_says_nothing_ties_nothing(name: str) -> None:
    graph = applied(lambda x: ops.MatMul(x, weight(12, 7)), (name, name))
    assert chosen_shapes(graph)["x"] == (2, 12)


def test_a_state_follows_the_batch_and_a_branch_is_looked_into() -> None:
    x, h = floats("T", "N", 3), floats(1, "M", 5)
    y = Node(ops.GRU, (x, weight(1, 15, 3), weight(1, 15, 5), ops.Absent(), ops.Absent(), h))
    branch = Graph({"x": x, "h": h}, {"y": y.outputs[0]})
    a, b, c = floats("T", "N", 3), floats(1, "M", 5), placeholder(dtype=bool)
    attrs = {"then_branch": branch, "else_branch": branch, "captures": ("x", "h")}
    either = Node(ops.If, (c, a, b), attrs)
    graph = Graph({"x": a, "h": b, "c": c}, {"y": either.outputs[0]})
    shapes = chosen_shapes(graph)
    assert shapes["h"][1] == shapes["x"][1]


def test_large_sizes_are_not_tried() -> None:
    graph = applied(lambda x: ops.Softmax(ops.MatMul(x, weight(1, 2**20))), ("N", "L", 1))
    assert chosen_shapes(graph)["x"] == (1, 32, 1)
    with pytest.raises(Unsupported, match=r"at N = 2 it computes 2e\+09 numbers"):
        chosen_shapes(applied(lambda x: ops.MatMul(x, weight(1, 2**20)), ("N", 2**10, 1)))


def impossible(x: Value) -> Value:
    """No size is both 5 and 7."""
    return ops.Add(ops.MatMul(x, weight(5, 3)), ops.MatMul(x, weight(7, 3)))


def test_what_fits_no_size_is_said_in_one_line() -> None:
    graph = applied(impossible, ("N", "L"))
    with pytest.raises(Unsupported, match=r"'N', 'L'.*--input x=1x640") as caught:
        chosen_shapes(graph)
    assert "\n" not in str(caught.value)
    found = verify(graph, graph)
    assert (found.verdict, found.reason) == ("skipped", str(caught.value))


def test_shapes_that_are_given_are_drawn() -> None:
    graph = applied(plain, ("N", 3, "H", "W"))
    (feeds,) = runnable(graph, lambda _: None, 1, input_shapes={"x": (1, 3, 5, 7)})
    assert feeds["x"].shape == (1, 3, 5, 7)
    assert verify(graph, graph, input_shapes={"x": (1, 3, 5, 7)}).verdict == "pass"
    result = compress.run(graph, Pipeline.parse("cse"), input_shapes={"x": (1, 3, 5, 7)})
    assert result.verdict == "pass"


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"q": (1, 3)}, "no input 'q'; it has 'x', 'y'"),
        ({"x": (1, 3, 4)}, "the shape 1x3x4 does not fit it"),
        ({"x": (1, 4)}, "the shape 1x4 does not fit it"),
        ({"x": (1, 3), "y": (2, 5)}, "'N' is 2 here and 1 before"),
    ],
)
def test_shapes_that_contradict_the_model_are_refused(shapes: Any, message: str) -> None:
    graph = applied(lambda x, y: ops.Concat(x, y, axis=1), ("N", 3), ("N", "L"))
    with pytest.raises(BadInput, match=re.escape(message)):
        check_shapes(graph, shapes)
    with pytest.raises(BadInput, match=re.escape(message)):
        chosen_shapes(graph, shapes)


def test_given_shapes_on_which_a_node_does_not_fit_are_refused() -> None:
    graph = applied(flattened, ("N", 3, "H", "W"))
    with pytest.raises(BadInput, match="does not fit the shapes given: MatMul"):
        chosen_shapes(graph, {"x": (1, 3, 64, 64)})


def test_shapes_are_read_from_text() -> None:
    given = ["x=1x3x640x640", "a=b=2", "sr="]
    assert parsed_shapes(given) == {"x": (1, 3, 640, 640), "a=b": (2,), "sr": ()}


@pytest.mark.parametrize("text", ["x", "=1x3", "x=1x", "x=1,3", "x=-1", "x=1x²"])
def test_text_that_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="expected NAME=SHAPE, as in x=1x3x640x640"):
        parsed_shapes([text])


def test_a_shape_is_given_once() -> None:
    with pytest.raises(BadInput, match="given twice"):
        parsed_shapes(["x=1", "x=2"])


def test_towers_of_images_and_texts_are_checked_on_batches_that_differ() -> None:
    images, texts = floats("images", 12), floats("texts", 6, 9)
    left = ops.MatMul(images, weight(12, 8))
    pooled = ops.ReduceMean(ops.MatMul(texts, weight(9, 8)), ints(1), keepdims=0)
    scores = ops.MatMul(left, ops.Transpose(pooled, perm=(1, 0)))
    graph = Graph({"image": images, "text": texts}, {"y": scores, "z": ops.Transpose(scores)})
    assert chosen_shapes(graph) == {"image": (2, 12), "text": (3, 6, 9)}
    assert verify(graph, graph).verdict == "pass"


def test_batches_that_must_agree_do() -> None:
    graph = applied(ops.Add, ("N", 3), ("M", 3))
    shapes = chosen_shapes(graph)
    assert shapes["x"] == shapes["y"]


# Nodes that fit nothing, and sizes beyond all bounds


def pooled_too_deep(x: Value) -> Value:
    return ops.LpPool(ops.Squeeze(x), kernel_shape=(3, 3, 3))


def scaled_by_a_number(x: Value) -> Value:
    return ops.Conv(ops.Squeeze(x), ops.Squeeze(x))


def run_on_a_row(x: Value) -> Value:
    return ops.RNN(ops.Squeeze(x), ops.Squeeze(x), ops.Squeeze(x))


@pytest.mark.parametrize("make", [pooled_too_deep, scaled_by_a_number, run_on_a_row])
def test_a_node_that_fits_nothing_is_said_to(make: Callable[..., Value]) -> None:
    with pytest.raises(Unsupported, match="no sizes were found"):
        chosen_shapes(applied(make, ("n", "m")))


def test_a_size_of_more_than_an_array_can_have_is_none() -> None:
    graph = applied(lambda x: ops.Add(ops.Size(x), ops.Shape(x)), ("a", "b", "c", "d", "e", "f"))
    given = {"x": (2**20,) * 6}
    assert chosen_shapes(graph, given) == given


def test_what_a_branch_reads_is_made_to_fit() -> None:
    x, inner, flag = floats("n", 3), floats("n", 3), placeholder(dtype=bool)
    body = Graph({"x": inner}, {"y": ops.MatMul(ops.Reshape(inner, ints(1, 12)), weight(12, 2))})
    chosen = ops.If(flag, x, then_branch=body, else_branch=body, captures=("x",))
    graph = Graph({"flag": flag, "x": x}, {"y": chosen})
    assert chosen_shapes(graph) == {"flag": (), "x": (4, 3)}


def test_what_either_branch_may_make_stays_open() -> None:
    x, inner, flag = floats("n", 3), floats("n", 3), placeholder(dtype=bool)
    bodies = (Graph({"x": inner}, {"y": op(inner)}) for op in (ops.Relu, ops.Neg))
    attrs = dict(zip(("then_branch", "else_branch"), bodies, strict=True))
    y = ops.MatMul(ops.If(flag, x, **attrs, captures=("x",)), weight(3, 2))
    graph = Graph({"flag": flag, "x": x}, {"y": y})
    sizes = Sizes.of(graph)
    assert sizes.type(y).shape == (1, 2)
    assert sizes.whole is sizes.batched is graph
    assert sizes.node(graph.nodes[-1]) is graph.nodes[-1]


def test_a_border_that_mirrors_finds_what_it_mirrors() -> None:
    x = placeholder(1, 1, "length")
    y = ops.Pad(x, ints(0, 0, 128, 0, 0, 96), mode="reflect")
    assert chosen_shapes(Graph({"x": x}, {"y": y}))["x"][2] > 128
