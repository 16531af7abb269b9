"""The families of coupled channels as ``redir groups`` tells, prints and draws them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from redir import ops
from redir.app import cli
from redir.app.svg import drawing
from redir.app.svg_layout import Wire, placed
from redir.channels import families as groups
from redir.channels.families import Family, families, shortened, verdict
from redir.ir import Graph
from redir.text import parse

REDIR = Path(sys.executable).with_name("redir")
SVG = "{http://www.w3.org/2000/svg}"
ONES = "Const(value=Tensor(float32[{}], [{}]))"


def ones(*shape: int) -> str:
    """A constant of as many 1.0 as ``shape`` holds, as text."""
    count = 1
    for size in shape:
        count *= size
    return ONES.format(", ".join(map(str, shape)), ", ".join(["1.0"] * count))


RESIDUAL = f"""
@graph('residual', opset={{'': 17}})
def main(x: float32[n, 2]):
    a: float32[2, 3] = {ones(2, 3)}
    b: float32[3, 5] = {ones(3, 5)}
    c: float32[5, 3] = {ones(5, 3)}
    d: float32[3, 4] = {ones(3, 4)}
    stem: float32[n, 3] = MatMul(x, a)
    wide: float32[n, 5] = MatMul(stem, b)
    relu: float32[n, 5] = Relu(wide)
    back: float32[n, 3] = MatMul(relu, c)
    sum: float32[n, 3] = Add(stem, back)
    y: float32[n, 4] = MatMul(sum, d)
    return {{'y': y}}
"""
CONCAT = f"""
@graph('concat', opset={{'': 17}})
def main(x: float32[n, 2]):
    a: float32[2, 3] = {ones(2, 3)}
    b: float32[5, 1] = {ones(5, 1)}
    h: float32[n, 3] = MatMul(x, a)
    both: float32[n, 5] = Concat(h, x, axis=1)
    y: float32[n, 1] = MatMul(both, b)
    return {{'y': y}}
"""
SOFTMAX = f"""
@graph('softmax', opset={{'': 17}})
def main(x: float32[n, 2]):
    a: float32[2, 3] = {ones(2, 3)}
    b: float32[3, 4] = {ones(3, 4)}
    h: float32[n, 3] = MatMul(x, a)
    r: float32[n, 3] = Relu(h)
    s: float32[n, 3] = Sigmoid(r)
    p: float32[n, 3] = Softmax(s, axis=1)
    y: float32[n, 4] = MatMul(p, b)
    return {{'y': y}}
"""
FLATTEN = f"""
@graph('flatten', opset={{'': 17}})
def main(x: float32[n, 1, 2, 2]):
    a: float32[3, 1, 1, 1] = {ones(3, 1, 1, 1)}
    b: float32[12, 2] = {ones(12, 2)}
    c: float32[n, 3, 2, 2] = Conv(x, a)
    f: float32[n, 12] = Flatten(c)
    y: float32[n, 2] = MatMul(f, b)
    return {{'y': y}}
"""
NAMELESS = f"""
@graph('nameless', opset={{'': 17}})
def main(x: float32[n, 2]):
    v0: float32[2, 3] = {ones(2, 3)}
    v1: float32[n, 3] = MatMul(x, v0)
    return {{'y': v1}}
