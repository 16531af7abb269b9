"""fold-batchnorm: what it leaves alone, the conformance kit."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.errors import BadPipeline
from redir.ir import Graph, Node, Op, Value
from redir.ir.tensor import Array, Tensor
from redir.passes.fold_batchnorm import FoldBatchnorm
from redir.pipeline import Pipeline
from redir.testing import check_on, check_pass, graphs
from tests.helpers import const, placeholder
from tests.steps import STEPS


def normed(x: Value, scale: Value | None = None) -> Value:
    vectors = [const([1, 2]), const([3, 4]), const([5, 6]), const([7, 8])]
    return ops.BatchNormalization(x, scale or vectors[0], *vectors[1:])


X = placeholder(1, 2, 3, 3)
W = const([[[[1]], [[2]]], [[[3]], [[4]]]])
FLAT = placeholder(1, 2)
ONES = const(np.ones((2, 2)))
OLD = ops.lookup("BatchNormalization", 7)


def test_the_norm_that_the_cases_below_spoil_is_folded() -> None:
    before = Graph({"x": X}, {"y": normed(ops.Conv(X, W))})
    assert [n.op.name for n in check_on(FoldBatchnorm(), before).nodes] == [
        "Const",
        "Const",
        "Conv",
    ]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_groups_of_a_transposed_convolution_are_told_apart(groups: int) -> None:
    x = placeholder(1, 4, 3, 3)
    weights = np.arange(4 * 8 // groups * 4).reshape(4, 8 // groups, 2, 2)
    vectors = [const(np.arange(1, 9) + 10 * k) for k in range(4)]
    y = ops.BatchNormalization(ops.ConvTranspose(x, const(weights), group=groups), *vectors)
    after = check_on(FoldBatchnorm(), Graph({"x": x}, {"y": y}))
    assert [n.op.name for n in after.nodes if n.inputs] == ["ConvTranspose"]


def twice() -> Graph:
    conv = ops.Conv(X, W)
    return Graph({"x": X}, {"y": normed(conv), "z": ops.Relu(conv)})


def returned() -> Graph:
    conv = ops.Conv(X, W)
    return Graph({"x": X}, {"y": normed(conv), "z": conv})


def other(op: Op | None, x: Value, arity: int, **attrs: int) -> Value:
    assert op is not None
    vectors = [const([1, 2]), const([3, 4]), const([5, 6]), const([7, 8])]
    return Node(op, (x, *vectors), attrs, arity=arity).outputs[0]


def with_inputs(y: Value, **more: Value) -> Graph:
    return Graph({"x": X, **more}, {"y": y})


SCALE, WEIGHT, BIAS = placeholder(2), placeholder(2, 2, 1, 1), placeholder(2)

OVERFLOWS = with_inputs(normed(ops.Conv(X, W, const([0, 3e38])), const([1, 9])))


def scaled_by(scale: list[float], dtype: str = "float32", channels: int = 2) -> Graph:
    """A convolution by weights of 1 to 4, and a norm with ``scale``."""
    x = placeholder(1, channels, 3, 3, dtype=dtype)
    w = np.arange(1, 1 + 2 * channels).reshape(2, channels, 1, 1)
    vectors = [const(scale, dtype), *(const([n, n], dtype) for n in (0, 0, 1))]
    return Graph({"x": x}, {"y": ops.BatchNormalization(ops.Conv(x, const(w, dtype)), *vectors)})


LEFT_ALONE = {
    "training mode": with_inputs(other(ops.BatchNormalization, ops.Conv(X, W), 3, training_mode=1)),
    "per element, not per channel": with_inputs(other(OLD, ops.Conv(X, W), 1, spatial=0)),
    "weight read by another node": with_inputs(normed(ops.Conv(ops.Conv(X, W), W))),
    "weight returned": Graph({"x": X}, {"y": normed(ops.Conv(X, W)), "w": W}),
    "result read twice": twice(),
    "result returned": returned(),
    "scale not constant": with_inputs(normed(ops.Conv(X, W), SCALE), scale=SCALE),
    "weight not constant": with_inputs(normed(ops.Conv(X, WEIGHT)), weight=WEIGHT),
    "bias not constant": with_inputs(normed(ops.Conv(X, W, BIAS)), bias=BIAS),
    "something in between": with_inputs(normed(ops.Relu(ops.Conv(X, W)))),
    "Gemm with alpha": Graph({"x": FLAT}, {"y": normed(ops.Gemm(FLAT, ONES, alpha=2.0))}),
    "Gemm with beta": Graph(
        {"x": FLAT}, {"y": normed(ops.Gemm(FLAT, ONES, const([1, 1]), beta=2.0))}
    ),
    "bias of another shape": Graph(
        {"x": FLAT}, {"y": normed(ops.Gemm(FLAT, ONES, const([[1, 1]])))}
    ),
    "MatMul": Graph({"x": FLAT}, {"y": normed(ops.MatMul(FLAT, ONES))}),
    "weights become infinite": with_inputs(
        normed(ops.Conv(X, const(np.full((2, 2, 1, 1), 1e38))), const([1e38, 1]))
    ),
    "one bias becomes infinite": OVERFLOWS,
    "every weight loses digits": with_inputs(normed(ops.Conv(X, W), const([1e-40, 1e-40]))),
    "a half-precision channel loses digits": scaled_by([1, 1e-7], "float16"),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_left_alone(why: str) -> None:
    assert FoldBatchnorm()(LEFT_ALONE[why]) is LEFT_ALONE[why]


def test_epsilon_and_order_of_the_vectors_count() -> None:
    scale, bias, mean, var = (np.array(a, "float32") for a in ([2, 3], [5, 7], [11, 13], [3, 8]))
    norm = ops.BatchNormalization(
        ops.Conv(X, W), *map(const, (scale, bias, mean, var)), epsilon=1.0
    )
    _, offset, conv = FoldBatchnorm()(Graph({"x": X}, {"y": norm})).nodes
    expected: Array = bias - mean * scale / np.sqrt(var + 1)
    assert conv.inputs[2].node is offset
    assert np.array_equal(held(offset), expected)


def held(node: Node) -> Array:
    tensor = node.attrs["value"]
    assert isinstance(tensor, Tensor)
    return tensor.array


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_weights_keep_their_type(dtype: str) -> None:
    x = placeholder(1, 1, dtype=dtype)
    vectors = [const([1], dtype) for _ in range(4)]
    y = ops.BatchNormalization(ops.Gemm(x, const([[1]], dtype)), *vectors)
    assert FoldBatchnorm()(Graph({"x": x}, {"y": y})).outputs["y"].type == y.type


@pytest.mark.parametrize("always", STEPS["fold-batchnorm"], ids=", ".join)
def test_keeps_its_promises_on(always: tuple[str, ...]) -> None:
    check_pass(FoldBatchnorm(), graphs(*always))


def test_reads_back_from_its_text() -> None:
    assert Pipeline.parse(str(FoldBatchnorm())).passes == (FoldBatchnorm(),)


def test_has_no_options() -> None:
    with pytest.raises(BadPipeline, match="no option 'x'"):
        Pipeline.parse("fold-batchnorm{x=1}")


def test_norms_that_share_their_vectors_do_not_add_parameters() -> None:
    one, zero, y = const([1, 1]), const([0, 0]), X
    for _ in range(3):
        conv = ops.Conv(y, const(np.ones((2, 2, 1, 1))))
        y = ops.BatchNormalization(conv, one, zero, zero, one)
    check_on(FoldBatchnorm(), Graph({"x": X}, {"y": y}))


def test_a_variance_of_zero_is_left_alone_in_silence() -> None:
    conv = ops.Conv(X, const(np.ones((2, 2, 1, 1))))
    zero = const([0, 0])
    before = with_inputs(ops.BatchNormalization(conv, const([1, 1]), zero, zero, zero, epsilon=0.0))
    assert FoldBatchnorm()(before) is before


# Numbers too small for their full precision


def weights(graph: Graph) -> Array:
    """The weights of the convolution that ``graph`` ends in."""
    (conv,) = (n for n in graph.nodes if n.op == ops.Conv)
    node = conv.inputs[1].node
    assert node is not None
    return held(node)


@pytest.mark.parametrize("scale", [1e-40, 1e-44, 1e-45], ids=str)
def test_a_channel_of_tiny_weights_is_folded_beside_others(scale: float) -> None:
    before = scaled_by([1, scale])
    found = weights(check_on(FoldBatchnorm(), before))
    ratio = np.float64(np.float32(scale)) / np.sqrt(1 + 1e-5)
    assert np.array_equal(found[1].reshape(-1), (np.array([3, 4]) * ratio).astype(np.float32))
    assert found[1].any()


def test_a_tiny_weight_beside_others_of_its_channel_is_folded_as_it_is() -> None:
    x = placeholder(1, 2, 3, 3, dtype=np.float16)
    conv = ops.Conv(x, const([[[[1]], [[1e-4]]]] * 2, "float16"))
    vectors = [const([n, n], "float16") for n in (2**-4, 0, 0, 1)]
    found = weights(FoldBatchnorm()(Graph({"x": x}, {"y": ops.BatchNormalization(conv, *vectors)})))
    assert 0 < found[0, 1, 0, 0] < np.finfo(np.float16).tiny


def test_tiny_weights_that_lose_nothing_are_folded() -> None:
    x = placeholder(1, 1, 3, 3, dtype=np.float16)
    conv = ops.Conv(x, const(np.full((2, 1, 1, 1), 2.0**-10), "float16"))
    vectors = [const([n, n], "float16") for n in (2**-10, 0, 0, 1)]
    norm = ops.BatchNormalization(conv, *vectors, epsilon=0.0)
    assert (weights(FoldBatchnorm()(Graph({"x": x}, {"y": norm}))) == 2.0**-20).all()


def test_the_channel_that_cannot_be_folded_is_named() -> None:
    (line,) = FoldBatchnorm().explain(scaled_by([1, 1e-7], "float16"))
    assert line == "BatchNormalization: channel 1 would be less than float16 can hold in full"


def test_the_channel_that_would_be_infinite_is_named() -> None:
    (line,) = FoldBatchnorm().explain(OVERFLOWS)
    assert line == "BatchNormalization: channel 1 would be more than float32 can hold"
