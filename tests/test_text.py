"""The textual form: every graph is read back as it was printed."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper, numpy_helper, parser

from redir import ops
from redir.backends.onnx import to_proto
from redir.errors import BadInput
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Source, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import (
    NO_DTYPE,
    UNKNOWN,
    Array,
    ContainerType,
    SparseTensor,
    Tensor,
    TensorType,
    Type,
    dtype_named,
)
from redir.ops import protos
from redir.text import parse
from tests.helpers import placeholder

FLOAT = np.dtype(np.float32)


def graph_of(**values: Value) -> Graph:
    return Graph({}, values)


def held(value: Any) -> Graph:
    return graph_of(y=ops.Const(value=value))


def custom(**attrs: Any) -> Graph:
    op = ops.opaque("Mine", "my.domain", 1, [TensorType(FLOAT, (2,))])
    return Graph({}, {"y": op(**attrs)}, opset={"": 21, "my.domain": 1})


def same(graph: Graph) -> Graph:
    again = parse(str(graph))
    assert str(again) == str(graph)
    assert repr(again) == repr(graph)
    return again


# Tensors

DTYPES = """bool int4 uint4 int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32
    float64 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float4_e2m1fn
    complex64 complex128""".split()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (3,), (7, 11)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_type_and_size(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2
    tensor = Tensor(array.astype(dtype_named(dtype)))
    (node,) = same(held(tensor)).nodes
    assert node.attrs["value"] == tensor


ODD = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("scalar", [False, True])
def test_numbers_that_are_none(dtype: Any, scalar: bool) -> None:  # noqa: FBT001 - pytest gives it
    tensor = Tensor(ODD.astype(dtype)[0] if scalar else ODD.astype(dtype))
    (node,) = same(held(tensor)).nodes
    assert node.attrs["value"] == tensor


@pytest.mark.parametrize(
    "words",
    ["one", b"one", "a" * 64, ["", "\n\r\x1b[0m", "'\"\\"], [["a", b"\xff"], ["\udc80", "é"]], []],
)
def test_strings(words: Any) -> None:
    tensor = Tensor(np.array(words, object))
    (node,) = same(held(tensor)).nodes
    assert node.attrs["value"].array.tolist() == tensor.array.tolist()


@pytest.mark.parametrize("size", [3, 300])
def test_sparse_tensors(size: int) -> None:
    values = Tensor(np.arange(size, dtype=np.float32))
    sparse = SparseTensor(values, Tensor(np.arange(size)), (size, 2))
    (node,) = same(held(sparse)).nodes
    assert node.attrs["value"] == sparse


def test_a_view_that_is_no_block_of_memory() -> None:
    tensor = Tensor(np.arange(100.0).reshape(10, 10).T)
    (node,) = same(held(tensor)).nodes
    assert node.attrs["value"] == tensor


# Types

TYPES: list[Type] = [
    UNKNOWN,
    TensorType(NO_DTYPE, (2, None)),
    TensorType(NO_DTYPE, ()),
    TensorType(FLOAT, None),
    TensorType(FLOAT, (None, "n", 3)),
    TensorType(FLOAT, ("class", "a b", "_", "v1", "'", "\n", "ﬁ", "None", "-1")),
    TensorType(np.dtype(object), ()),
    ContainerType("Sequence", (TensorType(FLOAT, (3,)),)),
    ContainerType("Optional", (ContainerType("Sequence", (UNKNOWN,)),)),
    ContainerType("Map", (TensorType(np.dtype(np.int64), ()), TensorType(FLOAT, ()))),
    ContainerType("Sparse", (TensorType(FLOAT, (2, 2)),)),
]


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_types_of_inputs_of_results_and_of_attributes(type_: Type) -> None:
    op = ops.opaque("Two", "my.domain", 1, [type_, UNKNOWN])
    x = Value(type_)
    node = Node(op, (x,), {"type": type_, "types": (type_, UNKNOWN)}, arity=2)
    graph = same(Graph({"x": x}, {"y": node.outputs[0], "z": node.outputs[1]}))
    (again,) = graph.nodes
    assert graph.inputs["x"].type == again.outputs[0].type == again.attrs["type"] == type_
    assert again.attrs["types"] == (type_, UNKNOWN)


# Names

NAMES = ["class", "None", "a b", "", "1", "v1", "ﬁ", "fi", "'", '"""', "\n", "nan", "é", "\udc80"]
NAMES += ["main", "Tensor", "__debug__", "then_branch", "graph", "权重"]


def test_names_of_inputs_values_and_outputs() -> None:
    inputs = {name: placeholder(2) for name in NAMES}
    made = {
        f"{n}.": Node(ops.Relu, (v,), source=Source(outputs=(n,))).outputs[0]
        for n, v in inputs.items()
    }
    graph = same(Graph(inputs, made, name="'\n"))
    assert (graph.name, list(graph.inputs), list(graph.outputs)) == ("'\n", NAMES, list(made))
    assert [n.source.outputs[0] for n in graph.nodes if n.source] == [n for n in NAMES if n]