"""
EVERY = {"residual": RESIDUAL, "concat": CONCAT, "softmax": SOFTMAX, "flatten": FLATTEN}
every_graph = pytest.mark.parametrize("text", EVERY.values(), ids=EVERY)


def found(text: str) -> tuple[Family, ...]:
    return families(parse(text))


def holding(text: str, weight: str, axis: int) -> Family:
    """The family of an axis of a weight."""
    (family,) = (f for f in found(text) if (weight, axis) in [(m.name, m.axis) for m in f.members])
    return family


def pins(family: Family) -> list[tuple[str, int, str, list[str]]]:
    return [(str(p.cause), p.channels, p.weight, list(map(str, p.chain))) for p in family.pins]


def operators(family: Family) -> list[str]:
    return [str(node) for node in family.operators]


STORED = f"""
@graph('stored', opset={{'': 17}})
def main(x: float32[n, 2, 4, 4], t: float32[()]):
    w: float16[3, 2, 3, 3] = {ones(3, 2, 3, 3).replace("float32", "float16")}
    cast: float32[3, 2, 3, 3] = Cast(w, to=1)
    scaled: float32[3, 2, 3, 3] = Mul(cast, t)
    c: float32[n, 3, 2, 2] = Conv(x, scaled)
    y: float32[n, 3, 2, 2] = Relu(c)
    return {{'y': y}}
