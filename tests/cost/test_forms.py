"""Cost models, and the choice of forms by them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.cost import macs
from redir.cost.forms import Form, improved, ratios
from redir.cost.latency_cache import Timings
from redir.cost.models import (
    BYTES,
    LATENCY,
    MACS,
    MULTIPLICATIONS,
    CostModel,
    Latency,
    cost_model,
)
from redir.errors import BadPipeline
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Tensor, TensorType
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.passes.merge import Merge
from redir.runtime.onnxruntime import installed
from tests.helpers import operators, placeholder

FLOAT = np.dtype(np.float32)


def full(*shape: int, value: float = 5.0) -> Value:
    return ops.Const(value=Tensor(np.full(shape, value, FLOAT)))


def chain(*weights: Value) -> Graph:
    """A MatMul by each of ``weights``, in a row."""
    x = value = placeholder("n", 4)
    for weight in weights:
        value = ops.MatMul(value, weight)
    return Graph({"x": x}, {"y": value})


def as_relu(node: Node) -> list[Form]:
    """A form that costs nothing, and computes something else: only costs are looked at here."""
    return [lambda inputs: ops.Relu(inputs[0])] if node.op == ops.MatMul else []


def as_two(node: Node) -> list[Form]:
    """A form that costs twice as much, and one like the original."""
    if node.op != ops.MatMul:
        return []
    return [
        lambda inputs: ops.MatMul(ops.MatMul(*inputs), inputs[1]),
        lambda inputs: ops.MatMul(*inputs),
    ]


@pytest.mark.parametrize("cost", [MACS, MULTIPLICATIONS, BYTES])
def test_a_cheaper_form_is_taken(cost: CostModel) -> None:
    assert operators(improved(chain(full(4, 4), full(4, 4)), as_relu, cost)) == ["Relu", "Relu"]


@pytest.mark.parametrize("cost", [MACS, MULTIPLICATIONS, BYTES])
def test_a_form_that_saves_nothing_is_not(cost: CostModel) -> None:
    before = chain(full(4, 4))
    assert improved(before, as_two, cost) is before


def test_multiplications_by_one_are_free() -> None:
    before, after = chain(full(4, 4)), chain(full(4, 4, value=1))
    assert (MACS.ratio(before, after), MULTIPLICATIONS.ratio(before, after)) == (1, 0)


def test_to_cost_what_cost_nothing_is_infinitely_dearer() -> None:
    x = placeholder("n", 4)
    nothing = Graph({"x": x}, {"y": ops.Relu(x)})
    assert MACS.ratio(nothing, chain(full(4, 4))) == np.inf
    assert MACS.ratio(nothing, nothing) == 1


def test_a_weight_that_stays_for_another_reader_saves_no_bytes() -> None:
    shared = full(4, 4)

    def half(inputs: tuple[Value, ...]) -> Value:
        narrow = ops.MatMul(inputs[0], full(4, 2))
        return ops.Concat(narrow, narrow, axis=1)

    def first_only(node: Node) -> list[Form]:
        return [half] if node.inputs and node.inputs[0].node is None else []

    alone, before = chain(shared), chain(shared, shared)
    assert operators(improved(alone, first_only, BYTES)) == ["MatMul", "Concat"]
    assert improved(before, first_only, BYTES) is before


@dataclass(frozen=True)
class Whole:
    """Counts the operators of the whole, but says that a Relu behind a Relu is no gain."""

    by_parts: bool = False
    zeros_free: bool = True
    measured: bool = False
    seen: list[tuple[str, ...]] = field(default_factory=list, compare=False)

    def ratio(self, before: Graph, after: Graph) -> float:
        names = tuple(operators(after))
        self.seen.append(names)
        old, new = (operators(graph).count("MatMul") for graph in (before, after))
        return 2.0 if names == ("Relu", "Relu") else new / max(old, 1)


def test_a_cost_that_is_no_sum_is_tried_in_the_whole() -> None:
    cost = Whole()
    before = chain(full(4, 4), full(4, 4))
    assert improved(before, as_relu, cost) is before
    assert ("Relu", "Relu") in cost.seen


def test_layers_of_another_shape_are_tried_apart() -> None:
    before = chain(full(4, 4), full(4, 3), full(3, 3))

    def square(node: Node) -> list[Form]:
        return as_relu(node) if node.inputs and node.inputs[-1].type.shape == (4, 4) else []

    assert operators(improved(before, square, Whole())) == ["Relu", "MatMul", "MatMul"]


def test_layers_are_judged_in_a_row_where_the_cost_is_no_sum() -> None:
    cost = Whole()
    improved(chain(full(4, 4)), as_two, cost)
    assert ("MatMul", "Relu") * 3 + ("MatMul",) in cost.seen


def test_cost_models_have_names() -> None:
    assert cost_model("macs") is MACS
    assert cost_model(MACS) is MACS
    assert str(cost_model("latency")) == "latency"
    with pytest.raises(BadPipeline, match="no cost model is called 'joules'; there are bytes, lat"):
        cost_model("joules")


def test_a_cost_model_of_ones_own_is_one() -> None:
    assert isinstance(Whole(), CostModel)


MORE = replace(BYTES, of=macs)


@pytest.mark.parametrize(("cost", "ratio"), [(MORE, 2.0), (replace(MORE, measured=True), np.inf)])
def test_a_form_that_multiplies_more_is_not_run(cost: CostModel, ratio: float) -> None:
    graph = chain(full(4, 4))
    twice: Form = lambda inputs: ops.MatMul(ops.MatMul(*inputs), inputs[1])  # noqa: E731
    assert ratios(graph, graph.nodes[-1], [twice], cost) == [ratio]


needs_ort = pytest.mark.skipif(not installed(), reason="onnxruntime is not installed")


@needs_ort
def test_latency_prefers_doing_nothing() -> None:
    before = chain(*[full(4, 4)] * 200)
    assert LATENCY.ratio(before, chain(full(4, 4))) < 1
    assert LATENCY.ratio(chain(full(4, 4)), before) > 1


@needs_ort
def test_latency_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIR_CACHE", str(tmp_path))
    before, after = chain(full(4, 4)), chain(full(4, 4), full(4, 4))
    first = LATENCY.ratio(before, after)
    monkeypatch.setattr("redir.cost.models.session", None)
    assert LATENCY.ratio(before, after) == first


@needs_ort
def test_a_part_of_a_model_may_read_other_inputs() -> None:
    y = placeholder("n", 5)
    part = Graph({"y": y}, {"z": ops.MatMul(y, full(5, 4))})
    assert LATENCY.ratio(chain(*[full(4, 4)] * 200), part) < 1


@needs_ort
def test_what_cannot_run_is_not_faster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIR_CACHE", str(tmp_path))
    unknown = ops.opaque("Unknown", "some.where", 1, [TensorType(FLOAT, ("n", 4))])
    x = placeholder("n", 4)
    odd = Graph({"x": x}, {"y": unknown(x)}, opset={"": 21, "some.where": 1})
    assert LATENCY.ratio(odd, odd) >= 1


def test_timings_depend_on_shapes_and_not_on_weights(tmp_path: Path) -> None:
    timings = Timings(tmp_path / "t.json")
    a, b, wide = chain(full(4, 4)), chain(full(4, 4, value=2)), chain(full(4, 5))
    assert timings.key(a, a, 1) == timings.key(b, a, 1)
    assert len({timings.key(a, wide, 1), timings.key(wide, a, 1), timings.key(a, wide, 2)}) == 3


@pytest.mark.parametrize("held", [None, b"not json", b"[1]", b'{"key": "text"}'])
def test_a_cache_that_cannot_be_read_is_empty(held: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.json"
    if held is not None:
        path.parent.mkdir()
        path.write_bytes(held)
    timings = Timings(path)
    assert timings.read("key") is None
    timings.write("key", 0.5)
    assert timings.read("key") == 0.5


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    timings = Timings(tmp_path / "file" / "t.json")
    timings.write("key", 0.5)
    assert timings.read("key") is None


class Dearer:
    """Whatever changes costs more."""

    by_parts = False
    zeros_free = False
    measured = False

    def ratio(self, before: Graph, after: Graph) -> float:
        return 1.0 if after is before else 1.01


@pytest.mark.parametrize("step", [Merge, EliminateDeadChannels], ids=lambda step: step.name)
def test_channels_stay_where_the_model_would_cost_more(step: Any) -> None:
    x = placeholder(1, 2)
    columns = np.array([[1, 1, 0], [2, 2, 0]], FLOAT)
    hidden = ops.Relu(ops.MatMul(x, ops.Const(value=Tensor(columns))))
    y = ops.MatMul(hidden, ops.Const(value=Tensor(np.ones((3, 1), FLOAT))))
    before = Graph({"x": x}, {"y": y})
    assert step()(before) is not before
    assert step(cost=Dearer())(before) is before


class Stopwatch(Latency):
    """Latency that measures nothing."""

    def ratio(self, before: Graph, after: Graph) -> float:  # noqa: ARG002
        return 0.5


def test_forms_of_more_multiply_adds_are_not_timed() -> None:
    graph = chain(full(4, 4))
    (node,) = (n for n in graph.nodes if n.op == ops.MatMul)
    wide, deep = full(4, 4), full(4, 8)

    def more(inputs: tuple[Value, ...]) -> Value:
        return ops.MatMul(ops.MatMul(inputs[0], deep), full(8, 4))

    def same(inputs: tuple[Value, ...]) -> Value:
        return ops.MatMul(inputs[0], wide)

    assert ratios(graph, node, [more, same], Stopwatch()) == [math.inf, 0.5]
    assert ratios(graph, node, [more], MACS) == [4.0]
