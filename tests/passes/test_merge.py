"""merge: what it leaves alone, planted duplicates, the conformance kit."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redir import ops
from redir.errors import BadPipeline
from redir.ir import Graph, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, Tensor
from redir.passes.merge import Merge, value_numbering
from redir.passes.merge.value_numbering import Numbers
from redir.pipeline import Pipeline
from redir.runtime.float64 import widened
from redir.runtime.inputs import normal_feeds
from redir.testing import check_on, check_pass, graphs, plant_duplicates
from tests.helpers import const, one_of_three, placeholder
from tests.steps import STEPS

NUMBERS = [0.0, -0.0, 1.0, 2.0, -4.0, 3.0, 0.75, 3e38, np.inf, np.nan]

X = placeholder(1, 1, 3, 3)
FLAT = placeholder(1, 2)


def conv(x: Value, rows: object, *bias: Value) -> Value:
    """A 1x1 convolution by a matrix."""
    return ops.Conv(x, const(np.array(rows)[:, :, None, None]), *bias)


def of(y: Value, **more: Value) -> Graph:
    return Graph({"x": X}, {"y": y, **more})


EQUAL = conv(X, [[1], [1]])
DOUBLE = conv(X, [[1], [2]])
SUM = [[3, 4]]


def test_the_channels_that_the_cases_below_spoil_merge() -> None:
    assert widths(check_on(Merge(), of(conv(EQUAL, SUM)))) == [(1, 1, 1, 1), (1, 1, 1, 1)]


def widths(graph: Graph) -> list[Sequence[int | str | None] | None]:
    return [n.outputs[0].type.shape for n in graph.nodes if n.op == ops.Const]


def captured() -> Value:
    a, b = Value(EQUAL.type), Value(EQUAL.type)
    flag = const(array=True, dtype="bool")
    then, other = Graph({"a": a}, {"y": ops.Relu(a)}), Graph({"a": b}, {"y": ops.Neg(b)})
    return ops.If(flag, EQUAL, captures=("a",), then_branch=then, else_branch=other)


def read_in_two_ways() -> Value:
    w = const(np.ones((2, 2, 1, 1)))
    return conv(ops.Mul(ops.Conv(EQUAL, w), ops.ReduceSum(w, keepdims=1)), SUM)


def crossed() -> Value:
    """Channel i of one operand meets channel 1 - i of the other, and they are equal in one only."""
    a, b = conv(X, [[1]]), conv(X, [[1]])
    return ops.Add(ops.Concat(a, b, axis=1), conv(X, [[5], [7]]))


LEFT_ALONE = {
    "weights differ": conv(conv(X, [[1], [3]]), SUM),
    "biases differ": conv(conv(X, [[1], [1]], const([0, 1])), SUM),
    "one producer of two differs": conv(ops.Add(EQUAL, conv(X, [[5], [7]])), SUM),
    "slopes differ": conv(ops.PRelu(EQUAL, const([[[1]], [[2]]])), SUM),
    "scales differ": conv(ops.Mul(EQUAL, const([[[[1]], [[3]]]])), SUM),
    "weights are not numbers": conv(conv(X, [[np.nan], [np.nan]]), SUM),
    "depthwise weights differ": conv(ops.Conv(EQUAL, const([[[[1]]], [[[3]]]])), SUM),
    "graph output": EQUAL,
    "graph output behind an activation": ops.Relu(EQUAL),
    "equal channels in different groups": ops.Conv(
        conv(X, [[1], [2], [1], [3]]), const([[[[1]], [[2]]]] * 2)
    ),
    "equal rows of different groups": conv(
        ops.Conv(conv(X, [[1], [2], [3], [5]]), const([[[[1]], [[2]]]] * 2)), [[1, 2]]
    ),
    "softmax over channels": conv(ops.Softmax(EQUAL, axis=1), SUM),
    "mean over channels": ops.ReduceMean(EQUAL, const([1], "int64")),
    "layer norm over channels": ops.LayerNormalization(EQUAL, const([1, 1, 1]), axis=-1),
    "slice of channels": ops.Slice(EQUAL, *(const([n], "int64") for n in (0, 1, 1))),
    "captured by a body": conv(captured(), SUM),
    "weight read in two ways": read_in_two_ways(),
    "orders of the blocks differ": conv(crossed(), SUM),
    "unknown operator": conv(ops.opaque("Mix", "custom", 1, [EQUAL.type])(EQUAL), SUM),
    "sums overflow": conv(EQUAL, [[3e38, 3e38]]),
    "constant border and constant channel": conv(
        ops.Add(ops.Pad(conv(X, [[0]]), const([0, 0, 0, 0, 0, 1, 0, 0], "int64")), EQUAL), SUM
    ),
}


def channels(*numbers: object) -> Value:
    """A number for each channel."""
    return const(np.array(numbers)[:, None, None])


HOMOGENEOUS: dict[str, Value] = {
    "abs": ops.Abs(DOUBLE),
    "leaky relu": ops.LeakyRelu(DOUBLE, alpha=0.25),
    "prelu of one slope": ops.PRelu(DOUBLE, channels(3, 3)),
    "max pool": ops.MaxPool(DOUBLE, kernel_shape=(2, 2), pads=(1, 1, 0, 0)),
    "average pool": ops.AveragePool(DOUBLE, kernel_shape=(2, 2)),
    "global pool": ops.GlobalAveragePool(DOUBLE),
    "pad with zeros": ops.Pad(DOUBLE, const([0, 0, 1, 1, 0, 0, 1, 1], "int64")),
    "pad with a reflection": ops.Pad(
        DOUBLE, const([0, 0, 1, 1, 0, 0, 1, 1], "int64"), mode="reflect"
    ),
    "mean of a row": ops.ReduceMean(DOUBLE, const([2], "int64")),
    "equal scales": ops.Mul(DOUBLE, channels(3, 3)),
    "one scale": ops.Mul(DOUBLE, const(3)),
    "other scales": ops.Mul(DOUBLE, channels(8, 1)),
    "a division": ops.Div(DOUBLE, channels(4, 4)),
    "streams of one factor": ops.Sub(DOUBLE, conv(X, [[-3], [-6]])),
    "constant that is as much longer": ops.Add(DOUBLE, channels(-1, -2)),
    "square": ops.Mul(DOUBLE, DOUBLE),
    "gate": ops.Mul(DOUBLE, ops.Sigmoid(EQUAL)),
    "batch norm": ops.BatchNormalization(
        DOUBLE, const([3, 3]), const([1, 2]), const([5, 10]), const([1, 1])
    ),
    "scales and shifts of a batch norm": ops.BatchNormalization(
        EQUAL, const([3, 6]), const([1, 2]), const([5, 5]), const([1, 1])
    ),
    "depthwise": ops.Conv(DOUBLE, const([[[[1]]], [[[4]]]]), const([-1, -8])),
    "where": ops.Where(const(array=True, dtype="bool"), DOUBLE, ops.Relu(DOUBLE)),
    "zero biases": ops.Add(DOUBLE, conv(X, [[0], [0]])),
    "flattened": ops.Unsqueeze(ops.Flatten(DOUBLE), const([2, 3], "int64")),
    "tiles": ops.Tile(DOUBLE, const([1, 1, 2, 2], "int64")),
    "an expanded pool": ops.Expand(ops.GlobalAveragePool(DOUBLE), const([1, 2, 3, 3], "int64")),
    "a triangle": ops.Trilu(DOUBLE),
    "space to depth": ops.SpaceToDepth(DOUBLE, blocksize=3),
    "a crop": ops.CenterCropPad(DOUBLE, const([2, 2], "int64"), axes=(2, 3)),
    "sums that run": ops.CumSum(DOUBLE, const(2, "int64")),
    "some rows": ops.Compress(DOUBLE, const([True, False, True], "bool"), axis=2),
    "rows reversed": ops.ReverseSequence(DOUBLE, const([3], "int64"), batch_axis=0, time_axis=2),
    "samples": ops.GridSample(DOUBLE, const(np.full((1, 2, 2, 2), 0.5))),
    "regions": ops.RoiAlign(DOUBLE, const([[0, 0, 2, 2]]), const([0], "int64")),
}


@pytest.mark.parametrize("through", HOMOGENEOUS)
def test_multiples_merge_through(through: str) -> None:
    y = HOMOGENEOUS[through]
    reader = const(np.arange(y.type.size(1) or 0)[None, :, None, None])
    after = check_on(Merge(), of(ops.Conv(y, reader)))
    assert {shape[0] for shape in map(tuple, filter(None, widths(after))) if len(shape) == 4} == {1}


def test_multiples_merge_through_a_resize() -> None:
    y = ops.Resize(DOUBLE, ops.Absent(), const([1, 1, 2, 2]), mode="linear")
    assert widths(Merge()(of(conv(y, SUM)))) == [(1, 1, 1, 1), (4,), (1, 1, 1, 1)]


def test_multiples_merge_through_blocks_of_channels() -> None:
    y = ops.DepthToSpace(conv(X, [[1], [2]] * 4), blocksize=2)
    assert widths(check_on(Merge(), of(conv(y, SUM)))) == [(4, 1, 1, 1), (1, 1, 1, 1)]


MULTIPLES_LEFT_ALONE = {
    "negative": conv(X, [[1], [-2]]),
    "zero": conv(X, [[1], [0]]),
    "bias not scaled": conv(X, [[1], [2]], const([1, 1])),
    "bias zero in one": conv(X, [[1], [2]], const([0, 1])),
    "sigmoid": ops.Sigmoid(DOUBLE),
    "hard swish": ops.HardSwish(DOUBLE),
    "clip": ops.Clip(DOUBLE, const(0), const(6)),
    "exponential": ops.Exp(DOUBLE),
    "rounding": ops.Round(DOUBLE),
    "scalar added": ops.Add(DOUBLE, const(1)),
    "equal constants added": ops.Add(DOUBLE, channels(1, 1)),
    "larger than a scalar": ops.Max(DOUBLE, const(1)),
    "streams of different factors": ops.Add(DOUBLE, conv(X, [[4], [4]])),
    "slopes differ": ops.PRelu(DOUBLE, channels(1, 2)),
    "divisor": ops.Div(const([[[[1]]]]), ops.Add(DOUBLE, channels(16, 32))),
    "divided by itself": ops.Add(ops.Div(DOUBLE, DOUBLE), ops.Identity(DOUBLE)),
    "border of ones": ops.Pad(DOUBLE, const([0, 0, 1, 1, 0, 0, 1, 1], "int64"), const(1)),
    "swish": ops.Mul(DOUBLE, ops.Sigmoid(DOUBLE)),
    "softmax over places": ops.Softmax(DOUBLE, axis=2),
    "variances differ": ops.BatchNormalization(
        DOUBLE, const([3, 3]), const([1, 2]), const([5, 10]), const([1, 4])
    ),
    "means not scaled": ops.BatchNormalization(
        DOUBLE, const([3, 3]), const([1, 2]), const([5, 5]), const([1, 1])
    ),
    "instance norm": ops.InstanceNormalization(DOUBLE, const([3, 3]), const([1, 1])),
    "sum of squares": ops.ReduceSumSquare(DOUBLE, const([2], "int64")),
    "cast": ops.Cast(ops.Cast(DOUBLE, to=7), to=1),
}


@pytest.mark.parametrize("why", MULTIPLES_LEFT_ALONE)
def test_multiples_are_left_alone(why: str) -> None:
    graph = of(conv(MULTIPLES_LEFT_ALONE[why], SUM))
    assert Merge()(graph) is graph


def test_multiples_whose_slices_would_overflow_are_left_alone() -> None:
    graph = of(conv(conv(X, [[1], [2.0**100]]), [[1, 1e20]]))
    assert Merge()(graph) is graph


def test_multiples_whose_slices_would_be_rounded_are_left_alone() -> None:
    x = placeholder(1, 1, dtype=np.float16)
    first = ops.MatMul(x, const([[1, 2.0**-10]], "float16"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[1], [0.001]], "float16"))})
    assert Merge()(graph) is graph


def test_rows_that_scaling_would_round_are_left_alone() -> None:
    x = placeholder(1, 2, dtype=np.float16)
    tiny = 2.0**-24
    first = ops.MatMul(x, const([[1024, 1], [tiny, 0]], "float16"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[1], [2]], "float16"))})
    assert Merge()(graph) is graph


def test_multiples_of_integers_are_left_alone() -> None:
    x = placeholder(1, 1, dtype=np.int64)
    first = ops.MatMul(x, const([[1, 2]], "int64"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[1], [1]], "int64"))})
    assert Merge()(graph) is graph


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_multiples_merge_in(dtype: str) -> None:
    x = placeholder(1, 1, dtype=dtype)
    first = ops.MatMul(x, const([[3, 0.75]], dtype))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[1], [2]], dtype))})
    assert [n.attrs["value"].array.tolist() for n in Merge()(graph).nodes[::2][:1]] == [[[3]]]
    assert Merge()(graph).nodes[2].attrs["value"].array.tolist() == [[1.5]]


def test_a_shared_weight_that_reads_multiples_is_narrowed_once() -> None:
    w = const(np.outer([1, 2], [1, 1])[:, :, None, None])
    after = check_on(Merge(), of(conv(ops.Conv(ops.Conv(DOUBLE, w), w), SUM)))
    assert widths(after) == [(1, 1, 1, 1)] * 3


def test_a_shared_weight_that_reads_different_multiples_is_left_alone() -> None:
    w = const([[[[1]], [[3]]]])
    graph = of(ops.Add(ops.Conv(DOUBLE, w), ops.Conv(conv(X, [[1], [4]]), w)))
    assert Merge()(graph) is graph


# An operand that a Concat repeats

PAIR = placeholder(1, 2, 3, 3)
TWICE = ops.Concat(PAIR, PAIR, axis=1)
FOUR = [[1, 2, 3, 4]]
REPEATS: dict[str, Value] = {
    "nothing": conv(TWICE, FOUR),
    "relu": conv(ops.Relu(TWICE), FOUR),
    "sigmoid": conv(ops.Sigmoid(TWICE), FOUR),
    "pool": conv(ops.MaxPool(TWICE, kernel_shape=(2, 2)), FOUR),
    "flatten": ops.Gemm(ops.Flatten(TWICE), const(np.arange(36)[:, None])),
    "scales in proportion": conv(ops.Mul(TWICE, channels(1, 2, 4, 8)), FOUR),
    "equal stream": conv(ops.Add(TWICE, conv(PAIR, [[1, 2], [3, 4]] * 2)), FOUR),
    "two sums": conv(ops.Add(TWICE, ops.Relu(TWICE)), FOUR),
    "last axis": ops.MatMul(ops.Concat(PAIR, PAIR, axis=3), const(np.arange(6)[:, None])),
    "three times": conv(ops.Concat(PAIR, PAIR, PAIR, axis=1), [[1, 2, 3, 4, 5, 6]]),
    "with another between": conv(
        ops.Concat(PAIR, ops.Neg(PAIR), PAIR, axis=1), [[1, 2, 3, 4, 5, 6]]
    ),
    "twice over": conv(ops.Concat(TWICE, TWICE, axis=1), [[1, 2, 3, 4, 5, 6, 7, 8]]),
}


def of_pair(y: Value, **more: Value) -> Graph:
    return Graph({"x": PAIR}, {"y": y, **more})


def repeated(graph: Graph) -> int:
    """How many operands of a Concat are there a second time."""
    joins = [node.inputs for node in graph.nodes if node.op == ops.Concat]
    return sum(len(inputs) - len(set(inputs)) for inputs in joins)


@pytest.mark.parametrize("through", REPEATS)
def test_a_repeated_operand_goes_behind(through: str) -> None:
    assert repeated(check_on(Merge(), of_pair(REPEATS[through]))) == 0


REPEATS_LEFT_ALONE: dict[str, Value] = {
    "returned": TWICE,
    "softmax": conv(ops.Softmax(TWICE, axis=1), FOUR),
    "norm over channels": ops.MatMul(
        ops.LayerNormalization(ops.Concat(PAIR, PAIR, axis=3), const(np.ones(6)), axis=-1),
        const(np.arange(6)[:, None]),
    ),
    "grouped reader": ops.Conv(TWICE, const([[[[1]], [[2]]], [[[3]], [[4]]]])),
    "scales of another proportion": conv(ops.Mul(TWICE, channels(1, 2, 3, 6)), FOUR),
    "scales of one differ": conv(ops.Mul(TWICE, channels(1, 2, 1, 3)), FOUR),
    "constants differ": conv(ops.Add(TWICE, channels(1, 2, 1, 3)), FOUR),
    "another stream": conv(ops.Add(TWICE, conv(PAIR, [[1, 2], [3, 4], [5, 6], [1, 0]])), FOUR),
    "tied to its operand": conv(
        ops.Add(ops.Slice(TWICE, *(const([n], "int64") for n in (0, 2, 1))), PAIR), [[1, 2]]
    ),
    "along places": conv(ops.Concat(PAIR, PAIR, axis=2), [[1, 2]]),
    "sums overflow": conv(TWICE, [[3e38, 2, 3e38, 4]]),
}


@pytest.mark.parametrize("why", REPEATS_LEFT_ALONE)
def test_a_repeated_operand_stays(why: str) -> None:
    graph = of_pair(REPEATS_LEFT_ALONE[why])
    assert Merge()(graph) is graph


def test_a_repeated_operand_stays_if_the_concat_is_returned() -> None:
    graph = of_pair(conv(TWICE, FOUR), z=TWICE)
    assert Merge()(graph) is graph


# Equal columns: channels are added before

ANY = conv(X, [[1], [-3]], const([1, 1]))
ALIKE = [[5, 5], [7, 7]]
LINEAR: dict[str, Value] = {
    "nothing": ANY,
    "average pool": ops.AveragePool(ANY, kernel_shape=(2, 2)),
    "global pool": ops.GlobalAveragePool(ANY),
    "pad with zeros": ops.Pad(ANY, const([0, 0, 1, 1, 0, 0, 1, 1], "int64")),
    "mean of a row": ops.ReduceMean(ANY, const([2], "int64")),
    "sum of a row": ops.ReduceSum(ANY, const([2], "int64")),
    "negation": ops.Neg(ANY),
    "equal scales": ops.Mul(ANY, channels(3, 3)),
    "one scale": ops.Mul(const(3), ANY),
    "equal divisors": ops.Div(ANY, channels(4, 4)),
    "another stream": ops.Sub(conv(X, [[4], [6]]), ANY),
    "a constant for each": ops.Add(ANY, channels(2, 5)),
    "equal depthwise kernels": ops.Conv(ANY, const([[[[2]]], [[[2]]]]), const([1, 3])),
    "batch norm": ops.BatchNormalization(
        ANY, const([3, 3]), const([1, 5]), const([5, 7]), const([2, 2])
    ),
    "transposition": ops.Transpose(ANY, perm=(0, 1, 3, 2)),
    "slice of places": ops.Slice(ANY, *(const([n], "int64") for n in (0, 2, 2))),
}


@pytest.mark.parametrize("through", LINEAR)
def test_channels_are_added_through(through: str) -> None:
    after = check_on(Merge(), of(conv(LINEAR[through], ALIKE)))
    assert (2, 1, 1, 1) in widths(after)
    assert (1, 1, 1, 1) in widths(after)


def read_twice() -> Value:
    """One reader adds up its channels, the other has slices of its own for each."""
    return ops.Add(conv(ANY, ALIKE), conv(ANY, [[1, 2], [1, 2]]))


ADDED_LEFT_ALONE: dict[str, Value] = {
    "columns differ": conv(ANY, [[5, 5], [7, 8]]),
    "columns are opposite": conv(ANY, [[5, -5], [7, -7]]),
    "another reader": read_twice(),
    "relu": conv(ops.Relu(ANY), ALIKE),
    "absolute value": conv(ops.Abs(ANY), ALIKE),
    "max pool": conv(ops.MaxPool(ANY, kernel_shape=(2, 2)), ALIKE),
    "larger of two": conv(ops.Max(ANY, conv(X, [[4], [6]])), ALIKE),
    "scales differ": conv(ops.Mul(ANY, channels(1, 3)), ALIKE),
    "divisors differ": conv(ops.Div(ANY, channels(1, 3)), ALIKE),
    "product of streams": conv(ops.Mul(ANY, conv(X, [[4], [6]])), ALIKE),
    "square": conv(ops.Mul(ANY, ANY), ALIKE),
    "divided by itself": conv(ops.Div(ANY, ANY), ALIKE),
    "scalar added": conv(ops.Add(ANY, const(1)), ALIKE),
    "border of ones": conv(ops.Pad(ANY, const([0, 0, 1, 1, 0, 0, 1, 1], "int64"), const(1)), ALIKE),
    "variances differ": conv(
        ops.BatchNormalization(ANY, const([3, 3]), const([1, 5]), const([5, 7]), const([2, 3])),
        ALIKE,
    ),
    "depthwise kernels differ": conv(ops.Conv(ANY, const([[[[2]]], [[[3]]]])), ALIKE),
    "one of two streams": ops.Add(conv(ANY, ALIKE), conv(ops.Relu(ANY), ALIKE)),
    "slice of channels": conv(ops.Slice(ANY, *(const([n], "int64") for n in (0, 1, 1))), [[5]]),
    "rows overflow": conv(conv(X, [[3e38], [2e38]]), ALIKE),
    "rows are not finite": conv(conv(X, [[np.inf], [1]]), ALIKE),
    "columns are not numbers": conv(ANY, [[np.nan, np.nan], [1, 1]]),
    "unknown operator": conv(ops.opaque("Mix", "custom", 1, [ANY.type])(ANY), ALIKE),
}


@pytest.mark.parametrize("why", ADDED_LEFT_ALONE)
def test_equal_columns_are_left_alone(why: str) -> None:
    graph = of(ADDED_LEFT_ALONE[why])
    assert Merge()(graph) is graph


def test_channels_that_are_also_returned_are_not_added() -> None:
    graph = of(conv(ANY, ALIKE), z=ANY)
    assert Merge()(graph) is graph


def test_rows_that_are_also_returned_are_not_added() -> None:
    w = const([[[[1]]], [[[3]]]])
    graph = of(conv(ops.Conv(X, w), ALIKE), w=w)
    assert Merge()(graph) is graph


def test_rows_that_are_also_scales_are_not_added() -> None:
    w = const([[[[3]]], [[[3]]]])
    graph = of(conv(ops.Conv(ops.Conv(X, w, const([1, 5])), w), ALIKE))
    assert Merge()(graph) is graph


def test_integers_are_not_added() -> None:
    x = placeholder(1, 1, dtype=np.int64)
    first = ops.MatMul(x, const([[1, 3]], "int64"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[1], [1]], "int64"))})
    assert Merge()(graph) is graph


def test_rows_of_a_shared_weight_are_added_once() -> None:
    w = const([[[[1]]], [[[3]]]])
    y = ops.Add(conv(ops.Conv(X, w), ALIKE), conv(ops.Conv(ops.Relu(X), w), ALIKE))
    assert widths(check_on(Merge(), of(y)))[0] == (1, 1, 1, 1)


def test_added_rows_are_rounded_once() -> None:
    x = placeholder(1, 2, dtype=np.float16)
    first = ops.MatMul(x, const([[2048, 1, 1], [1, 2, -3]], "float16"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[3], [3], [3]], "float16"))})
    assert Merge()(graph).nodes[0].attrs["value"] == Tensor(np.array([[2050], [0]], np.float16))


def test_channels_whose_blocks_are_crossed_are_not_added() -> None:
    a, b = conv(X, [[1], [2]]), conv(X, [[3], [4]])
    once, twice = ops.Concat(a, b, axis=1), ops.Concat(b, a, axis=1)
    groups = ops.Conv(ops.Add(once, twice), const([[[[1]], [[2]]]] * 2))
    check_on(Merge(), of(conv(groups, [[1, 1]])))


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_left_alone(why: str) -> None:
    graph = of(LEFT_ALONE[why])
    assert Merge()(graph) is graph


def test_a_channel_that_is_also_returned_is_left_alone() -> None:
    graph = of(conv(EQUAL, SUM), z=EQUAL)
    assert Merge()(graph) is graph


def test_a_weight_that_is_also_returned_is_left_alone() -> None:
    w = const([[[[1]]], [[[1]]]])
    graph = of(conv(ops.Conv(X, w), SUM), w=w)
    assert Merge()(graph) is graph


def test_a_weight_that_may_be_overridden_is_left_alone() -> None:
    w = placeholder(2, 1, 1, 1)
    y = conv(ops.Conv(X, w), SUM)
    given_weight = {"w": Tensor(np.ones((2, 1, 1, 1), np.float32))}
    graph = Graph({"x": X, "w": w}, {"y": y}, defaults=given_weight)
    assert Merge()(graph) is graph


def test_a_shared_weight_is_narrowed_once() -> None:
    w = const(np.ones((2, 2, 1, 1)))
    after = check_on(Merge(), of(conv(ops.Conv(ops.Conv(EQUAL, w), w), SUM)))
    assert widths(after) == [(1, 1, 1, 1)] * 3


def test_rows_of_a_gemm_with_different_biases_are_left_alone() -> None:
    rows = ops.Gemm(const(np.ones((4, 1))), FLAT, const(np.arange(8).reshape(4, 2)))
    y = ops.Gemm(rows, const(np.arange(12).reshape(4, 3)), transA=1)
    graph = Graph({"x": FLAT}, {"y": y})
    assert Merge()(graph) is graph


def test_half_precision_sums_are_rounded_once() -> None:
    x = placeholder(1, 1, dtype=np.float16)
    first = ops.MatMul(x, const([[1, 1, 1]], "float16"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[2048], [1], [1]], "float16"))})
    (_, _, w, _) = Merge()(graph).nodes
    assert w.attrs["value"] == Tensor(np.array([[2050]], np.float16))


def test_pinned_channels_are_explained() -> None:
    assert any("graph output 'y'" in line for line in Merge().explain(of(EQUAL)))


def test_keeps_its_promises() -> None:
    check_pass(Merge())


@pytest.mark.parametrize("always", one_of_three(STEPS["merge"]), ids=", ".join)
def test_keeps_its_promises_on(always: tuple[str, ...]) -> None:
    check_pass(Merge(), graphs(*always))


def test_reads_back_from_its_text() -> None:
    assert Pipeline.parse(str(Merge())).passes == (Merge(),)


def test_has_no_other_options() -> None:
    with pytest.raises(BadPipeline, match=r"no option 'bandwidth'"):
        Pipeline.parse("merge{bandwidth=0.1}")


# Planted duplicates


def residual_net(seed: int, *, flatten: bool) -> Graph:
    """Convolutions, norms, a residual stream that widens by a channel Pad, depthwise, a head."""
    rng = np.random.default_rng(seed)
    x = placeholder(1, 3, 8, 8)

    def weight(*shape: int) -> Value:
        return const(rng.normal(size=shape))

    def block(v: Value, out: int, k: int = 3, stride: int = 1) -> Value:
        w = weight(out, v.type.size(1) or 0, k, k)
        y = ops.Conv(v, w, weight(out), pads=(k // 2,) * 4, strides=(stride, stride))
        return ops.BatchNormalization(y, *(weight(out) for _ in "sbm"), const(rng.random(out) + 1))

    def depthwise(v: Value) -> Value:
        return ops.Relu(ops.Conv(v, weight(v.type.size(1) or 0, 1, 3, 3), pads=(1, 1, 1, 1)))

    stem = ops.Relu(block(x, 6))
    first = ops.Relu(ops.Add(block(ops.Relu(block(stem, 5)), 6), stem))
    narrow = ops.MaxPool(first, kernel_shape=(2, 2), strides=(2, 2))
    wide = ops.Pad(narrow, const([0, 2, 0, 0, 0, 2, 0, 0], "int64"))
    second = ops.Add(block(depthwise(block(first, 7, k=1)), 10, stride=2), wide)
    pooled = ops.AveragePool(second, kernel_shape=(3, 3)) if flatten else second
    flat = ops.Flatten(pooled if flatten else ops.GlobalAveragePool(second))
    hidden = ops.Relu(ops.Gemm(flat, weight(9, flat.type.size(1) or 0), weight(9), transB=1))
    return Graph({"x": x}, {"y": ops.MatMul(hidden, weight(9, 4))})


def deviation(before: Graph, after: Graph) -> float:
    """The largest difference of the outputs in float64, as a share of the largest output."""
    feeds = normal_feeds(widened(before), 0)
    old, new = (evaluate(widened(g), feeds)["y"] for g in (before, after))
    difference: Array = np.abs(old - new)
    return float(difference.max() / np.abs(old).max())


@settings(max_examples=5)
@given(st.integers(0, 1000), st.sampled_from([0.2, 0.5, 1.0]), st.booleans())
def test_planted_duplicates_are_all_found(seed: int, share: float, flatten: bool) -> None:  # noqa: FBT001
    model = residual_net(seed, flatten=flatten)
    planted = plant_duplicates(model, share, seed)
    after = Merge()(planted)
    assert widths(after) == widths(model)
    assert max(deviation(model, planted), deviation(model, after)) < 1e-5


def test_planting_widens_every_free_axis() -> None:
    model = residual_net(0, flatten=True)
    old, new = widths(model), widths(plant_duplicates(model, 1.0, 0))
    assert sum(a != b for a, b in zip(old, new, strict=True)) == len(old) - 1


@given(graphs("conv", "flatten", "concat", "channel_pad", "depthwise", "gemm"), st.integers(0, 99))
def test_planting_keeps_the_outputs(graph: Graph, seed: int) -> None:
    planted = plant_duplicates(graph, 0.5, seed)
    feeds = normal_feeds(widened(graph), 0)
    old, new = (evaluate(widened(g), feeds) for g in (graph, planted))
    assert all(np.allclose(new[name], old[name], rtol=1e-4, atol=1e-4) for name in old)


def test_promises_are_checked_in_half_precision() -> None:
    x = placeholder(1, 1, dtype=np.float16)
    first = ops.MatMul(x, const([[1, 1]], "float16"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[1], [1]], "float16"))})
    check_on(Merge(), graph)


def test_channels_merge_through_a_flatten_of_images() -> None:
    after = Merge()(of(ops.Gemm(ops.Flatten(EQUAL), const(np.arange(18).reshape(18, 1)))))
    assert widths(after) == [(1, 1, 1, 1), (9, 1)]


def told_and_read(rows: list[list[float]]) -> tuple[bool, Numbers]:
    """Whether a glance tells slices apart, and their numbers from the whole of them."""
    port = (const(rows), 0)
    with patch.object(value_numbering, "_are_apart_at_a_glance", lambda _: False):
        read = value_numbering.content(port)
    assert read is not None
    return value_numbering._are_apart_at_a_glance(port), read


def slices(numbers: list[float]) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(st.sampled_from(numbers), min_size=3, max_size=3), min_size=1)


@given(slices([*NUMBERS, 1e-45]))
def test_slices_that_a_glance_tells_apart_are_apart(rows: list[list[float]]) -> None:
    told, read = told_and_read(rows)
    assert not told or len(set(read.direction.tolist())) == len(rows)


def test_a_glance_tells_other_slices_apart() -> None:
    assert value_numbering._are_apart_at_a_glance((const([[1, 2], [1, 3]]), 0))
    assert value_numbering._are_apart_at_a_glance((const([[0, 1, 0], [0, 3, 0]]), 0))
    assert not value_numbering._are_apart_at_a_glance((const([[1, 2], [2, 4]]), 0))


def test_pads_that_share_their_amounts_do_not_add_parameters() -> None:
    amounts = const([0, 0, 0, 0, 0, 2, 0, 0], "int64")
    padded = ops.Add(ops.Pad(X, amounts), ops.Pad(ops.Relu(X), amounts))
    check_on(Merge(), of(conv(padded, [[1, 2, 3]])))
