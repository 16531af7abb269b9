"""A place of a text after the other: what is computed is what the whole text gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from redir import ops
from redir.cost import Sizes
from redir.errors import Unsupported
from redir.ir import Graph, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.statistics import written
from redir.statistics.stepwise import Stepwise
from redir.statistics.written import WRITTEN, Decoder
from tests.helpers import const, ints, placeholder

RNG = np.random.default_rng(0)
WORDS, WIDTH, HEADS, LENGTH = 70, 8, 2, 6


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape) / 2)


def linear(x: Value, outputs: int = WIDTH) -> Value:
    return ops.MatMul(x, normal(WIDTH, outputs))


def heads(x: Value) -> Value:
    """Parted into heads: (texts, heads, length, width of a head)."""
    parted = ops.Reshape(x, ints(0, -1, HEADS, WIDTH // HEADS))
    return ops.Transpose(parted, perm=(0, 2, 1, 3))


def attention(x: Value, hidden: Value) -> Value:
    """What stands before each word, and itself; ``hidden`` is added where more is."""
    query, key, value = (heads(linear(x)) for _ in range(3))
    scores = ops.Add(ops.MatMul(query, ops.Transpose(key, perm=(0, 1, 3, 2))), hidden)
    mixed = ops.Transpose(ops.MatMul(ops.Softmax(scores, axis=-1), value), perm=(0, 2, 1, 3))
    return linear(ops.Reshape(mixed, ints(0, -1, WIDTH)))


def later(ids: Value) -> Value:
    """A large number where what is read stands behind what reads, for texts of any length."""
    size = ops.Gather(ops.Shape(ids), ints(1), axis=0)
    whole = ops.Expand(const(-1e9), ops.Concat(size, size, axis=0))
    return ops.Trilu(whole, const(1, np.int64), upper=1)


def decoder(ids: Value, marks: Value | None = None, *, causal: bool = True) -> Value:
    x = ops.Gather(normal(WORDS, WIDTH), ids)
    hidden = later(ids) if causal else const(0.0)
    if marks is not None:
        off = ops.Mul(ops.Sub(const(1.0), ops.Cast(marks, to=1)), const(-1e9))
        hidden = ops.Add(hidden, ops.Unsqueeze(off, ints(1, 2)))
    for _ in range(2):
        x = ops.Add(x, attention(x, hidden))
        x = ops.Add(x, ops.MatMul(ops.Relu(linear(x, 12)), normal(12, WIDTH)))
    return ops.MatMul(x, const(3 * RNG.normal(size=(WIDTH, WORDS))))


def ids_input(*shape: int | str) -> Value:
    return placeholder(*(shape or ("n", "length")), dtype=np.int64)


def model(*shape: int | str, marked: bool = False, causal: bool = True) -> Graph:
    ids = ids_input(*shape)
    marks = ids_input(*shape) if marked else None
    inputs = {"ids": ids} if marks is None else {"ids": ids, "attention_mask": marks}
    return Graph(inputs, {"logits": decoder(ids, marks, causal=causal)}, opset={"": 17})


def stepped(graph: Graph, ids: Array) -> Array:
    made = Decoder.of(graph).stepwise(*ids.shape)
    return np.stack([made.step(ids[:, p], p) for p in range(ids.shape[1])], 1)


IDS = RNG.integers(0, WORDS, (3, LENGTH))


@pytest.mark.parametrize("shape", [("n", "length"), ("n", LENGTH), (3, LENGTH)])
def test_logits_are_those_of_the_whole_texts(shape: tuple[int | str, ...]) -> None:
    graph = model(*shape)
    wanted = evaluate(graph, {"ids": IDS})["logits"]
    np.testing.assert_allclose(stepped(graph, IDS), wanted, atol=1e-4)


def test_marks_of_what_counts_are_read_whole() -> None:
    graph = model(marked=True)
    feeds = {"ids": IDS, "attention_mask": np.ones_like(IDS)}
    np.testing.assert_allclose(stepped(graph, IDS), evaluate(graph, feeds)["logits"], atol=1e-4)


def lost(x: Value) -> Value:
    return ops.CumSum(x, const(1, np.int64))


def flattened(x: Value) -> Value:
    return ops.Reshape(ops.Reshape(x, ints(-1, WIDTH)), ints(-1, LENGTH, WIDTH))


@pytest.mark.parametrize("made", [lost, flattened])
def test_where_places_are_lost_it_is_said(made: Callable[[Value], Value]) -> None:
    ids = ids_input(3, LENGTH)
    y = ops.MatMul(made(ops.Gather(normal(WORDS, WIDTH), ids)), normal(WIDTH, WORDS))
    graph = Graph({"ids": ids}, {"logits": y}, opset={"": 17})
    with pytest.raises(Unsupported, match="places of texts"):
        Stepwise(Sizes.of(graph).whole, {"ids": IDS}, "ids", "logits")


def test_a_model_that_looks_ahead_is_not_run_so() -> None:
    made = Decoder.of(model(causal=False))
    assert not made.is_stepwise(made.running())


@pytest.mark.parametrize("shape", [("n", "length"), ("n", 9), (2, 9)])
def test_what_is_written_is_what_the_slow_way_writes(
    shape: tuple[int | str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = model(*shape)
    monkeypatch.setattr(written, "_TOGETHER", 2)
    quick = [batch["ids"] for batch in WRITTEN.batches(graph, 3, 5)]
    monkeypatch.setattr(Decoder, "is_stepwise", lambda *_: False)
    again = Graph(graph.inputs, graph.outputs, opset=graph.opset)
    slow = [batch["ids"] for batch in WRITTEN.batches(again, 3, 5)]
    assert np.array_equal(np.concatenate(quick), np.concatenate(slow))


def test_texts_are_written_once_for_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = model()
    first = WRITTEN.batches(graph, 2, 0)
    monkeypatch.setattr(Decoder, "running", None)
    assert np.array_equal(WRITTEN.batches(graph, 2, 0)[0]["ids"], first[0]["ids"])
