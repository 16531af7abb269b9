"""What models store and compute, against counts made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from redir import ops
from redir.cost import Cost, Layer, example_shapes, layers, open_layers, products, total
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Op, Value
from redir.ir.tensor import Array, Dim, SparseTensor, Tensor, TensorType
from redir.passes.fold_constants import FoldConstants
from redir.passes.palettize import Palettize
from tests.helpers import const

FLOAT = np.dtype(np.float32)


def given(*shape: Dim, dtype: str = "float32") -> Value:
    return Value(TensorType(np.dtype(dtype), shape))


def apart(*shape: int) -> Array:
    """Weights of which none is 0 or 1 and no two are equal."""
    return np.arange(2, math.prod(shape) + 2, dtype=np.float32).reshape(shape)


def graph(*outputs: Value) -> Graph:
    """The graph of ``outputs``, with an input for each value that no node computes."""
    whole, stack = dict[Value, None](), list(outputs)
    while stack:
        value = stack.pop()
        whole[value] = None
        stack.extend(value.node.inputs if value.node else ())
    inputs = [v for v in whole if v.node is None]
    return Graph(
        {f"x{i}": v for i, v in enumerate(inputs)}, {f"y{i}": v for i, v in enumerate(outputs)}
    )


def layer(output: Value) -> Layer:
    """The one layer of a graph."""
    (found,) = layers(graph(output), {})
    return found


IMAGE = given("n", 4, 8, 8)


def attending(*inputs: Value, **attrs: int) -> Value:
    op = ops.lookup("Attention", 23)
    assert op is not None
    return op(*inputs, **attrs)


MACS: dict[str, tuple[Value, int]] = {
    # 4 x 8 x 8 results of 4 x 3 x 3 products
    "a padded Conv": (ops.Conv(IMAGE, const(apart(4, 4, 3, 3)), pads=(1, 1, 1, 1)), 256 * 36),
    "a Conv without padding": (ops.Conv(IMAGE, const(apart(4, 4, 3, 3))), 4 * 6 * 6 * 36),
    "a strided Conv": (
        ops.Conv(IMAGE, const(apart(4, 4, 3, 3)), pads=(1, 1, 1, 1), strides=(2, 2)),
        4 * 4 * 4 * 36,
    ),
    "a dilated Conv": (ops.Conv(IMAGE, const(apart(4, 4, 3, 3)), dilations=(2, 2)), 4 * 4 * 4 * 36),
    "a grouped Conv": (ops.Conv(IMAGE, const(apart(6, 2, 3, 3)), group=2), 6 * 6 * 6 * 18),
    "a depthwise Conv": (ops.Conv(IMAGE, const(apart(4, 1, 3, 3)), group=4), 4 * 6 * 6 * 9),
    "a depthwise Conv with two filters each": (
        ops.Conv(IMAGE, const(apart(8, 1, 3, 3)), group=4),
        8 * 6 * 6 * 9,
    ),
    "a Conv with a bias": (
        ops.Conv(IMAGE, const(apart(2, 4, 1, 1)), const(apart(2))),
        2 * 64 * 4,
    ),
    "a Conv over one axis": (ops.Conv(given("n", 2, 10), const(apart(3, 2, 4))), 3 * 7 * 8),
    "a Conv of weights that are computed": (ops.Conv(IMAGE, given(2, 4, 1, 1)), 2 * 64 * 4),
    "a ConvInteger": (
        ops.ConvInteger(given("n", 3, 5, 5, dtype="uint8"), const(np.ones((2, 3, 3, 3)), "uint8")),
        2 * 9 * 27,
    ),
    # each of 4 x 8 x 8 numbers is multiplied by 3 x 2 x 2 weights
    "a ConvTranspose": (
        ops.ConvTranspose(IMAGE, const(apart(4, 3, 2, 2)), strides=(2, 2)),
        256 * 12,
    ),
    "a grouped ConvTranspose": (
        ops.ConvTranspose(IMAGE, const(apart(4, 3, 2, 2)), group=2),
        256 * 12,
    ),
    "a Gemm": (ops.Gemm(given("n", 6), const(apart(6, 5))), 30),
    "a Gemm with transB": (ops.Gemm(given("n", 6), const(apart(5, 6)), transB=1), 30),
    "a Gemm with transA": (ops.Gemm(given(6, "n"), const(apart(6, 5)), transA=1), 30),
    "a Gemm with both": (ops.Gemm(given(6, 2), const(apart(5, 6)), transA=1, transB=1), 60),
    "a MatMul": (ops.MatMul(given("n", 6), const(apart(6, 5))), 30),
    "a batched MatMul": (ops.MatMul(given("n", 3, 4, 5), const(apart(5, 6))), 3 * 4 * 5 * 6),
    "a MatMul with weights for each of a batch": (
        ops.MatMul(given("n", 3, 4, 5), const(apart(3, 5, 6))),
        3 * 4 * 5 * 6,
    ),
    "a MatMul of two inputs": (
        ops.MatMul(given("n", 3, 4, 5), given("n", 3, 5, 4)),
        3 * 4 * 4 * 5,
    ),
    "a MatMul of a vector": (ops.MatMul(given(5), const(apart(5, 6))), 30),
    "a MatMul with a vector": (ops.MatMul(given("n", 5), const(apart(5))), 5),
    # 2 heads, whose 3 queries meet 5 keys of 4 numbers, and weigh 5 values of 6
    "an Attention": (
        attending(given("n", 2, 3, 4), given("n", 2, 5, 4), given("n", 2, 5, 6)),
        2 * 3 * 5 * (4 + 6),
    ),
    "an Attention with heads side by side": (
        attending(
            *(given("n", 3, 8), given("n", 5, 4), given("n", 5, 6)), q_num_heads=2, kv_num_heads=1
        ),
        2 * 3 * 5 * (4 + 6),
    ),
    # 7 steps; 4 gates of 2 units, which read 3 numbers and the 2 units
    "an LSTM": (
        ops.LSTM(given(7, "n", 3), const(apart(1, 8, 3)), const(apart(1, 8, 2)), hidden_size=2),
        7 * (8 * 3 + 8 * 2),
    ),
    "an LSTM in both directions": (
        ops.LSTM(
            given(7, "n", 3),
            const(apart(2, 8, 3)),
            const(apart(2, 8, 2)),
            hidden_size=2,
            direction="bidirectional",
        ),
        2 * 7 * (8 * 3 + 8 * 2),
    ),
    "a GRU": (
        ops.GRU(given(7, 2, 3), const(apart(1, 6, 3)), const(apart(1, 6, 2)), hidden_size=2),
        7 * 2 * (6 * 3 + 6 * 2),
    ),
}


@pytest.mark.parametrize("what", MACS)
def test_multiply_adds_of(what: str) -> None:
    value, macs = MACS[what]
    assert layer(value).cost.macs == macs


@pytest.mark.parametrize("batch", ["n", None, 1])
def test_an_open_batch_counts_as_one_example(batch: Dim) -> None:
    assert layer(ops.MatMul(given(batch, 6), const(apart(6, 5)))).cost.macs == 30


def test_a_batch_of_two_counts_twice() -> None:
    assert layer(ops.MatMul(given(2, 6), const(apart(6, 5)))).cost.macs == 60


def test_an_open_batch_stays_one_behind_a_reshape() -> None:
    flat = ops.Reshape(given("n", 2, 3), const([-1, 6], "int64"))
    found = layers(graph(ops.MatMul(flat, const(apart(6, 5)))))
    assert [(la.op, la.cost.macs) for la in found] == [("Reshape", 0), ("MatMul", 30)]


def test_what_neither_stores_nor_multiplies_is_no_layer() -> None:
    x = given("n", 4)
    assert layers(graph(ops.Relu(x))) == ()
    assert total(graph(ops.Relu(x))) == Cost()


# Multiplications: each input number times each distinct weight that reads it, but for 0, 1 and -1


MULTIPLICATIONS: dict[str, tuple[Value, int]] = {
    "distinct weights": (ops.Gemm(given("n", 2), const(apart(2, 3))), 6),
    "equal weights, once": (ops.Gemm(given("n", 2), const(np.full((2, 3), 5))), 2),
    "zeros, never": (ops.Gemm(given("n", 2), const([[0, 11, 12], [0, 0, 0]])), 2),
    "negative zeros, never": (ops.Gemm(given("n", 1), const([[-0.0, 0.0, 7]])), 1),
    "what is not a number, once": (
        ops.Gemm(given("n", 2), const([[np.nan, np.nan, 7.0], [7.0, 7.0, 0.0]])),
        3,
    ),
    "ones, never: they only route": (ops.Gemm(given("n", 2), const([[1, -1, 2], [1, 1, 1]])), 1),
    "opposite weights, twice": (ops.Gemm(given("n", 1), const([[13, -13, 13]])), 2),
    "one weight for two numbers, twice": (ops.Gemm(given("n", 2), const([[11], [11]])), 2),
    "Gemm with transB": (ops.Gemm(given("n", 2), const([[11, 12], [1, 3]]), transB=1), 3),
    "Gemm with transA": (ops.Gemm(given(2, "n"), const([[11, 11], [2, 3]]), transA=1), 3),
    "batched MatMul": (ops.MatMul(given("n", 5, 2), const([[11, 11], [2, 3]])), 15),
    # channel 0 is read by 11 and 12, channel 1 by 13, at 4 x 4 places
    "Conv": (
        ops.Conv(given("n", 2, 4, 4), const(np.reshape([11, 0, 11, 13, 12, 13], (3, 2, 1, 1)))),
        48,
    ),
    "Conv whose kernel repeats": (
        ops.Conv(given("n", 1, 4, 4), const(np.full((2, 1, 3, 3), 5)), pads=(1, 1, 1, 1)),
        16,
    ),
    # 4 results of 1 product: the other 60 numbers are not read
    "strided Conv": (ops.Conv(given("n", 1, 8, 8), const([[[[15]]]]), strides=(4, 4)), 4),
    # channels 0 and 1 are read by 1 and 2, channels 2 and 3 by 3
    "grouped Conv": (
        ops.Conv(
            given("n", 4, 2, 2),
            const(np.reshape([11, 11, 12, 12, 13, 13, 13, 13], (4, 2, 1, 1))),
            group=2,
        ),
        4 * (2 + 2 + 1 + 1),
    ),
    "depthwise Conv": (
        ops.Conv(
            given("n", 2, 4, 4),
            const(np.reshape([11, 12, 12, 13, 13, 13], (2, 1, 1, 3))),
            group=2,
            pads=(0, 1, 0, 1),
        ),
        16 * (2 + 1),
    ),
    "ConvTranspose": (
        ops.ConvTranspose(given("n", 2, 3, 3), const(np.reshape([11, 11, 12, 13], (2, 2, 1, 1)))),
        9 * (1 + 2),
    ),
    "nothing constant": (ops.MatMul(given("n", 3, 4), given("n", 4, 3)), 36),
}


@pytest.mark.parametrize("what", MULTIPLICATIONS)
def test_multiplications_count(what: str) -> None:
    value, count = MULTIPLICATIONS[what]
    assert layer(value).cost.multiplications == count


def test_multiplications_of_a_conv_whose_operand_has_open_channels() -> None:
    x = given("n", "c", 4, 4)
    found = layer(ops.Conv(x, const(apart(2, 3, 1, 1)), pads=(0, 0, 0, 0)))
    assert (found.cost.macs, found.cost.multiplications) == (96, 96)


@pytest.mark.parametrize("op", [ops.Gemm, ops.MatMul], ids=str)
def test_multiplications_of_a_product_with_a_constant_from_the_left(op: Op) -> None:
    found = layer(op(const(np.full((6, 4), 5)), given(4, 5)))
    assert (found.cost.macs, found.cost.multiplications) == (120, 20)


def test_a_scale_for_each_channel_multiplies_once_for_each_number() -> None:
    x = given("n", 3, 5)
    assert layer(ops.Mul(x, const(apart(3, 1)))).cost.macs == 15
    assert layer(ops.Mul(x, const([5]))).cost.macs == 0  # one factor for all is no layer's weight


# Products: as the graph is written, equal weights too


PRODUCTS: dict[str, tuple[Value, int]] = {
    "equal weights, each": (ops.Gemm(given("n", 2), const(np.full((2, 3), 5))), 6),
    "ones and zeros, never": (ops.Gemm(given("n", 2), const([[1, -1, 2], [0, 3, 1]])), 2),
    "a Conv at each place": (
        ops.Conv(given("n", 1, 4, 4), const(np.reshape([1, 5], (2, 1, 1, 1)))),
        16,
    ),
    "a scale": (ops.Mul(given("n", 2, 3), const([[2], [1]])), 3),
    "nothing constant": (ops.MatMul(given("n", 3, 4), given("n", 4, 3)), 36),
}


@pytest.mark.parametrize("what", PRODUCTS)
def test_products_count(what: str) -> None:
    value, count = PRODUCTS[what]
    assert products(graph(value)) == count


# Storage


def test_parameters_distinct_values_and_bytes_of_a_layer() -> None:
    value = ops.Gemm(given("n", 2), const([[3, 3, 2], [2, 0, 0]]), const([5, 5, 6]))
    assert layer(value).cost == Cost(parameters=9, distinct=5, macs=6, multiplications=3, bytes=36)


def test_half_floats_take_two_bytes() -> None:
    x = given("n", 2, dtype="float16")
    assert layer(ops.MatMul(x, const(np.ones((2, 3)), "float16"))).cost.bytes == 12


def test_four_bits_take_half_a_byte() -> None:
    held = ops.Const(value=Tensor(np.zeros(10, ml_dtypes.int4)))
    assert layer(ops.Cast(held, to=TensorProto.FLOAT)).cost.bytes == 5


@pytest.mark.parametrize(("values", "each"), [(16, 4), (200, 8)])
def test_a_weight_in_a_palette_counts_as_what_it_stands_for(values: int, each: int) -> None:
    weights = np.resize(np.arange(2.0, values + 2), (64, 32)).astype(np.float32)
    before = graph(ops.MatMul(given(1, 64), const(weights)))
    after = Palettize()(before)
    assert after is not before
    (old,), (new,) = layers(before), layers(after)
    assert replace(new.cost, bytes=old.cost.bytes) == old.cost
    assert products(after) == products(before)
    table = 256 * 2 if each == 4 else 0
    shape = 2 * 8 if each == 4 else 0
    assert new.cost.bytes == 2048 * each // 8 + 4 * values + table + shape


def test_a_shared_weight_is_stored_once_and_multiplied_twice() -> None:
    w = const(apart(3, 3))
    x = given("n", 3)
    found = layers(graph(ops.MatMul(ops.MatMul(x, w), w)))
    assert [(la.cost.parameters, la.cost.distinct, la.cost.macs) for la in found] == [
        (9, 9, 9),
        (0, 0, 9),
    ]
    assert total(graph(ops.MatMul(ops.MatMul(x, w), w))).bytes == 36


def test_equal_weights_apart_are_stored_twice() -> None:
    y = ops.MatMul(ops.MatMul(given("n", 3), const(apart(3, 3))), const(apart(3, 3)))
    assert total(graph(y)) == Cost(
        parameters=18, distinct=18, macs=18, multiplications=18, bytes=72
    )


def test_an_initializer_that_may_be_overridden_is_stored() -> None:
    x, w = given("n", 2), given(2, 3)
    whole = Graph({"x": x, "w": w}, {"y": ops.MatMul(x, w)}, defaults={"w": Tensor(apart(2, 3))})
    assert total(whole) == Cost(parameters=6, distinct=6, macs=6, multiplications=6, bytes=24)


# Whole models


BRANCHES = """
<ir_version: 10, opset_import: ["": 21]>
main (float[n, 2] x, bool c) => (float[n, 3] y)
<float[2, 3] w = {1, 2, 3, 4, 5, 6}>
{
    y = If (c) <
        then_branch = then () => (float[n, 3] a) { a = MatMul (x, w) },
        else_branch = other () => (float[n, 3] b)
            <float[2, 3] v = {1, 1, 1, 2, 2, 2}, float[3] d = {7, 8, 9}>
            { e = MatMul (x, v)  b = Add (e, d) }
    >
}
"""


def test_bodies_of_an_if_count() -> None:
    found = layers(from_proto(parser.parse_model(BRANCHES)))
    assert sum((la.cost for la in found), Cost()).parameters == 6 + 6 + 3
    assert [la.cost.macs for la in found if la.op == "MatMul"] == [6, 6]
    assert [la.cost.parameters for la in found if la.op == "Add"] == [3]


def test_a_conv_that_does_not_fit_is_carried_along() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    w = helper.make_tensor("w", TensorProto.FLOAT, [3], [1, 2, 3])
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = helper.make_model(helper.make_graph([node], "main", [x], [y], [w]))
    assert total(from_proto(model)).parameters == 3


def test_a_layer_is_called_as_its_node_or_else_its_result() -> None:
    source = Node(ops.Relu, (given("n", 2),)).outputs[0]
    assert layer(ops.MatMul(source, const(apart(2, 2)))).name == ""
    model = parser.parse_model(BRANCHES.replace("a = MatMul (x, w)", "[here] a = MatMul (x, w)"))
    names = [la.name for la in layers(from_proto(model)) if la.op == "MatMul"]
    assert names == ["here", "e"]


def test_a_layer_reads_as_one_flat_object() -> None:
    found = layer(ops.Gemm(given("n", 1), const([[2]]))).as_dict()
    assert found == {
        "name": "",
        "op": "Gemm",
        "parameters": 1,
        "distinct": 1,
        "macs": 1,
        "multiplications": 1,
        "bytes": 4,
    }


SHAPES = """
<ir_version: 10, opset_import: ["": 21]>
main (float[n, s, 4] x) => (float[n, s, 6] y, float[n, s, s] z)
<int64[1] minus = {-1}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}>
{
    whole = Shape (x)
    first = Slice (whole, zero, one)
    second = Slice (whole, one, two)
    f = Cast <to = 1> (second)
    size = Cast <to = 7> (f)
    goal = Concat <axis = 0> (first, size, minus)
    flat = Concat <axis = 0> (minus, two2)
    rows = Reshape (x, flat)
    made = MatMul (rows, w)
    y = Reshape (made, goal)
    turned = Transpose <perm = [0, 2, 1]> (y)
    z = MatMul (y, turned)
}
"""


def computed() -> Graph:
    """A projection behind a Reshape and a product of two that flow, their sizes all computed."""
    model = parser.parse_model(SHAPES)
    held = {"w": apart(4, 6), "two2": np.array([4])}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in held.items())
    return from_proto(model)


def test_sizes_that_the_model_computes_are_known() -> None:
    products = {la.name: la.cost.macs for la in layers(computed(), {"x": (1, 5, 4)})}
    assert {n: count for n, count in products.items() if count} == {"made": 120, "z": 150}


def test_counts_are_made_for_one_example_at_sizes_that_fit() -> None:
    (shape,) = example_shapes(computed()).values()
    assert shape[0] == 1
    assert total(computed()).macs == shape[1] * 24 + shape[1] ** 2 * 6
    assert open_layers(computed()) == 0


def test_folding_shapes_changes_no_count() -> None:
    graph = computed()
    after = FoldConstants()(graph)
    assert len(after.nodes) < len(graph.nodes)
    assert total(after).macs == total(graph).macs


def test_sizes_that_fit_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = computed()
    first = example_shapes(whole)
    monkeypatch.setattr("redir.cost.sizes.fitting_shapes", None)
    assert example_shapes(whole, {}) == first


def test_sizes_may_be_given() -> None:
    assert example_shapes(computed(), {"x": (3, 7, 4)}) == {"x": (3, 7, 4)}


def test_sizes_that_cannot_be_found_are_open() -> None:
    x = Value(TensorType(FLOAT, None))
    whole = graph(ops.MatMul(x, const(apart(2, 3))))
    assert example_shapes(whole) == {}
    assert (total(whole).macs, open_layers(whole)) == (0, 1)


def test_a_custom_operator_called_conv_is_no_open_layer() -> None:
    x = given(None, None)
    own = Node(ops.opaque("Conv", "acme", 1, (x.type,)), (x,)).outputs[0]
    assert open_layers(graph(own)) == 0


ODD = {
    "strides of which there are many": ops.Conv(
        IMAGE, const(apart(4, 4, 3, 3)), strides=(2**40, 2**40)
    ),
    "a dimension that is large": ops.Relu(given(2**60, 2**60)),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_graphs_are_counted_at_once(what: str) -> None:
    assert total(graph(ODD[what])).macs >= 0


def test_strings_and_sparse_tensors_are_counted() -> None:
    words = ops.Const(value=Tensor(np.array(["a", b"a", "a"], object)))
    sparse = SparseTensor(Tensor(apart(2)), Tensor(np.arange(2)), (2**40, 2**20))
    op = ops.opaque("Mine", "my.domain", 1, [TensorType(FLOAT, (2,))])
    found = total(graph(op(words, ops.Const(value=sparse))))
    assert (found.parameters, found.distinct) == (5, 4)


def test_a_layer_is_open_where_a_size_beside_the_batch_is() -> None:
    w = const(apart(2, 3, 1, 1))
    closed, wide = ops.Conv(given("n", 3, 4, 4), w), ops.Conv(given("n", 3, "h", 4), w)
    assert [open_layers(graph(value), {}) for value in (closed, wide)] == [0, 1]


def test_without_values_no_weight_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graph(ops.MatMul(given(2, 3), const(np.ones((3, 4)))))
    whole = total(model)
    monkeypatch.setattr(Tensor, "distinct", property(pytest.fail))
    found = total(model, values=False)
    assert found == replace(whole, distinct=None, multiplications=None)
    assert [layer.op for layer in layers(model, values=False)] == ["MatMul"]
