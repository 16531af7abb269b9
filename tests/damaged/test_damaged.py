"""Damaged files: whatever a file holds, a command ends soon, in little memory, with one line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from redir.errors import BadInput
from redir.frontends.onnx import from_proto
from redir.pipeline import available
from tests.damaged.cases import make
from tests.damaged.driver import context, findings

PROGRAMS = {"pt2": 4} if find_spec("torch") else {}
FEW = {"onnx": 8, "text": 5, "npz": 4, **PROGRAMS}
MANY = {"onnx": 2000, "pt2": 500, "text": 500, "npz": 500}
SHARDS = 10
PASSES = sorted({kind.__module__ for kind in available().values()})
TORCH = ["redir.frontends.torch.program", "redir.backends.torch.writer"]
MODULES = [
    "redir.app.cli",
    *PASSES,
    *TORCH,
    "onnxruntime",
]  # importing takes long


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    """All kinds in one, for the processes of a test share what is imported."""
    cases = [make(kind, n, tmp_path) for kind, count in FEW.items() for n in range(count)]
    assert findings(context(*MODULES), cases) == []


@pytest.mark.nightly
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("kind", MANY)
def test_no_damaged_file_is_more_than_one_line(kind: str, shard: int, tmp_path: Path) -> None:
    cases = [make(kind, number, tmp_path) for number in range(shard, MANY[kind], SHARDS)]
    assert findings(context(*MODULES), cases) == []


@pytest.mark.parametrize(
    "attributes", [{}, {"value_int": 1.5}, {"value_int": 1, "value_ints": [1]}]
)
def test_a_constant_that_does_not_hold_one_value_is_refused(attributes: dict[str, Any]) -> None:
    node = helper.make_node("Constant", [], ["y"], **attributes)
    graph = helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name="y")])
    with pytest.raises(BadInput, match="does not hold one value"):
        from_proto(helper.make_model(graph))


@pytest.mark.parametrize("names", [("", "y"), ("x", "")])
def test_an_input_or_output_without_a_name_is_refused(names: tuple[str, str]) -> None:
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in names)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    with pytest.raises(BadInput, match="an input or output of graph 'g' has no name"):
        from_proto(helper.make_model(graph))


def test_branches_that_do_not_match_make_an_unknown_operator() -> None:
    branch = helper.make_graph([], "b", [], [])
    other = helper.make_graph(
        [helper.make_node("Constant", [], ["o"], value_int=1)],
        "o",
        [],
        [onnx.ValueInfoProto(name="o")],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other)
    condition = helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
    graph = helper.make_graph([node], "g", [condition], [onnx.ValueInfoProto(name="y")])
    assert not from_proto(helper.make_model(graph)).nodes[-1].op.standard
