"""Writing ONNX: tensors of every sort, external data, bytes, and files that fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from redir import ops
from redir.backends.onnx import files, save, to_proto
from redir.backends.onnx import writer as backend
from redir.errors import BadInput, RedirError
from redir.frontends.onnx import from_proto, load
from redir.io import models
from redir.ir import Graph
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Tensor
from redir.ops import tensor_of
from tests.backends.onnx_models import (
    CUSTOM,
    FUNCTIONS,
    HEADER,
    LOOP,
    NESTED,
    OVERRIDABLE,
    RELU,
    SCAN,
    again,
    model_of,
    runtime,
    tidy,
)

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
