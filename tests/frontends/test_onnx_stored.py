"""Reading large models: what stays in the file is what reading all of it would give."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from redir.errors import BadInput, RedirError
from redir.frontends.onnx import load, stored
from redir.ir import Graph, mapped
from redir.ir.mapped import Mapped
from redir.ir.tensor import Tensor
from redir.ops import tensor_of

KINDS = {
    "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bfloat16": np.arange(16).astype(ml_dtypes.bfloat16),
    "int4": np.arange(-8, 8).repeat(8).astype(ml_dtypes.int4),
    "string": np.array(["a", "b", "c"], object),
    "small": np.ones(3, np.float32),
}


@pytest.fixture(autouse=True)
def _all_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "LARGE", 0)
    monkeypatch.setattr(stored, "_LARGE_TENSOR", 32)
    monkeypatch.setattr(mapped, "_SMALL", 0)


def model() -> onnx.ModelProto:
    """Gives every one of ``KINDS``, and one tensor whose numbers are no raw bytes."""
    held = [numpy_helper.from_array(array, name) for name, array in KINDS.items()]
    held.append(helper.make_tensor("listed", TensorProto.FLOAT, [4], [1, 2, 3, 4]))
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}_out"]) for t in held]
    outs = [helper.make_tensor_value_info(n.output[0], 1, None) for n in nodes]
    graph = helper.make_graph(nodes, "g", [], outs, held, doc_string="of a graph")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def written(path: Path, content: bytes | None = None) -> Path:
    path.write_bytes(model().SerializeToString() if content is None else content)
    return path


def tensors(graph: Graph) -> dict[str, Tensor]:
    return {n.result_name: t for n in graph.nodes for v in n.outputs if (t := tensor_of(v))}


def test_the_graph_is_that_of_the_model_read_as_a_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx")
    graph = load(path)
    stored.LARGE = 2**60
    assert str(graph) == str(load(path))


def test_only_large_tensors_of_plain_bytes_stay_in_the_file(tmp_path: Path) -> None:
    read = stored.read_model(written(tmp_path / "m.onnx"))
    assert [t.name for t in read.graph.initializer if t.external_data] == ["plain", "bfloat16"]
    assert [t.name for t in read.graph.initializer] == [t.name for t in model().graph.initializer]


def test_what_stays_in_the_file_is_not_beside_it(tmp_path: Path) -> None:
    assert tensors(load(written(tmp_path / "m.onnx")))["plain"].file is None


def test_a_model_that_is_replaced_is_still_read(tmp_path: Path) -> None:
    graph = load(written(tmp_path / "m.onnx"))
    written(tmp_path / "other", b"").replace(tmp_path / "m.onnx")
    assert np.array_equal(tensors(graph)["plain"].array, KINDS["plain"])


def test_a_model_that_is_written_to_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx")
    graph = load(path)
    written(path, b"something else")
    with pytest.raises(BadInput, match="has changed while redir reads from it"):
        _ = tensors(graph)["plain"].array


def test_few_numbers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_SMALL", 1000)
    path = written(tmp_path / "m.onnx")
    held = tensors(load(path))["plain"]
    first = held.array
    written(path, b"something else")
    assert held.array is first
    assert not first.flags.writeable


def opened(path: Path) -> int:
    """How often this process has a file open."""
    links = list(Path("/proc/self/fd").iterdir())
    return sum(link.exists() and link.samefile(path) for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list files")
def test_the_file_is_closed_with_the_last_tensor(tmp_path: Path) -> None:
    graph = load(written(tmp_path / "m.onnx"))
    assert opened(tmp_path / "m.onnx")
    del graph
    gc.collect()
    assert not opened(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[::-1, ::-2],
        lambda a: a.reshape(3, 2),
        lambda a: a[1],
        lambda a: np.broadcast_to(a, (4, 2, 3)),
        lambda a: a.view(np.int32),
        lambda a: a[:, 1:2],
    ],
)
def test_a_view_of_what_stays_in_a_file_stays_there(tmp_path: Path, view: object) -> None:
    assert callable(view)
    held = tensors(load(written(tmp_path / "m.onnx")))["plain"]
    plain = Tensor(KINDS["plain"])
    assert (held.distinct, held.peak) == (plain.distinct, plain.peak)
    there, here = Tensor(view(held.array)), Tensor(view(KINDS["plain"]))
    assert Mapped.of(there.array) is not None
    assert there == here
    assert np.array_equal(there.array, here.array)
    assert (there.type, there.nbytes) == (here.type, here.nbytes)
    assert (there.distinct, there.peak) == (here.distinct, here.peak)


def test_a_model_with_external_data_of_its_own_is_read_as_it_is(tmp_path: Path) -> None:
    onnx.save_model(model(), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    assert {t.file for t in tensors(load(tmp_path / "m.onnx")).values()} > {None}


def test_what_is_computed_stays_in_no_file(tmp_path: Path) -> None:
    held = tensors(load(written(tmp_path / "m.onnx")))["plain"]
    assert Mapped.of(held.array * 2) is None
    assert Mapped.of(held.array[:0]) is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_as_onnx_does(data: st.DataObject) -> None:
    content = bytearray(model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "m.onnx", bytes(content))
        assert outcome(path, 0) == outcome(path, 2**60)


def outcome(path: Path, large: int) -> str:
    stored.LARGE = large
    try:
        return str(load(path))
    except (RedirError, DecodeError):
        return "refused"
