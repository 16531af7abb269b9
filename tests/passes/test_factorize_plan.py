"""Plans of factorize: what they say, that they are carried out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.cost import macs, nbytes, parameters, total
from redir.errors import BadInput, BadPipeline
from redir.ir import Graph, Value
from redir.passes.factorize import Factorize
from redir.passes.factorize.plan import Line, Plan, layers
from redir.pipeline import Pipeline, Place
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
COUNTS = ("parameters", "macs", "bytes")


def quick(**options: Any) -> Factorize:
    return Factorize(statistics="drawn", examples=16, align=1, **options)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def block(x: Value, outputs: int) -> Value:
    """A convolution, a norm and a Relu."""
    y = ops.Conv(x, normal(outputs, x.type.size(1) or 0, 3, 3), pads=(1, 1, 1, 1))
    var = const(RNG.uniform(0.5, 2, outputs))
    return ops.Relu(ops.BatchNormalization(y, *(normal(outputs) for _ in range(3)), var))


def network(batch: int | str = "n") -> Graph:
    x = placeholder(batch, 3, 8, 7)
    return Graph({"x": x}, {"y": block(block(block(x, 12), 12), 8)})


GRAPH = network()
PLAN = quick().planned(GRAPH)


def test_a_plan_has_a_line_for_each_layer_that_may_be_factored() -> None:
    assert [line.layer for line in PLAN.lines] == ["Conv", "Conv#2", "Conv#3"]
    assert sum(line.cost for line in PLAN.lines) == PLAN.before.macs == macs(GRAPH)
    assert sum(line.saved for line in PLAN.lines) == PLAN.before.macs - PLAN.after.macs
    assert PLAN.after.macs <= 0.5 * macs(GRAPH)


def test_errors_add_up_to_the_deviation() -> None:
    errors = [line.error for line in PLAN.lines]
    assert PLAN.deviation == pytest.approx(np.linalg.norm(errors))
    assert [error > 0 for error in errors] == [line.form is not None for line in PLAN.lines]


@pytest.mark.parametrize("target", ["macs", "params", "bytes"])
def test_a_plan_and_its_execution_agree(target: str) -> None:
    step, behind = quick(**{target: 0.5}), Pipeline.parse("fold-batchnorm,cse,merge")
    plan = step.planned(GRAPH, Place(GRAPH, behind))
    made = Pipeline((quick(plan=plan), *behind.passes))(GRAPH)
    again = Pipeline((step, *behind.passes))(GRAPH)
    assert str(made) == str(again)
    assert all(getattr(total(made), c) == getattr(plan.after, c) for c in COUNTS)


@pytest.mark.parametrize(("target", "count"), [("params", parameters), ("bytes", nbytes)])
def test_what_is_folded_behind_counts_towards_a_share(target: str, count: Any) -> None:
    pipeline = Pipeline((quick(**{target: 0.75}), *Pipeline.parse("fold-batchnorm").passes))
    assert count(pipeline(GRAPH)) / count(GRAPH) == pytest.approx(0.75, abs=0.01)


def plain(x: Value, outputs: int, seed: int) -> Value:
    weight = np.random.default_rng(seed).normal(size=(outputs, x.type.size(1) or 0, 3, 3))
    return ops.Relu(ops.Conv(x, const(weight), pads=(1, 1, 1, 1)))


def test_a_share_is_met_where_the_passes_behind_save_in_steps() -> None:
    x = placeholder("n", 3, 8, 8)
    graph = Graph({"x": x}, {"y": plain(plain(x, 12, 0), 8, 1)})
    behind = Pipeline.parse("eliminate-dead-channels")
    plan = quick(macs=0.4).planned(graph, Place(graph, behind))
    assert plan.after.macs <= 0.4 * macs(graph)


def test_layers_that_read_the_same_are_not_taken_for_one() -> None:
    x = placeholder("n", 24)
    parts = [ops.Tanh(ops.MatMul(x, normal(24, 24))) for _ in range(3)]
    graph = Graph({"x": x}, {"y": ops.Add(ops.Add(*parts[:2]), parts[2])})
    made = Pipeline((quick(macs=0.5, forms="low-rank"), *Pipeline.parse("cse").passes))(graph)
    assert macs(made) <= 0.5 * macs(graph)


def test_counts_are_those_of_the_whole_batch() -> None:
    graph = network(4)
    assert macs(quick(macs=0.5)(graph)) == pytest.approx(0.5 * macs(graph), rel=0.05)


def test_a_plan_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(PLAN.as_dict()))
    lines = [(line.layer, line.form, line.rank) for line in Plan.read(path).lines]
    assert lines == [(line.layer, line.form, line.rank) for line in PLAN.lines]
    assert str(quick(plan=str(path))(GRAPH)) == str(quick(plan=PLAN)(GRAPH))


def test_an_edited_plan_is_executed_as_it_is() -> None:
    plan = Plan((Line("Conv#2"),)).changed("Conv#3", "spatial", 2)
    made = quick(plan=plan)(GRAPH)
    kernels = [n.inputs[1].type.shape for n in made.nodes if n.op == ops.Conv]
    assert kernels == [(12, 3, 3, 3), (12, 12, 3, 3), (2, 12, 3, 1), (8, 2, 1, 3)]


def test_a_plan_may_ask_for_more_than_there_was() -> None:
    (line, *_) = PLAN.lines
    made = quick(plan=Plan((Line(line.layer, "spatial", 9),)))(GRAPH, check=True)
    assert macs(made) > macs(GRAPH)


def test_a_model_without_layers_has_an_empty_plan() -> None:
    x = placeholder("n", 3)
    plan = Factorize().planned(Graph({"x": x}, {"y": ops.Relu(x)}))
    assert (plan.lines, plan.deviation) == ((), 0)


def test_names_tell_layers_apart() -> None:
    assert list(layers(GRAPH)) == [
        *("Conv", "BatchNormalization", "Relu"),
        *("Conv#2", "BatchNormalization#2", "Relu#2"),
        *("Conv#3", "BatchNormalization#3", "Relu#3"),
    ]


WRONG = {
    "no layer 'Conv#9'": Line("Conv#9", "spatial", 2),
    "layer 'Relu' cannot be factored": Line("Relu", "spatial", 2),
    "cannot become 'round', but reduce, spatial": Line("Conv", "round", 2),
    "has a rank from 1 to 9, not 10": Line("Conv", "spatial", 10),
    "has a rank from 1 to 9, not 0": Line("Conv", "spatial", 0),
}


@pytest.mark.parametrize("why", WRONG)
def test_refuses_what_does_not_fit_the_model(why: str) -> None:
    with pytest.raises(BadInput, match=why):
        quick(plan=Plan((WRONG[why],)))(GRAPH)


def test_refuses_it_before_statistics_are_taken() -> None:
    plan = Plan((Line("Conv", "spatial", 10),))
    with pytest.raises(BadInput, match="has a rank from 1 to 9"):
        Factorize(statistics="no-such-file.npz", plan=plan)(GRAPH)


def test_refuses_a_plan_for_a_model_that_has_no_layers() -> None:
    x = placeholder("n", 3)
    with pytest.raises(BadInput, match="no layer 'Conv'"):
        quick(plan=PLAN)(Graph({"x": x}, {"y": ops.Relu(x)}))


def test_refuses_a_plan_for_a_model_that_cannot_be_run() -> None:
    x = placeholder("n", 3, 8, 7)
    y = ops.opaque("Mystery", "custom", 1, [x.type])(x)
    with pytest.raises(BadInput, match="the model cannot be run: "):
        quick(plan=Plan((Line("Conv", "spatial", 2),)))(Graph({"x": x}, {"y": block(y, 4)}))


@pytest.mark.parametrize("option", [{"macs": 0.5}, {"forms": "spatial"}])
def test_refuses_a_plan_beside_what_makes_one(option: Any) -> None:
    with pytest.raises(BadPipeline, match="a plan says all"):
        Factorize(plan=PLAN, **option)


DAMAGED = {
    "": "not JSON",
    "[" * 100_000: "not JSON",
    '{"layers": 1}': "expected a list of layers",
    '"layers"': "expected a list of layers",
    "[1]": "layer 1 of the list is not an object",
    '[{"layer": 1}]': "layer 1 of the list is not an object",
    '[{"layer": "a"}, {"layer": "a"}]': "layer 'a' is there twice",
    '[{"layer": "a", "form": "spatial"}]': "'form' and 'rank' are ",
    '[{"layer": "a", "form": "spatial", "rank": 1.5}]': "'form' and 'rank' are ",
    '[{"layer": "a", "form": "spatial", "rank": true}]': "'form' and 'rank' are ",
    '[{"layer": "a", "form": ["spatial"], "rank": 2}]': "'form' and 'rank' are ",
    '[{"layer": "a", "form": "spatial", "rank": ' + "9" * 5000 + "}]": "not JSON",
}


@pytest.mark.parametrize("text", DAMAGED, ids=[why[:20] for why in DAMAGED.values()])
def test_refuses_a_file_that_holds_no_plan(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=DAMAGED[text]):
        Plan.read(path)


def test_refuses_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(" " * (2**24 + 1))
    with pytest.raises(BadInput, match="more than 16 MiB"):
        Plan.read(path)


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        Plan.read(tmp_path / "none.json")