"""


# Families


def test_a_kernel_is_no_family_where_its_weight_is_cast_and_scaled() -> None:
    assert [[(m.name, m.axis) for m in f.members] for f in found(STORED)] == [
        [("w", 1)],
        [("w", 0)],
    ]


def test_an_axis_of_weights_alone_that_an_unknown_operator_reads_is_a_family() -> None:
    text = STORED.replace("Conv(x, scaled)", "com.x.Conv(x, scaled)")
    assert [(m.name, m.axis) for f in found(text) for m in f.members] == [
        ("w", a) for a in range(4)
    ]


def test_a_residual_stream_is_one_family_of_all_that_write_and_read_it() -> None:
    family = holding(RESIDUAL, "a", 1)
    assert [(m.name, m.axis, m.channels) for m in family.members] == [
        ("a", 1, 3),
        ("b", 0, 3),
        ("c", 1, 3),
        ("d", 0, 3),
    ]
    assert sorted(operators(family)) == ["Add 'sum'", "MatMul 'back'", "MatMul 'stem'"]
    assert (family.width, family.free, family.pinned, family.state) == (3, 3, 0, "free")
    assert family.pins == ()


def test_what_is_inside_a_block_is_a_family_of_its_own() -> None:
    family = holding(RESIDUAL, "b", 1)
    assert operators(family) == ["MatMul 'wide'", "Relu 'relu'"]
    assert (family.width, family.state) == (5, "free")


def test_inputs_and_outputs_of_the_graph_pin_through_the_operators_between() -> None:
    first, last = holding(RESIDUAL, "a", 0), holding(RESIDUAL, "d", 1)
    assert pins(first) == [("graph input 'x'", 2, "a", ["MatMul 'stem'"])]
    assert pins(last) == [("graph output 'y'", 4, "d", ["MatMul 'y'"])]
    assert (first.state, last.state) == ("pinned", "pinned")


def test_a_concatenation_with_an_input_is_pinned_in_part() -> None:
    family = holding(CONCAT, "b", 0)
    assert (family.width, family.free, family.pinned, family.state) == (5, 3, 2, "2 pinned")
    assert pins(family) == [("graph input 'x'", 2, "a", ["MatMul 'h'"])]


def test_an_operator_that_mixes_channels_pins_through_a_shortest_chain() -> None:
    family = holding(SOFTMAX, "a", 1)
    chain = ["MatMul 'h'", "Relu 'r'", "Sigmoid 's'"]
    assert pins(family) == [("Softmax 'p'", 3, "a", chain)]
    assert pins(holding(SOFTMAX, "b", 0)) == [("Softmax 'p'", 3, "b", ["MatMul 'y'"])]


def test_a_weight_that_is_pinned_itself_needs_no_chain() -> None:
    text = RESIDUAL.replace("{'y': y}", "{'y': y, 'd': d}")
    assert pins(holding(text, "d", 0)) == [("graph output 'd'", 3, "d", [])]


def test_the_nearest_pin_comes_first() -> None:
    text = SOFTMAX.replace("{'y': y}", "{'y': y, 'r': r, 'h': h}")
    causes = [str(pin.cause) for pin in holding(text, "a", 1).pins]
    assert causes == ["graph output 'h'", "graph output 'r'", "Softmax 'p'"]


def test_a_flattened_channel_counts_once() -> None:
    family = holding(FLATTEN, "a", 0)
    assert [(m.name, m.axis, m.channels) for m in family.members] == [("a", 0, 3), ("b", 0, 12)]
    assert (family.width, family.state) == (3, "free")


def test_a_weight_without_a_name_is_called_by_what_reads_it() -> None:
    (first, _) = found(NAMELESS)
    assert [m.name for m in first.members] == ["Const of MatMul"]


def test_a_graph_without_weights_has_no_families() -> None:
    text = "def main(x: float32[n, 2]):\n    y: float32[n, 2] = Relu(x)\n    return {'y': y}\n"
    assert found(text) == ()
    assert verdict(()) == "no family of channels holds a weight"
    assert groups.as_dict(())["total"]["families"] == 0


def test_the_verdict_counts_families() -> None:
    assert verdict(found(SOFTMAX)) == "4 of 4 families are pinned, 2 of them by operators alone"
    assert verdict(found(CONCAT)).endswith("; 1 only in part")


def test_json_has_these_keys_and_adds_up() -> None:
    whole = groups.as_dict(found(CONCAT))
    assert set(whole) == {"families", "total"}
    keys = {frozenset(family) for family in whole["families"]}
    assert keys == {frozenset("width free pinned members operators pins".split())}
    assert whole["total"] == {
        "families": 1,
        "pinned_families": 1,
        "partly_pinned_families": 1,
        "channels": 5,
        "pinned_channels": 2,
        "free_channels": 3,
    }
    family = whole["families"][0]
    assert family["members"] == [
        {"name": "a", "axis": 0, "channels": 2},
        {"name": "a", "axis": 1, "channels": 3},
        {"name": "b", "axis": 0, "channels": 5},
    ]
    assert family["operators"] == ["MatMul 'h'", "Concat 'both'"]
    assert family["pins"] == [
        {"what": "graph input 'x'", "channels": 2, "weight": "a", "why": ["MatMul 'h'"]}
    ]


def test_a_long_name_loses_its_start_and_not_its_operator() -> None:
    assert shortened("Conv '/a/b'") == "Conv '/a/b'"
    assert shortened("Conv '/model/features/features.1/conv'", 24) == "Conv '...eatures.1/conv'"
    assert shortened("features.10.weight", 12) == "...10.weight"


# The drawing


def texts(svg: str, tag: str) -> list[str]:
    tree = ET.fromstring(svg)  # noqa: S314 - our own output
    return [element.text or "" for element in tree.iter(SVG + tag)]


def drawn(text: str) -> str:
    graph = parse(text)
    return drawing(graph, families(graph))


@every_graph
def test_a_drawing_holds_each_operator_and_each_family(text: str) -> None:
    graph, svg = parse(text), drawn(text)
    titles = [title.split(": ")[0] for title in texts(svg, "title")]
    nodes = [str(node) for node in graph.nodes if node.inputs]
    assert sorted(titles) == sorted([*nodes, "input 'x'", "output 'y'"])
    legend = " ".join(texts(svg, "text"))
    assert [n for n in range(len(found(text))) if f"family {n + 1}: " not in legend] == []


def test_a_pinned_family_is_hatched_and_a_free_one_is_not() -> None:
    count = drawn(RESIDUAL).count("url(#hatch)")
    assert drawn(RESIDUAL.replace("{'y': y}", "{'y': y, 'r': relu}")).count("url(#hatch)") > count


def test_what_xml_cannot_hold_and_what_it_reserves_are_escaped() -> None:
    x = parse(CONCAT).inputs["x"]
    svg = drawing(Graph({"a<\x00&\N{SNOWMAN}": x}, {"y": ops.Relu(x)}), ())
    assert "a<\\x00&\N{SNOWMAN}" in texts(svg, "text")
    assert svg.isascii()


@every_graph
def test_two_drawings_are_the_same(text: str) -> None:
    assert drawn(text) == drawn(text)


def test_no_two_boxes_or_passing_wires_share_a_place() -> None:
    wires = [
        Wire("x", ("a", "e")),
        Wire("a", ("b", "c", "d")),
        Wire("b", ("d",)),
        Wire("d", ("e",)),
    ]
    lanes = placed("xabcde", wires)
    taken = [(lanes.column[box], lanes.lane[box]) for box in "xabcde"]
    for wire, lane in lanes.passing.items():
        last = max(lanes.column[box] for box in wire.targets)
        taken += [(column, lane) for column in range(lanes.column[wire.source] + 1, last)]
    assert len(taken) == len(set(taken))
    assert min(lane for _, lane in taken) == min(column for column, _ in taken) == 0


def test_wires_lead_to_the_right() -> None:
    lanes = placed("xyab", [Wire("x", ("a",)), Wire("a", ("b",)), Wire("y", ("b",))])
    assert lanes.column == {"x": 0, "a": 1, "y": 1, "b": 2}
    assert lanes.lane["x"] == lanes.lane["a"] == lanes.lane["b"]


@pytest.mark.nightly
def test_a_deep_network_is_drawn(shared: Path) -> None:
    model = shared / "models/cifar10-resnet20-bn.onnx"
    done = subprocess.run(
        [REDIR, "groups", model, "--svg", "-"], capture_output=True, text=True, check=True
    )
    assert done.stdout.count('<g class="box">') > 70
    other = subprocess.run(
        [REDIR, "groups", model, "--svg", "-"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert other.stdout == done.stdout


# The command


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Any]:
    """Runs the command line beside ``model.redir``; gives the exit code and what was written."""
    monkeypatch.chdir(tmp_path)
    Path("model.redir").write_text(CONCAT.strip() + "\n")

    def call(command: str) -> Any:
        code = cli.main(shlex.split(command))
        return code, *capsys.readouterr()

    return call


def test_the_command_prints_a_line_for_each_family(run: Callable[[str], Any]) -> None:
    code, out, err = run("groups model.redir")
    lines = [line.split() for line in out.splitlines()]
    assert (code, err, len(lines)) == (0, "", 3)
    assert lines[0] == "family channels state members pinned by why".split()
    assert lines[1] == "1 5 2 pinned a and 1 more graph input 'x' MatMul 'h'".split()
    assert out.splitlines()[-1].startswith("1 of 1 families are pinned")


def test_the_command_prints_json_alone(run: Callable[[str], Any]) -> None:
    code, out, err = run("groups model.redir --json --svg out.svg")
    assert (code, err) == (0, "")
    assert json.loads(out) == groups.as_dict(found(CONCAT))
    assert Path("out.svg").read_text() == drawn(CONCAT)


def test_the_command_prints_the_drawing_alone(run: Callable[[str], Any]) -> None:
    assert run("groups model.redir --svg -") == (0, drawn(CONCAT), "")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("groups model.redir --svg no/out.svg", "no/out.svg"),
        ("groups model.redir --svg model.redir", "the input"),
        ("groups model.redir --svg model.redir.npz", "the input"),
        ("groups model.redir --svg .", "folder"),
        ("groups model.redir --json --svg -", "--svg"),
        ("groups none.redir", "none.redir"),
        ("groups", "MODEL"),
    ],
)
def test_the_command_refuses(run: Callable[[str], Any], command: str, named: str) -> None:
    shutil.copy("model.redir", "model.redir.npz")
    code, out, err = run(command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("redir: error: ")
    assert named in err
    assert "unexpected" not in err
    assert {p.name for p in Path().iterdir()} == {"model.redir", "model.redir.npz"}
    assert Path("model.redir").read_text() == CONCAT.strip() + "\n"
