"""The command line: what each command prints, writes and refuses, and its exit code."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from redir import ops
from redir.app import cli
from redir.check.guarantees import NO_GROWTH, SAME_OUTPUTS, Guarantee
from redir.cost.models import Latency
from redir.io.models import load, save
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.rewriter import transform
from redir.ir.tensor import Array, Tensor, TensorType
from redir.ops import tensor_of
from redir.pipeline import Pass, pipeline
from redir.pipeline.presets import PRESETS
from tests.commands import Done, Redir

REDIR = Path(sys.executable).with_name("redir")
COUNTS = {"parameters", "distinct", "macs", "multiplications", "bytes"}


def stored(name: str, array: ArrayLike) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array, np.float32), name)


def toy() -> onnx.ModelProto:
    """Conv, Relu, GlobalAveragePool, Flatten, Gemm: channels 0 and 2 of the Conv are the same."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 3, 3, 3))
    w[2] = w[0]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["g"]),
            helper.make_node("Flatten", ["g"], ["f"]),
            helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], "fc", transB=1),
        ],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [
            stored("w", w),
            stored("b", [1, 2, 1, 3]),
            stored("w2", rng.standard_normal((5, 4))),
            stored("b2", rng.standard_normal(5)),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def write(model: onnx.ModelProto, name: str) -> None:
    Path(name).write_bytes(model.SerializeToString(deterministic=True))


def examples(count: int = 6) -> Array:
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)


