"""A model in another operator set: what is converted, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from redir import ops
from redir.backends.onnx import to_proto
from redir.check.outputs import verify
from redir.errors import Unsupported
from redir.frontends.onnx import from_proto
from redir.ir import Graph
from redir.passes.simplify import Simplify
from redir.pipeline import opsets
from redir.pipeline.opsets import in_opset
from tests.helpers import const, operators, placeholder

X = placeholder("n", 4)
CUBIC = ops.Add(X, ops.Mul(ops.Pow(X, const(3)), const(0.044715)))
BENT = ops.Add(ops.Tanh(ops.Mul(CUBIC, const((2 / np.pi) ** 0.5))), const(1))
GELU = Graph({"x": X}, {"y": ops.Mul(ops.Mul(X, const(0.5)), BENT)}, opset={"": 17})


def test_a_newer_set_has_what_is_made_of_parts() -> None:
    assert Simplify()(GELU) is GELU
    assert operators(Simplify()(in_opset(GELU, 20))) == ["Gelu"]


def test_the_same_set_is_no_work() -> None:
    assert in_opset(GELU, 17) is GELU


def test_the_outputs_and_the_interface_stay() -> None:
    after = in_opset(GELU, 22)
    assert verify(GELU, after).verdict == "pass"
    assert after.opset == {"": 22}
    assert to_proto(after).ir_version >= helper.find_min_ir_version_for(
        [helper.make_opsetid("", 22)]
    )


def test_initializers_of_an_old_file_stay_constants() -> None:
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xwy"]
    held = numpy_helper.from_array(np.ones(2, np.float32), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "main", infos[:2], infos[2:], [held])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)])
    model.ir_version = 3
    after = in_opset(from_proto(model), 13)
    assert list(after.inputs) == ["x"]
    assert not after.defaults


def test_control_flow_is_refused() -> None:
    body = Graph({}, {"y": const([1.0])})
    flag = placeholder(dtype=bool)
    y = ops.If(flag, then_branch=body, else_branch=body)
    with pytest.raises(Unsupported, match="onnx converts no bodies of control flow"):
        in_opset(Graph({"x": flag}, {"y": y}), 17)


def test_other_outputs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Graph({"x": X}, {"y": ops.Neg(X)}, opset={"": 20})
    monkeypatch.setattr(opsets, "_converted", lambda *_: other)
    with pytest.raises(Unsupported, match="operator set 20: the check of the outputs is fail"):
        in_opset(GELU, 20)


def test_a_model_that_cannot_be_run_is_refused() -> None:
    mix = ops.opaque("Mix", "custom", 1, [X.type])
    with pytest.raises(Unsupported, match="operator set 20: "):
        in_opset(Graph({"x": X}, {"y": mix(X)}, opset={"": 17, "custom": 1}), 20)
