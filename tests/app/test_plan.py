"""redir plan, and compress --plan: what is shown is what is done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import redir as api
from redir.cost import total
from redir.errors import BadPipeline
from redir.io import models
from redir.ir import Graph, Source, Value
from redir.ops import Conv, Relu
from redir.passes.factorize.plan import Plan
from redir.pipeline import compress
from redir.pipeline.compress import Target
from redir.runtime.onnxruntime import Times
from tests.commands import Redir
from tests.helpers import const, one_of_three, placeholder

QUICK = "--statistics drawn --align 1"
COUNTS = ("parameters", "macs", "bytes")


def conv(x: Value, outputs: int, seed: int) -> Value:
    weight = np.random.default_rng(seed).normal(size=(outputs, x.type.size(1) or 0, 3, 3))
    return Relu(Conv(x, const(weight), pads=(1, 1, 1, 1)))


def network() -> Graph:
    x = placeholder("n", 3, 6, 6)
    return Graph({"x": x}, {"y": conv(conv(conv(x, 8, 0), 6, 1), 4, 2)})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that holds ``good.onnx`` and nothing else."""
    monkeypatch.chdir(tmp_path)
    models.save(network(), "good.onnx")
    return tmp_path


def test_plan_shows_layers_counts_and_the_deviation(redir: Redir) -> None:
    done = redir(f"plan good.onnx --macs 0.5 {QUICK}")
    assert done.code == 0
    layers, counts, deviation = done.out.split("\n\n")
    head, *rows = (line.split() for line in layers.splitlines())
    assert head == ["layer", "form", "rank", "macs", "saved", "of", "all", "error"]
    assert len(rows) == 3
    assert counts.split()[:3] == list(COUNTS)
    assert deviation.startswith("deviation: about 0.")


def test_plan_writes_nothing(redir: Redir, folder: Path) -> None:
    redir(f"plan good.onnx --macs 0.5 {QUICK}")
    assert [path.name for path in folder.iterdir()] == ["good.onnx"]


def test_plan_says_that_a_target_is_out_of_reach(redir: Redir) -> None:
    done = redir(f"plan good.onnx --macs 0.001 {QUICK}")
    assert done.code == 1
    assert "of the macs are left, where 0.001 was asked" in done.err
    assert "deviation: " in done.out


def test_plan_halves_the_multiply_adds_unless_told_otherwise(redir: Redir) -> None:
    plan = redir(f"plan good.onnx {QUICK} --json -").json
    assert plan["target"] == {"macs": 0.5}
    assert plan["after"]["macs"] <= 0.5 * plan["before"]["macs"]


@pytest.mark.parametrize("target", one_of_three(["macs", "params", "bytes"]))
def test_a_plan_and_its_execution_agree(redir: Redir, target: str) -> None:
    best = f"--preset best --{target} 0.6 {QUICK}"
    plan = redir(f"plan good.onnx {best} --json plan.json")
    assert plan.code == 0
    made = redir(f"compress good.onnx out.onnx --plan plan.json {QUICK} --json -").json
    again = redir(f"compress good.onnx again.onnx {best} --json -").json
    held = json.loads(Path("plan.json").read_text())
    assert [held["after"][count] for count in COUNTS] == [made["after"][c] for c in COUNTS]
    assert Path("out.onnx").read_bytes() == Path("again.onnx").read_bytes()
    assert again["target"]["name"] == target
    assert "target" not in made


def edited(redir: Redir, **line: Any) -> None:
    """A plan in plan.json, with something else in its first line."""
    plan = redir(f"plan good.onnx --macs 0.5 {QUICK} --json -").json
    plan["layers"][0] |= line
    Path("plan.json").write_text(json.dumps(plan))


def test_an_edited_plan_is_executed_as_it_is(redir: Redir) -> None:
    edited(redir, form="expand", rank=2)
    assert redir(f"compress good.onnx out.onnx --plan plan.json {QUICK}").code == 0
    first = models.load("out.onnx").nodes
    assert next(n.inputs[1].type.shape for n in first if n.op == Conv) == (2, 3, 3, 3)


