"""Reading and writing ONNX: what a file says comes out as it went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from redir import ops
from redir.backends.onnx import to_proto
from redir.errors import BadInput, Unsupported
from redir.frontends.onnx import from_proto
from redir.ir import Graph
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, ContainerType, SparseTensor, Tensor, TensorType
from redir.passes.fold_constants import FoldConstants
from tests.backends.onnx_models import (
    CUSTOM,
    FUNCTIONS,
    LOOP,
    NESTED,
    OVERRIDABLE,
    RELU,
    SCAN,
    again,
    model_of,
    names_of,
    runtime,
    tidy,
)
from tests.helpers import placeholder

# Notes and names


def test_an_empty_word_takes_no_bytes() -> None:
    x = placeholder(2)
    (node,) = to_proto(Graph({"x": x}, {"y": ops.Relu(x)})).graph.node
    assert not any(map(node.HasField, ("domain", "overload", "doc_string", "name")))


def test_the_result_of_a_body_does_not_take_a_name_from_around() -> None:
    """Runtimes refuse that, even where they differ in nothing else."""
    flag, y, inner, other = (placeholder(dtype=bool), *(placeholder(2) for _ in range(3)))
    bodies = {
        "then_branch": Graph({"a": inner}, {"y": ops.Relu(inner)}),
        "else_branch": Graph({"a": other}, {"y": ops.Neg(other)}),
    }
    graph = Graph({"c": flag, "y": y}, {"z": ops.If(flag, y, captures=("a",), **bodies)})
    feeds = {"c": np.ones((), bool), "y": np.array([-1, 1], np.float32)}
    (found,) = runtime(to_proto(graph), feeds)
    np.testing.assert_array_equal(found, [0, 1])


def test_what_a_model_says_of_itself_is_kept() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(RELU)
    model.producer_name, model.producer_version, model.domain = "someone", "1.5", "com.some"
    model.model_version, model.doc_string = 7, "what it is"
    helper.set_model_props(model, {"author": "her", "licence": "free"})
    written = again(model)
    model.ClearField("graph")
    written.ClearField("graph")
    assert written == tidy(model)


def test_what_a_graph_says_of_itself_is_kept() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(RELU)
    model.graph.doc_string = "a graph"
    model.graph.metadata_props.add(key="k", value="v")
    model.graph.quantization_annotation.add(tensor_name="x")
    assert again(model) == model


def test_what_a_node_says_of_itself_is_kept() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(RELU)
    model.graph.node[0].name, model.graph.node[0].doc_string = "first", "what it does"
    model.graph.node[0].metadata_props.add(key="pkg.torch.name", value="layer1/relu")
    assert again(model).graph.node[0] == model.graph.node[0]


@pytest.mark.parametrize("opset", [1, 6, 7, 13, 21])
def test_the_operator_set_is_kept(opset: int) -> None:
    model = helper.make_model(RELU.graph, opset_imports=[helper.make_opsetid("", opset)])
    assert again(model).opset_import == tidy(model).opset_import


@pytest.mark.parametrize("version", [3, 4, 8, 10])
def test_the_ir_version_is_kept(version: int) -> None:
    model = model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.ir_version = version
    assert again(model).ir_version == version


def test_intermediate_names_and_types_are_kept() -> None:
    model = model_of("""g (float[n, 3] x) => (float[n, 3] y) <float[n, 3] layer1_out>
        { layer1_out = Relu(x) y = Exp(layer1_out) }""")
    assert again(model).graph == model.graph


def test_names_that_are_no_identifiers_are_kept() -> None:
    relu = helper.make_node("Relu", ["in put:0"], ["/layer.1/out"], name="/layer.1/Relu")
    model = helper.make_model(
        helper.make_graph(
            [relu],
            "",
            [helper.make_tensor_value_info("in put:0", 1, ["batch size", 2])],
            [helper.make_tensor_value_info("/layer.1/out", 1, ["batch size", 2])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    found = again(tidy(model)).graph
    assert (found.node, found.input, found.output) == (
        model.graph.node,
        model.graph.input,
        model.graph.output,
    )


def test_symbolic_dimensions_are_kept() -> None:
    model = model_of("g (float[batch, seq, 8] x) => (float[batch, seq, 8] y) { y = Relu(x) }")
    assert again(model).graph == model.graph


def test_open_dimensions_and_ranks_are_kept() -> None:
    model = model_of(
        "g (float[?, 3] x, float[] z) => (float[?, 3] y, float[] w) { y = Relu(x) w = Relu(z) }"
    )
    assert again(model).graph == model.graph


def test_a_symbol_that_one_shape_uses_twice_says_nothing() -> None:
    graph = from_proto(model_of("g (float[n, n] x) => (float[n, n] y) { y = Relu(x) }"))
    assert graph.inputs["x"].type == TensorType(np.dtype(np.float32), (None, None))


def test_initializers_keep_names_and_values() -> None:
    model = model_of("""g (float[2] x) => (float[2] y) <float[2] weight = {1.5, -2}>
        { y = Add(x, weight) }""")
    (found,) = again(model).graph.initializer
    assert (found.name, numpy_helper.to_array(found).tolist()) == ("weight", [1.5, -2])


def test_unused_inputs_stay() -> None:
    model = model_of("g (float[2] x, float[3] unused) => (float[2] y) { y = Relu(x) }")
    assert again(model).graph.input == model.graph.input


def test_dead_nodes_go() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { dead = Exp(x) y = Relu(x) }")
    assert [n.op_type for n in again(model).graph.node] == ["Relu"]


def test_a_graph_that_was_not_read_is_written_whole() -> None:
    x = placeholder("n", 2)
    y = ops.Add(x, ops.Const(value=Tensor(np.ones(2, np.float32))))
    model = to_proto(Graph({"x": x}, {"y": y}))
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(
        runtime(model, {"x": np.zeros((3, 2), np.float32)})[0], np.ones((3, 2))
    )


def test_an_operator_that_the_operator_set_lacks_is_refused() -> None:
    x = placeholder(2)
    with pytest.raises(Unsupported, match="operator set 10"):
        to_proto(Graph({"x": x}, {"y": ops.Gelu(x)}, opset={"": 10}))


# Outputs of every sort


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] w, float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }",
        "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }",
        "g () => (float[2] y) { y = Constant <value = float[2] {1, 2}> () }",
    ],
    ids=["an initializer", "an identity", "a constant"],
)
def test_outputs_keep_their_names_and_values(text: str) -> None:
    model = model_of(text)
    written = again(model)
    feeds = {i.name: np.array([-1, 2], np.float32) for i in model.graph.input}
    wanted, found = evaluate(from_proto(model), feeds), evaluate(from_proto(written), feeds)
    assert [(n, a.tolist()) for n, a in found.items()] == [
        (n, a.tolist()) for n, a in wanted.items()
    ]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] x) { dead = Relu(x) }",
        "g (float[2] x) => (float[2] y, float[2] x) { y = Relu(x) }",
        """g (float[2] x, int64 n, bool c) => (float[2] y) { y = Loop (n, c, x) <
            body = b (int64 i, bool go, float[2] s) => (bool go, float[2] t) { t = Relu(s) }
        > }""",
    ],
    ids=["alone", "among others", "of a body"],
)
def test_an_output_that_is_an_input(text: str) -> None:
    model = model_of(text)
    feeds: dict[str, Array] = {
        "x": np.array([-1, 2], np.float32),
        "n": np.array(1),
        "c": np.array(1, bool),
    }
    given = {i.name: feeds[i.name] for i in model.graph.input}
    wanted = [a.tolist() for a in runtime(model, given)]
    assert [a.tolist() for a in runtime(again(model), given)] == wanted


def test_a_loop_whose_condition_is_left_out_keeps_both_operands() -> None:
    model = model_of(
        """g (int64 n, float[2] x) => (float[k, 2] ys) { ys = Loop (n, "") <
            body = b (int64 i, bool c) => (bool d, float[2] y) { d = Identity (c) y = Relu (x) }
        > }"""
    )
    after = again(model)
    assert list(after.graph.node[0].input) == ["n", ""]
    feeds = {"n": np.array(2), "x": np.ones(2, np.float32)}
    np.testing.assert_array_equal(runtime(after, feeds)[0], np.ones((2, 2)))


def test_one_value_under_two_names() -> None:
    x = placeholder(2)
    y = ops.Relu(x)
    model = to_proto(Graph({"x": x}, {"a": y, "b": y}))
    onnx.checker.check_model(model, full_check=True)
    found = runtime(model, {"x": np.array([-1, 2], np.float32)})
    assert [a.tolist() for a in found] == [[0, 2], [0, 2]]


def test_optional_inputs_and_outputs_that_are_not_there() -> None:
    model = model_of("""g (float[2] x, float top) => (float[2] y, float[2, 1, 4] h)
        <float[1, 16, 2] w, float[1, 16, 4] r, float[2, 1, 2] s>
        { y = Clip(x, , top)
          s = Constant <value = float[2, 1, 2] {1, 2, 3, 4}> ()
          w = ConstantOfShape (w_shape) r = ConstantOfShape (r_shape)
          , h3 = LSTM <hidden_size = 4> (s, w, r)
          axis = Constant <value_ints = [1]> ()
          h = Expand (h3, h_shape) }""")
    constants = {"w_shape": [1, 16, 2], "r_shape": [1, 16, 4], "h_shape": [2, 1, 4]}
    for name, sizes in constants.items():
        array = np.array(sizes, np.int64)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    found = {n.op_type: n for n in again(model).graph.node}
    assert list(found["Clip"].input) == ["x", "", "top"]
    assert list(found["LSTM"].output) == ["", "h3"]


# Initializers that are inputs, sparse ones, and old files


def test_an_initializer_that_is_an_input_stays_one() -> None:
    graph = from_proto(OVERRIDABLE)
    assert list(graph.inputs) == ["x", "w"]
    assert graph.defaults["w"].array.tolist() == [1, 2]
    written = to_proto(graph).graph
    assert names_of(written.input) == names_of(OVERRIDABLE.graph.input)
    assert names_of(written.initializer) == ["w"]


def test_an_initializer_that_is_an_input_may_be_overridden() -> None:
    x = np.zeros(2, np.float32)
    graph = from_proto(OVERRIDABLE)
    assert evaluate(graph, {"x": x})["y"].tolist() == [1, 2]
    assert evaluate(graph, {"x": x, "w": x + 5})["y"].tolist() == [5, 5]


def test_an_initializer_that_is_an_input_may_become_constant() -> None:
    graph = from_proto(OVERRIDABLE, overridable_initializers="constant")
    assert list(graph.inputs) == ["x"]
    assert names_of(to_proto(graph).graph.input) == ["x"]


def test_ir_version_3_has_no_initializers_that_are_no_inputs() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(OVERRIDABLE)
    model.ir_version = 3
    written = again(model, overridable_initializers="constant")
    onnx.checker.check_model(written)
    assert runtime(written, {"x": np.zeros(2, np.float32)})[0].tolist() == [1, 2]


def test_sparse_initializers_are_kept_sparse() -> None:
    model = model_of("g (float[6] x) => (float[6] y) { y = Add(x, w) }")
    values = numpy_helper.from_array(np.array([2, 3], np.float32), "w")
    places = numpy_helper.from_array(np.array([1, 4], np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [6]))
    assert again(model).graph.sparse_initializer == model.graph.sparse_initializer
    zeros = np.zeros(6, np.float32)
    assert evaluate(from_proto(model), {"x": zeros})["y"].tolist() == [0, 2, 0, 0, 3, 0]


def test_sparse_indices_may_have_one_column_for_each_axis() -> None:
    sparse = SparseTensor(
        Tensor(np.array([2, 3], np.float32)), Tensor(np.array([[0, 1], [1, 2]], np.int64)), (2, 3)
    )
    assert sparse.dense().tolist() == [[0, 2, 0], [0, 0, 3]]


# Functions, custom operators, containers


def test_local_functions_are_kept_and_run() -> None:
    written = again(FUNCTIONS)
    assert (written.functions, written.graph.node) == (FUNCTIONS.functions, FUNCTIONS.graph.node)
    assert runtime(written, {"x": np.ones(2, np.float32)})[0].tolist() == [2, 2]
    assert evaluate(from_proto(written), {"x": np.ones(2, np.float32)})["y"].tolist() == [2, 2]


def test_custom_operators_are_carried_through() -> None:
    assert again(CUSTOM) == CUSTOM


def test_groups_that_the_shapes_say_only_after_folding_are_left_out() -> None:
    model = model_of("""g (float[1, 4, 2, 2] x, float[2, 1, 1, 1] w) => (float[1, 2, 2, 2] y) {
        minus = Constant <value = int64[1] {-2}> () two = Neg(minus)
        zero = Constant <value = int64[1] {0}> () one = Constant <value = int64[1] {1}> ()
        part = Slice(x, zero, two, one) y = Conv <group = 2> (part, w) }""")
    graph = from_proto(model)
    folded = FoldConstants()(graph)
    (before, after) = (next(n for n in g.nodes if n.op == ops.Conv) for g in (graph, folded))
    assert (before.attrs.get("group"), after.attrs.get("group")) == (2, None)
    assert {a.name: a.i for a in to_proto(folded).graph.node[-1].attribute}["group"] == 2


def test_custom_operators_have_the_type_and_rank_that_the_file_states_but_no_sizes() -> None:
    hidden = from_proto(CUSTOM).outputs["y"].node
    assert hidden is not None
    assert hidden.inputs[0].type == TensorType(np.dtype(np.float32), (None, None))


def test_the_domain_of_constants_is_no_file_s() -> None:
    with pytest.raises(BadInput, match="redir's own"):
        from_proto(model_of("g () => (float[2] y) { y = redir.Const () }"))


def test_custom_operators_cannot_be_run() -> None:
    with pytest.raises(Unsupported, match="Mix"):
        evaluate(from_proto(CUSTOM), {"x": np.ones((1, 2), np.float32)})


def test_a_standard_operator_of_an_unknown_form_is_carried_through() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { y = Relu <of_mine = 3> (x) }")
    assert again(model).graph == model.graph


def test_sequences_and_optionals_are_carried_through() -> None:
    model = model_of("""g (seq(float[n]) s, optional(float[2]) o) => (float[n] y, float[2] z)
        { zero = Constant <value_int = 0> () y = SequenceAt(s, zero) z = OptionalGetElement(o) }""")
    graph = from_proto(model)
    assert isinstance(graph.inputs["s"].type, ContainerType)
    assert (to_proto(graph).graph.input, to_proto(graph).graph.output) == (
        model.graph.input,
        model.graph.output,
    )
    feeds: dict[str, Any] = {"s": [np.ones(3, np.float32)], "o": np.zeros(2, np.float32)}
    assert evaluate(graph, feeds)["y"].tolist() == [1, 1, 1]


# Control flow


@pytest.mark.parametrize("condition", [True, False])
def test_captures_two_deep(condition: bool) -> None:  # noqa: FBT001 - pytest gives it
    feeds: dict[str, Any] = {"x": np.ones(2, np.float32), "c": np.array(condition)}
    (wanted,) = runtime(NESTED, feeds)
    assert runtime(again(NESTED), feeds)[0].tolist() == wanted.tolist()
    assert evaluate(from_proto(NESTED), feeds)["y"].tolist() == wanted.tolist()


def test_control_flow_is_written_as_it_was_read() -> None:
    assert again(NESTED).graph.node == NESTED.graph.node


def test_loops() -> None:
    feeds: dict[str, Any] = {"trips": np.array(3), "x": np.zeros(2, np.float32)}
    wanted = [a.tolist() for a in runtime(LOOP, feeds)]
    assert [a.tolist() for a in runtime(again(LOOP), feeds)] == wanted
    assert [a.tolist() for a in evaluate(from_proto(LOOP), feeds).values()] == wanted


def test_scans() -> None:
    feeds = {"start": np.ones(2, np.float32), "xs": np.arange(6, dtype=np.float32).reshape(3, 2)}
    wanted = [a.tolist() for a in runtime(SCAN, feeds)]
    assert [a.tolist() for a in runtime(again(SCAN), feeds)] == wanted
    assert [a.tolist() for a in evaluate(from_proto(SCAN), feeds).values()] == wanted


def test_a_body_may_reuse_a_name_of_another_body() -> None:
    model = model_of("""g (float[2] x, bool c) => (float[2] y) {
        y = If (c) <
            then_branch = a () => (float[2] r) { t = Neg(x) r = Exp(t) },
            else_branch = b () => (float[2] r) { t = Exp(x) r = Neg(t) }
        >
    }""")
    feeds: dict[str, Any] = {"x": np.zeros(2, np.float32), "c": np.array(0, bool)}
    assert runtime(again(model), feeds)[0].tolist() == [-1, -1]


def test_a_body_may_return_what_it_captures_and_a_constant() -> None:
    model = model_of("""g (float[2] x, bool c) => (float[2] y, float[2] z) {
        y, z = If (c) <
            then_branch = a () => (float[2] x2, float[2] k) {
                x2 = Identity(x) k = Constant <value = float[2] {5, 6}> () },
            else_branch = b () => (float[2] l, float[2] m) { l = Neg(x) m = Exp(x) }
        >
    }""")
    feeds: dict[str, Any] = {"x": np.zeros(2, np.float32), "c": np.array(1, bool)}
    assert [a.tolist() for a in runtime(again(model), feeds)] == [[0, 0], [5, 6]]
