"""Exact passes look into the branches of an If, and leave bodies alone that run more than once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from redir import ops
from redir.backends.onnx import to_proto
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Source, Value
from redir.ir.tensor import NO_DTYPE, TensorType
from redir.pipeline import Pipeline, available
from redir.testing import check_on
from tests.helpers import const, placeholder

X, FLAG = placeholder(2, 3), placeholder(dtype=bool)
ONE = const([1.0], "float32")
WORK: dict[str, tuple[list[str], list[str]]] = {
    "fold-constants": (["Neg", "Add"], ["Add"]),
    "eliminate-identity": (["Identity", "Add"], ["Add"]),
    "simplify": (["Relu", "Relu"], ["Relu"]),
    "cse": (["Relu", "Relu", "Add"], ["Relu", "Add"]),
    "fold-batchnorm": (["Gemm", "BatchNormalization"], ["Gemm"]),
}


def made(name: str, x: Value) -> Value:
    match name:
        case "fold-constants":
            return ops.Add(x, ops.Neg(ONE))
        case "eliminate-identity":
            return ops.Add(ops.Identity(x), ONE)
        case "simplify":
            return ops.Relu(ops.Relu(x))
        case "cse":
            return ops.Add(ops.Relu(x), ops.Relu(x))
    vectors = (const(np.full(3, k), "float32") for k in (2, 1, 0, 1))
    weights = const(np.eye(3), "float32"), const(np.zeros(3), "float32")
    return ops.BatchNormalization(ops.Gemm(x, *weights), *vectors)


def branching(name: str) -> Graph:
    inner = [placeholder(2, 3) for _ in range(2)]
    then, other = (
        Graph({"x": x}, {"y": y})
        for x, y in zip(inner, (made(name, inner[0]), ops.Abs(inner[1])), strict=True)
    )
    attrs = {"then_branch": then, "else_branch": other, "captures": ("x",)}
    return Graph({"c": FLAG, "x": X}, {"y": Node(ops.If, (FLAG, X), attrs).outputs[0]})


def inside(graph: Graph) -> list[str]:
    (node,) = graph.nodes
    return sorted(n.op.name for n in node.attrs["then_branch"].nodes if n.inputs)


@pytest.mark.parametrize("name", WORK)
def test_it_works_in_a_branch_as_outside(name: str) -> None:
    before, left = WORK[name]
    graph = branching(name)
    assert inside(graph) == sorted(before)
    after = check_on(available()[name](), graph)
    assert inside(after) == sorted(left)
    assert after.nodes[0].attrs["else_branch"] is graph.nodes[0].attrs["else_branch"]


@pytest.mark.parametrize("name", WORK)
def test_a_branch_in_which_there_is_nothing_to_do_stays(name: str) -> None:
    step = available()[name]()
    graph = step(branching(name))
    assert step(graph) is graph


def test_the_body_of_a_loop_is_left_alone() -> None:
    text = """
        <ir_version: 9, opset_import: ["" : 17]>
        g (int64 n, float[k] x) => (float[m] y) {
            y = Loop (n, , x) <body = b (int64 i, bool c, float[k] a) => (bool d, float[q] e) {
                d = Identity (c)
                f = Identity (a)
                e = Concat <axis: int = 0> (f, f)
            }>
        }
    """
    graph = from_proto(onnx.parser.parse_model(text))
    assert Pipeline.parse("fold-constants,eliminate-identity,simplify,cse").run(graph) is graph


def test_a_type_that_a_file_leaves_out_is_not_stated() -> None:
    """Runtimes refuse a tensor of no type."""
    shape = placeholder("k", dtype=np.int64)
    open_ = ops.Reshape(X, shape).node
    assert open_ is not None
    source = Source(outputs=("r",), declared=(TensorType(NO_DTYPE, None),))
    node = Node(open_.op, open_.inputs, open_.attrs, source=source)
    model = to_proto(Graph({"x": X, "s": shape}, {"y": ops.Relu(node.outputs[0])}))
    assert [i.type.tensor_type.elem_type for i in model.graph.value_info] == [1]
