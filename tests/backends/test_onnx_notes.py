"""What an ONNX file says beside its graph is in the file that is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from redir.backends.onnx import to_proto
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node
from redir.pipeline import Pipeline
from redir.pipeline.presets import PRESETS
from redir.pipeline.renaming import renamed

NET = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[n, 4] x) => (float[n, 3] y)
    <float[n, 4] a, float[n, 4] b> {
        a = MatMul (x, w)
        b = Relu (a)
        y = MatMul (b, v)
    }
"""


def noted(proto: Any, text: str) -> None:
    proto.doc_string = f"doc of {text}"
    proto.metadata_props.add(key="key", value=text)


def says(proto: Any) -> tuple[str, list[tuple[str, str]]]:
    return proto.doc_string, [(p.key, p.value) for p in proto.metadata_props]


def expected(text: str) -> tuple[str, list[tuple[str, str]]]:
    return f"doc of {text}", [("key", text)]


@pytest.fixture
def model() -> onnx.ModelProto:
    model = parser.parse_model(NET)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (4, 4)), ("v", (4, 3))):
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for found in (*model.graph.initializer, *model.graph.value_info):
        noted(found, found.name)
    for node in model.graph.node:
        noted(node, node.output[0])
    for info in (*model.graph.input, *model.graph.output):
        noted(info, info.name)
    return model


def again(model: onnx.ModelProto, pipeline: str = "") -> onnx.ModelProto:
    return to_proto(Pipeline.parse(pipeline).run(from_proto(model)))


def by_name(found: Any) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    return {f.name: says(f) for f in found}


@pytest.mark.parametrize("pipeline", ["", *PRESETS.values(), "prune", "palettize"])
def test_notes_go_through_every_pipeline(model: onnx.ModelProto, pipeline: str) -> None:
    graph = again(model, f"{pipeline},cse".strip(",")).graph
    infos = by_name((*graph.input, *graph.output))
    nodes = {n.output[0]: says(n) for n in graph.node}
    assert infos == {"x": expected("x"), "y": expected("y")}
    assert nodes["b"] == expected("b")
    assert nodes["y"] == expected("y")


def test_notes_of_tensors_and_values_are_kept(model: onnx.ModelProto) -> None:
    graph = again(model).graph
    assert by_name(graph.initializer) == {"w": expected("w"), "v": expected("v")}
    assert by_name(graph.value_info) == {"a": expected("a"), "b": expected("b")}


def test_a_narrowed_tensor_keeps_its_notes(model: onnx.ModelProto) -> None:
    graph = again(model, "prune{channel_ratio=0.5}").graph
    assert by_name(graph.initializer) == {"w": expected("w"), "v": expected("v")}
    assert by_name(graph.value_info)["b"] == expected("b")


def test_a_folded_node_leaves_its_notes_to_the_constant(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Transpose", ["v0"], ["v"]))
    noted(model.graph.node[0], "turning")
    model.graph.initializer[1].name = "v0"
    model.graph.initializer[1].dims[:] = [3, 4]
    graph = again(model, "fold-constants").graph
    assert by_name(graph.initializer)["v"] == expected("turning")


def test_notes_of_a_default_are_kept(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4]))
    assert by_name(again(model).graph.initializer)["w"] == expected("w")


def test_notes_of_a_sparse_tensor_are_kept() -> None:
    model = parser.parse_model(NET)
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    noted(values, "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0])), [4, 4])
    model.graph.sparse_initializer.append(sparse)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3), np.float32), "v"))
    assert says(again(model).graph.sparse_initializer[0].values) == expected("w")


def test_a_constant_node_in_a_body_keeps_its_name_and_notes() -> None:
    constant = helper.make_node("Constant", [], ["k"], name="held", value_float=1.0)
    noted(constant, "k")
    info = helper.make_tensor_value_info("m", TensorProto.FLOAT, [])
    negated = helper.make_node("Neg", ["k"], ["m"])
    body = helper.make_graph([constant, negated], "branch", [], [info])
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    given = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    given_y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    opset = [helper.make_opsetid("", 21)]
    model = helper.make_model(
        helper.make_graph([node], "g", [given], [given_y]), opset_imports=opset
    )
    found = again(model).graph.node[0].attribute[0].g.node[0]
    assert (found.name, says(found)) == ("held", expected("k"))


