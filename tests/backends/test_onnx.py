"""Reading and writing ONNX: what a file says comes out as it went in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from redir import ops
from redir.backends.onnx import files, save, to_proto
from redir.backends.onnx import writer as backend
from redir.errors import BadInput, RedirError, Unsupported
from redir.frontends.onnx import from_proto, load
from redir.io import models
from redir.ir import Graph
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, ContainerType, SparseTensor, Tensor, TensorType
from redir.ops import tensor_of
from redir.passes.fold_constants import FoldConstants
from redir.runtime.onnxruntime import EXACT_PRODUCTS
from tests.extras import ort
from tests.helpers import placeholder

HEADER = '<ir_version: 8, opset_import: ["" : 18]>'


def model_of(text: str, header: str = HEADER) -> onnx.ModelProto:
    return tidy(parser.parse_model(header + text))  # type: ignore[no-any-return]


def again(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    return tidy(to_proto(from_proto(model, **options)))  # type: ignore[no-any-return]


def runtime(model: onnx.ModelProto | Path, feeds: dict[str, Array]) -> list[Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry(*EXACT_PRODUCTS)
    held = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(held, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def names_of(found: Iterable[Any]) -> list[str]:
    return [f.name for f in found]


def tidy(proto: Any) -> Any:
    """The message without the fields that are set to nothing, which say the same unset."""
    for descriptor, value in proto.ListFields():
        messages = descriptor.message_type is not None
        for message in (
            value if messages and descriptor.is_repeated else [value] if messages else ()
        ):
            tidy(message)
        if value == "":
            proto.ClearField(descriptor.name)
    return proto


RELU = model_of("g (float[n, 3] x) => (float[n, 3] y) { y = Relu(x) }")


# Notes and names


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

OVERRIDABLE = model_of(
    "g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }"
)


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

FUNCTIONS = model_of(
    """g (float[2] x) => (float[2] y) { y = local.twice(x) }
    <domain: "local", opset_import: ["" : 18]> twice (a) => (b) { b = Add(a, a) }""",
    '<ir_version: 8, opset_import: ["" : 18, "local" : 1]>',
)


def test_local_functions_are_kept_and_run() -> None:
    written = again(FUNCTIONS)
    assert (written.functions, written.graph.node) == (FUNCTIONS.functions, FUNCTIONS.graph.node)
    assert runtime(written, {"x": np.ones(2, np.float32)})[0].tolist() == [2, 2]
    assert evaluate(from_proto(written), {"x": np.ones(2, np.float32)})["y"].tolist() == [2, 2]


CUSTOM = model_of(
    """g (float[n, 2] x) => (float[n, 5] y) <float[n, 4] hidden>
    {
        a = Relu(x)
        hidden = com.acme.Mix <how = "well", many = [1, 2]> (a)
        y = com.acme.Out(hidden)
    }""",
    '<ir_version: 8, opset_import: ["" : 18, "com.acme" : 3]>',
)


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

NESTED = model_of("""g (float[2] x, bool c) => (float[2] y) <float[2] w = {3, 4}> {
    double = Add(x, x)
    y = If (c) <
        else_branch = plain () => (float[2] u) { u = Neg(x) },
        then_branch = outer () => (float[2] r) {
            r = If (c) <
                else_branch = other () => (float[2] t) { t = Identity(x) },
                then_branch = inner () => (float[2] s) { s = Add(double, w) }
            >
        }
    >
}""")


@pytest.mark.parametrize("condition", [True, False])
def test_captures_two_deep(condition: bool) -> None:  # noqa: FBT001 - pytest gives it
    feeds: dict[str, Any] = {"x": np.ones(2, np.float32), "c": np.array(condition)}
    (wanted,) = runtime(NESTED, feeds)
    assert runtime(again(NESTED), feeds)[0].tolist() == wanted.tolist()
    assert evaluate(from_proto(NESTED), feeds)["y"].tolist() == wanted.tolist()


def test_control_flow_is_written_as_it_was_read() -> None:
    assert again(NESTED).graph.node == NESTED.graph.node


LOOP = model_of("""g (int64 trips, float[2] x) => (float[2] y, float[m, 2] all)
    <float[2] w = {1, 2}> {
    on = Constant <value = bool {1}> ()
    y, all = Loop (trips, on, x) <
        body = b (int64 i, bool cond, float[2] s) => (bool go, float[2] next, float[2] next2) {
            go = Identity(cond)
            next = Add(s, w)
            next2 = Identity(next)
        }
    >
}""")


def test_loops() -> None:
    feeds: dict[str, Any] = {"trips": np.array(3), "x": np.zeros(2, np.float32)}
    wanted = [a.tolist() for a in runtime(LOOP, feeds)]
    assert [a.tolist() for a in runtime(again(LOOP), feeds)] == wanted
    assert [a.tolist() for a in evaluate(from_proto(LOOP), feeds).values()] == wanted


SCAN = model_of("""g (float[2] start, float[3, 2] xs) => (float[2] last, float[2, 3] all)
    <float[2] w = {1, 2}> {
    last, all = Scan <num_scan_inputs = 1, scan_output_axes = [1], scan_input_directions = [1],
        body = b (float[2] s, float[2] x) => (float[2] t, float[2] u) {
            v = Add(s, x)
            t = Mul(v, w)
            u = Identity(v)
        }
    > (start, xs)
}""")


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


# Tensors of every sort

TENSORS = {
    "string": np.array(["a", "", "gr\u00fc\u00df"], object),
    "float64": np.array([1.5, -0.0, np.nan]),
    "bool": np.array([True, False]),
    "uint64": np.array([2**64 - 1], np.uint64),
    "complex64": np.array([1 + 2j], np.complex64),
    "float16": np.array([1, np.inf], np.float16),
    "bfloat16": np.array([1, 3.140625], ml_dtypes.bfloat16),
    "float8e4m3fn": np.array([1, 448], ml_dtypes.float8_e4m3fn),
    "float8e5m2": np.array([1, -57344], ml_dtypes.float8_e5m2),
    "int4": np.array([[-8, 7, 3]], ml_dtypes.int4),
    "uint4": np.array([15, 0, 1], ml_dtypes.uint4),
    "float4": np.array([0.5, 6, -1], ml_dtypes.float4_e2m1fn),
    "scalar": np.array(3, np.int32),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_keep_their_type_and_bytes(kind: str, tmp_path: Path) -> None:
    array = TENSORS[kind]
    save(Graph({}, {"y": ops.Const(value=Tensor(array))}, opset={"": 23}), tmp_path / "m.onnx")
    node = load(tmp_path / "m.onnx").outputs["y"].node
    assert node is not None
    held = tensor_of(node.outputs[0] if not node.inputs else node.inputs[0])
    assert held == Tensor(array)


@pytest.mark.parametrize("kind", [k for k in TENSORS if k != "string"])
def test_onnx_reads_the_tensors_that_redir_writes(kind: str, tmp_path: Path) -> None:
    array = TENSORS[kind]
    save(Graph({}, {"y": ops.Const(value=Tensor(array))}, opset={"": 23}), tmp_path / "m.onnx")
    (found,) = onnx.load(tmp_path / "m.onnx").graph.initializer
    assert Tensor(numpy_helper.to_array(found)) == Tensor(array)


def test_attributes_of_every_sort_are_kept() -> None:
    node = helper.make_node("Odd", ["x"], ["y"], domain="com.acme", i=-3, f=0.5, s="gr\u00fc\u00df")
    tensor = numpy_helper.from_array(np.arange(3, dtype=np.int32), "t")
    more: dict[str, Any] = {
        "ints": [1, 2],
        "floats": [0.5, 1.5],
        "strings": ["a", "b"],
        "raw": b"\xff\xfe",
        "tensor": tensor,
        "tensors": [tensor, tensor],
        "type": helper.make_tensor_type_proto(1, [2, "n"]),
        "graph": RELU.graph,
    }
    node.attribute.extend(helper.make_attribute(k, v) for k, v in more.items())
    model = onnx.ModelProto()
    model.CopyFrom(CUSTOM)
    del model.graph.node[:]
    model.graph.node.append(node)
    written = again(model).graph.node[0].attribute
    wanted, found = ({a.name: tidy(a) for a in many} for many in (node.attribute, written))
    for tensors in (wanted, found):
        tensors["tensor"].t.name = ""
        for held in tensors["tensors"].tensors:
            held.name = ""
    assert found == wanted


def test_an_empty_list_keeps_its_type() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(CUSTOM)
    node = helper.make_node("Odd", ["x"], ["y"], domain="com.acme")
    kinds = [getattr(onnx.AttributeProto, k) for k in "FLOATS STRINGS INTS TENSORS GRAPHS".split()]
    node.attribute.extend(helper.make_attribute(f"a{k}", [], attr_type=k) for k in kinds)
    del model.graph.node[:]
    model.graph.node.append(node)
    found = {a.name: a.type for a in again(model).graph.node[0].attribute}
    assert found == {f"a{k}": k for k in kinds}


@pytest.mark.parametrize("kind", ["INTS", "TENSORS"])
def test_an_empty_list_where_the_schema_has_a_tensor_is_kept(kind: str) -> None:
    model = model_of("g (int64[n] s) => (float[n] y) { y = ConstantOfShape(s) }")
    kind_ = getattr(onnx.AttributeProto, kind)
    model.graph.node[0].attribute.append(helper.make_attribute("value", [], attr_type=kind_))
    assert again(model).graph.node[0].attribute[0].type == kind_


# External data


def weights_model(count: int = 2048) -> onnx.ModelProto:
    """x + a * b, with two weights of ``count`` float32 each."""
    model = model_of("g (float[m] x) => (float[m] y) { p = Mul(a, b) y = Add(x, p) }")
    for name, first in (("a", 1), ("b", 2)):
        array = np.arange(first, first + count, dtype=np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def saved_outside(path: Path, model: onnx.ModelProto | None = None) -> Path:
    """The model in a file, its weights in another beside it."""
    held = onnx.ModelProto()
    held.CopyFrom(model or weights_model())
    options: dict[str, Any] = {"location": "weights.bin", "size_threshold": 0}
    onnx.save_model(held, path, save_as_external_data=True, **options)
    return path


def locations(path: Path) -> list[dict[str, str]]:
    model = onnx.load_model(path, load_external_data=False)
    return [{e.key: e.value for e in t.external_data} for t in model.graph.initializer]


def test_external_data_is_mapped_not_read(tmp_path: Path) -> None:
    graph = load(saved_outside(tmp_path / "m.onnx"))
    tensors = [t for n in graph.nodes for v in n.outputs if (t := tensor_of(v))]
    assert [t.file for t in tensors] == [str(tmp_path / "weights.bin")] * 2


def test_many_strings_survive_the_text_and_its_file(tmp_path: Path) -> None:
    words = np.array([f"word {n}" for n in range(40)], object)
    graph = Graph({}, {"y": ops.Identity(ops.Const(value=Tensor(words)))})
    models.save(graph, tmp_path / "words.redir")
    assert str(models.load(tmp_path / "words.redir")) == str(graph)


def test_what_is_computed_from_external_data_lies_in_no_file(tmp_path: Path) -> None:
    graph = load(saved_outside(tmp_path / "m.onnx"))
    (mapped, *_) = (t for n in graph.nodes for v in n.outputs if (t := tensor_of(v)))
    assert Tensor(mapped.array * 2).file is None
    assert Tensor(np.memmap(tmp_path / "weights.bin", np.uint8, "r") + 1).file is None


def test_external_data_stays_external_and_aligned(tmp_path: Path) -> None:
    save(load(saved_outside(tmp_path / "m.onnx")), tmp_path / "out.onnx")
    found = locations(tmp_path / "out.onnx")
    assert [f["location"] for f in found] == ["out.onnx.data"] * 2
    assert [int(f["offset"]) % 4096 for f in found] == [0, 0]
    assert (tmp_path / "out.onnx").stat().st_size < 2000


def test_external_data_keeps_its_values(tmp_path: Path) -> None:
    path = saved_outside(tmp_path / "m.onnx")
    save(load(path), tmp_path / "out.onnx")
    x = np.zeros(2048, np.float32)
    (wanted,), (found,) = (runtime(p, {"x": x}) for p in (path, tmp_path / "out.onnx"))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.bfloat16, np.int8, np.float64])
def test_external_data_of_any_element_type(dtype: Any, tmp_path: Path) -> None:
    array = np.array([1, -2, 3]).astype(dtype)
    model = model_of("g () => (float[3] y) { y = Cast <to = 1> (w) }", HEADER.replace("18", "21"))
    model.graph.initializer.append(numpy_helper.from_array(array, "w"))
    graph = load(saved_outside(tmp_path / "m.onnx", model))
    assert [t for n in graph.nodes for v in n.outputs if (t := tensor_of(v))] == [Tensor(array)]


def test_small_tensors_stay_in_the_model(tmp_path: Path) -> None:
    save(load(saved_outside(tmp_path / "m.onnx", weights_model(8))), tmp_path / "out.onnx")
    assert locations(tmp_path / "out.onnx") == [{}, {}]


def test_a_model_that_is_too_large_becomes_external(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST", 10_000)
    save(from_proto(weights_model()), tmp_path / "large.onnx")
    save(from_proto(weights_model(1024)), tmp_path / "small.onnx")
    assert locations(tmp_path / "large.onnx")[0]["location"] == "large.onnx.data"
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "large.onnx",
        "large.onnx.data",
        "small.onnx",
    ]


def test_data_that_the_graph_still_reads_is_not_replaced(tmp_path: Path) -> None:
    save(load(saved_outside(tmp_path / "m.onnx")), tmp_path / "out.onnx")
    before = (tmp_path / "out.onnx.data").read_bytes()
    with pytest.raises(BadInput, match=r"out\.onnx\.data"):
        save(load(tmp_path / "out.onnx"), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").read_bytes() == before


# Bytes


@pytest.mark.parametrize("model", [RELU, OVERRIDABLE, CUSTOM, FUNCTIONS, NESTED, LOOP, SCAN])
def test_saving_twice_gives_the_same_bytes(model: onnx.ModelProto, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        save(from_proto(model), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("model", [RELU, OVERRIDABLE, CUSTOM, FUNCTIONS, NESTED, LOOP, SCAN])
def test_a_second_round_trip_changes_nothing(model: onnx.ModelProto, tmp_path: Path) -> None:
    save(from_proto(model), tmp_path / "a.onnx")
    save(load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_file_holds_what_the_protobuf_in_memory_does(tmp_path: Path) -> None:
    save(from_proto(weights_model()), tmp_path / "a.onnx")
    assert onnx.load(tmp_path / "a.onnx") == to_proto(from_proto(weights_model()))


# Failing half-way


def test_a_failure_while_writing_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = load(saved_outside(tmp_path / "m.onnx"))
    save(graph, tmp_path / "out.onnx")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_: object) -> Iterator[BinaryIO]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backend, "write", full)
    with pytest.raises(BadInput, match="No space"):
        save(from_proto(weights_model(9)), tmp_path / "out.onnx")
    with pytest.raises(BadInput, match="No space"):
        save(graph, tmp_path / "out.onnx")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("place", ["missing/out.onnx", "."])
def test_a_place_that_cannot_be_written_to(place: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot write"):
        save(from_proto(RELU), tmp_path / place)


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    save(from_proto(RELU), tmp_path / "out.onnx")
    (tmp_path / "plain").touch()
    assert (tmp_path / "out.onnx").stat().st_mode == (tmp_path / "plain").stat().st_mode


# Reading what is no model


def refused(path: Path) -> str:
    """Why a file is refused, on one line that names it."""
    with pytest.raises(BadInput) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


TRUNCATED = weights_model().SerializeToString()[:-100]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no graph"),
        (b"hello, I am a text file\n", "not an ONNX model"),
        (b"<html><body>404</body></html>", "not an ONNX model"),
        (TRUNCATED, "damaged"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
        (onnx.ModelProto(graph=RELU.graph).SerializeToString(), "opset_import"),
    ],
    ids=["empty", "text", "html", "truncated", "no graph", "no operator set"],
)
def test_a_file_that_is_no_model(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    assert reason in refused(tmp_path / "bad.onnx")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing.onnx")


def test_a_folder(tmp_path: Path) -> None:
    assert "directory" in refused(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] y) { y = Add(x, nowhere) }",
        "g (float[2] x) => (float[2] nowhere) { y = Relu(x) }",
        """g (bool c) => (float[2] y) { y = If (c) <
            then_branch = a () => (float[2] r) { r = Exp(nowhere) },
            else_branch = b () => (float[2] r) { r = Neg(nowhere) } > }""",
    ],
    ids=["operand", "output", "body"],
)
def test_a_name_that_nothing_defines(text: str, tmp_path: Path) -> None:
    onnx.save(model_of(text), tmp_path / "bad.onnx")
    assert "'nowhere'" in refused(tmp_path / "bad.onnx")


def test_external_data_that_is_not_there(tmp_path: Path) -> None:
    path = saved_outside(tmp_path / "m.onnx")
    (tmp_path / "weights.bin").unlink()
    assert "'weights.bin' of tensor 'a' is not there" in refused(path)


def test_external_data_that_is_too_short(tmp_path: Path) -> None:
    path = saved_outside(tmp_path / "m.onnx")
    os.truncate(tmp_path / "weights.bin", 5000)
    assert "too short" in refused(path)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", ""])
def test_external_data_outside_the_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 14))
    model = onnx.load_model(saved_outside(tmp_path / "in" / "m.onnx"), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    (tmp_path / "in" / "m.onnx").write_bytes(model.SerializeToString())
    assert "outside the model's folder" in refused(tmp_path / "in" / "m.onnx")


def test_external_data_through_a_link_that_leads_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = saved_outside(tmp_path / "in" / "m.onnx")
    (tmp_path / "in" / "weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "in" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    assert "outside the model's folder" in refused(path)


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["-4", "many"])
def test_external_data_of_an_impossible_place(key: str, value: str, tmp_path: Path) -> None:
    path = saved_outside(tmp_path / "m.onnx")
    model = onnx.load_model(path, load_external_data=False)
    (entry,) = (e for e in model.graph.initializer[0].external_data if e.key == key)
    entry.value = value
    path.write_bytes(model.SerializeToString())
    assert "weights.bin" in refused(path)


def test_a_tensor_of_too_few_bytes(tmp_path: Path) -> None:
    model = weights_model()
    model.graph.initializer[0].raw_data = b"1234"
    onnx.save(model, tmp_path / "bad.onnx")
    assert "tensor 'a' is damaged" in refused(tmp_path / "bad.onnx")


def test_an_attribute_of_too_few_bytes(tmp_path: Path) -> None:
    model = model_of("g () => (float[2] y) { y = Constant <value = float[2] {1, 2}> () }")
    model.graph.node[0].attribute[0].t.dims[0] = 3
    onnx.save(model, tmp_path / "bad.onnx")
    assert "damaged" in refused(tmp_path / "bad.onnx")


def test_a_node_that_does_not_fit_its_operands_is_carried_through() -> None:
    model = model_of("g (float[2] x, float[3] z) => (float[4] y) { y = Add(x, z) }")
    assert again(model).graph == model.graph
    with pytest.raises(RedirError):
        evaluate(from_proto(model), {"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)})


def test_nodes_of_one_name_are_told_apart() -> None:
    body = "a = Relu(x) b = Abs(a) c = Neg(b) y = Exp(c)"
    made = model_of(f"g (float[2] x) => (float[2] y) {{ {body} }}")
    for node, name in zip(made.graph.node, ("n", "n", "", "n_1"), strict=True):
        node.name = name
    assert [node.name for node in again(made).graph.node] == ["n", "n_2", "", "n_1"]