@pytest.mark.parametrize("name", [n for n in NAMES if n])
def test_names_of_attributes(name: str) -> None:
    (node,) = same(custom(**{name: 1, "other": name})).nodes
    assert dict(node.attrs) == {name: 1, "other": name}


@pytest.mark.parametrize(
    "domain", ["", "a", "a.b", "my domain", "class", "x.1", "ai.onnx.ml", "Op"]
)
@pytest.mark.parametrize("name", ["Foo", "Relu", "Const", "Absent", "Op", "a.b", "a b", "1", "def"])
def test_names_of_operators(name: str, domain: str) -> None:
    op = ops.opaque(name, domain, 3, [TensorType(FLOAT, (2,))])
    graph = Graph({}, {"y": op()}, opset={"": 21, "a": 3, "a.b": 3, domain: 3 if domain else 21})
    (node,) = same(graph).nodes
    assert (node.op.domain, node.op.name, node.op.version) == (domain, name, 3)
    assert not node.repeatable


def test_a_standard_operator_that_did_not_fit_stays_unknown() -> None:
    x = placeholder(2)
    op = ops.opaque("Conv", "", 11, [TensorType(FLOAT, (2,))])
    (node,) = same(Graph({"x": x}, {"y": op(x)}, opset={"": 21})).nodes
    assert node.op.stated == (TensorType(FLOAT, (2,)),)


def test_an_operator_that_is_newer_than_the_operator_set() -> None:
    x = placeholder(2)
    (node,) = same(Graph({"x": x}, {"y": ops.Relu(x)}, opset={"": 6})).nodes
    assert node.op.version == ops.Relu.version


# Attributes

ATTRS: list[Any] = [
    True,
    -3,
    2**62,
    1.5,
    float("nan"),
    float("-inf"),
    -0.0,
    "'\"\\\n\x00\u202e",
    b"\xff\x00",
    (),
    *protos.EMPTY.values(),
    (1,),
    (float("nan"), 1.0, float("-inf")),
    ("a", b"\xff"),
    ((1, 2), (3,)),
    Tensor(np.arange(3)),
    (Tensor(np.arange(3)), Tensor(np.arange(300))),
    SparseTensor(Tensor(np.ones(2)), Tensor(np.arange(2)), (4,)),
]


@pytest.mark.parametrize("attr", ATTRS, ids=repr)
def test_attributes(attr: Any) -> None:
    (node,) = same(custom(nan=attr)).nodes
    found = node.attrs["nan"]
    assert type(found) is type(attr)
    assert repr(found) == repr(attr)


def test_a_number_of_numpy_is_printed_as_a_number() -> None:
    (node,) = parse(str(custom(a=np.float32(0.5), b=(np.int64(2),)))).nodes
    assert dict(node.attrs) == {"a": 0.5, "b": (2,)}


def test_several_graphs_in_one_attribute() -> None:
    body = Graph({"nan": (x := placeholder(2))}, {"y": ops.Neg(x)}, "body")
    (node,) = same(custom(nan=(body, body), other=float("nan"))).nodes
    assert [type(b) for b in node.attrs["nan"]] == [Graph, Graph]


def test_the_order_of_tensors_is_none_of_the_text() -> None:
    column = np.asfortranarray(np.arange(100.0).reshape(10, 10))
    assert str(held(Tensor(column))) == str(held(Tensor(np.ascontiguousarray(column))))


# Models

BODIES = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (bool c, float[n, 2] x) => (float[n, 2] y, seq(float[2]) s)
    {
        y = If (c) <
            then_branch = t () => (float[n, 2] p) {
                p = If (c) <then_branch = tt () => (float[n, 2] q) { q = Neg (x) },
                            else_branch = te () => (float[n, 2] q) { q = Abs (x) }> },
            else_branch = e () => (float[n, 2] q) { r = Relu (x) q = Mul (r, k) }>
        e1 = ReduceSum <keepdims = 0> (x, axis)
        s = SequenceConstruct (e1)
    }
