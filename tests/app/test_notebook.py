"""A graph shows itself in a notebook, and nothing in a model becomes a part of the page."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import redir
from redir import Graph, ops
from redir.app import notebook
from redir.cost import layers
from redir.ir import Source
from tests.helpers import const, placeholder
from tests.hostile.texts import HOSTILE

ROOT = Path(__file__).parents[2]
DIGITS = redir.load(ROOT / "redir/demo/digits.onnx")
TAGS = {"div", "p", "b", "details", "summary", "table", "tr", "th", "td", "img"}


class Reader(HTMLParser):
    """The tags, the attributes and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def svg(self) -> ET.Element:
        (address,) = (value or "" for name, value in self.attributes if name == "src")
        kind, _, code = address.partition(",")
        assert kind == "data:image/svg+xml;base64"
        return ET.fromstring(base64.b64decode(code))  # noqa: S314 - redir's own


def named(text: str) -> Graph:
    """A graph in which all names are this text."""
    x = placeholder(2, 3)
    made = ops.MatMul(x, const([[1.0], [2.0], [3.0]]))
    node = made.node
    assert node is not None
    renamed = type(node)(node.op, node.inputs, source=Source(name=text, outputs=(text,)))
    return Graph({text: x}, {text: renamed.outputs[0]}, name=text)


def test_it_has_each_layer_and_the_drawing() -> None:
    read = Reader(DIGITS._repr_html_())
    assert read.tags == TAGS
    assert {layer.name for layer in layers(DIGITS)} <= set(read.texts)
    assert {"763,520", "78,330", "313,320"} <= set(read.texts)
    assert read.svg.tag.endswith("svg")


@pytest.mark.parametrize("text", HOSTILE)
def test_names_stay_text(text: str) -> None:
    read = Reader(notebook.page(named(text)))
    assert read.tags == TAGS
    assert {name for name, _ in read.attributes} <= {"style", "src", "alt", "open"}
    assert not [t for t in read.texts if not t.isprintable()]


def test_a_large_graph_is_not_drawn_and_its_table_is_short() -> None:
    x = placeholder(2, 3)
    value = x
    for _ in range(300):
        value = ops.Relu(ops.MatMul(value, const([[1.0, 2.0, 3.0]] * 3)))
    read = Reader(notebook.page(Graph({"x": x}, {"y": value})))
    assert "img" not in read.tags
    assert "and 260 more" in read.texts


def test_a_graph_of_unknown_sizes_is_shown() -> None:
    graph = Graph({"x": (x := placeholder("rows", None))}, {"y": ops.Softmax(x)})
    assert "float32[rows, _]" in "".join(Reader(graph._repr_html_()).texts)


def cells() -> list[str]:
    """The code of the notebook that is an example."""
    path = ROOT / "docs/examples/notebook.ipynb"
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert held["nbformat"] == 4
    assert not [c for c in held["cells"] if c.get("outputs")]
    return ["".join(c["source"]) for c in held["cells"] if c["cell_type"] == "code"]


def test_the_example_runs_cell_by_cell() -> None:
    names: dict[str, Any] = {"__name__": "notebook"}
    for text in cells():
        *before, last = text.splitlines()
        exec("\n".join(before), names)  # noqa: S102 - our own example
        names["_"] = eval(last, names)  # noqa: S307 - what a notebook shows of a cell
    assert isinstance(names["small"], Graph)
    assert Reader(names["small"]._repr_html_()).tags == TAGS
