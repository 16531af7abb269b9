"""Criteria from a little data: gradients, activity and mutual information, told by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redir import ops
from redir.channels.coupling import Coupling
from redir.importance import Criterion, Evidence, Labelled, criterion, families, scored
from redir.importance.activity import APOZ, MINT
from redir.importance.gradients import SENSITIVITY, TAYLOR, TAYLOR_GROUP, TAYLOR_SIGNED
from redir.importance.masks import Masked
from redir.io.plugins import plugins
from redir.ir import Graph, Value
from redir.ir.tensor import Array
from redir.passes.prune import Prune
from redir.pipeline import Pipeline
from tests.helpers import const, placeholder
from tests.importance.networks import summed

WITH_DATA = [
    "apoz", "mint", "sensitivity", "shapley", "taylor", "taylor_group", "taylor_signed",
]  # fmt: skip
X = placeholder("n", 2)
INPUTS = np.array([[1, 2], [3, -4], [0, 1]], np.float32)


def given_(x: Array = INPUTS) -> Labelled:
    return Labelled({"x": x}, np.zeros(len(x), int), summed)


def network(last: object = ((2.0,), (-5.0,))) -> tuple[Graph, Value]:
    """What is positive of two inputs, times two numbers."""
    hidden = ops.Relu(ops.MatMul(X, const(np.eye(2))))
    return Graph({"x": X}, {"y": ops.MatMul(hidden, const(last))}), hidden


def scores(by: Criterion, graph: Graph, given: Labelled) -> list[float]:
    (family,) = families(Coupling(graph))
    found = scored(by, family, Evidence(graph, given, given=given), "mean", "none")
    return [round(float(n), 5) for n in found]


def test_taylor_is_what_flows_times_the_gradient() -> None:
    pytest.importorskip("torch")
    graph, _ = network()
    assert scores(TAYLOR_SIGNED, graph, given_()) == [round(-2 * 4 / 3, 5), round(5 * 3 / 3, 5)]
    assert scores(TAYLOR, graph, given_()) == [round(2 * 4 / 3, 5), round(5 * 3 / 3, 5)]
    assert scores(SENSITIVITY, graph, given_()) == [2, 5]


def test_the_magnitude_is_taken_of_each_example() -> None:
    pytest.importorskip("torch")
    hidden = ops.Sub(ops.MatMul(X, const(np.eye(2))), const([0.0, 0.0]))
    graph = Graph({"x": X}, {"y": ops.MatMul(hidden, const([[1.0], [1.0]]))})
    assert scores(TAYLOR_SIGNED, graph, given_())[1] == round((-2 + 4 - 1) / 3, 5)
    assert scores(TAYLOR, graph, given_())[1] == round((2 + 4 + 1) / 3, 5)


def test_places_where_a_channel_is_read_may_count_together() -> None:
    pytest.importorskip("torch")
    hidden = ops.MatMul(X, const(np.eye(2)))
    other = ops.Neg(hidden)
    y = ops.Add(ops.MatMul(hidden, const([[3.0], [1.0]])), ops.MatMul(other, const([[3.0], [0.0]])))
    graph = Graph({"x": X}, {"y": y})
    assert scores(TAYLOR_GROUP, graph, given_()) == [0, round((2 + 4 + 1) / 3, 5)]
    assert scores(TAYLOR, graph, given_())[0] == round(3 * 4 / 3, 5)


def test_places_in_an_image_are_added_up_before() -> None:
    pytest.importorskip("torch")
    x = placeholder("n", 1, 1, 2)
    hidden = ops.Conv(x, const(np.ones((2, 1, 1, 1))))
    graph = Graph({"x": x}, {"y": ops.Conv(hidden, const([[[[1.0]], [[2.0]]]]))})
    images = np.array([[[[1.0, -1.0]]], [[[2.0, 3.0]]]], np.float32)
    assert scores(TAYLOR, graph, given_(images)) == [2.5, 5]
    assert scores(SENSITIVITY, graph, given_(images)) == [1, 2]


@settings(max_examples=20)
@given(seed=st.integers(0, 999))
def test_taylor_is_the_slope_of_the_loss_by_the_mask(seed: int) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    stem = ops.Tanh(ops.MatMul(X, const(rng.normal(size=(2, 4)))))
    stream = ops.Add(stem, ops.Tanh(ops.MatMul(stem, const(rng.normal(size=(4, 4))))))
    graph = Graph({"x": X}, {"y": ops.MatMul(stream, const(rng.normal(size=(4, 3))))})
    given = Labelled({"x": INPUTS}, np.array([0, 1, 2]))
    (family,) = families(Coupling(graph))
    network, step = Masked(family, given), 1e-2
    ends = [
        [network.losses(np.ones(4) + way * step * np.eye(4)[i]).mean() for way in (1, -1)]
        for i in range(4)
    ]
    slopes = [(low - high) / (2 * step) for high, low in ends]
    found = scored(TAYLOR_SIGNED, family, Evidence(graph, given, given=given), "sum", "none")
    np.testing.assert_allclose(found, slopes, atol=2e-3)


def test_apoz_is_how_often_a_channel_is_not_zero() -> None:
    graph, _ = network()
    assert scores(APOZ, graph, given_()) == [round(2 / 3, 5), round(2 / 3, 5)]
    assert scores(APOZ, graph, given_(INPUTS[1:])) == [0.5, 0.5]
    assert scores(APOZ, graph, given_(INPUTS[:1])) == [1, 1]


def test_a_channel_that_an_output_repeats_says_most_of_it() -> None:
    x = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    low, high = scores(MINT, network([[0.5], [3.0]])[0], given_(x))
    rows = np.maximum(x, 0) @ np.array([0.5, 3.0])
    expected = [-0.5 * np.log(1 - np.corrcoef(np.maximum(c, 0), rows)[0, 1] ** 2) for c in x.T]
    assert [low, high] == pytest.approx(expected, abs=1e-4)
    assert high > low


@pytest.mark.parametrize("name", WITH_DATA)
def test_they_have_names(name: str) -> None:
    pytest.importorskip("torch")
    assert str(criterion(name)) == name
    assert name in plugins("redir.criteria")


@pytest.mark.parametrize("name", WITH_DATA)
def test_they_prune(name: str) -> None:
    pytest.importorskip("torch")
    graph, _ = network()
    after = Pipeline((Prune(0.5, criterion=name, labelled=given_(), steps=2),)).run(graph)
    (made, *_) = (n.attrs["value"].array for n in after.nodes if not n.inputs)
    assert made.shape == (2, 1)


def test_labelled_examples_flow_where_inputs_would_be_made_up(tmp_path: Path) -> None:
    graph, _ = network()
    given, path = given_(), str(tmp_path / "some.npz")
    assert Prune(labelled=given)._evidence(graph).source is given
    assert Prune(labelled=given, statistics="drawn")._evidence(graph).source is given
    assert str(Prune(labelled=given, statistics=path)._evidence(graph).source) == path


@pytest.mark.parametrize(
    ("options", "observes"),
    [
        ({}, False),
        ({"reconstruct": True}, True),
        ({"criterion": "apoz"}, True),
        ({"criterion": "apoz", "labelled": "some.npz"}, False),
    ],
)
def test_prune_says_whether_inputs_are_needed(options: dict[str, Any], *, observes: bool) -> None:
    assert Prune(**options).observes == observes
