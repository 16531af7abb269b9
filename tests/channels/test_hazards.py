"""Where removing channels goes wrong: borders, shared weights, groups, heads, captures, scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.backends.onnx import to_proto
from redir.check.guarantees import constants
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Tensor
from redir.pipeline import Pipeline
from redir.runtime.inputs import whole_feeds
from tests.helpers import const, ints, placeholder


def kernel(rows: object, *size: int) -> Value:
    """A kernel of 1, or of ``size``, that holds a matrix at every place."""
    matrix = np.array(rows)[:, :, None, None]
    return const(matrix * np.arange(1, 1 + int(np.prod(size))).reshape(size or (1, 1)))


def conv(x: Value, rows: object, *bias: Value, size: tuple[int, ...] = (), **attrs: Any) -> Value:
    return ops.Conv(x, kernel(rows, *size), *bias, **attrs)


X = placeholder(2, 2, 3, 3)
EQUAL = conv(X, [[1, 2], [3, 5], [1, 2]])  # its first and last channels are equal
STILL = conv(X, [[0, 0], [1, 2]], const([2, 5]))  # its first channel is 2 everywhere
THREE = [[3, 4, 5]]


def of(y: Value, *more: Value, x: Value = X) -> Graph:
    return Graph({"x": x}, {f"y{i}": v for i, v in enumerate((y, *more))})


def parameters(graph: Graph) -> int:
    return sum(t.array.size for t in constants(graph))


def rewritten(graph: Graph, pipeline: str) -> Graph:
    """What a pipeline makes of ``graph``, which computes the same, number by number."""
    after = Pipeline.parse(pipeline)(graph)
    for seed in range(3):
        feeds = whole_feeds(graph, seed)
        old, new = evaluate(graph, feeds), evaluate(after, feeds)
        for name, array in old.items():
            np.testing.assert_array_equal(new[name], array)
    return after


def shrinks(graph: Graph, pipeline: str = "merge") -> bool:
    """Whether a pipeline leaves fewer numbers, and the outputs as they are."""
    return parameters(rewritten(graph, pipeline)) < parameters(graph)


def stays(graph: Graph, pipeline: str = "merge") -> bool:
    return rewritten(graph, pipeline) is graph


def pruned(graph: Graph) -> Graph:
    """Half of the channels, which compute what they would beside others that are silent."""
    compact, silent = (Pipeline.parse(p)(graph) for p in ("prune", "prune{compact=false}"))
    feeds = whole_feeds(graph, 0)
    for name, array in evaluate(silent, feeds).items():
        np.testing.assert_array_equal(evaluate(compact, feeds)[name], array)
    return compact


# 1. A constant goes into a consumer's bias only where the consumer sees it everywhere.


@pytest.mark.parametrize("size", [(1, 1), (3, 3)])
@pytest.mark.parametrize("pads", [0, 1])
def test_1_a_constant_is_folded_where_there_is_no_border(size: tuple[int, int], pads: int) -> None:
    graph = of(conv(STILL, [[3, 4]], size=size, pads=(pads,) * 4))
    assert shrinks(graph, "eliminate-dead-channels") == (pads == 0)


def test_1_a_zero_goes_even_where_there_is_a_border() -> None:
    graph = of(conv(conv(X, [[0, 0], [1, 2]]), [[3, 4]], pads=(1, 1, 1, 1)))
    assert shrinks(graph, "eliminate-dead-channels")


# 2. What looks along the channels changes when a duplicate goes.


SCALE = const([1, 2, 1])
LAST = ops.Transpose(EQUAL, perm=(0, 2, 3, 1))
ALONG = {
    "layer norm": ops.Transpose(ops.LayerNormalization(LAST, SCALE, axis=-1), perm=(0, 3, 1, 2)),
    "group norm": ops.GroupNormalization(EQUAL, SCALE, SCALE, num_groups=1),
    "softmax": ops.Softmax(EQUAL, axis=1),
    "mean": ops.Mul(EQUAL, ops.ReduceMean(EQUAL, ints(1))),
    "sum": ops.Mul(EQUAL, ops.ReduceSum(EQUAL, ints(1))),
}


@pytest.mark.parametrize("what", ALONG)
def test_2_what_looks_along_the_channels_keeps_duplicates(what: str) -> None:
    graph = of(conv(ALONG[what], THREE))
    assert stays(graph)


# 3. A shared weight is narrowed once, and for all who read it, or not at all.


def test_3_a_shared_weight_is_narrowed_once() -> None:
    w = kernel([[1, 2, 1], [3, 4, 3], [1, 2, 1]])
    after = rewritten(of(conv(ops.Conv(ops.Conv(EQUAL, w), w), THREE)), "merge")
    assert len({id(n.inputs[1]) for n in after.nodes if n.op == ops.Conv}) == 3


def test_3_a_shared_weight_stays_where_one_reader_needs_all_of_it() -> None:
    w, others = kernel([[1, 2, 3]]), conv(X, [[1, 2], [3, 5], [1, 0]])
    assert stays(of(ops.Conv(EQUAL, w), ops.Conv(others, w)))


# 4. Groups stay of one size, and a depthwise kernel has no second axis to narrow.

GROUPED = kernel([[1, 2], [3, 4]])  # two groups of two


def test_4_one_channel_of_one_group_does_not_go() -> None:
    four = conv(X, [[1, 2], [0, 1], [1, 2], [1, 0]])
    assert stays(of(ops.Conv(four, GROUPED)))


def test_4_the_same_channel_of_each_group_goes() -> None:
    six = conv(X, [[1, 2], [0, 1], [1, 2], [1, 0], [1, 1], [1, 0]])
    assert shrinks(of(ops.Conv(six, kernel([[1, 2, 3], [4, 5, 6]]))))


def test_4_a_depthwise_convolution_follows_its_operand() -> None:
    after = rewritten(of(conv(ops.Conv(EQUAL, kernel([[5], [6], [5]])), THREE)), "merge")
    (_, depthwise, _) = [n for n in after.nodes if n.op == ops.Conv]
    assert depthwise.inputs[1].type.shape == (2, 1, 1, 1)


# 5. ConvTranspose has the channels of its weight swapped, Gemm is told to turn its operands.


def test_5_the_weight_of_a_transposed_convolution_is_swapped() -> None:
    first = ops.ConvTranspose(EQUAL, kernel([[1, 2, 1], [3, 4, 3], [5, 6, 5]], 2, 2))
    after = rewritten(of(conv(first, THREE)), "merge")
    (node,) = [n for n in after.nodes if n.op == ops.ConvTranspose]
    assert node.inputs[1].type.shape == (2, 2, 2, 2)


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
def test_5_a_gemm_turns_its_operands(a: int, b: int) -> None:
    x, w, v = (
        placeholder(*((2, 3) if a else (3, 2))),
        np.array([[1, 2, 1], [3, 4, 3]]),
        np.ones((3, 1)),
    )
    hidden = ops.Gemm(x, const(w.T if b else w), transA=a, transB=b)
    assert shrinks(of(ops.Gemm(hidden, const(v.T if b else v), transB=b), x=x))


# 6. A channel that is flattened becomes a block of features; heads are tied as blocks.


def test_6_a_flattened_channel_is_a_block() -> None:
    after = rewritten(
        of(ops.Gemm(ops.Flatten(EQUAL), const(np.arange(27).reshape(27, 1)))), "merge"
    )
    assert [t.array.shape for t in constants(after)] == [(2, 2, 1, 1), (18, 1)]


def test_6_features_are_broken_into_heads_as_blocks() -> None:
    x = placeholder(2, 4, 2)
    features = ops.MatMul(x, const([[1, 0, 1, 0], [2, 1, 2, 1]]))  # two heads of two, alike
    heads = ops.Relu(ops.Reshape(features, ints(0, 4, 2, 2)))
    flat = ops.Reshape(heads, ints(0, 4, 4))
    after = rewritten(of(ops.MatMul(flat, const([[1], [2], [3], [4]])), x=x), "merge")
    assert [t.array.shape for t in constants(after) if t.array.ndim == 2] == [(2, 2), (2, 1)]


# 7. What moves channels about, or broadcasts along them, is followed.


def gate() -> Value:
    squeezed = ops.Relu(conv(ops.GlobalAveragePool(EQUAL), [[1, 1, 1]]))
    return ops.Mul(EQUAL, ops.Sign(conv(squeezed, [[1], [2], [1]])))


LATE = conv(X, [[3, 5], [1, 2], [1, 2]])  # its last two channels are equal
PARTS = Node(ops.Split, (LATE, ints(1, 2)), {"axis": 1}, arity=2).outputs
MOVED = {
    "pad": (ops.Pad(EQUAL, ints(0, 1, 0, 0, 0, 2, 0, 0)), 6),
    "concat": (ops.Concat(EQUAL, X, axis=1), 5),
    "split": (ops.Concat(*PARTS[::-1], axis=1), 3),
    "slice": (ops.Slice(LATE, ints(1), ints(3), ints(1)), 2),
    "gather": (ops.Gather(EQUAL, ints(2, 0, 1), axis=1), 3),
    "expand": (ops.Expand(ops.GlobalMaxPool(EQUAL), ints(2, 3, 3, 3)), 3),
    "depth to space": (ops.DepthToSpace(conv(X, [[1, 2], [1, 2]] * 4), blocksize=2), 2),
    "gate": (gate(), 3),
    "slopes": (ops.PRelu(EQUAL, const([[[2]], [[3]], [[2]]])), 3),
    "layer scale": (ops.Mul(const([[[2]], [[3]], [[2]]]), EQUAL), 3),
}


@pytest.mark.parametrize("what", MOVED)
def test_7_what_moves_channels_is_followed(what: str) -> None:
    moved, channels = MOVED[what]
    assert shrinks(of(conv(moved, [list(range(1, channels + 1))])))


# 8. A channel that stands twice in one axis: what reads it is added up.


def test_8_a_value_beside_itself_is_read_once() -> None:
    twice = ops.Concat(EQUAL, EQUAL, axis=1)
    after = rewritten(of(conv(twice, [[1, 2, 3, 4, 5, 6]])), "merge")
    assert parameters(after) < parameters(of(conv(twice, [[1, 2, 3, 4, 5, 6]])))


# 9. An initializer that is an input may be overridden: it is not a constant unless told so.


def test_9_an_input_with_a_default_is_not_a_constant() -> None:
    b = placeholder(2)
    y = conv(conv(X, [[1, 2], [1, 2]], b), [[3, 4]])
    graph = Graph({"x": X, "b": b}, {"y": y}, defaults={"b": Tensor(np.ones(2, np.float32))})
    assert Pipeline.parse("merge")(graph) is graph
    assert shrinks(from_proto(to_proto(graph), overridable_initializers="constant"))


# 10. Which numbers are equal, and how they are added up.


def test_10_the_zeros_are_equal() -> None:
    assert shrinks(of(conv(conv(X, [[1, 2], [1, 2]], const([0.0, -0.0])), [[3, 4]])))


def test_10_nan_is_equal_to_nothing() -> None:
    graph = of(conv(conv(X, [[np.nan, 1], [np.nan, 1]]), [[3, 4]]))
    assert Pipeline.parse("merge")(graph) is graph


@pytest.mark.parametrize(
    ("pipeline", "row"), [("merge", [1, 1, 1]), ("eliminate-dead-channels", [0, 0, 1])]
)
def test_10_half_precision_is_added_up_in_double_and_rounded_once(
    pipeline: str, row: list[int]
) -> None:
    x = placeholder(1, 1, dtype="float16")
    hidden = ops.Gemm(x, const([row], "float16"), const([1, 1, 1], "float16"))
    last = ops.Gemm(hidden, const([[1], [1], [2048]], "float16"), const([2048], "float16"))
    after = Pipeline.parse(pipeline)(of(last, x=x))
    assert 2050 in [n for t in constants(after) for n in t.array.reshape(-1).tolist()]


# 11. Inputs, outputs and what a body captures keep their shapes.


def test_11_an_output_keeps_its_channels() -> None:
    assert stays(of(conv(EQUAL, THREE), EQUAL))
    assert pruned(of(EQUAL)).outputs["y0"].type == EQUAL.type


def test_11_what_a_body_captures_keeps_its_channels() -> None:
    a, b = Value(EQUAL.type), Value(EQUAL.type)
    branches = {
        "then_branch": Graph({"a": a}, {"y": ops.Relu(a)}),
        "else_branch": Graph({"a": b}, {"y": ops.Neg(b)}),
    }
    chosen = ops.If(const(array=True, dtype="bool"), EQUAL, captures=("a",), **branches)
    assert stays(of(conv(chosen, THREE)))


# 12. Quantised graphs: one scale carries links, and a scale for each channel does not break.


def quantised(scale: object, zero: object) -> Graph:
    packed = ops.QuantizeLinear(EQUAL, const(scale), const(zero, "int8"), axis=1)
    return of(conv(ops.DequantizeLinear(packed, const(scale), const(zero, "int8"), axis=1), THREE))


def test_12_one_scale_for_a_tensor_carries_links() -> None:
    assert shrinks(quantised(1.0, 0))


def test_12_a_scale_for_each_channel_is_narrowed_or_pins() -> None:
    rewritten(quantised([1.0, 2.0, 1.0], [0, 1, 0]), "merge")
    assert stays(quantised([1.0, 2.0, 4.0], [0, 1, 0]))
