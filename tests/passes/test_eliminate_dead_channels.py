"""eliminate-dead-channels: what it leaves alone, the conformance kit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from redir import ops
from redir.backends.onnx import to_proto
from redir.channels.nonfinite import nonfinite
from redir.check.guarantees import constants
from redir.ir import Attr, Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.rewriter import transform
from redir.ir.tensor import Array, Tensor
from redir.ops import opaque
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.pipeline import Pipeline
from redir.runtime.inputs import whole_feeds
from redir.testing import check_on, check_pass, graphs
from tests.extras import ort
from tests.helpers import const, one_of_three, placeholder
from tests.steps import STEPS

DEAD = EliminateDeadChannels()
X = placeholder(1, 1, 3, 3)


def conv(x: Value, rows: object, *bias: Value) -> Value:
    """A 1x1 convolution by a matrix."""
    return ops.Conv(x, const(np.array(rows)[:, :, None, None]), *bias)


def of(y: Value, **more: Value) -> Graph:
    return Graph({"x": X}, {"y": y, **more})


ZERO = conv(X, [[0], [1]])  # its first channel is always zero
ONE = conv(X, [[2], [1]])
SUM, SKIP = [[3, 4]], [[0, 4]]  # the second does not read the first channel


def width(graph: Graph) -> int | None:
    """The channels that the last convolution reads."""
    last = next(n for n in reversed(graph.nodes) if n.op == ops.Conv)
    return last.inputs[0].type.size(1)


ABOVE = ops.Greater(X, const(0.0))

REMOVED = {
    "never read": conv(ONE, SKIP),
    "always zero": conv(ZERO, SUM),
    "zero through a function of zero": conv(ops.Tanh(ops.Relu(ZERO)), SUM),
    "zero through a sine": conv(ops.Sin(ZERO), SUM),
    "zero rounded": conv(ops.Round(ZERO), SUM),
    "zero by its norm": conv(ops.GlobalLpPool(ZERO), SUM),
    "zero on both branches": conv(ops.Where(ABOVE, ZERO, ops.Relu(ZERO)), SUM),
    "zero by a bias of zero": conv(conv(X, [[0], [1]], const([0, 5])), SUM),
    "zero by a depthwise kernel of zero": conv(
        ops.Conv(ONE, const([[[[0.0]]], [[[1.0]]]]), const([0.0, 1.0])), SUM
    ),
    "zero by a factor": conv(ops.Mul(ONE, const([[[0.0]], [[1.0]]])), SUM),
    "sum of zeros": conv(ops.Add(ZERO, conv(X, [[0], [3]])), SUM),
    "zero border": conv(ops.Pad(conv(X, [[1]]), const([0, 1, 0, 0, 0, 0, 0, 0], "int64")), SUM),
    "negative zero": conv(conv(X, [[-0.0], [1]]), SUM),
}


@pytest.mark.parametrize("y", REMOVED.values(), ids=REMOVED)
def test_removed(y: Value) -> None:
    assert (width(of(y)), width(check_on(DEAD, of(y)))) == (2, 1)


def captured() -> Value:
    a, b = Value(ZERO.type), Value(ZERO.type)
    flag = const(array=True, dtype="bool")
    then, other = Graph({"a": a}, {"y": ops.Relu(a)}), Graph({"a": b}, {"y": ops.Neg(b)})
    return ops.If(flag, ZERO, captures=("a",), then_branch=then, else_branch=other)


LEFT_ALONE = {
    "read and not zero": of(conv(ONE, SUM)),
    "something added": of(conv(ops.Add(ZERO, ONE), SUM)),
    "a quotient": of(conv(ops.Div(ZERO, ZERO), SUM)),
    "read by another": of(ops.Add(conv(ONE, SKIP), conv(ONE, SUM))),
    "graph output": of(conv(ONE, SKIP), z=ONE),
    "softmax over channels": of(conv(ops.Softmax(ZERO, axis=1), SUM)),
    "captured by a body": of(conv(captured(), SUM)),
    "unknown operator": of(conv(ops.opaque("Mix", "custom", 1, [ZERO.type])(ZERO), SUM)),
    "a weight that is NaN": of(conv(conv(X, [[np.nan], [1]]), SUM)),
    "the last channel of an axis": of(conv(conv(X, [[0]]), [[3]])),
}


@pytest.mark.parametrize("graph", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(graph: Graph) -> None:
    assert DEAD(graph) is graph


def test_one_channel_stays_where_all_are_dead() -> None:
    assert width(check_on(DEAD, of(conv(conv(X, [[0], [0]]), SUM)))) == 1


def test_every_axis_of_a_concat_keeps_a_channel() -> None:
    y = conv(ops.Concat(conv(X, [[0]]), ONE, axis=1), [[1, 2, 3]])
    assert DEAD(of(y)).outputs["y"].type == y.type


# Channels that are cut away

FOUR = conv(X, [[1], [2], [3], [4]])
START, PLACES = (placeholder(1, dtype=np.int64) for _ in range(2))
PLACE = const([1], "int64")


def cut(x: Value, first: int = 1, last: int = 3, axis: int = 1) -> Value:
    """The channels from ``first`` to before ``last``."""
    return ops.Slice(x, *(const([n], "int64") for n in (first, last, axis)))


def parts(x: Value) -> tuple[Value, ...]:
    return Node(ops.Split, (x, const([1, 3], "int64")), {"axis": 1}, arity=2).outputs


LEFT_UNREAD = {
    "returned whole": of(cut(FOUR), z=FOUR),
    "cut from a graph input": of(cut(X, 0, 2, axis=2)),
    "read by a layer": of(ops.Add(conv(FOUR, [[1, 1, 1, 1]]), conv(cut(FOUR), SUM))),
    "read by another cut": of(cut(FOUR, 0, 2), z=cut(FOUR, 2, 4)),
    "every part returned": of(parts(FOUR)[0], z=parts(FOUR)[1]),
    "cut where the input says": Graph(
        {"x": X, "start": START},
        {"y": ops.Slice(FOUR, START, const([4], "int64"), PLACE)},
    ),
    "taken where the input says": Graph(
        {"x": X, "places": PLACES}, {"y": ops.Gather(FOUR, PLACES, axis=1)}
    ),
    "cut behind an operator that mixes channels": of(cut(ops.Softmax(FOUR, axis=1))),
    "cut behind an unknown operator": of(cut(ops.opaque("Mix", "custom", 1, [FOUR.type])(FOUR))),
    "rows of a picture": of(cut(FOUR, 0, 2, axis=2)),
    "places of a group": of(cut(ops.Conv(FOUR, const(np.ones((4, 2, 1, 1)))), 1, 4)),
}


@pytest.mark.parametrize("graph", LEFT_UNREAD.values(), ids=LEFT_UNREAD)
def test_what_is_cut_away_is_left_alone(graph: Graph) -> None:
    assert DEAD(graph) is graph


def test_both_places_of_each_group_go_together() -> None:
    after = check_on(DEAD, of(cut(ops.Conv(FOUR, const(np.ones((4, 2, 1, 1)))), 1, 2)))
    weights = next(n.inputs[1] for n in reversed(after.nodes) if n.op == ops.Conv)
    assert weights.type.static == (2, 2, 1, 1)


def test_a_random_constant_keeps_its_size() -> None:
    noise = ops.RandomNormal(shape=(1, 4))
    graph = of(ops.MatMul(noise, const([[0, 0], [1, 2], [3, 4], [5, 6]])))
    assert DEAD(graph) is graph


# Constants that are not zero

TWO = conv(X, [[0], [1]], const([2, 5]))  # its first channel is 2 everywhere
KERNEL = const(np.arange(18).reshape(1, 2, 3, 3))
AROUND = (1, 1, 1, 1)
NORM = [const([3, 1]), const([1, 0]), const([1, 0]), const([4, 1])]
FLAT = ops.Gemm(ops.Flatten(X), const([[0, 1]] * 9), const([2, 5]))  # as TWO, but a matrix
PLANES = const([0, 0, 1, 1, 0, 0, 1, 1], "int64")
BEHIND = const([0, 0, 0, 0, 0, 1, 0, 0], "int64")


def larger(x: Value, mode: str) -> Value:
    """``x`` with each row and column twice."""
    return ops.Resize(x, ops.Absent(), const([1, 1, 2, 2]), mode=mode)


def depthwise(x: Value, **attrs: Attr) -> Value:
    return ops.Conv(x, const(np.arange(18).reshape(2, 1, 3, 3)), const([1, 2]), **attrs)


FOLDED = {
    "a bias": conv(TWO, SUM),
    "a bias of the reader": conv(TWO, SUM, const([7])),
    "an absent bias": conv(TWO, SUM, ops.Absent()),
    "a function that is not 0 at 0": conv(ops.Sigmoid(ZERO), SUM),
    "cosine": conv(ops.Cos(ZERO), SUM),
    "a function with bounds": conv(ops.Clip(TWO, const(3.0), const(4.0)), SUM),
    "a function with an absent bound": conv(ops.Clip(TWO, ops.Absent(), const(1.0)), SUM),
    "a scalar added": conv(ops.Add(ZERO, const(1.0)), SUM),
    "a power": conv(ops.Pow(ZERO, const(0.0)), SUM),
    "a chain": conv(ops.Neg(ops.Relu(ops.Sub(TWO, const([[[1]], [[9]]])))), SUM),
    "a slope": conv(ops.PRelu(ops.Neg(TWO), const([[[3]], [[4]]])), SUM),
    "a norm": conv(ops.BatchNormalization(TWO, *NORM), SUM),
    "a norm with a scale of zero": conv(ops.BatchNormalization(ONE, const([0, 1]), *NORM[1:]), SUM),
    "a border of channels": conv(ops.Pad(conv(X, [[1]]), BEHIND, const(2.0)), SUM),
    "a border of the same": conv(ops.Pad(TWO, PLANES, const(2.0)), SUM),
    "a border that reflects": conv(ops.Pad(TWO, PLANES, mode="reflect"), SUM),
    "a kernel that does not pad": ops.Conv(TWO, KERNEL),
    "a kernel told not to pad": ops.Conv(TWO, KERNEL, auto_pad="VALID"),
    "a pixel padded alike": ops.Conv(TWO, const([[[[3]], [[4]]]]), auto_pad="SAME_UPPER"),
    "a depthwise kernel": conv(depthwise(TWO), SUM),
    "a depthwise kernel of zero": conv(
        ops.Conv(ONE, const([[[[0.0]]], [[[1.0]]]]), const([3, 4]), pads=AROUND), SUM
    ),
    "a residual": conv(ops.Add(TWO, conv(X, [[0], [3]], const([-1, 1]))), SUM),
    "channels behind each other": conv(ops.Concat(TWO, conv(X, [[1]]), axis=1), [[1, 2, 3]]),
    "largest with a border": conv(ops.MaxPool(TWO, kernel_shape=(2, 2), pads=AROUND), SUM),
    "a mean without the border": conv(ops.AveragePool(TWO, kernel_shape=(2, 2), pads=AROUND), SUM),
    "a mean of all": conv(ops.GlobalAveragePool(TWO), SUM),
    "a mean of rows": conv(ops.ReduceMean(TWO, const([2], "int64")), SUM),
    "transposed twice": conv(
        ops.Transpose(ops.Transpose(TWO, perm=(0, 2, 3, 1)), perm=(0, 3, 1, 2)), SUM
    ),
}


@pytest.mark.parametrize("y", FOLDED.values(), ids=FOLDED)
def test_folded(y: Value) -> None:
    before = width(of(y)) or 0
    assert width(check_on(DEAD, of(y))) == before - 1


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_folded_when_resized(mode: str) -> None:
    before = of(conv(larger(TWO, mode), SUM))
    after, feeds = DEAD(before), whole_feeds(before, 0)
    assert width(after) == 1
    assert np.array_equal(evaluate(after, feeds)["y"], evaluate(before, feeds)["y"])


@pytest.mark.parametrize(("version", "left"), [(1, 2), (7, 1)])
def test_only_the_oldest_mean_counts_its_border(version: int, left: int) -> None:
    mean = ops.lookup("AveragePool", version)
    assert mean
    y = conv(mean(TWO, kernel_shape=(2, 2), pads=AROUND), SUM)
    assert width(check_on(DEAD, replace(of(y), opset={"": version}))) == left


def late(x: Value) -> Value:
    """Values of the same type that differ from place to place."""
    return ops.Mul(x, conv(X, [[1], [1]]))


PRODUCT = ops.MatMul(FLAT, const([[1], [2]]))
OUTSIDE = placeholder(1)
LEFT_CONSTANT = {
    "a reader that pads": of(ops.Conv(TWO, KERNEL, pads=AROUND)),
    "a pixel that pads": of(ops.Conv(TWO, const([[[[3]], [[4]]]]), pads=AROUND)),
    "a reader told to pad": of(ops.Conv(TWO, KERNEL, auto_pad="SAME_LOWER")),
    "a depthwise reader that pads": of(conv(depthwise(TWO, pads=AROUND), SUM)),
    "a border of zeros": of(conv(ops.Pad(TWO, PLANES), SUM)),
    "a border of others": of(conv(ops.Pad(TWO, PLANES, const(3.0)), SUM)),
    "a border that is computed": of(
        conv(ops.Pad(conv(X, [[1]]), BEHIND, ops.ReduceMax(X, keepdims=0)), SUM)
    ),
    "a mean with the border": of(
        conv(ops.AveragePool(TWO, kernel_shape=(2, 2), pads=AROUND, count_include_pad=1), SUM)
    ),
    "a mean that sticks out": of(
        conv(ops.AveragePool(TWO, kernel_shape=(2, 2), strides=(2, 2), ceil_mode=1), SUM)
    ),
    "windows of the border only": of(
        conv(ops.MaxPool(TWO, kernel_shape=(2, 2), dilations=(4, 4), pads=(2, 2, 2, 2)), SUM)
    ),
    "resized by splines": of(conv(larger(TWO, "cubic"), SUM)),
    "a step": of(conv(ops.Floor(TWO), SUM)),
    "a cast to whole numbers": of(conv(ops.Cast(ops.Cast(TWO, to=7), to=1), SUM)),
    "only one of two that are added": of(conv(ops.Add(TWO, late(TWO)), SUM)),
    "a factor that is computed": of(conv(late(TWO), SUM)),
    "one channel of each group": of(
        ops.Conv(conv(X, [[0], [1], [2], [3]], const([2, 3, 4, 5])), const(np.ones((2, 2, 1, 1))))
    ),
    "half of a flattened channel": of(
        ops.Gemm(ops.Flatten(ops.Pad(TWO, PLANES)), const(np.arange(50).reshape(50, 1)))
    ),
    "a transposed reader": of(ops.ConvTranspose(TWO, const(np.ones((2, 1, 1, 1))))),
    "a reader with computed weights": of(ops.MatMul(FLAT, ops.Transpose(ops.Relu(FLAT)))),
    "a sum of channels": of(ops.ReduceSum(TWO, const([1], "int64"))),
    "a product without a bias": of(PRODUCT),
    "a product of several matrices": of(
        ops.Add(ops.MatMul(FLAT, const(np.ones((3, 2, 1)))), const([1]))
    ),
    "a product that two read": of(ops.Add(PRODUCT, const([1])), z=PRODUCT),
    "a bias that is an input": Graph({"x": X, "b": OUTSIDE}, {"y": conv(TWO, SUM, OUTSIDE)}),
    "a bias that may be overridden": Graph(
        {"x": X, "b": OUTSIDE},
        {"y": conv(conv(X, [[0]], OUTSIDE), [[3], [4]])},
        defaults={"b": Tensor(np.ones(1, np.float32))},
    ),
    "a bias that does not count": of(ops.Gemm(FLAT, const([[1], [2]]), beta=0.0)),
    "a bias that is too large": of(conv(TWO, [[2e38, 1]], const([0]))),
    "a bias that is NaN": of(conv(TWO, SUM, const([np.nan]))),
    "an infinite constant": of(conv(ops.Reciprocal(ZERO), SUM)),
    "a constant that its type cannot hold": of(conv(ops.Exp(ops.Mul(TWO, const(99.0))), SUM)),
    "a graph output": of(conv(TWO, SUM), z=TWO),
    "the last channel": of(conv(conv(X, [[0]], const([2])), [[3]])),
}


@pytest.mark.parametrize("graph", LEFT_CONSTANT.values(), ids=LEFT_CONSTANT)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_constants_left_alone(graph: Graph) -> None:
    assert DEAD(graph) is graph


def held(graph: Graph) -> list[Any]:
    """What the constants of numbers hold, in order."""
    return [t.array.tolist() for t in constants(graph) if t.array.dtype != np.int64]


GEMMS = {
    "a Gemm without a bias": (ops.Gemm(FLAT, const([[3, 5], [4, 6]])), [6.0, 10.0]),
    "turned": (ops.Gemm(FLAT, const([[3, 4], [5, 6]]), transB=1), [6.0, 10.0]),
    "with a factor": (ops.Gemm(FLAT, const([[3, 5], [4, 6]]), alpha=2.0), [12.0, 20.0]),
    "with a factor of the bias": (
        ops.Gemm(FLAT, const([[3, 5], [4, 6]]), const([1, 2]), alpha=2.0, beta=4.0),
        [4.0, 7.0],
    ),
    "with one bias for all": (ops.Gemm(FLAT, const([[3, 5], [4, 6]]), const(1)), [7.0, 11.0]),
    "with a row": (ops.Gemm(FLAT, const([[3, 5], [4, 6]]), const([[1, 2]])), [[7.0, 12.0]]),
    "a product before an Add": (
        ops.Add(ops.MatMul(FLAT, const([[3, 5], [4, 6]])), const([1, 2])),
        [7.0, 12.0],
    ),
    "a product behind an Add": (
        ops.Add(const(1), ops.MatMul(FLAT, const([[3, 5], [4, 6]]))),
        [7.0, 11.0],
    ),
}


@pytest.mark.parametrize("case", GEMMS)
def test_a_matrix_takes_what_it_makes_of_a_constant(case: str) -> None:
    y, bias = GEMMS[case]
    after = check_on(DEAD, of(y))
    assert bias in held(after)
    assert len(held(after)) == 4


def test_a_flattened_channel_is_a_block_of_features() -> None:
    after = check_on(DEAD, of(ops.Gemm(ops.Flatten(TWO), const(np.arange(18).reshape(18, 1)))))
    assert held(after)[-1] == [2.0 * sum(range(9))]


def test_each_group_has_numbers_of_its_own() -> None:
    four = conv(X, [[0], [1], [0], [1]], const([2, 3, 4, 5]))
    grouped = ops.Conv(four, const([[[[6]], [[7]]], [[[8]], [[9]]]]))
    after = check_on(DEAD, of(conv(grouped, [[1, 2]])))
    assert [[[[7.0]]], [[[9.0]]]] in held(after)
    assert [12.0, 32.0] in held(after)


def test_a_bias_that_others_read_stays_as_it_was_for_them() -> None:
    bias = const([7])
    after = check_on(DEAD, of(conv(TWO, SUM, bias), z=conv(X, [[5]], bias)))
    assert [13.0] in held(after)
    assert [7.0] in held(after)


def test_a_shared_weight_is_read_with_a_bias_by_each() -> None:
    w, other = const([[[[3]], [[4]]]]), conv(X, [[0], [1]], const([6, 5]))
    first, second = (ops.Conv(x, w, const([1])) for x in (TWO, other))
    after = check_on(DEAD, of(first, z=second))
    assert [7.0] in held(after)
    assert [19.0] in held(after)


def test_two_new_biases_may_cost_more_than_goes_from_a_shared_weight() -> None:
    w, other = const(np.ones((4, 2, 1, 1))), conv(X, [[0], [1]], const([6, 5]))
    graph = of(ops.Conv(TWO, w), z=ops.Conv(other, w))
    assert DEAD(graph) is graph


def test_a_bias_for_each_row_does_not_grow_into_a_matrix() -> None:
    rows = ops.Gemm(const(np.ones((9, 1))), ops.Reshape(X, const([1, 9], "int64")))
    three = ops.Gemm(rows, const([[0, 1]] * 9), const([2, 5]))
    graph = of(ops.Gemm(three, const(np.ones((2, 3))), const(np.arange(9).reshape(9, 1))))
    assert DEAD(graph) is graph


def test_half_precision_is_rounded_once() -> None:
    x = placeholder(1, 1, dtype=np.float16)
    hidden = ops.Gemm(x, const([[0, 0, 1]], "float16"), const([1, 1, 1], "float16"))
    y = ops.Gemm(hidden, const([[1], [1], [1]], "float16"), const([2048], "float16"))
    (*_, bias, _) = check_on(DEAD, Graph({"x": x}, {"y": y})).nodes
    assert bias.attrs["value"] == Tensor(np.array([2050], np.float16))


def test_what_a_constant_makes_constant_goes_too() -> None:
    next_ = conv(TWO, [[3, 0], [4, 1]], const([1, 1]))
    assert held(check_on(DEAD, of(conv(ops.Relu(next_), [[5, 6]]))))[-1] == [35.0]


def test_what_is_in_the_way_is_said() -> None:
    (line,) = DEAD.explain(of(ops.Conv(TWO, KERNEL, pads=AROUND)))
    assert line == "Conv reads channels that are constant, but it reads zeros around them"


def test_a_result_that_is_read_as_it_should_be_is_not_explained() -> None:
    assert not list(DEAD.explain(of(conv(TWO, SUM))))


def silenced(graph: Graph) -> Graph:
    """``graph`` with zeros for the first slice of each matrix of weights."""

    def visit(node: Node, _: tuple[Value, ...]) -> Value | None:
        held = node.attrs.get("value")
        if not isinstance(held, Tensor) or held.array.ndim < 2 or held.array.dtype.kind != "f":
            return None
        array = held.array.copy()
        array[:1] = 0
        return ops.Const(value=Tensor.take(array))

    return transform(graph, visit)


def quiet(*always: str) -> st.SearchStrategy[Graph]:
    return graphs(*always).map(silenced)


@pytest.mark.parametrize("always", one_of_three(STEPS[DEAD.name]), ids=", ".join)
def test_keeps_its_promises_on(always: tuple[str, ...]) -> None:
    check_pass(DEAD, quiet(*always))


def test_keeps_its_promises() -> None:
    check_pass(DEAD)


def outputs_of(graph: Graph, feeds: dict[str, Array]) -> list[Any]:
    """What onnxruntime computes."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = to_proto(graph).SerializeToString()
    return list(ort.InferenceSession(model, options, ["CPUExecutionProvider"]).run(None, feeds))