def test_plan_shows_what_an_edited_plan_would_do(redir: Redir) -> None:
    edited(redir, form="expand", rank=2)
    again = redir(f"plan good.onnx --plan plan.json {QUICK} --json -").json
    assert (again["layers"][0]["form"], again["layers"][0]["rank"]) == ("expand", 2)
    assert again["target"] == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"layer": "nobody"}, "no layer 'nobody'"),
        ({"form": "square", "rank": 1}, "cannot become 'square'"),
        ({"form": "expand", "rank": 1000}, "has a rank from 1 to"),
        ({"rank": "two"}, "'form' and 'rank' are"),
    ],
)
def test_a_plan_that_does_not_fit_is_one_line(redir: Redir, line: Any, why: str) -> None:
    edited(redir, **line)
    done = redir(f"compress good.onnx out.onnx --plan plan.json {QUICK} --quiet")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert why in done.err
    assert not Path("out.onnx").exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("--plan none.json", "No such file"),
        ("--plan good.onnx", "not JSON"),
        ("--plan good.onnx --macs 0.5", "a plan says all"),
        ("-p cse --preset best", "are both given"),
        ("--macs 0.5 --json none/plan.json", "the folder none does not exist"),
        ("--macs 0.5 --json good.onnx", "it is the input"),
        ("--macs 2", "above 0 and at most 1"),
    ],
)
def test_plan_refuses(redir: Redir, given: str, why: str) -> None:
    done = redir(f"plan good.onnx {given} {QUICK}")
    assert done.code == 2
    assert why in done.err


def test_plan_refuses_a_pipeline_that_makes_none(redir: Redir) -> None:
    done = redir("plan good.onnx -p cse")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no pass of cse makes a plan" in done.err


def test_pruning_is_planned_family_by_family(redir: Redir) -> None:
    done = redir("plan good.onnx -p prune{macs=0.6,scope=global} --json plan.json")
    assert done.code == 0
    head, *_ = done.out.splitlines()
    assert head.split() == ["layers", "channels", "kept", "of", "the", "scores", "lost"]
    assert "ranked by l2" in done.out
    made = redir("compress good.onnx out.onnx -p prune{macs=0.6,scope=global} --no-timing --json -")
    plan = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    assert plan["after"]["macs"] == made.json["after"]["macs"]
    assert all(1 <= family["kept"] <= family["channels"] for family in plan["families"])


