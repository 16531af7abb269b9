"""redir from Python: what each function takes, and the line that says what it does not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import redir
from redir import ops
from redir.check.guarantees import SAME_OUTPUTS
from redir.check.outputs import verify
from redir.cost import macs
from redir.errors import BadInput, BadPipeline, Broken
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.passes.prune import Prune
from redir.pipeline import available
from tests.helpers import const, placeholder

TWICE = "g (float[n, 4] x) => (float[n, 4] y) { a = MatMul (x, w) b = Relu (a) y = MatMul (b, w) }"


@pytest.fixture
def model() -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {TWICE}')
    array = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    array[:, 1] = array[:, 0]
    model.graph.initializer.append(numpy_helper.from_array(array, "w"))
    return model


@dataclass(frozen=True)
class Wrong(redir.Pass):
    guarantees = (SAME_OUTPUTS,)

    def run(self, graph: Graph) -> Graph:
        def negated(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            made = node.on(inputs).outputs[0]
            return redir.ops.Neg(made) if node.op == redir.ops.Relu else None

        return transform(graph, negated)


def test_a_model_in_memory_is_loaded(model: onnx.ModelProto) -> None:
    assert list(redir.load(model).outputs) == ["y"]


def test_a_model_in_another_operator_set(model: onnx.ModelProto) -> None:
    graph = redir.compress(model, opset=22)
    assert graph.opset[""] == 22
    assert verify(redir.load(model), graph).verdict == "pass"


@pytest.mark.parametrize(
    ("opset", "why"), [(99, "the installed onnx has 1 to"), (1, "onnx cannot")]
)
def test_an_operator_set_that_is_not_reached(model: onnx.ModelProto, opset: int, why: str) -> None:
    with pytest.raises(redir.RedirError, match=f"operator set {opset}: {why}"):
        redir.compress(model, opset=opset)


def test_a_module_is_in_no_operator_set() -> None:
    torch = pytest.importorskip("torch", reason="it is about a module")
    with pytest.raises(BadInput, match="opset=22: a PyTorch module is in no operator set"):
        redir.compress(torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), opset=22)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_compressed(model: onnx.ModelProto, kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert str(redir.compress(kind(path))) == str(redir.compress(redir.load(path)))


def test_a_model_in_memory_is_compressed(model: onnx.ModelProto) -> None:
    assert str(redir.compress(model)) == str(redir.compress(redir.load(model)))


@pytest.mark.parametrize("what", [None, 3, {"a": 1}, [1]])
def test_what_is_no_model_is_refused(what: Any) -> None:
    with pytest.raises(BadInput, match="expected the path of a model"):
        redir.compress(what)


def test_inputs_of_what_is_no_module_are_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(BadInput, match="for a PyTorch module"):
        redir.compress(redir.load(model), np.ones(3))


def test_only_a_module_comes_from_torch() -> None:
    with pytest.raises(BadInput, match=r"expected a torch\.nn\.Module, not a int"):
        redir.from_torch(3, ())


# Passes


def test_every_pass_has_a_class_in_the_package() -> None:
    assert {getattr(redir.passes, name) for name in redir.passes.__all__} == {
        kind for kind in available().values() if kind.__module__.startswith("redir.")
    }


def test_modules_of_passes_keep_their_names() -> None:
    assert redir.passes.prune.Prune is redir.passes.Prune is Prune


PIPELINES: list[Any] = [
    "fold-constants,prune{channel_ratio=0.5}",
    [redir.passes.FoldConstants(), redir.passes.Prune(channel_ratio=0.5)],
    ["fold-constants", redir.passes.Prune()],
    ("fold-constants,prune",),
    redir.Pipeline((redir.passes.FoldConstants(), redir.passes.Prune())),
    redir.Pipeline.parse("fold-constants,prune"),
    redir.passes.Prune(),
]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_a_pipeline_is_a_text_or_passes(model: onnx.ModelProto, pipeline: Any) -> None:
    graph = redir.load(model)
    expected = Prune(channel_ratio=0.5)(graph)
    assert str(redir.compress(graph, pipeline=pipeline)) == str(expected)


@pytest.mark.parametrize("pipeline", [[3], [Prune], 3, [None]], ids=str)
def test_what_is_no_pipeline_is_refused(model: onnx.ModelProto, pipeline: Any) -> None:
    with pytest.raises(BadPipeline, match="made of passes"):
        redir.compress(model, pipeline=pipeline)


def test_a_preset_and_a_pipeline_are_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(BadPipeline, match="both given"):
        redir.compress(model, preset="exact", pipeline="merge")


# Targets


def test_a_target_makes_a_model_smaller() -> None:
    x = placeholder("n", 8)
    weight = const(np.random.default_rng(0).normal(size=(8, 16)))
    before = redir.Graph({"x": x}, {"y": ops.MatMul(x, weight)})
    after = redir.compress(before, macs=0.8, align=1, statistics="drawn")
    assert macs(after) <= 0.8 * macs(before)


def test_a_target_out_of_reach_is_told(model: onnx.ModelProto) -> None:
    with pytest.raises(Broken, match="of the macs are left"):
        redir.compress(model, macs=0.001, align=1, statistics="drawn")


def test_a_target_that_no_pass_takes_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(BadPipeline, match="no pass takes mcas"):
        redir.compress(model, mcas=0.5)


# Checks


def test_the_result_is_checked(model: onnx.ModelProto) -> None:
    with pytest.raises(Broken, match="changed the outputs"):
        redir.compress(model, pipeline=[Wrong()])


def test_a_check_can_be_left_out(model: onnx.ModelProto) -> None:
    graph = redir.compress(model, pipeline=[Wrong()], check=False)
    assert "Neg" in [n.op.name for n in graph.nodes]


# PyTorch


def test_a_lone_input_stands_for_the_tuple_of_it() -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    x = torch.ones(2, 4)
    alone, _ = redir.compress(network.eval(), x)
    assert torch.allclose(alone(x), network(x), atol=1e-6)
    assert str(redir.from_torch(network, x)) == str(redir.from_torch(network, (x,)))


def test_a_module_without_inputs_is_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(BadInput, match="needs example inputs"):
        redir.compress(torch.nn.ReLU())


def test_an_exported_program_is_loaded() -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones(2, 4)
    program = torch.export.export(torch.nn.ReLU(), (x,))
    assert [n.op.name for n in redir.load(program).nodes] == ["Relu"]


@pytest.mark.parametrize(
    "call",
    [
        lambda path: redir.save(path, "out.onnx"),
        redir.to_torch,
        Prune(),
        redir.Pipeline.parse("merge"),
        lambda path: verify(path, path),
    ],
    ids=["save", "to_torch", "pass", "pipeline", "verify"],
)
def test_what_takes_a_graph_refuses_the_name_of_a_file(call: Any) -> None:
    with pytest.raises(BadInput, match=r"not a str: redir\.load"):
        call("model.onnx")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hash{error=0.1", "the { after 'hash' is never closed"),
        ("merge,hash{error=0.1,cse{x=1}", "the { after 'hash' is never closed"),
        (
            "merge cse",
            "expected name or name{option=value,...}, with commas between, at 'merge cse'",
        ),
        ("merge,", "at 'merge,'"),
    ],
)
def test_a_pipeline_that_is_no_pipeline_says_where(text: str, why: str) -> None:
    with pytest.raises(BadPipeline, match=re.escape(why)):
        redir.Pipeline.parse(text)
