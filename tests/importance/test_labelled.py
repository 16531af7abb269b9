"""Labelled examples: where they come from, and what is lost on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redir import ops
from redir.errors import BadInput
from redir.importance import Labelled
from redir.importance.labelled import judged
from redir.ir import Graph, Value
from redir.ir.tensor import Dim
from tests.helpers import const, placeholder


def graph(batch: Dim = "n", *, softmax: bool = False) -> Graph:
    x = placeholder(batch, 3)
    y: Value = ops.MatMul(x, const(np.eye(3)))
    return Graph({"x": x}, {"y": ops.Softmax(y) if softmax else y})


ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)


def test_the_loss_is_the_cross_entropy() -> None:
    logits = np.array([[0.0, 0.0], [0.0, 100.0], [100.0, 0.0]], np.float32)
    found = Labelled({}, np.array([1, 1, 1])).losses(logits, np.array([1, 1, 1]))
    np.testing.assert_allclose(found, [np.log(2), 0, 100], atol=1e-6)


def test_what_goes_into_a_softmax_is_judged() -> None:
    for softmax in (False, True):
        assert judged(graph(softmax=softmax)).nodes[-1].op == ops.MatMul
    assert judged(graph(softmax=True), lambda *_: 0).nodes[-1].op == ops.Softmax


def test_they_come_in_parts_that_the_model_takes() -> None:
    given = Labelled({"x": ROWS}, np.arange(10))
    assert [len(labels) for _, labels in given.parts(graph())] == [10]
    assert [len(labels) for _, labels in given.parts(graph(4))] == [4, 4]
    assert [len(b["x"]) for b in given.batches(graph(4), 3, 0)] == [4]
    assert [len(b["x"]) for b in given.batches(graph(4), 5, 0)] == [4, 4]
    assert len(given.first(3).labels) == 3


def test_fewer_than_a_model_takes_are_refused() -> None:
    with pytest.raises(BadInput, match="2 examples are too few: the model takes 4"):
        list(Labelled({"x": ROWS[:2]}, np.arange(2)).parts(graph(4)))


def test_they_come_from_pairs() -> None:
    pairs = [(ROWS[:4].astype(np.float64), np.arange(4)), (ROWS[4:], np.arange(6))]
    given = Labelled.of(iter(pairs), graph())
    assert given.inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(given.inputs["x"], ROWS)
    assert given.labels.tolist() == [*range(4), *range(6)]
    with pytest.raises(BadInput, match="no labelled examples"):
        Labelled.of([], graph())


@pytest.mark.parametrize("batch", ["n", 1])
def test_they_come_from_a_file_of_any_number(batch: Dim, tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", x=ROWS, labels=np.arange(10))
    given = Labelled.read(tmp_path / "some.npz", graph(batch))
    assert given.labels.tolist() == list(range(10))


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", x=ROWS)
    with pytest.raises(BadInput, match="expected an array 'label'"):
        Labelled.read(tmp_path / "some.npz", graph())


def test_inputs_without_an_axis_of_examples_are_refused() -> None:
    x, cache = placeholder(1, 3), placeholder(2, 3)
    held = Graph({"x": x, "cache": cache}, {"y": ops.Add(x, cache)})
    given = Labelled({"x": ROWS[:4], "cache": ROWS[:4]}, np.zeros(4))
    with pytest.raises(BadInput, match="first axes of 1 and 2"):
        next(given.parts(held))


def test_as_many_examples_as_labels_are_asked_for() -> None:
    with pytest.raises(BadInput, match="input 'x' has 3 examples, and 4 have labels"):
        next(Labelled({"x": ROWS[:3]}, np.zeros(4)).parts(graph()))