"""


@pytest.fixture
def model() -> onnx.ModelProto:
    model = parser.parse_model(BODIES)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "k"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), "axis"))
    model.producer_name, model.model_version = "someone", 7
    helper.set_model_props(model, {"author": "her\n"})
    model.graph.doc_string = "the graph"
    model.graph.node[0].name, model.graph.node[0].doc_string = "/layer.1/if", "what it does"
    model.graph.node[0].metadata_props.add(key="k", value="v")
    model.graph.initializer[0].doc_string = "a scale"
    model.graph.node[0].attribute[0].g.doc_string = "a branch"
    return model


def test_a_model_comes_out_of_its_text_as_it_was(model: onnx.ModelProto) -> None:
    graph = from_proto(model)
    assert to_proto(same(graph)) == to_proto(graph)


def test_the_text_for_people_has_no_notes(model: onnx.ModelProto) -> None:
    assert "someone" in str(from_proto(model))
    assert "someone" not in repr(from_proto(model))


def test_a_channel_that_is_left_is_remembered() -> None:
    source = Source(outputs=("w",), channels=((0, (2, 5)),), origin="v", axes=(1, -1))
    node = Node(ops.Const, (), {"value": Tensor(np.ones(2))}, source=source)
    assert same(graph_of(y=node.outputs[0])).nodes[0].source == source


@pytest.mark.parametrize(
    "line",
    [
        "source(v0, nothing=1)",
        "source(v0, name=1)",
        "source(v0, channels=(1, 2))",
        "source(v0, metadata=(('a', 1),))",
        "source(v0, declared=(1,))",
        "shell(main, 'text')",
        "source(v0, axes=(Tensor(int4[2], [1]),))",
        "print(1)",
        "import os",
    ],
)
def test_notes_that_are_none_are_refused(line: str) -> None:
    with pytest.raises(BadInput, match="line 6"):
        parse(f"{held(Tensor(np.ones(2)))}\n\n{line}\n".replace("\n\n\n", "\n\n"))


@pytest.mark.parametrize("name", ["Op(1, 2, 3)", "Op('a', 'b')", "Opaque('', 'Relu', None)"])
def test_an_operator_that_is_named_wrongly_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="line 3"):
        parse(f"@graph('g')\ndef main():\n    y: float32[2] = {name}()\n    return {{'y': y}}\n")


@pytest.mark.parametrize("parts", ["", "values=1", "values=1, indices=2, shape=3, odd=4"])
def test_a_sparse_tensor_of_other_parts_is_refused(parts: str) -> None:
    text = "def main():\n    y: float32[2] = odd.Op(a=SparseTensor({}))\n    return {{'y': y}}\n"
    with pytest.raises(BadInput, match="line 2: expected SparseTensor"):
        parse(text.format(parts))


@pytest.mark.parametrize("line", [r"shell(main, b'\xff')", r"source(v0, shell=b'\xff')"])
def test_damaged_notes_are_said(line: str) -> None:
    graph = parse(f"{held(Tensor(np.ones(2)))}\n{line}\n")
    with pytest.raises(BadInput, match="damaged"):
        to_proto(graph)


# Pickles and copies


def pickled(held: Any) -> Any:
    return pickle.loads(pickle.dumps(held))  # noqa: S301 - it is our own


def arrays(graph: Graph, feeds: dict[str, Array]) -> list[Array]:
    return [np.asarray(a) for a in evaluate(graph, feeds).values()]


def test_a_pickled_graph_is_the_same(model: onnx.ModelProto) -> None:
    graph = from_proto(model)
    again = pickled(graph)
    assert str(again) == str(graph)
    assert [n.op.infer for n in again.nodes] == [n.op.infer for n in graph.nodes]
    feeds = {"c": np.array(1, bool), "x": np.ones((1, 2), np.float32)}
    assert np.array_equal(arrays(again, feeds)[0], arrays(graph, feeds)[0])


def test_a_pickled_operator_is_found_in_the_table() -> None:
    found = [ops.Relu, ops.Const, ops.Absent, ops.Conv]
    assert all(map(operator.is_, pickled(found), found))


def test_an_unknown_operator_is_pickled_with_its_types() -> None:
    (node,) = pickled(custom(a=1, b=protos.EMPTY["Floats"])).nodes
    assert node.outputs[0].type == TensorType(FLOAT, (2,))
    assert node.attrs["b"].kind == AttributeProto.FLOATS


def test_a_standard_operator_that_did_not_fit_is_pickled() -> None:
    x, w = placeholder(1, 3, 8, 8), ops.constant(np.ones(3, np.float32))
    conv = ops.opaque("Conv", "", 11, [UNKNOWN], ops.Conv.evaluate)(x, w)
    (node,) = (n for n in pickled(Graph({"x": x}, {"y": conv})).nodes if n.inputs)
    assert node.op.opaque


@pytest.mark.parametrize("dtype", DTYPES)
def test_pickled_tensors_are_read_only_and_equal(dtype: str) -> None:
    tensor = Tensor(np.ones(3).astype(dtype_named(dtype)))
    again = pickled(tensor)
    assert again == tensor
    assert not again.array.flags.writeable


def deep(size: int) -> Graph:
    x = value = placeholder(2)
    for _ in range(size):
        value = ops.Relu(value)
    return Graph({"x": x}, {"y": value})


def test_a_deep_graph_is_pickled_copied_and_printed() -> None:
    graph = deep(5_000)
    assert len(pickled(graph).nodes) == len(graph.nodes)
    assert len(copy.deepcopy(graph).nodes) == len(graph.nodes)


@pytest.mark.nightly
def test_a_deep_graph_is_read_back() -> None:
    assert len(parse(str(deep(20_000))).nodes) == 20_000


def test_a_copy_of_what_cannot_be_changed_is_the_thing_itself() -> None:
    graph = deep(1)
    assert copy.deepcopy(graph) is graph
    assert copy.deepcopy([graph.nodes[0], graph.outputs["y"]]) == [
        graph.nodes[0],
        graph.outputs["y"],
    ]
