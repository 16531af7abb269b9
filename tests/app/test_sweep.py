"""redir sweep: the curve that a target draws, and that what its points share is done once."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Any

import numpy as np
import pytest

from redir.app import plots
from redir.app.points import keys
from redir.app.sweep import span
from redir.atomic import Stopped
from redir.errors import BadInput, TooLarge
from redir.io import models
from redir.ir import Graph, Value
from redir.ops import Conv, Relu
from redir.passes.factorize.study import study
from redir.pipeline import Pass, Pipeline, compress, sweep
from redir.pipeline.executors import Pool
from redir.pipeline.sweep import Sweep, Swept
from redir.tasks import using
from tests.commands import Redir
from tests.helpers import const, one_of_three, placeholder

QUICK = "--statistics drawn --align 1 --no-timing"


def conv(x: Value, outputs: int, seed: int) -> Value:
    weight = np.random.default_rng(seed).normal(size=(outputs, x.type.size(1) or 0, 3, 3))
    return Relu(Conv(x, const(weight), pads=(1, 1, 1, 1)))


def network() -> Graph:
    x = placeholder("n", 3, 8, 8)
    return Graph({"x": x}, {"y": conv(conv(x, 6, 0), 4, 1)})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that holds ``good.onnx`` and labelled images."""
    monkeypatch.chdir(tmp_path)
    models.save(network(), "good.onnx")
    np.savez("data.npz", x=np.ones((8, 3, 8, 8), np.float32), label=np.zeros(8, int))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.3:0.9:0.1", (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        ("0.3:0.9:0.25", (0.3, 0.55, 0.8)),
        ("1.5:1.5:1", (1.5,)),
        ("0.5", (0.5,)),
    ],
)
def test_a_span_holds_both_ends(text: str, numbers: Sequence[float]) -> None:
    assert span(text) == numbers


@pytest.mark.parametrize(
    "text",
    ["", "a", "0.3:0.9", "0.9:0.3:0.1", "0:1:0.1", "0.1:1:0", "0.1:1:-1", "0.1:1:0.001", "nan",
     "0.1:inf:1", "0.1:1:nan", "1:2:3:4"],
)  # fmt: skip
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not LOW:HIGH:STEP"):
        span(text)


def test_sweep_has_a_point_for_each_value(redir: Redir) -> None:
    found = redir(f"sweep good.onnx --macs 0.4:0.8:0.2 {QUICK} --eval data.npz --json -").json
    assert (found["target"], found["statistics"]) == ("macs", "drawn")
    assert [point["asked"] for point in found["points"]] == [0.4, 0.6, 0.8]
    assert [point["macs"] / found["before"]["macs"] for point in found["points"]] == [
        point["reached"] for point in found["points"]
    ]
    assert all(0 <= p["asked"] - p["reached"] < 0.05 for p in found["points"])
    assert all(0 <= point["accuracy"] <= 1 and point["deviation"] > 0 for point in found["points"])
    assert [(point["time"], point["file"]) for point in found["points"]] == [(None, None)] * 3


def test_sweep_prints_a_row_for_each_point(redir: Redir) -> None:
    done = redir(f"sweep good.onnx --params 0.5:0.7:0.2 {QUICK}")
    assert [line.split()[0] for line in done.out.splitlines()] == [
        "params",
        "original",
        "0.5",
        "0.7",
    ]
    assert "params: 0.7 asked, " in done.err


def test_a_point_is_what_compress_makes(redir: Redir) -> None:
    redir(f"sweep good.onnx small-{{}}.onnx --macs 0.5:0.6:0.1 {QUICK}")
    assert redir(f"compress good.onnx one.onnx --macs 0.6 {QUICK}").code == 0
    assert Path("small-0.6.onnx").read_bytes() == Path("one.onnx").read_bytes()
    assert Path("small-0.5.onnx").exists()


def test_sweep_writes_models_only_if_it_is_told_to(redir: Redir, folder: Path) -> None:
    redir(f"sweep good.onnx --macs 0.5 {QUICK}")
    assert sorted(path.name for path in folder.iterdir()) == ["data.npz", "good.onnx"]


def test_sweep_measures_times(redir: Redir) -> None:
    pytest.importorskip("onnxruntime", reason="it measures the times")
    found = redir("sweep good.onnx --macs 0.5 --statistics drawn --align 1 --json -").json
    time = found["points"][0]["time"]
    assert time["low"] <= time["ratio"] <= time["high"]


