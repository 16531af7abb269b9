"""ONNX files whose names come in an odd order, or twice."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from redir.backends.onnx import to_proto
from redir.errors import BadInput
from redir.frontends.onnx import from_proto
from redir.ir.interpreter import evaluate
from redir.runtime.inputs import normal_feeds

HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
X = np.array([-1, 2], np.float32)


def model_of(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEADER + text)


def test_nodes_may_come_in_any_order() -> None:
    graph = from_proto(
        model_of("g (float[2] x) => (float[2] y) { y = Neg (b) b = Relu (a) a = Neg (x) }")
    )
    assert [n.op.name for n in graph.nodes] == ["Neg", "Relu", "Neg"]
    onnx.checker.check_model(to_proto(graph))


def test_a_body_may_read_what_is_defined_behind_it() -> None:
    graph = from_proto(
        model_of("""g (bool c, float[2] x) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] p) { p = Neg (a) },
                        else_branch = e () => (float[2] q) { q = Relu (a) }>
            a = Abs (x)
        }""")
    )
    assert evaluate(graph, {"c": np.array(1, bool), "x": X})["y"].tolist() == [-1, -2]


def test_a_name_inside_a_body_may_be_that_of_a_later_node() -> None:
    graph = from_proto(
        model_of("""g (bool c, float[2] x) => (float[2] y) {
            b = If (c) <then_branch = t () => (float[2] p) { a = Neg (x) p = Relu (a) },
                        else_branch = e () => (float[2] q) { q = Relu (x) }>
            a = Abs (b)
            y = Neg (a)
        }""")
    )
    assert evaluate(graph, {"c": np.array(1, bool), "x": X})["y"].tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{ a = Neg (b) b = Relu (a) y = Add (a, x) }", "in a circle: .*Neg 'a' > Relu 'b'"),
        ("{ y = Add (y, x) }", "in a circle: Add 'y' > Add 'y'"),
        ("{ y = Neg (a) a = Neg (none) }", "Neg 'a' reads 'none', which nothing defines"),
        ("{ y = Neg (x) y = Abs (x) }", "Abs 'y' defines 'y', which is defined already"),
        ("{ y = Neg (x) x = Abs (y) }", "Abs 'x' defines 'x', which is defined already"),
    ],
)
def test_what_cannot_be_ordered_is_said(text: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        from_proto(model_of(f"g (float[2] x) => (float[2] y) {text}"))


def test_a_body_may_give_a_value_from_around_as_it_is() -> None:
    graph = from_proto(
        model_of("""g (bool c, float[2] x) => (float[2] y) {
            a = Neg (x)
            y = If (c) <then_branch = t () => (float[2] a) { },
                        else_branch = e () => (float[2] q) { q = Relu (x) }>
        }""")
    )
    assert evaluate(graph, {"c": np.array(1, bool), "x": X})["y"].tolist() == [1, -2]


def test_inputs_are_drawn_where_branches_read_different_values() -> None:
    graph = from_proto(
        model_of("""g (bool c, float[2] x, float[2] z) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] p) { p = Neg (x) },
                        else_branch = e () => (float[2] q) { q = Relu (z) }>
        }""")
    )
    assert normal_feeds(graph, 0).keys() == {"c", "x", "z"}


def test_two_inputs_of_one_name_are_refused() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    model.graph.input.append(model.graph.input[0])
    with pytest.raises(BadInput, match="two inputs are called 'x'"):
        from_proto(model)


def test_an_output_that_is_listed_twice_is_written_twice() -> None:
    model = model_of("g (float[2] x) => (float[2] y, float[2] z) { y = Neg (x) z = Abs (x) }")
    model.graph.output.append(model.graph.output[0])
    written = to_proto(from_proto(model))
    assert [o.name for o in written.graph.output] == ["y", "z", "y"]


def test_a_body_may_give_one_value_twice() -> None:
    info = helper.make_tensor_value_info("p", TensorProto.FLOAT, [2])
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["p"])], "b", [], [info, info])
    node = helper.make_node("If", ["c"], ["y", "z"], then_branch=body, else_branch=body)
    given = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
    ]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "yz"]
    opset = [helper.make_opsetid("", 21)]
    model = helper.make_model(helper.make_graph([node], "g", given, results), opset_imports=opset)
    graph = from_proto(model)
    feeds = {"c": np.array(1, bool), "x": X}
    assert {n: a.tolist() for n, a in evaluate(graph, feeds).items()} == {
        "y": [1, -2],
        "z": [1, -2],
    }
    again = from_proto(to_proto(graph))
    assert evaluate(again, feeds)["z"].tolist() == [1, -2]