def test_what_devices_a_node_runs_on_is_kept(model: onnx.ModelProto) -> None:
    model.configuration.add(name="two", num_devices=2)
    model.graph.node[0].device_configurations.add(configuration_id="two")
    written = again(model)
    assert written.configuration == model.configuration
    assert written.graph.node[0].device_configurations == model.graph.node[0].device_configurations


def test_notes_of_attributes_are_kept() -> None:
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[n, 4] x) => (float[n, 4] y) { y = Softmax <axis = 1> (x) }
    """)
    model.graph.node[0].attribute[0].doc_string = "which axis"
    assert again(model).graph.node[0].attribute == model.graph.node[0].attribute


def test_what_a_type_denotes_is_kept(model: onnx.ModelProto) -> None:
    model.graph.value_info[0].type.denotation = "TENSOR"
    model.graph.value_info[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    assert again(model).graph.value_info[0] == model.graph.value_info[0]


def test_training_info_is_kept(model: onnx.ModelProto) -> None:
    model.training_info.add().initialization.name = "start"
    assert again(model).training_info == model.training_info


# Quantization annotations


def annotate(model: onnx.ModelProto, tensor: str, scale: list[float]) -> None:
    array = np.array(scale, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(array.squeeze(), "scale"))
    model.graph.initializer[-1].doc_string = "a step"
    note = model.graph.quantization_annotation.add(tensor_name=tensor)
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")


def test_tensors_that_only_an_annotation_names_are_kept(model: onnx.ModelProto) -> None:
    annotate(model, "a", [0.5])
    graph = again(model, PRESETS["exact"]).graph
    assert graph.quantization_annotation == model.graph.quantization_annotation
    assert graph.initializer[-1] == model.graph.initializer[-1]


@pytest.mark.parametrize(("pipeline", "left"), [("", 1), ("prune{channel_ratio=0.5}", 0)])
def test_an_annotation_goes_that_fits_no_axis_any_more(
    model: onnx.ModelProto, pipeline: str, left: int
) -> None:
    annotate(model, "b", [1.0, 2.0, 3.0, 4.0])
    graph = again(model, pipeline).graph
    assert len(graph.quantization_annotation) == left
    assert len(graph.initializer) == 2 + left


def test_an_annotation_of_what_is_gone_goes_with_it(model: onnx.ModelProto) -> None:
    annotate(model, "nothing", [1.0])
    graph = again(model).graph
    assert (len(graph.quantization_annotation), len(graph.initializer)) == (0, 2)


# Where constants went


def turned(*steps: onnx.NodeProto) -> Graph:
    """MatMul by a constant ``w`` of 4 x 6 on which the steps give ``t``."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    w = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    v = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
    nodes = [
        *steps,
        helper.make_node("MatMul", ["x", "t"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    held = [numpy_helper.from_array(a, n) for a, n in ((w, "w"), (v, "v"))]
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


TURN = helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0])
TWICE = [
    helper.make_node("Cast", ["w"], ["d"], to=TensorProto.DOUBLE),
    helper.make_node("Transpose", ["d"], ["e"], perm=[1, 0]),
    helper.make_node("Cast", ["e"], ["t"], to=TensorProto.FLOAT),
]


@pytest.mark.parametrize("steps", [[TURN], TWICE])
def test_a_constant_that_was_folded_into_another_is_found(steps: list[onnx.NodeProto]) -> None:
    graph = turned(*steps)
    after = Pipeline.parse("fold-constants").run(graph)
    assert renamed(graph, after)["w"] == {"name": "t", "channels": {}}


@pytest.mark.parametrize("pipeline", ["fold-constants,prune", "prune,fold-constants"])
def test_the_channels_of_a_folded_constant_are_those_of_its_own_axes(pipeline: str) -> None:
    graph = turned(TURN)
    after = Pipeline.parse(pipeline).run(graph)
    (kept,) = (entry["channels"] for name, entry in renamed(graph, after).items() if name == "w")
    (narrow,) = (n for n in after.nodes if name_of(n) == "t")
    array = narrow.attrs["value"].array
    (whole,) = (n.attrs["value"].array for n in graph.nodes if name_of(n) == "w")
    assert np.array_equal(array.T, whole[kept["0"]])


def name_of(node: Node) -> str:
    return node.source.outputs[0] if node.source else ""