def test_a_target_of_the_command_goes_to_prune(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx -p prune --macs 0.6 --no-timing --json -")
    assert 0 < done.json["after"]["macs"] <= 0.6 * done.json["before"]["macs"]


def test_a_plan_from_python_is_edited_and_carried_out() -> None:
    graph = network()
    plan = api.plan(graph, macs=0.5, statistics="drawn", align=1)
    assert isinstance(plan, Plan)
    made = api.compress(graph, plan=plan, statistics="drawn")
    assert str(made) == str(api.compress(graph, macs=0.5, statistics="drawn", align=1))
    layer = next(line.layer for line in plan.lines if line.form)
    assert str(api.compress(graph, plan=plan.changed(layer), statistics="drawn")) != str(made)


@pytest.mark.parametrize("given", ["cse", "palettize", "hash{error=0.1}"])
def test_a_pipeline_that_makes_no_plan_is_refused_in_python(given: str) -> None:
    with pytest.raises(BadPipeline, match="makes a plan"):
        api.plan(network(), pipeline=given)


@pytest.mark.parametrize("name", one_of_three(["bytes", "multiplications"]))
def test_weights_of_fewer_values_are_planned_one_by_one(redir: Redir, name: str) -> None:
    done = redir(f"plan good.onnx --{name} 0.6 --json plan.json")
    assert done.code == 0
    head, *_ = done.out.splitlines()
    assert head.split() == ["weight", "distinct", "values", name, "saved", "error"]
    made = redir(f"compress good.onnx out.onnx --{name} 0.6 --no-timing --json -")
    plan = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    assert plan["after"] == made.json["after"]
    assert plan["unit"] == name
    assert all(line["values"] <= line["distinct"] for line in plan["weights"])
    assert sum(line["saved"] for line in plan["weights"]) > 0
    assert [line["error"] > 0 for line in plan["weights"]] == [
        line["values"] < line["distinct"] for line in plan["weights"]
    ]


# what compress says of a target


def test_compress_says_what_was_asked_and_what_is_reached(redir: Redir) -> None:
    done = redir(f"compress good.onnx out.onnx --macs 0.5 {QUICK} --no-timing")
    (line,) = (line for line in done.out.splitlines() if line.startswith("macs:"))
    assert line.startswith("macs: 0.5 asked, 0.")
    assert line.endswith("reached; statistics: drawn")


def test_compress_has_the_target_in_its_report(redir: Redir) -> None:
    done = redir(f"compress good.onnx out.onnx --macs 0.5 {QUICK} --no-timing --json -").json
    reached = done["after"]["macs"] / done["before"]["macs"]
    assert done["target"] == {
        "name": "macs",
        "asked": 0.5,
        "reached": reached,
        "statistics": "drawn",
    }


def named() -> Graph:
    """A network whose layers have names."""
    x = y = placeholder("n", 3, 6, 6)
    for number, outputs in enumerate((8, 6, 4)):
        node = conv(y, outputs, number).node
        assert node is not None
        assert node.inputs[0].node is not None
        layer = replace(node.inputs[0].node, source=Source(f"layer{number}"))
        y = Relu(layer.outputs[0])
    return Graph({"x": x}, {"y": y})


def test_compress_says_what_the_plan_expected(redir: Redir) -> None:
    models.save(named(), "named.onnx")
    plan = redir(f"plan named.onnx --macs 0.5 {QUICK} --json -").json
    done = redir(f"compress named.onnx out.onnx --macs 0.5 {QUICK} --no-timing --json -").json
    expected = {line["layer"]: line["error"] for line in plan["layers"] if line["form"]}
    found = {each["name"]: each["error"] for each in done["layers"] if each["error"] is not None}
    assert expected
    assert found == expected
    assert done["expected"] == plan["deviation"]


def test_compress_says_what_other_shares_were_expected_to_cost(redir: Redir) -> None:
    how = f"compress good.onnx out.onnx --macs 0.5 {QUICK} --no-timing"
    curve = redir(f"{how} --json - --report out.html").json["curve"]
    left, moved = zip(*(point.values() for point in curve["points"]), strict=True)
    assert curve["unit"] == "macs"
    assert len(left) > 3
    assert 1 > left[0] > left[-1] > 0
    assert list(left) == sorted(left, reverse=True)
    assert list(moved) == sorted(moved)
    assert "What other shares were expected to cost" in Path("out.html").read_text("utf-8")


def test_where_nothing_was_planned_nothing_was_expected(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --no-timing --json -").json
    assert (done["expected"], done["curve"]) == (None, None)
    assert {each["error"] for each in done["layers"]} == {None}


def test_compress_says_that_accuracy_was_lost(redir: Redir) -> None:
    np.savez("data.npz", x=np.ones((8, 3, 6, 6), np.float32), label=np.zeros(8, int))
    how = f"--max-drop 100 --eval data.npz {QUICK} --no-timing"
    target = redir(f"compress good.onnx out.onnx {how} --json -").json["target"]
    assert target["name"] == "max_drop"
    assert -100 <= target["reached"] <= 100


def test_compress_says_where_ranks_come_in_steps(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --macs 0.8 --align 8 --statistics drawn --no-timing")
    assert "ranks come in steps: --align 1 may come closer to 0.8" in done.err
    exact = redir(f"compress good.onnx out.onnx --macs 0.8 {QUICK} --no-timing")
    assert "ranks come in steps" not in exact.err


HINT = "--cost latency takes only what is faster"


@pytest.mark.parametrize(
    ("ratio", "times"), [(0.5, 0), (1.0, 1), pytest.param(1.5, 1, marks=pytest.mark.nightly)]
)
def test_compress_says_that_time_did_not_follow(
    redir: Redir, monkeypatch: pytest.MonkeyPatch, ratio: float, times: int
) -> None:
    pytest.importorskip("onnxruntime", reason="it measures the times")
    monkeypatch.setattr(compress, "time_pairs", lambda *_: Times.of([(1.0, ratio)] * 3))
    done = redir(f"compress good.onnx out.onnx --macs 0.5 {QUICK}")
    assert done.err.count(HINT) == times


def test_a_speed_is_reached_where_the_time_fell(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="it measures the times")
    monkeypatch.setattr(compress, "time_pairs", lambda *_: Times.of([(1.0, 0.5)] * 3))
    result = compress.run(network(), compress.chosen(macs=0.5, statistics="drawn", align=1))
    asked = compress.chosen(speed=3.0, statistics="drawn")
    assert result.target(asked, None) == Target("speed", 3, 2, "drawn")


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ([2.0, 2.1, 2.2], None),
        ([1.8, 2.0, 2.1], None),
        ([1.5, 1.5, 1.6], "it is 1.5 times as fast, where 2 was asked"),
    ],
)
def test_a_speed_is_missed_where_few_runs_reach_it(times: list[float], why: str | None) -> None:
    cost = total(network())
    found = Times.of([(speed, 1.0) for speed in times])
    assert compress.missed(cost, cost, {"speed": 2.0}, found) == why


def test_a_target_inside_a_pipeline_must_be_reached(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx -p factorize{macs=0.001,statistics=drawn},cse")
    assert done.code == 1
    assert "of the macs are left, where 0.001 was asked" in done.err


def test_what_was_not_measured_is_not_reached() -> None:
    pipeline = compress.chosen(macs=0.5, statistics="drawn", align=1)
    result = compress.run(network(), pipeline, timing=False)
    asked = ({"speed": 2.0}, {"error": 0.1}, {"max_drop": 1.0, "eval": "x.npz"})
    found = [result.target(compress.chosen(**each), None) for each in asked]
    assert [target and target.reached for target in found] == [None] * 3


def test_without_a_target_nothing_is_reached() -> None:
    result = compress.run(network(), compress.chosen(), timing=False)
    assert result.target(compress.chosen(), None) is None