def test_a_value_out_of_reach_leaves_the_others(redir: Redir) -> None:
    done = redir(f"sweep good.onnx s{{}}.onnx --macs 0.01:0.61:0.6 {QUICK} --json out.json")
    assert done.code == 1
    assert "macs 0.01: " in done.err
    points = json.loads(Path("out.json").read_text())["points"]
    assert [point["file"] for point in points] == [None, "s0.61.onnx"]
    assert [point["missed"] is None for point in points] == [False, True]
    assert (Path("s0.01.onnx").exists(), Path("s0.61.onnx").exists()) == (False, True)


@pytest.mark.parametrize("ending", one_of_three(plots.ENDINGS))
def test_sweep_draws_the_curve(redir: Redir, ending: str) -> None:
    pytest.importorskip("matplotlib", reason="it draws the curve")
    done = redir(f"sweep good.onnx --macs 0.5 {QUICK} --plot curve{ending}")
    assert done.code == 0
    assert Path(f"curve{ending}").stat().st_size > 1000


def point(macs: int, time: dict[str, float] | None) -> dict[str, object]:
    return {"macs": macs, "eval": 0.9, "deviation": 0.1, "time": time}


def drawn(axes: Any) -> list[list[float]]:
    found: list[list[float]] = axes.lines[0].get_xydata().tolist()
    return found


def test_the_curve_has_what_was_measured() -> None:
    pytest.importorskip("matplotlib", reason="it draws the curve")
    points = [point(30, {"ratio": 0.5, "low": 0.4, "high": 0.7}), point(60, None)]
    figure = plots.curve(
        {"before": {"macs": 100}, "eval": {"metric": "top1", "before": 0.95}, "points": points},
        "macs",
    )
    quality, time = figure.axes
    assert drawn(quality) == [[0.3, 90], [0.6, 90]]
    assert (quality.get_ylabel(), quality.get_xlabel()) == ("accuracy, %", "macs left")
    assert drawn(time) == [[0.3, 0.5]]
    alone = plots.curve({"before": {"macs": 100}, "eval": None, "points": points[1:]}, "macs")
    assert [axes.get_ylabel() for axes in alone.axes] == ["deviation"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "expected one target"),
        ("--macs 0.5 --params 0.5", "expected one target"),
        ("--macs 0.9:0.3:0.1", "is not LOW:HIGH:STEP"),
        ("--macs 0.5:1.5:0.5", "above 0 and at most 1"),
        ("--macs 0.5 --plan good.onnx", "a plan says all"),
        ("small.onnx --macs 0.5", "expected a name in which {} stands for the target"),
        ("small-{}.txt --macs 0.5", "ends in .onnx, .py or .redir"),
        ("none/{}.onnx --macs 0.5", "the folder none does not exist"),
        ("--macs 0.5 --plot curve.txt", "ends in .svg, .png, .pdf"),
        ("--macs 0.5 --plot none/curve.svg", "the folder none does not exist"),
        ("--macs 0.5 --json good.onnx", "it is the input"),
        ("--macs 0.5 --eval good.onnx", "not an npz file"),
        ("--macs 0.5 --seed -1", "expected 0 or more"),
        ("--max-drop 1", "is judged on data: --eval names none"),
        ("--macs 0.5 --resume", "--json names none"),
        ("--macs 0.5 --resume --json -", "--json names none"),
    ],
)
def test_sweep_refuses(redir: Redir, given: str, why: str) -> None:
    done = redir(f"sweep good.onnx {given} --quiet")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert why in done.err


# What is kept

SWEEP = f"sweep good.onnx s{{}}.onnx --macs 0.4:0.8:0.4 {QUICK} --json out.json"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The values that runs were for, from here on."""
    found: list[float] = []
    run = compress.run

    def noting(graph: Graph, pipeline: Pipeline, **how: Any) -> Any:
        found.append(pipeline.asked["macs"])
        return run(graph, pipeline, **how)

    monkeypatch.setattr(compress, "run", noting)
    return found


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the second point of a sweep end in an error."""
    points = Sweep.points

    def some(sweep: Sweep, places: Sequence[int] | None = None) -> Iterator[Swept]:
        yield next(points(sweep, places))
        raise error

    monkeypatch.setattr(Sweep, "points", some)


