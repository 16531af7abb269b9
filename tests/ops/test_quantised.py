"""Quantised layers in whole graphs: channels go, and onnxruntime computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.channels.coupling import Coupling
from redir.check.guarantees import constants
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, TensorType
from redir.ops import Absent
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.passes.merge import Merge
from redir.passes.prune import Prune
from redir.runtime.onnxruntime import mixes_bytes, saturates, session
from redir.testing import check_on
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
FLOATS = RNG.normal(size=(2, 3, 5, 5)).astype(np.float32)


def zeros_of(size: int, *, each: bool) -> Value:
    return const(np.zeros(size if each else ()), np.int8)


def scales_of(size: int, *, each: bool) -> Value:
    return const(RNG.uniform(0.01, 0.02, size if each else ()))


def stored(rows: int, columns: int, *, each: bool) -> tuple[Value, Value, Value]:
    """The weights of a convolution, with a scale and a zero point for each row or for all."""
    weights = const(RNG.integers(-99, 99, (rows, columns, 3, 3)), np.int8)
    return weights, scales_of(rows, each=each), zeros_of(rows, each=each)


def with_floats(*, each: bool) -> Graph:
    """Convolutions of floats between a QuantizeLinear and a DequantizeLinear."""
    x = Value(TensorType(np.dtype(np.float32), FLOATS.shape))
    scale, zero = const(0.05), const(3, np.uint8)

    def conv(x: Value, rows: int, columns: int) -> Value:
        weights = ops.DequantizeLinear(*stored(rows, columns, each=each), axis=0)
        y = ops.Relu(ops.Conv(x, weights, pads=(1, 1, 1, 1)))
        return ops.DequantizeLinear(ops.QuantizeLinear(y, scale, zero), scale, zero)

    y = conv(conv(conv(x, 8, 3), 6, 8), 4, 6)
    return Graph({"x": x}, {"y": y}, opset={"": 21})


def with_integers(*, each: bool) -> Graph:
    """Convolutions of integers."""
    x = Value(TensorType(np.dtype(np.float32), FLOATS.shape))
    scale, zero = const(0.05), const(3, np.uint8)

    def conv(x: Value, rows: int, columns: int) -> Value:
        weights = stored(rows, columns, each=each)
        bias = const(RNG.integers(-99, 99, rows), np.int32)
        node = (x, scale, zero, *weights, scale, zero, bias)
        return Node(ops.QLinearConv, node, {"pads": (1, 1, 1, 1)}).outputs[0]

    y = conv(conv(conv(ops.QuantizeLinear(x, scale, zero), 8, 3), 6, 8), 4, 6)
    return Graph({"x": x}, {"y": ops.DequantizeLinear(y, scale, zero)}, opset={"": 21})


def run(graph: Graph) -> Array:
    given: dict[str, Array] = {"x": FLOATS, "z": np.array(3, np.uint8)}
    found: Array = session(graph)({name: given[name] for name in graph.inputs})["y"]
    return found


def size(graph: Graph) -> int:
    return sum(t.array.size for t in constants(graph))


@pytest.mark.parametrize("made", [with_floats, with_integers])
@pytest.mark.parametrize("each", [False, True])
def test_removing_channels_is_the_same_as_silencing_them(made: Any, *, each: bool) -> None:
    graph = made(each=each)
    small, silent = Prune(0.5)(graph), Prune(0.5, compact=False)(graph)
    assert size(small) < 0.5 * size(graph)
    np.testing.assert_array_equal(run(small), run(silent))
    assert np.ptp(run(small)) > 0


ROWS = np.tile(np.array([0, 128, 127, 255])[:, None, None, None], (1, 3, 1, 1))


def around(*zeros: Value) -> tuple[Graph, Value]:
    """Two layers with weights of bytes around ``zeros``, and what the first gives.

    Further ``zeros`` are those of others that read the weights of the first layer.
    """
    x = Value(TensorType(np.dtype(np.float32), FLOATS.shape))
    weights, others = const(ROWS, np.uint8), const(RNG.integers(0, 255, (2, 4, 1, 1)), np.uint8)
    first = ops.Conv(x, ops.DequantizeLinear(weights, scales(4, zeros[0]), zeros[0], axis=0))
    for zero in zeros[2:]:
        first = ops.Add(first, ops.Conv(x, ops.DequantizeLinear(weights, const(0.5), zero)))
    y = ops.Conv(first, ops.DequantizeLinear(others, scales(2, zeros[1]), zeros[1], axis=0))
    return Graph({"x": x, "z": GIVEN}, {"y": y}, opset={"": 21}), first


def scales(rows: int, zero: Value) -> Value:
    return scales_of(rows, each=zero.rank == 1)


GIVEN = placeholder(dtype=np.uint8)
MIDDLE, OTHER = const(128, np.uint8), const(7, np.uint8)
CENTRES = {
    "one number": (MIDDLE, MIDDLE),
    "a number for each row": (const([128, 1, 0, 255], np.uint8), const([9, 200], np.uint8)),
    "one of them 0": (const(0, np.uint8), OTHER),
    "two that read it alike": (MIDDLE, OTHER, MIDDLE),
}


@pytest.mark.parametrize("what", CENTRES)
def test_weights_around_another_number_than_0_are_silenced_by_that(what: str) -> None:
    graph, first = around(*CENTRES[what])
    assert not Coupling(graph).is_pinned((first, 1))
    small, silent = Prune(0.5)(graph), Prune(0.5, compact=False)(graph)
    assert size(small) < size(graph)
    np.testing.assert_allclose(run(small), run(silent), rtol=1e-5)
    assert np.ptp(run(small)) > 0


NOWHERE = {
    "centres that are given": (GIVEN, GIVEN),
    "two centres, where the others are given": (MIDDLE, GIVEN, OTHER),
}


@pytest.mark.parametrize("what", NOWHERE)
def test_weights_around_what_is_not_known_are_pinned(what: str) -> None:
    graph, first = around(*NOWHERE[what])
    assert Coupling(graph).is_pinned((first, 1))


def test_weights_that_are_near_their_centre_go_first() -> None:
    small = Prune(0.5)(around(MIDDLE, MIDDLE)[0])
    left = next(t.array for t in constants(small) if t.array.shape == (2, 3, 1, 1))
    np.testing.assert_array_equal(left, ROWS[[0, 3]])


def test_a_border_of_integers_is_read_where_it_stands_for_another_number() -> None:
    x = placeholder(1, 2, 3, 3, dtype=np.uint8)
    padded = ops.Pad(x, const([0, 1, 0, 0, 0, 1, 0, 0], np.int64))
    weights = const(RNG.integers(1, 9, (2, 4, 1, 1)), np.int8)
    y = Node(ops.ConvInteger, (padded, weights, const(5, np.uint8), Absent())).outputs[0]
    graph = Graph({"x": x}, {"y": y}, opset={"": 21})
    assert EliminateDeadChannels()(graph) is graph


# Scales of blocks


def in_blocks(
    rows: list[int], unread: int, *, zeros: bool, scales: list[int] | None = None
) -> Graph:
    """A layer whose weights have scales of two blocks in each row, and one that reads it.

    Weights of equal ``rows`` and ``scales`` are equal, and the last rows are ``unread``.
    """
    x = Value(TensorType(np.dtype(np.float32), (2, 6)))
    drawn = np.random.default_rng(0)
    stored = drawn.integers(-9, 9, (9, 6))[rows]
    scale, zero = drawn.uniform(0.5, 1, (9, 2))[scales or rows], drawn.integers(-3, 3, (9, 2))[rows]
    operands = [const(stored, np.int8), const(scale), const(zero, np.int8)][: 2 + zeros]
    weights = ops.DequantizeLinear(*operands, axis=1, block_size=3)
    read = drawn.normal(size=(len(rows), 4))
    read[len(rows) - unread :] = 0
    y = ops.MatMul(ops.Relu(ops.Gemm(x, weights, transB=1)), const(read))
    return Graph({"x": x}, {"y": y}, opset={"": 21})


def rows_of(graph: Graph) -> int:
    (node,) = (n for n in graph.nodes if n.op.name == "DequantizeLinear")
    assert [v.type.size(0) for v in node.inputs] == [node.outputs[0].type.size(0)] * len(
        node.inputs
    )
    return node.outputs[0].type.size(0) or 0


@pytest.mark.parametrize("zeros", [False, True])
def test_rows_of_blocks_that_nobody_reads_go(*, zeros: bool) -> None:
    after = check_on(EliminateDeadChannels(), in_blocks([0, 1, 2, 3, 4], 2, zeros=zeros))
    assert rows_of(after) == 3


@pytest.mark.parametrize("zeros", [False, True])
def test_rows_of_blocks_that_are_copies_become_one(*, zeros: bool) -> None:
    assert rows_of(check_on(Merge(), in_blocks([0, 1, 0, 2, 1], 0, zeros=zeros))) == 3


def test_rows_of_other_scales_are_no_copies() -> None:
    graph = in_blocks([0, 1, 0], 0, zeros=False, scales=[0, 1, 2])
    assert Merge()(graph) is graph


@pytest.mark.parametrize("zeros", [False, True])
def test_rows_of_blocks_are_silenced_by_what_stands_for_zero(*, zeros: bool) -> None:
    graph = in_blocks([0, 1, 2, 3, 4, 5], 0, zeros=zeros)
    small, silent = Prune(0.5)(graph), Prune(0.5, compact=False)(graph)
    assert rows_of(small) == 3
    feeds = {"x": RNG.normal(size=(2, 6)).astype(np.float32)}
    np.testing.assert_allclose(session(small)(feeds)["y"], session(silent)(feeds)["y"], rtol=1e-5)


def test_columns_of_blocks_are_pinned() -> None:
    x, weights = placeholder(2, 6), const(RNG.integers(-9, 9, (6, 6)), np.int8)
    first = ops.MatMul(x, const(RNG.normal(size=(6, 6))))
    read = ops.DequantizeLinear(weights, const(np.ones((6, 2))), axis=1, block_size=3)
    graph = Graph({"x": x}, {"y": ops.Gemm(first, read, transB=1)}, opset={"": 21})
    assert Coupling(graph).is_pinned((first, 1))


# Scales that follow from what flows


def by_range(*, silent: int = 0, unread: int = 0, centre: int = 0) -> Graph:
    """Five channels scaled by their range; some are zero, and the last ones are not read."""
    drawn = np.random.default_rng(0)
    x, made = Value(TensorType(np.dtype(np.float32), (2, 6))), drawn.normal(size=(6, 5))
    made[:, 5 - silent :] = 0
    read = drawn.integers(1, 9, (5, 4))
    read[5 - unread :] = centre
    flow = ops.Relu(ops.MatMul(x, const(made)))
    whole, scale, zero = Node(ops.DynamicQuantizeLinear, (flow,), arity=3).outputs
    total = ops.MatMulInteger(whole, const(read, np.int8), zero, const(centre, np.int8))
    y = ops.Mul(ops.Cast(total, to=1), scale)
    return Graph({"x": x}, {"y": y}, opset={"": 21})


def measured(graph: Graph) -> int:
    (node,) = (n for n in graph.nodes if n.op == ops.DynamicQuantizeLinear)
    return node.outputs[0].type.size(1) or 0


def test_zeros_that_are_not_read_take_no_part_in_a_range() -> None:
    assert measured(check_on(EliminateDeadChannels(), by_range(silent=2, unread=2))) == 3


@pytest.mark.parametrize(("silent", "unread"), [(0, 2), (2, 0)])
def test_what_takes_part_in_a_range_or_is_read_stays(silent: int, unread: int) -> None:
    graph = by_range(silent=silent, unread=unread)
    assert measured(EliminateDeadChannels()(graph)) == 5


def test_what_is_read_around_another_number_than_0_stays() -> None:
    graph = by_range(silent=2, unread=2, centre=3)
    assert measured(EliminateDeadChannels()(graph)) == 5


def test_copies_in_a_range_stay() -> None:
    x, made = placeholder(2, 6), RNG.normal(size=(6, 5))[:, [0, 1, 2, 0, 1]]
    flow = ops.MatMul(x, const(made))
    whole, scale, zero = Node(ops.DynamicQuantizeLinear, (flow,), arity=3).outputs
    total = ops.MatMulInteger(whole, const(RNG.integers(1, 9, (5, 4)), np.int8), zero)
    graph = Graph({"x": x}, {"y": ops.Mul(ops.Cast(total, to=1), scale)}, opset={"": 21})
    assert measured(Merge()(graph)) == 5


def test_removing_channels_of_a_range_is_the_same_as_silencing_them() -> None:
    graph = by_range()
    small, silent = Prune(0.4)(graph), Prune(0.4, compact=False)(graph)
    assert measured(small) == 3
    feeds = {"x": RNG.normal(size=(2, 6)).astype(np.float32)}
    np.testing.assert_array_equal(session(small)(feeds)["y"], session(silent)(feeds)["y"])


# Sums of products that leave 16 bits in pairs


LARGE = RNG.integers(200, 256, (4, 66), np.uint8)
WEIGHTS = RNG.integers(100, 128, (66, 5), np.int8)


def product() -> Graph:
    x = Value(TensorType(LARGE.dtype, LARGE.shape))
    y = ops.MatMulInteger(x, const(WEIGHTS, np.int8), const(3, np.uint8), const(-2, np.int8))
    return Graph({"x": x}, {"y": y}, opset={"": 21})


EXACT = (LARGE.astype(np.int64) - 3) @ (WEIGHTS.astype(np.int64) + 2)


def test_sums_of_products_of_bytes_are_exact() -> None:
    np.testing.assert_array_equal(evaluate(product(), {"x": LARGE})["y"], EXACT)


def test_models_are_compared_by_exact_products_on_every_cpu() -> None:
    np.testing.assert_array_equal(session(product())({"x": LARGE})["y"], EXACT)


def test_it_is_known_whether_this_cpu_saturates() -> None:
    found = session(product(), exact=False)({"x": LARGE})["y"]
    assert np.array_equal(found, EXACT) != saturates()


def test_only_a_graph_of_both_kinds_of_bytes_may_saturate() -> None:
    x = placeholder(3, 4, dtype=np.uint8)
    assert mixes_bytes(product())
    assert not mixes_bytes(Graph({"x": x}, {"y": ops.Identity(x)}))


def test_a_sum_beyond_32_bits_wraps_around() -> None:
    x = placeholder(1, 40000, dtype=np.uint8)
    y = ops.MatMulInteger(x, const(np.full((40000, 1), 255), np.uint8))
    found = evaluate(Graph({"x": x}, {"y": y}), {"x": np.full((1, 40000), 255, np.uint8)})["y"]
    assert found.item() == 40000 * 255**2 - 2**32
