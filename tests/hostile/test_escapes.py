"""Text from a model file steers no terminal, breaks no table and no picture, and stays in JSON."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from redir.app import tables
from redir.app.cli import main
from redir.app.svg import drawing
from redir.channels.families import families
from redir.errors import BadInput, in_docstring, visible, visible_lines
from redir.frontends.onnx import from_proto
from redir.passes.hash.figures import draw_distinct
from tests.hostile.texts import HOSTILE, MARKUP, STEERING

BOTH = (*STEERING, *MARKUP)


class Terminal(io.StringIO):
    """What rich takes for a terminal that has colours."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "8000")
    return Terminal()


def convolution(name: str) -> onnx.ModelProto:
    """A model of which the node, the weight, the input and the output are called ``name``."""
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), f"{name}w")
    node = helper.make_node("Conv", [f"{name}i", f"{name}w"], [f"{name}o"], name=name)
    graph = helper.make_graph(
        [node],
        name or "main",
        [helper.make_tensor_value_info(f"{name}i", TensorProto.FLOAT, [1, 2, 3, 3])],
        [helper.make_tensor_value_info(f"{name}o", TensorProto.FLOAT, [1, 2, 3, 3])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture(params=BOTH, ids=ascii)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(convolution(request.param), path)
    return path


def is_safe(text: str) -> bool:
    """Whether every line of what was written only prints."""
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_what_is_visible_prints_and_is_not_escaped_twice(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert visible(shown) == shown


def test_plain_text_stays_as_it_is() -> None:
    assert visible("caf\u00e9/\u65e5\u672c [x]") == "caf\u00e9/\u65e5\u672c [x]"


def test_the_escapes_are_those_of_python() -> None:
    assert visible("\x1b\r\n\x9b\u202e\ud800\U000e0041") == r"\x1b\r\n\x9b\u202e\ud800\U000e0041"


def test_lines_stay_lines() -> None:
    assert visible_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\r\n"


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_a_docstring_reads_as_what_is_visible(text: str) -> None:
    scope: dict[str, str] = {}
    exec(f'"""{in_docstring(text)}"""', scope)  # noqa: S102 - it is a docstring and nothing else
    exec(f'held = """{in_docstring(text)}"""', scope)  # noqa: S102 - as above
    assert scope["held"] == visible(text)


def test_errors_are_safe_to_print() -> None:
    assert str(BadInput("no \x1b[2J\nhere")) == "no \\x1b[2J\nhere"


def written_table(rows: Sequence[tuple[str, int]], out: Terminal) -> str:
    tables.write_table(("name", "count"), rows, out)
    return out.getvalue()


@pytest.mark.parametrize("text", [t for t in HOSTILE if t], ids=lambda text: ascii(text[:20]))
def test_a_table_on_a_terminal_shows_names_as_they_are(text: str, terminal: Terminal) -> None:
    shown = written_table([(text, 1)], terminal)
    assert visible(text) in shown
    plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")  # rich's own, of the head
    assert is_safe(plain)


@pytest.mark.parametrize("command", ["stats", "groups"])
def test_tables_in_a_pipe_are_safe(
    command: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(model)]) == 0
    out, err = capsys.readouterr()
    assert is_safe(out + err)


def test_a_table_of_a_model_on_a_terminal_is_safe(
    model: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["stats", str(model)]) == 0
    assert "Conv" in terminal.getvalue()
    assert is_safe(terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", ""))


def test_json_holds_the_true_names(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (node,) = onnx.load(model).graph.node
    assert main(["stats", str(model), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert is_safe(out)
    assert [layer["name"] for layer in json.loads(out)["layers"]] == [node.name]


def test_a_picture_is_safe(model: Path) -> None:
    graph = from_proto(onnx.load(model))
    text = drawing(graph, families(graph))
    assert is_safe(text)
    shown = [element.text or "" for element in ET.fromstring(text).iter()]  # noqa: S314 - our own
    assert any(s.startswith(f"Conv {graph.nodes[-1].name!r}") for s in shown)
    assert all(is_safe(s) for s in shown)


def test_a_figure_takes_names_for_no_formula() -> None:
    pytest.importorskip("matplotlib")
    graph = from_proto(convolution("$x_{$\n"))
    figure = draw_distinct({"before": graph})
    figure.savefig(io.BytesIO(), format="svg")
    (label,) = figure.axes[0].get_yticklabels()
    assert label.get_text() == "$x_{$\\n"


def test_an_error_about_a_model_is_one_safe_line(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load(model)
    proto.graph.node[0].input[0] += "missing"
    onnx.save(proto, model)
    assert main(["stats", str(model)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert is_safe(err)
    assert err.count("\n") == 1


def test_an_error_that_quotes_a_long_name_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(tmp_path / ("x" * 100_000)) + ".onnx"]) == 2
    assert len(capsys.readouterr().err) < 2100


def test_a_name_that_the_encoding_lacks_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(convolution("\u65e5"), path)
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["stats", str(path)]) == 0
    out.seek(0)
    assert "\\u65e5" in out.read()