def test_what_was_done_before_an_error_is_kept(
    redir: Redir, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(monkeypatch, TooLarge("it is too large"))
    assert redir(SWEEP).code == 2
    assert [p["file"] for p in json.loads(Path("out.json").read_text())["points"]] == ["s0.4.onnx"]
    assert Path("s0.4.onnx").exists()


def test_one_that_is_stopped_says_what_is_written(
    redir: Redir, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(monkeypatch, Stopped(SIGINT))
    done = redir(SWEEP)
    assert done.code == 130
    assert done.err.endswith("redir: error: stopped by SIGINT; s0.4.onnx and 1 more was written\n")


def held() -> str:
    """What the file of a sweep holds, but for the command."""
    found = json.loads(Path("out.json").read_text())
    assert found.pop("run")["command"].startswith("redir sweep good.onnx")
    return json.dumps(found)


def test_points_are_taken_up(redir: Redir, ran: list[float]) -> None:
    assert redir(SWEEP).code == 0
    whole = held()
    Path("s0.8.onnx").unlink()
    done = redir(f"{SWEEP} --resume")
    assert ran == [0.4, 0.8, 0.8]
    assert held() == whole
    assert [line.split()[0] for line in done.out.splitlines()[2:]] == ["0.4", "0.8"]


def test_all_of_them_are_taken_up(redir: Redir, ran: list[float]) -> None:
    first = redir(SWEEP)
    assert redir(f"{SWEEP} --resume").out == first.out
    assert ran == [0.4, 0.8]


def test_points_of_another_way_are_not(redir: Redir, ran: list[float]) -> None:
    redir(SWEEP)
    redir(f"{SWEEP} --resume --seed 1")
    assert len(ran) == 4


def test_keys_tell_runs_apart() -> None:
    one, other = Pipeline.parse("cse"), Pipeline.parse("merge")
    x = placeholder("n", 3, 8, 8)
    given: list[tuple[Graph, Pipeline, str | None, str]] = [
        (network(), one, None, ""),
        (network(), other, None, ""),
        (network(), one, "data.npz", ""),
        (network(), one, None, "seed"),
        (Graph({"x": x}, {"y": conv(conv(x, 6, 5), 4, 6)}), one, None, ""),
    ]
    assert len({keys(graph, [each], data, how)[0] for graph, each, data, how in given}) == 5
    assert keys(network(), [one, other], None, "") == [
        keys(network(), [each], None, "")[0] for each in (one, other)
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"points": [1]}', '{"points": [{}]}', "\0"])
def test_what_holds_no_points_is_not_resumed(redir: Redir, text: str) -> None:
    Path("out.json").write_text(text)
    done = redir(f"{SWEEP} --resume")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "out.json: it holds no points of redir sweep" in done.err


def test_processes_make_the_same(redir: Redir, monkeypatch: pytest.MonkeyPatch) -> None:
    redir(f"{SWEEP} --eval data.npz --jobs 1")
    whole, model = held(), Path("s0.8.onnx").read_bytes()
    monkeypatch.setattr(sweep, "_LARGE", 0)
    assert redir(f"{SWEEP} --eval data.npz --jobs 2").code == 0
    assert held() == whole
    assert Path("s0.8.onnx").read_bytes() == model


def test_times_are_taken_when_processes_are_done(
    redir: Redir, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="it measures the times")
    monkeypatch.setattr(sweep, "_LARGE", 0)
    redir(f"{SWEEP.replace('--no-timing', '')} --jobs 2")
    points = json.loads(Path("out.json").read_text())["points"]
    assert all(point["time"]["ratio"] > 0 and point["key"] for point in points)


def test_what_measures_times_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_LARGE", 0)
    with using(Pool(2, 2**30)):
        plain, *timed = (
            Sweep(network(), [compress.chosen(**given)]).is_here
            for given in ({"macs": 0.5}, {"speed": 2.0}, {"macs": 0.5, "cost": "latency"})
        )
    assert not plain
    assert all(timed)


RUNS: list[str] = []


@dataclass(frozen=True)
class Counting(Pass):
    """Changes nothing, and says that it ran."""

    label: str = ""

    def run(self, graph: Graph) -> Graph:
        RUNS.append(self.label)
        return graph


def test_what_pipelines_begin_with_runs_once() -> None:
    RUNS.clear()
    a, b, c, d = map(Counting, "abcd")
    pipelines = [Pipeline((a, b, c)), Pipeline((a, b, d)), Pipeline((a, b, c))]
    results = [result for _, result, _ in sweep.swept(network(), pipelines)]
    assert list("abcdc") == RUNS
    assert [[step.name for step in result.steps] for result in results] == [
        [str(step) for step in pipeline.passes] for pipeline in pipelines
    ]


def test_statistics_are_taken_once(redir: Redir) -> None:
    study.cache_clear()
    redir(f"sweep good.onnx --macs 0.4:0.8:0.2 {QUICK}")
    assert study.cache_info().misses == 1


def test_a_picture_of_no_format_is_refused() -> None:
    with pytest.raises(BadInput, match="expected a picture that ends in"):
        plots.check_ending("curve")
