"""merge: golden pairs, what it leaves alone, planted duplicates, the conformance kit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redir import ops
from redir.errors import BadPipeline
from redir.feeds import normal_feeds
from redir.interpret import evaluate
from redir.ir import Graph, Value
from redir.passes.merge import Merge
from redir.pipeline import Pipeline
from redir.tensor import Array, Tensor, TensorType
from redir.testing import check_on, check_pass, graphs, plant_duplicates
from redir.text import parse
from redir.widen import widened

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "merge").glob("*.txt"))
X = Value(TensorType(np.dtype(np.float32), (1, 1, 3, 3)))
FLAT = Value(TensorType(np.dtype(np.float32), (1, 2)))


def const(array: object, dtype: str = "float32") -> Value:
    return ops.Const(value=Tensor(np.array(array).astype(dtype)))


def conv(x: Value, rows: object, *bias: Value) -> Value:
    """A 1x1 convolution by a matrix."""
    return ops.Conv(x, const(np.array(rows)[:, :, None, None]), *bias)


def of(y: Value, **more: Value) -> Graph:
    return Graph({"x": X}, {"y": y, **more})


EQUAL = conv(X, [[1], [1]])
SUM = [[3, 4]]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.stem)
def test_golden_pair(case: Path) -> None:
    before, after = case.read_text(encoding="utf-8").split("# after\n")
    assert str(check_on(Merge(), parse(before))) == after


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
    "weights differ": conv(conv(X, [[1], [2]]), SUM),
    "biases differ": conv(conv(X, [[1], [1]], const([0, 1])), SUM),
    "one producer of two differs": conv(ops.Add(EQUAL, conv(X, [[5], [7]])), SUM),
    "slopes differ": conv(ops.PRelu(EQUAL, const([[[1]], [[2]]])), SUM),
    "scales differ": conv(ops.Mul(EQUAL, const([[[[1]], [[2]]]])), SUM),
    "weights are not numbers": conv(conv(X, [[np.nan], [np.nan]]), SUM),
    "depthwise weights differ": conv(ops.Conv(EQUAL, const([[[[1]]], [[[2]]]])), SUM),
    "graph output": EQUAL,
    "graph output behind an activation": ops.Relu(EQUAL),
    "equal channels in different groups": ops.Conv(
        conv(X, [[1], [2], [1], [3]]), const(np.ones((2, 2, 1, 1)))
    ),
    "equal rows of different groups": conv(
        ops.Conv(conv(X, [[1], [2], [3], [5]]), const(np.ones((2, 2, 1, 1)))), [[1, 1]]
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
    w = Value(TensorType(np.dtype(np.float32), (2, 1, 1, 1)))
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
    y = ops.Gemm(rows, const(np.ones((4, 3))), transA=1)
    graph = Graph({"x": FLAT}, {"y": y})
    assert Merge()(graph) is graph


def test_half_precision_sums_are_rounded_once() -> None:
    x = Value(TensorType(np.dtype(np.float16), (1, 1)))
    first = ops.MatMul(x, const([[1, 1, 1]], "float16"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[2048], [1], [1]], "float16"))})
    (_, _, w, _) = Merge()(graph).nodes
    assert w.attrs["value"] == Tensor(np.array([[2050]], np.float16))


def test_pinned_channels_are_explained() -> None:
    assert any("graph output 'y'" in line for line in Merge().explain(of(EQUAL)))


def test_keeps_its_promises() -> None:
    check_pass(Merge())


@pytest.mark.parametrize(
    "always",
    [
        ("conv", "residual", "batchnorm", "activation"),
        ("conv", "depthwise", "concat", "channel_pad"),
        ("conv", "shared_weight", "squeeze_excite", "scale", "prelu"),
        ("gemm", "matmul", "arithmetic", "batchnorm"),
        ("conv", "global_pool", "flatten", "gemm", "activation"),
        ("conv", "conv_transpose", "grouped", "conv", "activation"),
    ],
    ids=", ".join,
)
def test_keeps_its_promises_on(always: tuple[str, ...]) -> None:
    check_pass(Merge(), graphs(*always))


def test_reads_back_from_its_text() -> None:
    assert Pipeline.parse(str(Merge())).passes == (Merge(),)


def test_has_no_options() -> None:
    with pytest.raises(BadPipeline, match=r"no option 'tolerance=0\.1'"):
        Pipeline.parse("merge{tolerance=0.1}")


# Planted duplicates


def residual_net(seed: int, *, flatten: bool) -> Graph:
    """Convolutions, norms, a residual stream that widens by a channel Pad, depthwise, a head."""
    rng = np.random.default_rng(seed)
    x = Value(TensorType(np.dtype(np.float32), (1, 3, 8, 8)))

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


@settings(max_examples=10)
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
    x = Value(TensorType(np.dtype(np.float16), (1, 1)))
    first = ops.MatMul(x, const([[1, 1]], "float16"))
    graph = Graph({"x": x}, {"y": ops.MatMul(first, const([[1], [1]], "float16"))})
    check_on(Merge(), graph)


def test_channels_merge_through_a_flatten_of_images() -> None:
    after = Merge()(of(ops.Gemm(ops.Flatten(EQUAL), const(np.arange(18).reshape(18, 1)))))
    assert widths(after) == [(1, 1, 1, 1), (9, 1)]


def test_pads_that_share_their_amounts_do_not_add_parameters() -> None:
    amounts = const([0, 0, 0, 0, 0, 2, 0, 0], "int64")
    padded = ops.Add(ops.Pad(X, amounts), ops.Pad(ops.Relu(X), amounts))
    check_on(Merge(), of(conv(padded, [[1, 2, 3]])))