@given(quiet("conv", "activation", "pool"), st.integers(0, 99))
def test_onnxruntime_computes_the_same(graph: Graph, seed: int) -> None:
    assume(not any(n.op.domain == "custom" or n.op.name.startswith("Random") for n in graph.nodes))
    feeds, after = whole_feeds(graph, seed), DEAD(graph)
    assume(after is not graph)
    for old, new in zip(outputs_of(graph, feeds), outputs_of(after, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4)


def test_has_no_options() -> None:
    assert str(Pipeline.parse("eliminate-dead-channels")) == "eliminate-dead-channels"


# What a zero does not silence


def behind(make: Any) -> Graph:
    """A number in each of two channels, then a layer that multiplies the first by zero."""
    x = placeholder(2, 2)
    y = make(ops.Gemm(x, const([[1, 2], [3, 4]])))
    return Graph({"x": x}, {"y": ops.Gemm(y, const([[0, 0], [1, 2]]), const([1, 2]))})


def overflowing(x: Value) -> Value:
    return ops.Add(x, ops.Mul(const([3e38, 0]), const([3e38, 1])))


INFINITE = {
    "an infinity": lambda x: ops.Add(x, const([np.inf, 0])),
    "a zero below": lambda x: ops.Relu(ops.Div(x, const([0, 1]))),
    "a product that overflows": overflowing,
}


@pytest.mark.parametrize("what", INFINITE)
def test_a_channel_that_is_infinite_stays(what: str) -> None:
    graph = behind(INFINITE[what])
    assert DEAD.run(graph) is graph
    assert [why for why in DEAD.explain(graph) if "may be infinite" in why]


def test_a_mask_of_infinities_ends_in_a_softmax() -> None:
    graph = behind(lambda x: ops.Softmax(ops.Add(x, const([-np.inf, 0])), axis=-1))
    assert not [why for why in DEAD.explain(graph) if "may be infinite" in why]


def test_a_custom_operator_called_clip_ends_no_infinity() -> None:
    x = placeholder(2)
    masked = ops.Add(x, const([-np.inf, 0]))
    own = Node(opaque("Clip", "acme", 1, (x.type,)), (masked,)).outputs[0]
    assert own in nonfinite(Graph({"x": x}, {"y": own}))
    clipped = ops.Clip(masked)
    assert clipped not in nonfinite(Graph({"x": x}, {"y": clipped}))


def test_a_weight_that_is_infinite_meets_zeros() -> None:
    x = placeholder(2, 2)
    dead = ops.Gemm(x, const([[0, 1], [0, 1]]))
    graph = Graph({"x": x}, {"y": ops.Gemm(dead, const([[np.inf, 0], [1, 2]]))})
    assert DEAD.run(graph) is graph
