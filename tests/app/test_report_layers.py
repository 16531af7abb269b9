"""What the report says of layers: which parts belong to which, ranks and densities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from redir.app.report.layers import compared
from redir.cost import example_shapes
from redir.ir import Graph, Source, Value
from redir.ops import Conv, Relu
from redir.pipeline import Pipeline
from tests.helpers import const, placeholder


def conv(x: Value, outputs: int, seed: int, name: str = "") -> Value:
    weight = np.random.default_rng(seed).normal(size=(outputs, x.type.size(1) or 0, 3, 3))
    made = Conv(x, const(weight), pads=(1, 1, 1, 1)).node
    assert made is not None
    return replace(made, source=Source(name) if name else None).outputs[0]


def network(*names: str) -> Graph:
    x = y = placeholder(1, 3, 8, 8)
    for seed, name in enumerate(names):
        y = Relu(conv(y, 6, seed, name))
    return Graph({"x": x}, {"y": y})


def rows(before: Graph, after: Graph) -> list[dict[str, Any]]:
    return compared(before, after, example_shapes(before), values=True)


def test_a_layer_made_of_two_has_both_in_its_row() -> None:
    graph = network("a", "b", "c")
    after = Pipeline.parse("spatial{rank=2,statistics=drawn,ignore=b}")(graph)
    found = rows(graph, after)
    assert [(row["name"], len(row["parts"]), row["rank"]) for row in found] == [
        ("a", 2, 2),
        ("b", 1, None),
        ("c", 2, 2),
    ]
    assert [part["kernel"] for part in found[0]["parts"]] == [[3, 1], [1, 3]]
    assert found[1]["before"] == found[1]["after"]


def test_a_layer_that_is_gone_has_no_parts() -> None:
    x = placeholder(1, 3, 8, 8)
    first = conv(x, 6, 0, "a")
    graph = Graph({"x": x}, {"y": conv(first, 4, 1, "b")})
    found = rows(graph, Graph({"x": x}, {"y": first}))
    assert [(row["name"], bool(row["parts"]), row["after"] is None) for row in found] == [
        ("a", True, False),
        ("b", False, True),
    ]


def test_a_layer_that_belongs_to_none_has_a_row_of_its_own() -> None:
    graph, after = network("a"), network("a", "z")
    assert [(row["name"], row["was"] is None) for row in rows(graph, after)] == [
        ("a", False),
        ("z", True),
    ]


def test_parts_without_a_name_belong_to_the_next_that_has_one() -> None:
    graph, after = network("a", "b"), network("", "a", "", "", "b", "")
    found = rows(graph, after)
    assert [(row["name"], len(row["parts"])) for row in found] == [("a", 2), ("b", 3), ("", 1)]


def test_a_density_is_shares_of_the_weights() -> None:
    (row,) = rows(graph := network("a"), graph)
    density = row["was"]["density"]
    weight = np.random.default_rng(0).normal(size=(6, 3, 3, 3)).astype(np.float32)
    assert (density["low"], density["high"]) == pytest.approx((weight.min(), weight.max()))
    assert sum(density["shares"]) == pytest.approx(1, abs=1e-3)
    assert len(density["shares"]) == 32


@pytest.mark.parametrize(
    ("value", "density"), [(2.0, {"low": 2.0, "high": 2.0, "shares": [1.0]}), (np.inf, None)]
)
def test_weights_that_are_all_the_same_or_no_numbers(value: float, density: Any) -> None:
    x = placeholder(1, 3, 8, 8)
    graph = Graph({"x": x}, {"y": Conv(x, const(np.full((4, 3, 1, 1), value)))})
    (row,) = rows(graph, graph)
    assert row["was"]["density"] == density