def snapshot() -> dict[str, bytes]:
    """Every file and link below the current folder, with what it holds."""
    return {str(p): p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that holds ``good.onnx`` and nothing else."""
    monkeypatch.chdir(tmp_path)
    write(toy(), "good.onnx")
    return tmp_path


def script(command: str, **environment: str) -> Done:
    """Run the installed script in a process of its own."""
    done = subprocess.run(
        [REDIR, *shlex.split(command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def assert_one_line(done: Done, *named: str) -> None:
    """The only output is one line that says what is wrong, and that it is not redir's fault."""
    assert done.err.startswith("redir: error: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    assert done.out == ""
    assert "unexpected" not in done.err
    assert [n for n in named if n not in done.err] == []


# compress


def same(a: str, b: str) -> None:
    feeds = {"x": examples()}
    expected, found = (evaluate(load(path), feeds)["y"] for path in (a, b))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_compress_is_exact_and_smaller_by_default(redir: Redir) -> None:
    assert redir("compress good.onnx out.onnx").code == 0
    onnx.checker.check_model("out.onnx", full_check=True)
    assert {t.name: list(t.dims) for t in onnx.load("out.onnx").graph.initializer} == {
        "w": [3, 3, 3, 3],
        "b": [3],
        "w2": [5, 3],
        "b2": [5],
    }
    same("good.onnx", "out.onnx")


def test_compress_leaves_the_input_and_no_other_file(redir: Redir) -> None:
    before = snapshot()
    redir("compress good.onnx out.onnx")
    after = snapshot()
    after.pop("out.onnx")
    assert after == before


@pytest.mark.parametrize("preset", PRESETS)
def test_compress_takes_every_preset(redir: Redir, preset: str) -> None:
    done = redir(f"compress good.onnx out.onnx --preset {preset} --json -")
    assert done.code == 0
    named = [p["name"].replace("{statistics=drawn}", "") for p in done.json["passes"]]
    assert named == PRESETS[preset].split(",")
    assert any(done.json["after"][count] < done.json["before"][count] for count in COUNTS)


def test_compress_runs_the_pipeline_given_instead_of_a_preset(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx -p 'cse, merge' --json -")
    assert [p["name"] for p in done.json["passes"]] == ["cse", "merge"]


@pytest.mark.parametrize("target", ["--macs 0.8", "--params 0.8", "--preset best --bytes 0.8"])
def test_compress_reaches_a_share(redir: Redir, target: str) -> None:
    done = redir(f"compress good.onnx out.onnx --align 1 {target} --json -")
    assert done.code == 0
    assert "statistics from inputs drawn at random" in done.err
    name = target.split()[-2][2:].replace("params", "parameters")
    assert done.json["after"][name] <= 0.81 * done.json["before"][name]


def test_compress_spends_multiplications_layer_by_layer(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --multiplications 0.9 --examples 4 --json -")
    assert (done.code, done.json["target"]["name"]) == (0, "multiplications")
    assert done.json["after"]["multiplications"] <= 0.9 * done.json["before"]["multiplications"]
    assert "hash{error=0.005,multiplications=0.9,examples=4}" in str(done.json["passes"])


def test_compress_stores_palettes_for_a_share_of_the_bytes(redir: Redir) -> None:
    x = Value(TensorType(np.dtype(np.float32), ("n", 64)))
    held = ops.constant(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))
    save(Graph({"x": x}, {"y": ops.MatMul(x, held)}), "wide.onnx")
    done = redir("compress wide.onnx out.onnx --bytes 0.35 --examples 4 --json -")
    assert (done.code, done.json["target"]["statistics"]) == (0, "drawn")
    assert done.json["after"]["bytes"] <= 0.35 * done.json["before"]["bytes"]


def test_compress_writes_nothing_where_a_target_is_missed(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --align 1 --macs 0.01 --quiet")
    assert (done.code, Path("out.onnx").exists()) == (1, False)
    assert "of the macs are left, where 0.01 was asked" in done.err


def test_compress_becomes_as_small_as_a_drop_allows(redir: Redir) -> None:
    labels = np.zeros(8, int)
    np.savez("data.npz", x=examples(8), label=labels)
    done = redir("compress good.onnx out.onnx --max-drop 100 --eval data.npz --align 1 --json -")
    assert done.json["after"]["macs"] < 0.5 * done.json["before"]["macs"]
    assert "accuracy" in done.json


def test_compress_leaves_a_layer_that_is_to_be_ignored(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx -p factorize --align 1 --macs 0.95 --ignore '*'")
    assert done.code == 1


def test_compress_becomes_as_fast_as_is_asked_or_stays(redir: Redir) -> None:
    pytest.importorskip("onnxruntime", reason="it measures the times")
    assert redir("compress good.onnx out.onnx --speed 1 --json -").json["passes"]


def test_compress_says_why_a_model_stays_that_would_not_be_faster(
    redir: Redir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Latency, "ratio", lambda *_: 1.1)
    done = redir("compress good.onnx out.onnx --error 0.5 --cost latency --no-timing")
    assert done.code == 0
    assert "factorize leaves the model as it is: no form of a layer that is faster fits" in done.err
    same("good.onnx", "out.onnx")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("--macs 0", "expected more than 0"),
        ("--macs 2", "above 0 and at most 1"),
        ("--macs 0.5 --params 0.5", "one target at a time"),
        ("--max-drop 1", "is judged on data: --eval names none"),
        ("--macs 0.5 --preset red", "no pass takes macs"),
        ("--macs 0.5 --forms round", "there is no form 'round'"),
        ("--macs 0.5 --statistics none.npz", "none.npz"),
    ],
)
def test_compress_refuses_targets(redir: Redir, given: str, why: str) -> None:
    done = redir(f"compress good.onnx out.onnx {given}")
    assert done.code == 2
    assert why in done.err


def test_compress_prints_before_after_and_each_pass(redir: Redir) -> None:
    lines = redir("compress good.onnx out.onnx -p merge").out.splitlines()
    assert [line.split()[:2] for line in lines if line] == [
        ["parameters", "distinct"],
        ["before", "137"],
        ["after", "104"],
        ["left", "75.9%"],
        ["pass", "time"],
        ["merge", lines[-1].split()[1]],
    ]


def test_compress_json_has_these_keys(redir: Redir) -> None:
    pytest.importorskip("onnxruntime", reason="it measures the times")
    done = redir("compress good.onnx out.onnx --json -")
    whole = done.json
    keys = "before after sizes time passes verdict reason deviation active map"
    assert set(whole) == set(f"{keys} expected curve operators layers families run".split())
    assert set(whole["before"]) == set(whole["after"]) == COUNTS
    assert set(whole["time"]) == set("before after ratio low high verdict".split())
    steps = {frozenset(p) for p in whole["passes"]}
    keys = "name seconds changed deviation ties verdict waits promises left"
    assert steps == {frozenset(keys.split())}
    assert whole["verdict"] == "pass"
    assert 0 <= whole["deviation"] < 1e-5
    assert 0 < whole["active"] <= 1


def test_compress_json_maps_names_and_channels_to_the_old_ones(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --json -")
    assert done.json["map"] == {
        "w": {"name": "w", "channels": {"0": [0, 1, 3]}},
        "b": {"name": "b", "channels": {"0": [0, 1, 3]}},
        "w2": {"name": "w2", "channels": {"1": [0, 1, 3]}},
        "b2": {"name": "b2", "channels": {}},
    }


def test_compress_json_maps_a_constant_that_is_gone_to_no_name(redir: Redir) -> None:
    model = toy()
    model.graph.initializer.append(stored("one", np.ones((1, 5))))
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node("Identity", ["one"], ["two"]))
    model.graph.node.append(helper.make_node("Add", ["two", "one"], ["three"]))
    model.graph.node.append(helper.make_node("Mul", ["z", "three"], ["y"]))
    write(model, "more.onnx")
    done = redir("compress more.onnx out.onnx --json -")
    assert done.json["map"]["one"] == {"name": None, "channels": {}}


def test_compress_json_goes_to_a_file(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --json done.json")
    assert set(json.loads(Path("done.json").read_text())["before"]) == COUNTS
    assert "before" in done.out


def test_compress_json_on_stdout_is_all_that_is_there(redir: Redir) -> None:
    assert isinstance(redir("compress good.onnx out.onnx --json - --preset red").json, dict)


@pytest.mark.parametrize("label", ["label", "labels", "y"])
def test_compress_eval_gives_the_accuracy_before_and_after(redir: Redir, label: str) -> None:
    x = examples(40)
    right = evaluate(load("good.onnx"), {"x": x})["y"].argmax(1)
    wrong = np.where(np.arange(40) < 10, (right + 1) % 5, right)
    arrays("eval.npz", x=x, **{label: wrong})()
    done = redir("compress good.onnx out.onnx --eval eval.npz --json -")
    assert done.json["accuracy"] == {"before": 0.75, "after": 0.75}
    shown = redir("compress good.onnx out.onnx --eval eval.npz")
    assert [shown.out.count(text) for text in ("accuracy", "75.00%", "+0.00")] == [1, 2, 1]


def test_compress_quiet_says_nothing(redir: Redir) -> None:
    assert redir("compress good.onnx out.onnx --quiet") == Done(0, "", "")


def pinned() -> onnx.ModelProto:
    model = toy()
    model.graph.node[1].CopyFrom(helper.make_node("Softmax", ["c"], ["r"], "soft", axis=1))
    return model


def test_compress_notes_pinned_channels(redir: Redir) -> None:
    write(pinned(), "pinned.onnx")
    done = redir("compress pinned.onnx out.onnx")
    assert done.code == 0
    assert (
        "2 of 4 families of channels are pinned by operators alone, the first by Softmax"
        in done.err
    )


def test_an_unknown_option_names_the_help_of_its_command(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --quite")
    assert done.code == 2
    assert_one_line(done, "--quite", "redir compress --help")


def test_compress_to_source_asks_for_its_packages_first(
    redir: Redir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redir.io.outputs.find_spec", lambda _: None)
    done = redir("compress good.onnx out.py")
    assert done.code == 2
    assert_one_line(done, "'torch'")


def test_compress_strict_refuses_pinned_channels(redir: Redir) -> None:
    write(pinned(), "pinned.onnx")
    done = redir("compress pinned.onnx out.onnx --strict")
    assert done.code == 1
    assert_one_line(done, "pinned", "Softmax 'soft'")
    assert not Path("out.onnx").exists()


def test_compress_writes_text_with_its_tensors_beside_it() -> None:
    assert script("compress good.onnx out.redir").code == 0
    assert {*snapshot()} == {"good.onnx", "out.redir", "out.redir.npz"}
    same("good.onnx", "out.redir")


def test_compress_closes_the_text(redir: Redir) -> None:
    assert redir("compress good.onnx out.redir --quiet") == Done(0, "", "")


def test_compress_writes_whole_text_to_stdout_and_reads_it(
    redir: Redir, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = redir("compress good.onnx - --quiet")
    monkeypatch.setattr(sys, "stdin", io.StringIO(text.out))
    assert redir("compress - back.onnx --quiet") == Done(0, "", "")
    same("good.onnx", "back.onnx")


def test_compress_keeps_external_data_external(redir: Redir) -> None:
    save_external("in.onnx")
    assert redir("compress in.onnx out.onnx -p cse --quiet").code == 0
    assert {*snapshot()} == {"good.onnx", "in.onnx", "in.bin", "out.onnx", "out.onnx.data"}
    same("in.onnx", "out.onnx")


@pytest.mark.parametrize("how", ["input", "constant"])
def test_overridable_initializers_stay_unless_taken_for_constants(redir: Redir, how: str) -> None:
    model = toy()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]))
    write(model, "old.onnx")
    done = redir(f"compress old.onnx out.onnx --overridable-initializers {how}")
    dims = {t.name: t.dims[0] for t in onnx.load("out.onnx").graph.initializer}
    assert (dims["w"], "may be overridden" in done.err) == {"input": (4, True)}.get(how, (3, False))


@pytest.mark.parametrize("command", ["compress old.onnx out.onnx", "verify old.onnx old.onnx"])
def test_overridable_initializers_are_said_first_and_once(redir: Redir, command: str) -> None:
    model = toy()
    for name, shape in (("w", [4, 3, 3, 3]), ("b2", [5])):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    write(model, "old.onnx")
    line, *others = redir(command).err.splitlines()
    assert line.startswith("redir: warning: 2 initializers are inputs too")
    assert "--overridable-initializers=constant" in line
    assert len(line) <= 200
    assert not any("initializers" in other for other in others)


# opt


def test_opt_prints_the_text_by_default(redir: Redir, monkeypatch: pytest.MonkeyPatch) -> None:
    done = redir("opt good.onnx -p merge")
    assert (done.code, done.err) == (0, "")
    assert "w: float32[3, 3, 3, 3] = Const(" in done.out
    monkeypatch.setattr(sys, "stdin", io.StringIO(done.out))
    assert redir("opt - -p merge").out == done.out


def test_opt_writes_a_file(redir: Redir) -> None:
    assert redir("opt good.onnx out.onnx -p merge") == Done(0, "", "")
    same("good.onnx", "out.onnx")


@pytest.mark.parametrize("how", ["off", "structure"])
def test_opt_verifies_each_pass_in_silence(redir: Redir, how: str) -> None:
    done = redir(f"opt good.onnx out.onnx -p {PRESETS['red']} --verify-each {how}")
    assert done == Done(0, "", "")


def test_opt_shows_the_verdict_and_deviation_of_each_pass(redir: Redir) -> None:
    done = redir("opt good.onnx out.onnx -p hash,merge,cse --verify-each numeric")
    rows = [line.split() for line in done.err.splitlines()]
    assert [row[:2] for row in rows] == [
        ["pass", "verdict"],
        ["hash", "-"],
        ["merge", "pass"],
        ["cse", "-"],
    ]
    assert float(rows[1][2]) > 1e-4 > float(rows[2][2])
    assert rows[3][2] == "unchanged"


def test_opt_explains_what_is_pinned(redir: Redir) -> None:
    write(pinned(), "pinned.onnx")
    done = redir("opt pinned.onnx out.onnx -p merge --explain")
    assert "merge: axis 0 of Const 'w': 4 channels, pinned by Softmax 'soft'" in done.err


def test_compress_explains_what_is_pinned(redir: Redir) -> None:
    write(pinned(), "pinned.onnx")
    done = redir("compress pinned.onnx out.onnx --explain --quiet --no-timing")
    assert "axis 0 of Const 'w': 4 channels, pinned by Softmax 'soft'" in done.err


def test_compress_leaves_out_notes_if_it_is_told_to(redir: Redir) -> None:
    model = onnx.load("good.onnx")
    model.graph.node[0].metadata_props.add(key="stack", value="a line")
    model.graph.initializer[0].doc_string = model.doc_string = "a note"
    onnx.save(model, "noted.onnx")
    for name, option in (("with", ""), ("without", "--no-notes")):
        redir(f"compress noted.onnx {name}.onnx {option} --quiet --no-timing")
    kept = [Path(f"{name}.onnx").read_bytes() for name in ("with", "without")]
    assert [(b"a line" in b, b.count(b"a note")) for b in kept] == [(True, 2), (False, 0)]


def test_compress_leaves_no_notes_out_of_a_text(redir: Redir) -> None:
    done = redir("compress good.onnx out.redir --no-notes")
    assert (done.code, Path("out.redir").exists()) == (2, False)


def opset_of(path: str) -> int:
    return int(onnx.load(path).opset_import[0].version)


def test_compress_writes_the_operator_set_that_is_asked_for(redir: Redir) -> None:
    redir("compress good.onnx out.onnx --opset 22 --quiet --no-timing")
    assert opset_of("out.onnx") == 22 > opset_of("good.onnx")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("out.onnx --opset 99", "operator set 99: the installed onnx has 1 to"),
        ("out.onnx --opset 0", "operator set 0: the installed onnx has 1 to"),
        ("out.redir --opset 22", "--opset is for .onnx files, and out.redir is none"),
        ("out.onnx --opset 1", "operator set 1: onnx cannot convert the model:"),
    ],
)
def test_compress_refuses_an_operator_set(redir: Redir, more: str, why: str) -> None:
    done = redir(f"compress good.onnx {more}")
    assert (done.code, Path("out.onnx").exists()) == (2, False)
    assert why in done.err


@pytest.mark.parametrize(("which", "shown"), [("merge", 1), ("all", 2)])
def test_opt_prints_the_graph_after_a_pass(redir: Redir, which: str, shown: int) -> None:
    done = redir(f"opt good.onnx out.onnx -p cse,merge --print-ir-after {which}")
    assert done.err.count("# after ") == done.err.count("def main(") == shown
    assert "# after merge\n" in done.err


def test_opt_times_each_pass_on_stderr(redir: Redir) -> None:
    done = redir("opt good.onnx out.onnx -p cse,merge --time-passes")
    assert [line.split()[0] for line in done.err.splitlines()] == ["pass", "cse", "merge"]
    assert done.out == ""


def test_opt_counts_nodes_and_parameters_after_each_pass(redir: Redir) -> None:
    done = redir("opt good.onnx out.onnx -p cse,merge --pass-statistics")
    assert [line.split() for line in done.err.splitlines()] == [
        ["after", "nodes", "parameters"],
        ["5", "137"],
        ["cse", "5", "137"],
        ["merge", "5", "104"],
    ]


# stats, verify, passes, demo


def test_stats_says_with_which_sizes_it_counted(redir: Redir) -> None:
    given = redir("stats good.onnx --input x=5x3x8x8")
    drawn = redir("stats good.onnx --json").json["sizes"]
    assert "counted with x=5x3x8x8; --input gives other sizes" in given.err
    assert [shape[0] for shape in drawn.values()] == [1]


def test_stats_json_counts_the_whole_and_each_layer(redir: Redir) -> None:
    whole = redir("stats good.onnx --json").json
    assert set(whole) == {"total", "sizes", "layers"}
    assert set(whole["total"]) == COUNTS
    assert {frozenset(layer) for layer in whole["layers"]} == {frozenset({"name", "op", *COUNTS})}
    assert [(la["name"], la["op"]) for la in whole["layers"]] == [("conv", "Conv"), ("fc", "Gemm")]
    assert {k: sum(la[k] for la in whole["layers"]) for k in COUNTS} == whole["total"]


def test_stats_prints_a_line_for_each_layer_and_the_total(redir: Redir) -> None:
    lines = [line.split() for line in redir("stats good.onnx").out.splitlines()]
    assert lines == [
        "layer operator parameters distinct macs multiplications bytes".split(),
        "conv Conv 112 84 6,912 5,184 448".split(),
        "fc Gemm 25 25 20 20 100".split(),
        "total 137 109 6,932 5,204 548".split(),
    ]


def changed(by: float) -> onnx.ModelProto:
    model = toy()
    array = numpy_helper.to_array(model.graph.initializer[2])
    model.graph.initializer[2].CopyFrom(stored("w2", array + by))
    return model


def zero_head() -> onnx.ModelProto:
    model = toy()
    model.graph.initializer[2].CopyFrom(stored("w2", np.zeros((5, 4))))
    return model


def zero_head_changed() -> onnx.ModelProto:
    model = zero_head()
    array = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(stored("w", array + 1))
    return model


def custom() -> onnx.ModelProto:
    model = toy()
    model.graph.node[1].domain = "custom"
    model.opset_import.append(helper.make_opsetid("custom", 1))
    return model


VERDICTS = {
    "pass": (toy(), toy(), 0),
    "differs": (toy(), changed(0.1), 1),
    "vacuous": (zero_head(), zero_head_changed(), 1),
    "skipped": (custom(), custom(), 1),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verify_exits_with_0_only_if_it_passes(redir: Redir, verdict: str) -> None:
    a, b, code = VERDICTS[verdict]
    write(a, "a.onnx")
    write(b, "b.onnx")
    told = redir("verify a.onnx b.onnx")
    assert (told.code, told.out.split()[0].rstrip(":")) == (code, verdict)
    done = redir("verify a.onnx b.onnx --json")
    assert set(done.json) == {"verdict", "reason", "deviation", "ties", "active", "outputs"}
    assert (done.code, done.json["verdict"]) == (code, verdict)


def test_verify_says_how_many_channels_were_awake(redir: Redir) -> None:
    write(toy(), "a.onnx")
    write(changed(1e-8), "b.onnx")
    assert redir("verify a.onnx b.onnx --atol 1").out.splitlines()[-1] == (
        "active: 100.0% of the channels with new weights"
    )


@pytest.mark.parametrize(("bounds", "code"), [("--atol 5", 0), ("--rtol 1e-9", 1)])
def test_verify_takes_tolerances_and_inputs(redir: Redir, bounds: str, code: int) -> None:
    write(changed(1e-3), "b.onnx")
    np.savez("x.npz", x=examples())
    assert redir(f"verify good.onnx b.onnx --inputs x.npz --samples 1 {bounds}").code == code


def test_verify_sums_up_how_the_inputs_differ(redir: Redir) -> None:
    model = toy()
    for k in range(300):
        info = helper.make_tensor_value_info(f"weight{k}", TensorProto.FLOAT, [1])
        model.graph.input.append(info)
    write(model, "many.onnx")
    done = redir("verify many.onnx good.onnx")
    assert done.code == 2
    line = "the models have different inputs: only the first has 'weight0' and 299 more"
    assert done.err == f"redir: error: {line}\n"


def test_verify_reads_text_and_takes_initializers_for_constants(
    redir: Redir, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy()
    model.graph.input.extend([helper.make_tensor_value_info("b2", TensorProto.FLOAT, [5])])
    write(model, "open.onnx")
    constant = "--overridable-initializers constant"
    text = redir(f"opt open.onnx -p merge {constant}").out
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert redir(f"verify open.onnx - {constant}").code == 0


def test_compress_says_why_the_check_of_a_pass_is_vacuous(redir: Redir) -> None:
    rows = np.array([[1, 1, 2], [3, 3, 4]])
    body = "h = MatMul(x, w) z = MatMul(h, o) q = Mul(z, none) v = MatMul(x, u) y = Add(q, v)"
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    made = onnx.parser.parse_model(f"{header} g (float[n, 2] x) => (float[n, 3] y) {{ {body} }}")
    held: dict[str, ArrayLike] = {
        "w": rows,
        "o": np.eye(3),
        "none": [0.0],
        "u": np.arange(6).reshape(2, 3) ** 0.5,
    }
    made.graph.initializer.extend(stored(name, array) for name, array in held.items())
    write(made, "made.onnx")
    done = redir("compress made.onnx out.onnx -p merge,hash{bandwidth=1} --json -")
    assert done.json["verdict"] == "vacuous"
    assert done.json["passes"][1]["deviation"] > 0.01
    assert "vacuous: the outputs do not depend on what was changed\n" in done.err


def test_verify_refuses_models_with_other_outputs(redir: Redir) -> None:
    other = toy()
    other.graph.output[0].name = other.graph.node[-1].output[0] = "z"
    write(other, "other.onnx")
    done = redir("verify good.onnx other.onnx")
    assert done.code == 2
    assert_one_line(done, "outputs", "'y'", "'z'")


def test_passes_lists_every_pass_and_preset(redir: Redir) -> None:
    text, data = redir("passes").out, redir("passes --json").json
    assert set(data) == {"passes", "presets"}
    assert [p["name"] for p in data["passes"]] == list(pipeline.available())
    assert {frozenset(p) for p in data["passes"]} == {
        frozenset({"name", "summary", "options", "guarantees"})
    }
    assert data["presets"] == PRESETS
    named = [p["name"] for p in data["passes"]] + [f"preset {name}" for name in PRESETS]
    assert [name for name in named if f"\n{name}: " not in "\n" + text] == []


# In a process of its own


def test_script_compresses() -> None:
    done = script("compress good.onnx out.onnx --json -")
    assert done.code == 0
    assert done.json["after"]["parameters"] == 104


def test_script_refuses_in_one_line() -> None:
    done = script("compress none.onnx out.onnx")
    assert done.code == 2
    assert_one_line(done, "none.onnx")


def test_the_package_is_the_command_too() -> None:
    call = [sys.executable, "-m", "redir", "stats", "none.onnx"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert_one_line(Done(done.returncode, done.stdout, done.stderr), "none.onnx")


def test_script_ends_quietly_where_nobody_reads_on() -> None:
    command = f"{shlex.quote(str(REDIR))} opt good.onnx -p cse | true"
    done = subprocess.run(command, shell=True, capture_output=True, check=True)  # noqa: S602
    assert done.stderr == b""


def test_same_bytes_whatever_the_hash_seed() -> None:
    call, found = "compress good.onnx out.onnx --preset red --no-timing", []
    for seed in ("1", "2"):
        done = script(f"{call} --json -", PYTHONHASHSEED=seed)
        assert done.code == 0
        found.append((snapshot(), list(done.json["map"].items())))
    assert found[0] == found[1]


@pytest.mark.nightly  # that of the bytes has these passes too
def test_same_text_whatever_the_hash_seed() -> None:
    one, other = (
        script(f"opt good.onnx -p {PRESETS['exact']}", PYTHONHASHSEED=seed) for seed in ("1", "2")
    )
    assert (one.code, one.out) == (0, other.out)


# Passes that go wrong


@dataclass(frozen=True)
class Point:
    """Stands for the entry point of a pass."""

    kind: type[Pass]
    value = "tests"

    @property
    def name(self) -> str:
        return self.kind.name

    def load(self) -> type[Pass]:
        return self.kind


@dataclass(frozen=True)
class Raises(Pass):
    def run(self, graph: Graph) -> Graph:
        raise KeyError(f"{graph.name}\nand\nmore")


@dataclass(frozen=True)
class Doubles(Pass):
    """Doubles every constant, and promises that this changes nothing."""

    guarantees = (SAME_OUTPUTS,)

    def run(self, graph: Graph) -> Graph:
        def visit(node: Node, _: tuple[Value, ...]) -> Value | None:
            tensor = tensor_of(node.outputs[0])
            return None if tensor is None else ops.Const(value=Tensor(2 * tensor.array))

        return transform(graph, visit)


@dataclass(frozen=True)
class Mystifies(Pass):
    """Replaces each Relu by what nothing here can run, and promises nothing."""

    def run(self, graph: Graph) -> Graph:
        def visit(node: Node, inputs: tuple[Value, ...]) -> Value | None:
            mix = ops.opaque("Mix", "custom", 1, [node.outputs[0].type])
            return mix(*inputs) if node.op == ops.Relu else None

        return transform(graph, visit)


@dataclass(frozen=True)
class Grows(Pass):
    """Adds an operation, and promises that it does not."""

    guarantees = (NO_GROWTH,)

    def run(self, graph: Graph) -> Graph:
        return graph.computing({name: ops.Relu(v) for name, v in graph.outputs.items()})


@pytest.fixture
def wrong_passes(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Point]:
    points = {kind.name: Point(kind) for kind in (Raises, Doubles, Mystifies, Grows)}
    monkeypatch.setattr("redir.io.plugins.plugins", lambda _: points)
    return points


@pytest.mark.usefixtures("wrong_passes")
@pytest.mark.parametrize("command", ["compress good.onnx out.onnx", "opt good.onnx out.onnx"])
def test_a_pass_that_raises_gives_one_line(redir: Redir, command: str) -> None:
    before = snapshot()
    done = redir(f"{command} -p raises")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("redir: error: unexpected KeyError at test_cli.py:")
    assert snapshot() == before


@pytest.mark.usefixtures("wrong_passes")
@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("compress good.onnx out.onnx -p doubles", "doubles changed the outputs"),
        ("compress good.onnx out.redir -p doubles --json out.json", "doubles changed the outputs"),
        ("compress good.onnx out.onnx -p mystifies", "mystifies made a model that does not run"),
        ("opt good.onnx out.onnx -p doubles --verify-each numeric", "'same outputs'"),
        ("opt good.onnx out.onnx -p grows --verify-each structure", "'no growth'"),
        ("opt good.onnx -p grows --verify-each numeric", "'no growth'"),
    ],
)
def test_a_pass_that_breaks_its_promise_is_stopped(redir: Redir, command: str, named: str) -> None:
    before = snapshot()
    done = redir(command)
    assert done.code == 1
    assert_one_line(done, named)
    assert snapshot() == before


@pytest.mark.usefixtures("wrong_passes")
def test_opt_checks_nothing_unless_asked(redir: Redir) -> None:
    assert redir("opt good.onnx out.onnx -p doubles,grows").code == 0


def test_the_cost_is_given_to_the_passes_that_have_none(redir: Redir) -> None:
    spec = "split-inputs,split-inputs{cost=bytes},cse"
    done = redir(f"compress good.onnx out.onnx -p {spec} --cost multiplications --json -")
    assert done.code == 0
    names = [step["name"] for step in json.loads(done.out)["passes"]]
    assert names == ["split-inputs{cost=multiplications}", "split-inputs{cost=bytes}", "cse"]


def test_starting_loads_no_torch_and_no_slow_part_of_scipy() -> None:
    """These are for hashing and tying, and take longer to import than all the rest."""
    code = (
        "import sys, redir.app.cli, redir.passes.prune;"
        "from redir.pipeline.presets import preset; preset('exact');"
        "print({'torch', 'scipy.signal', 'scipy.stats', 'scipy.cluster'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n")


def test_an_unknown_cost_is_refused_even_if_no_pass_has_one(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --cost joules")
    assert done.code == 2
    assert_one_line(done, "no cost model is called 'joules'")


def test_a_pass_without_defaults_is_listed() -> None:
    @dataclass(frozen=True)
    class Needs(Pass):
        size: int
        guarantees = (NO_GROWTH,)

    @dataclass(frozen=True)
    class Depends(Pass):
        size: int

        @property
        def guarantees(self) -> tuple[Guarantee, ...]:
            return (NO_GROWTH,) * self.size

    assert pipeline.promised(Needs) == (NO_GROWTH,)
    assert pipeline.promised(Depends) == ()


# Bad input


def edited(**fields: Any) -> Callable[[], None]:
    """Writes ``bad.onnx``, the toy with other fields of its first initializer."""

    def prepare() -> None:
        model = toy()
        (tensor,) = (t for t in model.graph.initializer if t.name == "w")
        tensor.ClearField("raw_data")
        tensor.MergeFrom(TensorProto(**fields))
        write(model, "bad.onnx")

    return prepare


def external(location: str, **info: str) -> Callable[[], None]:
    """Writes ``bad.onnx``, whose tensor 'w' is in the file ``location``."""
    pairs = {"location": location, **info}
    entries = [onnx.StringStringEntryProto(key=k, value=v) for k, v in pairs.items()]
    return edited(data_location=TensorProto.EXTERNAL, external_data=entries)


def save_external(name: str, location: str = "in.bin", tensor: str = "w") -> None:
    model = toy()
    (moved,) = (t for t in model.graph.initializer if t.name == tensor)
    Path(location).write_bytes(moved.raw_data)
    moved.ClearField("raw_data")
    moved.data_location = TensorProto.EXTERNAL
    moved.external_data.add(key="location", value=location)
    write(model, name)


def outside() -> None:
    Path("sub").mkdir()
    Path("secret").write_bytes(bytes(1000))
    Path("sub/link").symlink_to("../secret")
    external("link")()
    Path("bad.onnx").rename("sub/bad.onnx")


def two_externals() -> None:
    """``w`` in ``out.onnx.data`` is hashed, and no longer read; ``b`` in ``b.bin`` is."""
    model = toy()
    for tensor, location in zip(
        model.graph.initializer[:2], ("out.onnx.data", "b.bin"), strict=True
    ):
        Path(location).write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    write(model, "bad.onnx")


def held(name: str, text: str | bytes) -> Callable[[], None]:
    data = text.encode() if isinstance(text, str) else text
    return lambda: void(Path(name).write_bytes(data))


def void(_: object) -> None:
    """Drop a result."""


def arrays(name: str, **held_: ArrayLike) -> Callable[[], None]:
    saved: dict[str, Any] = {k: np.asarray(a) for k, a in held_.items()}
    return lambda: np.savez(name, **saved)


def damaged(name: str, keep: slice = slice(None), at: int | None = None) -> Callable[[], None]:
    """Writes an npz of which a part is gone, or a byte is not what it was."""

    def prepare() -> None:
        arrays(name, x=examples(), label=np.zeros(6))()
        data = bytearray(Path(name).read_bytes())
        data[at or 0] ^= 255 * (at is not None)
        Path(name).write_bytes(data[keep])

    return prepare


def with_nan() -> None:
    model = toy()
    model.graph.initializer[1].CopyFrom(stored("b", [1, np.nan, 1, 3]))
    write(model, "bad.onnx")


def replaced(old: bytes, new: bytes) -> Callable[[], None]:
    return lambda: void(
        Path("bad.onnx").write_bytes(Path("good.onnx").read_bytes().replace(old, new, 1))
    )


def other(change: Callable[[onnx.ModelProto], object]) -> Callable[[], None]:
    def prepare() -> None:
        model = toy()
        change(model)
        write(model, "bad.onnx")

    return prepare


def nothing() -> None:
    """Need no other file."""


TEXT = """\
@graph('main', opset={'': 21})
def main(x: float32[n, 2]):
    w: float32[2, 2] = Const(value=Tensor(float32[2, 2], [[1.0, 2.0], [3.0, 4.0]]))
    y: float32[n, 2] = MatMul(x, w)
    return {'y': y}
"""
DIGEST = TEXT.replace("[[1.0, 2.0], [3.0, 4.0]]", f"'{64 * 'a'}'")


def text(old: str, new: str) -> Callable[[], None]:
    """Writes ``bad.redir``, a good text with one part replaced."""
    assert old in TEXT
    return held("bad.redir", TEXT.replace(old, new))


def digest(bank: Callable[[], None]) -> Callable[[], None]:
    """Writes ``bad.redir``, whose only tensor is in the file that ``bank`` writes."""

    def prepare() -> None:
        Path("bad.redir").write_text(DIGEST)
        bank()

    return prepare


@dataclass(frozen=True)
class Bad:
    """A command that is refused, what the line must name, and what is there before."""

    command: str
    named: str
    prepare: Callable[[], object] = nothing


COMPRESS, READ, OPT = (
    "compress bad.onnx out.onnx",
    "compress bad.redir out.onnx",
    "opt good.onnx -p ",
)
EVAL, INPUTS = "compress good.onnx out.onnx --eval ", "verify good.onnx good.onnx --inputs "
ZEROS = np.zeros(6, int)

MODELS = {
    "an empty file": Bad(COMPRESS, "bad.onnx|no model", held("bad.onnx", b"")),
    "a text": Bad(COMPRESS, "bad.onnx|not an ONNX model", held("bad.onnx", "hello\n")),
    "no operator set": Bad(
        COMPRESS, "bad.onnx|opset_import", other(lambda m: m.ClearField("opset_import"))
    ),
    "an absurd operator set": Bad(
        COMPRESS, "bad.onnx", other(lambda m: setattr(m.opset_import[0], "version", 2**40))
    ),
    "an attribute without a kind": Bad(
        COMPRESS, "bad.onnx", other(lambda m: m.graph.node[0].attribute[0].ClearField("type"))
    ),
    "an unknown element type": Bad(
        COMPRESS, "bad.onnx|'w'", other(lambda m: setattr(m.graph.initializer[0], "data_type", 99))
    ),
    "a name that is not UTF-8": Bad(COMPRESS, "bad.onnx", replaced(b"conv", b"con\xcc")),
    "a tensor that is too short": Bad(COMPRESS, "bad.onnx|'w'|damaged", edited(raw_data=bytes(20))),
    "a value that nothing defines": Bad(
        COMPRESS,
        "bad.onnx|'gone'|GlobalAveragePool",
        other(lambda m: m.graph.node[2].input.__setitem__(0, "gone")),
    ),
    "external data that is missing": Bad(COMPRESS, "bad.onnx|'gone'|'w'", external("gone")),
    "external data in a folder above": Bad(
        COMPRESS, "bad.onnx|'../x'|'w'|outside", external("../x")
    ),
    "external data at an absolute path": Bad(
        COMPRESS, "bad.onnx|'/etc/passwd'|'w'|outside", external("/etc/passwd")
    ),
    "external data behind a link out": Bad(
        "compress sub/bad.onnx out.onnx", "sub/bad.onnx|'link'|'w'|outside", outside
    ),
    "external data nowhere": Bad(COMPRESS, "bad.onnx|'w'", external("")),
    "external data that is too short": Bad(
        COMPRESS,
        "bad.onnx|'w'|too short|432 bytes",
        lambda: (external("w.bin")(), held("w.bin", bytes(431))()),
    ),
    "external data at no offset": Bad(COMPRESS, "bad.onnx|'w'", external("w", offset="a")),
    "external data before the file": Bad(COMPRESS, "bad.onnx|'w'", external("w", offset="-4")),
    "external data of no length": Bad(COMPRESS, "bad.onnx|'w'", external("w", length="a")),
    "a weight that is NaN": Bad(COMPRESS, "'b'|NaN", with_nan),
    "a weight that is NaN, hashed": Bad(f"{COMPRESS} --preset red", "'b'|NaN", with_nan),
    "a weight that is NaN, to opt": Bad("opt bad.onnx out.onnx -p merge", "'b'|NaN", with_nan),
    "a model that is missing": Bad("compress none.onnx out.onnx", "none.onnx"),
    "a model that is a folder": Bad(COMPRESS, "bad.onnx", lambda: Path("bad.onnx").mkdir()),
    "a model with an unknown ending": Bad(
        "compress good.txt out.onnx", "good.txt|.onnx", held("good.txt", "")
    ),
    "a second model that is missing": Bad("verify good.onnx none.onnx", "none.onnx"),
}

USAGE = {
    "no command": Bad("", "COMMAND"),
    "an unknown command": Bad("shrink good.onnx", "shrink|compress"),
    "no model": Bad("compress", "MODEL"),
    "no output": Bad("compress good.onnx", "OUT"),
    "no pipeline": Bad("opt good.onnx", "-p/--pipeline"),
    "no second model": Bad("verify good.onnx", "B"),
    "an argument too many": Bad("passes merge hash", "hash"),
    "an unknown option": Bad("compress good.onnx out.onnx --fast", "--fast"),
    "a preset and a pipeline": Bad(
        "compress good.onnx out.onnx --preset red -p merge", "--preset|--pipeline"
    ),
    "an unknown preset": Bad("compress good.onnx out.onnx --preset blue", "blue|exact|red"),
    "a seed that is no number": Bad("compress good.onnx out.onnx --seed x", "--seed|x"),
    "a seed below 0": Bad("compress good.onnx out.onnx --seed -1", "--seed|-1"),
    "no samples": Bad("verify good.onnx good.onnx --samples 0", "--samples 0"),
    "a tolerance below 0": Bad("verify good.onnx good.onnx --rtol -1", "--rtol|-1"),
    "a tolerance that is NaN": Bad("verify good.onnx good.onnx --atol nan", "--atol|nan"),
    "an unknown pass": Bad(OPT + "cse,shrink", "'shrink'|merge"),
    "an unknown option of a pass": Bad(OPT + "hash{width=1}", "'hash'|'width'|bandwidth"),
    "an option that is none of those there are": Bad(
        OPT + "uneven-depthwise{basis=x}", "one of distinct, multiples, rank"
    ),
    "an option without a value": Bad(OPT + "hash{bandwidth}", "'hash'|'bandwidth' has no value"),
    "an option that is no number": Bad(OPT + "hash{contrast=much}", "'hash'|contrast|much|float"),
    "an option that is not whole": Bad(OPT + "fold-constants{limit=1.5}", "limit|1.5|int"),
    "an option out of range": Bad(OPT + "hash{bandwidth=-1}", "hash|bandwidth|-1"),
    "an option that is NaN": Bad(OPT + "hash{bandwidth=nan}", "hash|bandwidth|nan"),
    "a rule that does not exist": Bad(OPT + "hash{bandwidth=wide}", "wide|silverman"),
    "an option twice": Bad(OPT + "'hash{contrast=0.1,contrast=0.2}'", "hash|contrast"),
    "a brace that is not closed": Bad(OPT + "hash{", "hash{"),
    "a brace that is not opened": Bad(OPT + "hash}", "hash}"),
    "braces in braces": Bad(OPT + "'hash{{}}'", "hash{{}}"),
    "a comma at the end": Bad(OPT + "hash,", "hash,"),
    "two commas": Bad(OPT + "cse,,hash", ",hash"),
    "no comma": Bad(OPT + "'cse hash'", "cse hash"),
    "to print after a pass that does not run": Bad(
        OPT + "cse,merge --print-ir-after hash", "--print-ir-after hash|cse, merge"
    ),
    "to verify in an unknown way": Bad(OPT + "cse --verify-each always", "always|numeric"),
}

OUTPUTS = {
    "an output folder that does not exist": Bad("compress good.onnx no/out.onnx", "no/out.onnx"),
    "an output that is the input": Bad("compress good.onnx good.onnx", "good.onnx|the input"),
    "the input by another path": Bad("compress good.onnx ./good.onnx", "good.onnx|the input"),
    "the input through a link": Bad(
        "compress good.onnx link.onnx",
        "link.onnx|the input",
        lambda: Path("link.onnx").symlink_to("good.onnx"),
    ),
    "the input by a second name": Bad(
        "opt good.onnx hard.onnx -p cse",
        "hard.onnx|the input",
        lambda: Path("hard.onnx").hardlink_to("good.onnx"),
    ),
    "what a link to the input points to": Bad(
        "compress link.onnx good.onnx",
        "good.onnx|the input",
        lambda: Path("link.onnx").symlink_to("good.onnx"),
    ),
    "an output with an unknown ending": Bad("compress good.onnx out.txt", "out.txt|.onnx"),
    "an output without an ending": Bad("opt good.onnx out -p cse", "out|.onnx"),
    "an output that is a folder": Bad(
        "compress good.onnx sub.onnx", "sub.onnx|folder", lambda: Path("sub.onnx").mkdir()
    ),
    "an output whose data the input reads": Bad(
        "compress bad.onnx out.onnx -p cse",
        "out.onnx.data",
        lambda: save_external("bad.onnx", "out.onnx.data"),
    ),
    "an output whose data the input reads, and the result does not": Bad(
        "opt bad.onnx out.onnx -p hash", "out.onnx.data", two_externals
    ),
    "an output that is the data of the input": Bad(
        "opt bad.onnx w.onnx -p hash", "w.onnx", lambda: save_external("bad.onnx", "w.onnx")
    ),
    "text whose tensors would replace data of the input": Bad(
        "opt bad.onnx out.redir -p hash",
        "out.redir.npz",
        lambda: save_external("bad.onnx", "out.redir.npz"),
    ),
    "JSON in a folder that does not exist": Bad(
        "compress good.onnx out.onnx --json no/done.json", "no/done.json"
    ),
    "JSON in place of a folder": Bad(
        "compress good.onnx out.onnx --json sub", "sub|folder", lambda: Path("sub").mkdir()
    ),
    "JSON in place of the input": Bad("compress good.onnx out.onnx --json good.onnx", "good.onnx"),
    "JSON in place of the output": Bad("compress good.onnx out.onnx --json out.onnx", "out.onnx"),
    "JSON in place of the tensors of the text": Bad(
        "compress good.onnx out.redir --json out.redir.npz", "out.redir.npz"
    ),
    "JSON in place of the data of the output": Bad(
        "compress good.onnx out.onnx --json out.onnx.data", "out.onnx.data"
    ),
    "JSON in place of the weights of the source": Bad(
        "compress good.onnx out.py --json out.safetensors", "out.safetensors"
    ),
    "JSON and text both on stdout": Bad("compress good.onnx - --json -", "--json"),
}

FILES = {
    "to evaluate on a file that is missing": Bad(EVAL + "none.npz", "none.npz"),
    "to evaluate on no arrays": Bad(EVAL + "e.npz", "e.npz", held("e.npz", "hello")),
    "to evaluate on an empty file": Bad(EVAL + "e.npz", "e.npz", held("e.npz", b"")),
    "to evaluate on half a file": Bad(EVAL + "e.npz", "e.npz", damaged("e.npz", slice(500))),
    "to evaluate on a damaged file": Bad(EVAL + "e.npz", "e.npz", damaged("e.npz", at=300)),
    "to evaluate on one array": Bad(EVAL + "e.npy", "e.npy", lambda: np.save("e.npy", ZEROS)),
    "to evaluate on pickled objects": Bad(
        EVAL + "e.npz", "e.npz", arrays("e.npz", x=examples(), label=np.array([None] * 6))
    ),
    "to evaluate without labels": Bad(EVAL + "e.npz", "e.npz|label", arrays("e.npz", x=examples())),
    "to evaluate on labels alone": Bad(EVAL + "e.npz", "e.npz|label", arrays("e.npz", label=ZEROS)),
    "to evaluate on too few labels": Bad(
        EVAL + "e.npz",
        "e.npz|6 examples|'label' is [3]",
        arrays("e.npz", x=examples(), label=ZEROS[:3]),
    ),
    "to evaluate on one label": Bad(
        EVAL + "e.npz", "e.npz|label", arrays("e.npz", x=examples(), label=3)
    ),
    "to evaluate on one number": Bad(
        EVAL + "e.npz", "e.npz|x", arrays("e.npz", x=1.0, label=ZEROS)
    ),
    "to evaluate on labels in two axes": Bad(
        EVAL + "e.npz", "e.npz|label", arrays("e.npz", x=examples(), label=np.zeros((6, 2), int))
    ),
    "to evaluate on no examples": Bad(
        EVAL + "e.npz", "e.npz", arrays("e.npz", x=examples(0), label=ZEROS[:0])
    ),
    "to evaluate on labels that are words": Bad(
        EVAL + "e.npz", "e.npz|label", arrays("e.npz", x=examples(), label=["cat"] * 6)
    ),
    "to evaluate on labels that are fractions": Bad(
        EVAL + "e.npz", "e.npz|label", arrays("e.npz", x=examples(), label=ZEROS + 0.5)
    ),
    "to evaluate on another shape": Bad(
        EVAL + "e.npz",
        "e.npz|x|float32[n, 3, 8, 8]",
        arrays("e.npz", x=examples()[:, :2], label=ZEROS),
    ),
    "to evaluate on another element type": Bad(
        EVAL + "e.npz", "e.npz|x|float32", arrays("e.npz", x=examples().astype(float), label=ZEROS)
    ),
    "to evaluate on another name": Bad(
        EVAL + "e.npz", "e.npz|'x'|'z'", arrays("e.npz", z=examples(), label=ZEROS)
    ),
    "to evaluate on a name too many": Bad(
        EVAL + "e.npz", "e.npz|'z'", arrays("e.npz", x=examples(), z=examples(), label=ZEROS)
    ),
    "to verify on a file that is missing": Bad(INPUTS + "none.npz", "none.npz"),
    "to verify on half a file": Bad(INPUTS + "i.npz", "i.npz", damaged("i.npz", slice(500))),
    "to verify without an input": Bad(INPUTS + "i.npz", "i.npz|'x'", arrays("i.npz", z=examples())),
    "to verify on an input too many": Bad(
        INPUTS + "i.npz", "i.npz|'z'", arrays("i.npz", x=examples(), z=ZEROS)
    ),
    "to verify on another shape": Bad(
        INPUTS + "i.npz", "i.npz|x", arrays("i.npz", x=examples()[:, :2])
    ),
}

TEXTS = {
    "text that does not parse": Bad(READ, "bad.redir|line 5", text("return", "retur n")),
    "text that is not UTF-8": Bad(READ, "bad.redir", held("bad.redir", b"\xff")),
    "text that is empty": Bad(READ, "bad.redir", held("bad.redir", "")),
    "text that is a program": Bad(READ, "bad.redir", held("bad.redir", "import os\n")),
    "text without a result": Bad(READ, "bad.redir", text("    return {'y': y}\n", "")),
    "text of no outputs": Bad(READ, "bad.redir", text("{'y': y}", "{}")),
    "text with an unknown value": Bad(READ, "bad.redir|line 5|'q'", text("'y': y", "'y': q")),
    "text with an operator of no set": Bad(
        READ, "bad.redir|line 4|'MatMult'", text("MatMul", "MatMult")
    ),
    "text with the wrong type": Bad(
        READ,
        "bad.redir|line 4|float32[n, 2]|float32[n, 3]",
        text("y: float32[n, 2]", "y: float32[n, 3]"),
    ),
    "text with an input that does not fit": Bad(
        READ, "bad.redir|line 4|MatMul", text("x: float32[n, 2]", "x: float32[n, 3]")
    ),
    "text with an unknown element type": Bad(
        READ, "bad.redir|'float33'", text("x: float32", "x: float33")
    ),
    "text with a call among the attributes": Bad(
        READ, "bad.redir|line 4|open('x')", text("MatMul(x, w)", "MatMul(x, w, a=open('x'))")
    ),
    "text with too few numbers": Bad(
        READ, "bad.redir|line 3", text("[[1.0, 2.0], [3.0, 4.0]]", "[1.0]")
    ),
    "text with words for numbers": Bad(READ, "bad.redir|line 3", text("1.0", "'a'")),
    "text with too few bytes": Bad(
        READ, "bad.redir|line 3", text("[[1.0, 2.0], [3.0, 4.0]]", "b'aaaaa'")
    ),
    "text with a constant of no value": Bad(
        READ, "bad.redir|line 3", text("Const(value", "Const(values")
    ),
    "text with an unknown header": Bad(READ, "bad.redir", text("opset=", "operators=")),
    "text with an operator set that is none": Bad(
        READ, "bad.redir", text("opset={'': 21}", "opset=21")
    ),
    "text with a starred result": Bad(READ, "bad.redir", text("{'y': y}", "{**y}")),
    "text without its tensors": Bad(READ, "bad.redir|bad.redir.npz|aaaaaaaaaaaa", digest(nothing)),
    "text with other tensors": Bad(
        READ,
        "bad.redir|bad.redir.npz|aaaaaaaaaaaa",
        digest(arrays("bad.redir.npz", b=np.zeros(16, np.uint8))),
    ),
    "text with half its tensors": Bad(
        READ, "bad.redir|bad.redir.npz", digest(damaged("bad.redir.npz", slice(500)))
    ),
    "text with an empty file of tensors": Bad(
        READ, "bad.redir|bad.redir.npz", digest(held("bad.redir.npz", b""))
    ),
    "text with a tensor that is too short": Bad(
        READ,
        "bad.redir|bad.redir.npz",
        digest(arrays("bad.redir.npz", **{64 * "a": np.zeros(12, np.uint8)})),
    ),
    "text with a tensor of another digest": Bad(
        READ,
        "bad.redir|bad.redir.npz",
        digest(arrays("bad.redir.npz", **{64 * "a": np.zeros(16, np.uint8)})),
    ),
}


CASES = {**MODELS, **USAGE, **OUTPUTS, **FILES, **TEXTS}


@pytest.mark.parametrize("bad", [pytest.param(b, id=w.replace(" ", "-")) for w, b in CASES.items()])
def test_refuses(redir: Redir, bad: Bad) -> None:
    bad.prepare()
    before = snapshot()
    done = redir(bad.command)
    assert done.code == 2
    assert_one_line(done, *bad.named.split("|"))
    assert snapshot() == before


@pytest.mark.parametrize("given", ["\udcff", "hello", "a: int"])
def test_refuses_standard_input_that_is_no_model(
    redir: Redir, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    done = redir("stats -")
    assert done.code == 2
    assert_one_line(done, "standard input")


def test_refuses_a_model_that_is_cut(redir: Redir) -> None:
    whole = Path("good.onnx").read_bytes()
    for size in range(0, len(whole), 5):
        Path("cut.onnx").write_bytes(whole[:size])
        done = redir("stats cut.onnx")
        assert (size, done.code) == (size, 2)
        assert_one_line(done, "cut.onnx")


def test_refuses_text_that_is_cut(redir: Redir) -> None:
    for size in range(0, len(TEXT) - 1, 3):
        Path("cut.redir").write_text(TEXT[:size])
        done = redir("stats cut.redir")
        assert (size, done.code) == (size, 2)
        assert_one_line(done, "cut.redir")


def test_script_refuses_half_a_file_of_arrays_in_one_line() -> None:
    damaged("e.npz", slice(500))()
    done = script(EVAL + "e.npz")
    assert (done.code, done.err.count("\n"), "Traceback" in done.err) == (2, 1, False)


# --input


def write_open(name: str) -> None:
    """A Conv of windows of 3x3 on x (n, 3, h, w)."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv")],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [stored("w", np.ones((4, 3, 3, 3)))],
    )
    opset = [helper.make_opsetid("", 21)]
    write(helper.make_model(graph, opset_imports=opset, ir_version=10), name)


SIZED = {
    "compress": ["compress", "open.onnx", "out.onnx"],
    "opt": ["opt", "open.onnx", "out.onnx", "-p", "merge", "--verify-each", "numeric"],
    "verify": ["verify", "open.onnx", "open.onnx"],
}


@pytest.mark.parametrize("command", SIZED.values(), ids=SIZED)
def test_the_shape_of_an_input_may_be_given(
    command: list[str],
) -> None:
    write_open("open.onnx")
    assert cli.main([*command, "--input", "x=1x3x5x9"]) == 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("z=1x3x5x9", "no input 'z'"),
        ("x=1x4x5x9", "the shape 1x4x5x9 does not fit it"),
        ("x=1x3x5", "the shape 1x3x5 does not fit it"),
        ("x", "expected NAME=SHAPE"),
        ("x=1x3x2x2", "a window of [3, 3] on [2, 2]"),
    ],
)
@pytest.mark.parametrize("command", SIZED.values(), ids=SIZED)
def test_a_shape_that_does_not_fit_is_refused(
    command: list[str],
    shape: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_open("open.onnx")
    assert cli.main([*command, "--input", shape]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out.onnx").exists()


def test_arrays_and_shapes_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "a", "b", "--inputs", "x.npz", "--input", "x=1"]) == 2
    assert "both given" in capsys.readouterr().err
