"""Local functions are carried as they are, and opened where passes look for structure."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from redir import ops
from redir.backends.onnx import to_proto
from redir.frontends.onnx import from_proto
from redir.ir import evaluate
from redir.ir.rewriter import opened
from redir.passes import FoldConstants
from redir.pipeline.presets import preset
from redir.testing import check_on
from tests.backends.onnx_models import FUNCTIONS, model_of
from tests.helpers import operators

X = {"x": np.array([[1, -2], [3, 4]], np.float32)}
HEAD = '<ir_version: 8, opset_import: ["" : 18, "local" : 1]>'


def functions(call: str, *bodies: str) -> onnx.ModelProto:
    """A model of some calls, and the functions of these."""
    told = (f'<domain: "local", opset_import: ["" : 18, "local" : 1]> {body}' for body in bodies)
    graph = f"g (float[2, 2] x) => (float[2, 2] y) {{ {call} }}"
    return model_of("\n".join([graph, *told]), HEAD)


TWICE = "twice (a) => (b) { b = Add(a, a) }"
SCALED = "scaled <by> (a) => (b) { c = Constant <value_float: float = @by> () b = Mul(a, c) }"
USUAL = SCALED.replace("scaled <by>", "usual <by: float = 3.0>")
OPENED: dict[str, tuple[onnx.ModelProto, list[str]]] = {
    "one": (functions("y = local.twice(x)", TWICE), ["Add"]),
    "one that is called twice": (
        functions("z = local.twice(x) y = local.twice(z)", TWICE),
        ["Add", "Add"],
    ),
    "one that calls another": (
        functions("y = local.both(x)", TWICE, "both (a) => (b) { c = Neg(a) b = local.twice(c) }"),
        ["Neg", "Add"],
    ),
    "one with an attribute": (functions("y = local.scaled <by = 3.0> (x)", SCALED), ["Mul"]),
    "one with a usual attribute": (functions("y = local.usual(x)", USUAL), ["Mul"]),
    "one that calls one with a usual attribute": (
        functions("y = local.both(x)", USUAL, "both (a) => (b) { c = Neg(a) b = local.usual(c) }"),
        ["Neg", "Mul"],
    ),
    "one that passes on a usual attribute": (
        functions(
            "y = local.both(x)",
            USUAL,
            "both <of: float = 2.0> (a) => (b) { b = local.usual <by: float = @of> (a) }",
        ),
        ["Mul"],
    ),
    "one of which an operand is left out": (
        functions("y = local.bounded(x, , x)", "bounded (a, l, h) => (b) { b = Clip(a, l) }"),
        ["Clip"],
    ),
    "one operand twice": (
        functions("y = local.less(x, x)", "less (a, c) => (b) { b = Sub(a, c) }"),
        ["Sub"],
    ),
}


@pytest.mark.parametrize("what", OPENED)
def test_a_function_is_opened(what: str) -> None:
    model, inside = OPENED[what]
    graph = from_proto(model)
    after = check_on(FoldConstants(), graph)
    assert operators(after) == inside
    assert not to_proto(after).functions
    expected, found = evaluate(graph, X), evaluate(after, X)
    np.testing.assert_array_equal(found["y"], expected["y"])


SQUARED = "itself (a) => (b) { b = local.itself(a) }"
KEPT: dict[str, onnx.ModelProto] = {
    "of nothing that is known": functions(
        "y = local.odd(x)", "odd (a) => (b) { b = local.Mix(a) }"
    ),
    "that calls itself": functions("y = local.itself(x)", SQUARED),
    "that may pass on an attribute, or the usual one": functions(
        "y = local.both(x)",
        USUAL,
        "both <of> (a) => (b) { b = local.usual <by: float = @of> (a) }",
    ),
    "of another operator set": model_of(
        """g (float[2, 2] x) => (float[2, 2] y) { y = local.twice(x) }
        <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }""",
        HEAD,
    ),
}


@pytest.mark.parametrize("what", KEPT)
def test_a_function_is_kept(what: str) -> None:
    graph = from_proto(KEPT[what])
    assert opened(graph) is graph
    assert to_proto(graph).functions == KEPT[what].functions


def test_a_function_of_another_operator_set_is_run() -> None:
    found = evaluate(from_proto(KEPT["of another operator set"]), X)
    np.testing.assert_array_equal(found["y"], 2 * X["x"])


@pytest.mark.parametrize(
    ("what", "by"), [("one with a usual attribute", 3), ("one that passes on a usual attribute", 2)]
)
def test_a_usual_attribute_holds(what: str, by: int) -> None:
    graph = from_proto(OPENED[what][0])
    np.testing.assert_array_equal(evaluate(graph, X)["y"], by * X["x"])


def test_each_call_draws_for_itself() -> None:
    model = functions(
        "a = local.noisy(x) b = local.noisy(x) y = Sub(a, b)",
        "noisy (a) => (b) { c = RandomUniform <shape = [2, 2]> () b = Add(a, c) }",
    )
    after = FoldConstants()(from_proto(model))
    assert sum(node.op.name == "RandomUniform" for node in after.nodes) == 2


def test_a_function_is_opened_in_branches() -> None:
    model = model_of(
        """g (float[2, 2] x, bool c) => (float[2, 2] y) {
            y = If (c) <then_branch = t () => (a) { a = local.twice(x) },
                        else_branch = e () => (b) { b = Neg(x) }> }
        <domain: "local", opset_import: ["" : 18, "local" : 1]>"""
        + TWICE,
        HEAD,
    )
    graph = opened(from_proto(model))
    assert sorted(node.op.name for node in graph.walk() if node.inputs) == ["Add", "If", "Neg"]


def test_calls_of_one_function_share_what_it_holds() -> None:
    model = functions(
        "z = local.add(x) y = local.add(z)",
        "add (a) => (b) { c = Constant <value = float[2] {1, 2}> () b = Add(a, c) }",
    )
    after = check_on(FoldConstants(), from_proto(model))
    assert sum(node.op == ops.Const for node in after.nodes) == 1


def test_only_functions_that_are_called_are_written() -> None:
    model = functions("y = local.twice(x)", TWICE, "other (a) => (b) { b = Neg(a) }")
    assert [f.name for f in to_proto(from_proto(model)).functions] == ["twice"]


def test_what_a_function_hides_is_found() -> None:
    model = functions("z = Relu(x) y = local.again(z)", "again (a) => (b) { b = Relu(a) }")
    assert operators(preset("exact").run(from_proto(model))) == ["Relu"]


def test_without_passes_calls_stay() -> None:
    assert to_proto(from_proto(FUNCTIONS)).graph.node == FUNCTIONS.graph.node
