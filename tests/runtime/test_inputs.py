"""What is drawn to check a model with: by what the graph says of its inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto

from redir import ops
from redir.check.outputs import verify
from redir.errors import Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.rewriter import map_constants
from redir.ir.tensor import Array, Dim, Tensor, TensorType
from redir.runtime.inputs import Inputs, normal_feeds, runnable, whole_feeds
from redir.runtime.open_sizes import chosen_shapes
from tests.helpers import const

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.BOOL
Make = Callable[[Value], Value]


def value(dtype: str, *shape: Dim) -> Value:
    return Value(TensorType(np.dtype(dtype), shape))


def table(rows: int, width: int = 3) -> Value:
    return const(np.random.default_rng(0).standard_normal((rows, width)))


def drawn(
    make: Make, dtype: str = "int64", shape: tuple[Dim, ...] = ("N", 50), name: str = "x"
) -> Array:
    """What is drawn for the one input of a graph, over four samples."""
    x = value(dtype, *shape)
    graph = Graph({name: x}, {"y": make(x)})
    inputs = Inputs(graph, chosen_shapes(graph))
    arrays = [inputs.sample(0, number)[name] for number in range(4)]
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}
    return np.stack(arrays)


# Indices


def at_once(x: Value) -> Value:
    return ops.Gather(table(1000), x)


def behind_a_cast(x: Value) -> Value:
    flat = ops.Reshape(ops.Cast(x, to=INT), const([-1], "int64"))
    return ops.Gather(table(1000), flat)


def padded(x: Value) -> Value:
    both = ops.Concat(x, const(np.zeros((2, 1)), "int64"), axis=1)
    return ops.Gather(table(1000), both)


def elements(x: Value) -> Value:
    return ops.GatherElements(table(1000, 50), x, axis=0)


def one_hot(x: Value) -> Value:
    return ops.OneHot(x, const(1000, "int64"), const([0, 1]))


@pytest.mark.parametrize("make", [at_once, behind_a_cast, padded, elements, one_hot])
def test_ids_are_of_the_whole_table(make: Make) -> None:
    ids = drawn(make, shape=(2, 50))
    assert ids.min() >= 0
    assert 900 < ids.max() < 1000


def test_ids_that_are_shifted_fit_the_table() -> None:
    ids = drawn(lambda x: ops.Gather(table(100), ops.Add(x, const(2, "int64"))))
    assert (ids.min(), ids.max()) == (0, 97)


def test_of_two_tables_the_smaller_counts() -> None:
    def both(x: Value) -> Value:
        return ops.Add(ops.Gather(table(100), x), ops.Gather(table(7), x))

    assert set(np.unique(drawn(both))) == set(range(7))


def test_the_ids_of_padding_are_among_those_drawn() -> None:
    def skipped(x: Value) -> Value:
        kept = ops.Unsqueeze(ops.Not(ops.Equal(x, const(1, "int64"))), const([2], "int64"))
        return ops.Where(kept, ops.Gather(table(30000), x), const(0.0))

    ids = drawn(skipped)
    assert 0.05 < (ids == 1).mean() < 0.2
    assert ids.max() > 20000


def test_how_many_are_taken_is_no_more_than_there_are() -> None:
    def largest(k: Value) -> Value:
        return Node(ops.TopK, (table(9, 5), ops.Reshape(k, const([1], "int64"))), arity=2).outputs[
            0
        ]

    counts = drawn(largest, shape=())
    assert counts.min() >= 1
    assert counts.max() <= 5


# Masks and lengths


def inverted(x: Value) -> Value:
    return ops.Mul(ops.Sub(const(1.0), ops.Cast(x, to=FLOAT)), const(-1e9))


def true_or_false(x: Value) -> Value:
    return ops.Cast(x, to=BOOL)


def compared(x: Value) -> Value:
    return ops.Equal(x, const(0, "int64"))


def over_zero(x: Value) -> Value:
    return ops.Greater(x, const(0, "int64"))


MASKS = [inverted, true_or_false, compared, over_zero]


@pytest.mark.parametrize("make", MASKS)
def test_a_mask_is_told_by_what_reads_it(make: Make) -> None:
    masks = drawn(make)
    assert set(np.unique(masks)) == {0, 1}
    assert masks.any(-1).all()
    assert not masks.all(-1).any()


@pytest.mark.parametrize("name", ["mask", "attention_mask", "pad.mask"])
@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_a_mask_is_told_by_its_name(name: str, dtype: str) -> None:
    masks = drawn(lambda x: ops.Cast(x, to=FLOAT), dtype, name=name)
    assert set(np.unique(masks)) == {0, 1}
    assert masks.any(-1).all()


def test_a_mask_of_floats_is_told_by_what_reads_it() -> None:
    masks = drawn(lambda x: ops.Mul(ops.Sub(const(1.0), x), const(-1e4)), "float32")
    assert set(np.unique(masks)) == {0, 1}


def test_a_row_of_one_is_used() -> None:
    assert drawn(inverted, shape=(3, 1)).all()


def test_token_types_are_of_their_table() -> None:
    types = drawn(lambda x: ops.Gather(table(2), x))
    assert set(np.unique(types)) == {0, 1}


def within(x: Value) -> Value:
    """Places of an axis of nine that are before the length of each example."""
    places = const(np.arange(9), "int64")
    return ops.Less(places, ops.Unsqueeze(x, const([1], "int64")))


def test_lengths_are_of_the_axis() -> None:
    lengths = drawn(within, shape=(40,))
    assert (lengths.min(), lengths.max()) == (1, 9)


def test_lengths_of_a_recurrent_layer_are_of_its_axis() -> None:
    def read(lengths: Value) -> Value:
        x = const(np.ones((6, 20, 3)))
        weights = (const(np.ones((1, 4, 3))), const(np.ones((1, 4, 4))), ops.Absent())
        return ops.RNN(x, *weights, ops.Cast(lengths, to=INT), hidden_size=4)

    lengths = drawn(read, shape=(20,))
    assert (lengths.min(), lengths.max()) == (1, 6)


def test_a_mode_is_one_that_the_model_tells_from_others() -> None:
    def rate(x: Value) -> Value:
        slow, fast = (ops.Equal(x, const(hertz, "int64")) for hertz in (8000, 16000))
        return ops.Or(slow, fast)

    assert set(drawn(rate, shape=()).tolist()) == {8000, 16000}


def test_a_branch_says_what_it_reads() -> None:
    inner, outer, chosen = value("int64", 50), value("int64", 50), value("bool")
    body = Graph({"i": inner}, {"y": ops.Gather(table(1000), inner)})
    attrs = {"then_branch": body, "else_branch": body, "captures": ("i",)}
    graph = Graph({"x": outer, "c": chosen}, {"y": Node(ops.If, (chosen, outer), attrs).outputs[0]})
    assert Inputs(graph, chosen_shapes(graph)).sample(0, 0)["x"].max() > 500


def test_bytes_are_of_all_values() -> None:
    found = drawn(lambda x: ops.Cast(x, to=FLOAT), "uint8", (2, 500))
    assert (found.min(), found.max()) == (0, 255)


# Floats


def test_floats_are_of_several_distributions() -> None:
    rows = drawn(ops.Relu, "float32", (1, 1000))[:, 0]
    assert abs(rows[0].std() - 1) < 0.1
    assert 0 <= rows[1].min() < rows[1].max() <= 1
    assert (rows[2] == 0).mean() > 0.8
    assert rows[3].std() > 3


def test_the_examples_of_a_batch_are_of_several_distributions() -> None:
    first = drawn(ops.Relu, "float32", ("N", 1000))[0]
    assert first[0].min() < 0 <= first[1].min()


@pytest.mark.parametrize(
    "make",
    [
        lambda x: ops.Div(x, const(255.0)),
        lambda x: ops.Mul(x, const(1 / 255)),
        lambda x: ops.Sub(x, const(np.full((3, 1, 1), 127.5))),
    ],
)
def test_pixels_are_as_large_as_the_graph_takes_them_for(make: Make) -> None:
    pixels = drawn(make, "float32", (1, 3, 16, 16))
    assert 0 <= pixels.min() < 2
    assert 250 < pixels.max() <= 255.1


@pytest.mark.parametrize("make", [ops.Log, ops.Sqrt])
def test_what_has_a_root_is_positive(make: Make) -> None:
    assert drawn(make, "float32").min() >= 0


# Feeds


def test_whole_feeds_are_whole_and_fit_the_graph() -> None:
    ids, x = value("int64", "N", "L"), value("float32", "N", 3)
    graph = Graph({"ids": ids, "x": x}, {"y": ops.Gather(table(2), ids), "z": ops.Relu(x)})
    feeds = whole_feeds(graph, 0)
    assert set(np.unique(feeds["ids"])) <= {0, 1}
    assert feeds["x"].tolist() == np.round(feeds["x"]).tolist()
    assert np.abs(feeds["x"]).max() <= 4


def test_seeds_differ_and_are_repeatable() -> None:
    graph = Graph({"x": (x := value("float32", 5))}, {"y": ops.Relu(x)})
    first, again, other = (normal_feeds(graph, seed)["x"].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_an_input_of_unknown_type_needs_arrays() -> None:
    x = Value(TensorType(shape=(2,)))
    with pytest.raises(Unsupported, match="give arrays for it"):
        normal_feeds(Graph({"x": x}, {"x": x}), 0)


def encoder() -> Graph:
    """Attention of one head, in which a mask hides what is padding; the mean of what is kept."""
    rng = np.random.default_rng(0)
    ids, mask = value("int64", "batch", "length"), value("int64", "batch", "length")
    x = ops.Gather(const(rng.standard_normal((500, 8))), ids)
    kept = ops.Cast(mask, to=FLOAT)
    query, key, read = (ops.MatMul(x, const(rng.standard_normal((8, 8)))) for _ in range(3))
    hidden = ops.Mul(ops.Sub(const(1.0), ops.Unsqueeze(kept, const([1], "int64"))), const(-1e9))
    scores = ops.Add(ops.MatMul(query, ops.Transpose(key, perm=(0, 2, 1))), hidden)
    mixed = ops.MatMul(ops.Softmax(scores), read)
    return Graph({"input_ids": ids, "attention_mask": mask}, {"y": mixed})


def test_the_check_of_an_encoder_with_a_mask_is_not_void() -> None:
    graph = encoder()

    def moved(_: Value, tensor: Tensor) -> Tensor | None:
        larger = tensor.array.shape == (8, 8)
        return Tensor(tensor.array * np.float32(1.01)) if larger else None

    assert verify(graph, map_constants(graph, moved)).verdict == "fail"
    (feeds,) = runnable(graph, lambda given: evaluate(graph, given), 1)
    assert np.isfinite(evaluate(graph, feeds)["y"]).all()


# Nodes that nothing can run


def far_axis(x: Value) -> Value:
    return ops.GatherElements(table(4, 4), ops.Reshape(x, const([-1, 1], "int64")), axis=5)


def huge(x: Value) -> Value:
    return ops.Add(x, const(2.0**62, "int64"))


def beyond_the_type(x: Value) -> Value:
    return ops.Gather(table(1000), ops.Cast(x, to=TensorProto.INT64))


ODD = [(far_axis, "int64"), (huge, "int64"), (beyond_the_type, "int8")]


@pytest.mark.parametrize(("make", "dtype"), ODD)
def test_odd_nodes_are_no_errors_of_ours(make: Make, dtype: str) -> None:
    x = value(dtype, 2, 3)
    graph = Graph({"x": x}, {"y": make(x)})
    assert Inputs(graph, {"x": (2, 3)}).sample(0, 0)["x"].shape == (2, 3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("number", [1e-320, 1e300, 6e4])
@pytest.mark.parametrize("op", ["Mul", "Div", "Add", "Sub"])
def test_bounds_beyond_a_type_are_none(op: str, number: float, dtype: str) -> None:
    x = value(dtype, 2, 3)
    with np.errstate(over="ignore"):
        by = const(np.asarray(number).astype(dtype), dtype)
    graph = Graph({"x": x}, {"y": ops.Sqrt(getattr(ops, op)(x, by))})
    assert np.isfinite(Inputs(graph, {"x": (2, 3)}).normal(0)["x"]).all()
