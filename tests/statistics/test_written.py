"""Texts that small language models, built by hand, write themselves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from redir import ops
from redir.app import console
from redir.errors import BadInput
from redir.io.plugins import plugins
from redir.ir import Graph, Value, limits
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.statistics import draws_lengths, is_made_up, source, written
from redir.statistics.sources import AUTO
from redir.statistics.tokens import TOKENS
from redir.statistics.written import WRITTEN, Decoder, Written
from tests.helpers import const, ints, placeholder

WORDS, WIDTH = 70, 8
RNG = np.random.default_rng(0)
TABLE, HEAD = RNG.normal(size=(WORDS, WIDTH)), 3 * RNG.normal(size=(WIDTH, WORDS))


def ids_input(*shape: int | str | None) -> Value:
    return placeholder(*shape, dtype=np.int64)


def hidden(ids: Value) -> Value:
    """What comes before a word, the sum of it."""
    return ops.Tanh(ops.CumSum(ops.Gather(const(TABLE), ids), const(1, np.int64)))


def logits(ids: Value) -> Value:
    return ops.MatMul(hidden(ids), const(HEAD))


def decoder(*shape: int | str) -> Graph:
    ids = ids_input(*(shape or ("n", "length")))
    return Graph({"ids": ids}, {"logits": logits(ids)})


def texts(graph: Graph, count: int, seed: int = 0, how: Written = WRITTEN) -> Array:
    return np.concatenate([batch["ids"] for batch in how.batches(graph, count, seed)])


def one_by_one(graph: Graph, ids: Array, seed: int) -> Array:
    """Texts that begin as ``ids`` do, a word sampled after the other with the same noise."""
    found = ids[:, :1]
    for place in range(1, ids.shape[1]):
        told = evaluate(graph, {"ids": found})["logits"][:, -1]
        noise = [written._noise(WORDS, seed, text, place) for text in range(len(ids))]
        found = np.concatenate([found, np.argmax(told + np.array(noise), 1)[:, None]], 1)
    return found


@pytest.mark.parametrize("rounds", [1, 5])
def test_as_many_words_as_rounds_are_those_written_one_by_one(rounds: int) -> None:
    found = texts(decoder("n", 20), 3, 7, Written(rounds))
    assert found.shape == (3, 20)
    wanted = one_by_one(decoder(), found[:, : rounds + 1], 7)
    assert np.array_equal(found[:, : rounds + 1], wanted)


def test_where_lengths_are_open_all_words_are() -> None:
    found = texts(decoder(), 3, 7, Written(1))
    assert found.shape == (3, 64)
    assert np.array_equal(found, one_by_one(decoder(), found, 7))


def test_it_ends_where_nothing_changes() -> None:
    made, runs = Decoder.of(decoder("n", 20)), list[int]()
    found, run = texts(made.graph, 2, 3, Written(64)), made.running()
    assert np.array_equal(found, one_by_one(decoder(), found, 3))

    def counted(feeds: Mapping[str, Array]) -> dict[str, Array]:
        runs.append(len(feeds))
        return run(feeds)

    made.write(counted, np.arange(2), found.copy(), 3, 64)
    assert len(runs) == 1


def test_words_are_as_likely_as_the_model_says() -> None:
    ids = ids_input("n", "length")
    always = np.log([0.3, 0.7, *[1e-9] * (WORDS - 2)])
    graph = Graph({"ids": ids}, {"y": ops.Add(ops.Mul(logits(ids), const(0.0)), const(always))})
    found = texts(graph, 40)[:, 1:]
    assert found.max() == 1
    assert found.mean() == pytest.approx(0.7, abs=0.04)


def test_likelihoods_are_sampled_as_their_logits_are() -> None:
    ids = ids_input("n", "length")
    likely = Graph({"ids": ids}, {"logits": ops.Softmax(logits(ids), axis=-1)})
    assert np.array_equal(texts(likely, 3), texts(decoder(), 3))


def test_the_seed_decides_what_is_written() -> None:
    assert np.array_equal(texts(decoder(), 3), texts(decoder(), 3))
    assert not np.array_equal(texts(decoder(), 3), texts(decoder(), 3, 1))
    assert np.unique(texts(decoder(), 3), axis=0).shape == (3, 64)


def test_texts_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = texts(decoder(), 5)
    monkeypatch.setattr(written, "_AT_ONCE", 2 * 64 * WORDS)
    batches = WRITTEN.batches(decoder(), 5, 0)
    assert [len(batch["ids"]) for batch in batches] == [2, 2, 1]
    assert np.array_equal(np.concatenate([batch["ids"] for batch in batches]), whole)


def test_what_flows_fits_into_what_the_model_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = texts(decoder(), 5)
    flows = 64 * (3 * WIDTH + WORDS) * 4  # bytes of a text: rows of the table, sums, tanh, logits
    monkeypatch.setattr(limits, "limit", lambda: 2 * flows)
    batches = WRITTEN.batches(decoder(), 5, 0)
    assert [len(batch["ids"]) for batch in batches] == [2, 2, 1]
    assert np.array_equal(np.concatenate([batch["ids"] for batch in batches]), whole)


def test_what_flows_around_a_branch_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ids_input("n", "length")
    x, flag = hidden(ids), ops.Greater(ops.ReduceMax(ids, keepdims=0), const(3, np.int64))
    inner = Value(x.type)
    bodies = [Graph({"x": inner}, {"y": op(inner)}) for op in (ops.Tanh, ops.Neg)]
    y = ops.If(flag, x, then_branch=bodies[0], else_branch=bodies[1], captures=("x",))
    graph = Graph({"ids": ids}, {"logits": ops.MatMul(y, const(HEAD))})
    monkeypatch.setattr(limits, "limit", lambda: 64 * (4 * WIDTH + WORDS) * 4 + 100)
    assert written.Decoder.of(graph).at_once == 1


def test_sizes_that_a_model_fixes_are_kept() -> None:
    batches = WRITTEN.batches(decoder(2, 9), 3, 0)
    assert [batch["ids"].shape for batch in batches] == [(2, 9), (2, 9)]
    assert texts(decoder("n", 9), 3).shape == (3, 9)


def test_marks_and_places_go_with_the_words() -> None:
    ids, mask, places = (ids_input("n", "length") for _ in range(3))
    put = ops.Gather(const(RNG.normal(size=(80, WORDS))), places)
    seen = ops.Unsqueeze(ops.Cast(mask, to=1), ints(-1))
    y = ops.Mul(ops.Add(logits(ids), put), seen)
    inputs = {"ids": ids, "attention_mask": mask, "position_ids": places}
    (batch,) = WRITTEN.batches(Graph(inputs, {"y": y}), 2, 0)
    assert (batch["attention_mask"] == 1).all()
    assert np.array_equal(batch["position_ids"], [np.arange(64)] * 2)
    assert all(array.dtype == np.int64 for array in batch.values())


def encoder() -> Graph:
    """One that reads all of a text for each word of it."""
    ids = ids_input("n", "length")
    whole = ops.ReduceMean(ops.Gather(const(TABLE), ids), ints(1))
    return Graph({"ids": ids}, {"y": ops.Add(logits(ids), ops.MatMul(whole, const(HEAD)))})


def features() -> Graph:
    ids = ids_input("n", "length")
    return Graph({"ids": ids}, {"y": hidden(ids)})


def two_texts() -> Graph:
    ids, other = ids_input("n", "length"), ids_input("n", "length")
    return Graph({"ids": ids, "other": other}, {"y": ops.Add(logits(ids), logits(other))})


def with_state() -> Graph:
    ids, state = ids_input("n", "length"), placeholder("n", 1, WIDTH)
    return Graph({"ids": ids, "state": state}, {"y": ops.MatMul(hidden(ids), const(HEAD))})


NO_DECODERS = {
    "reads what comes behind": (encoder(), "what comes before a word"),
    "tells of no words": (features(), "which of 70 words comes next"),
    "two texts": (two_texts(), "read one text and nothing else"),
    "state": (with_state(), "read one text and nothing else"),
}


@pytest.mark.parametrize("what", sorted(NO_DECODERS))
def test_what_is_no_decoder_is_refused_and_auto_draws_tokens(what: str) -> None:
    graph, message = NO_DECODERS[what]
    with pytest.raises(BadInput, match=message):
        WRITTEN.batches(graph, 2, 0)
    assert AUTO.choice(graph) == str(TOKENS)


def test_images_are_no_text() -> None:
    x = placeholder("n", 3, 8, 8)
    with pytest.raises(BadInput, match="read one text"):
        WRITTEN.batches(Graph({"x": x}, {"y": ops.Relu(x)}), 2, 0)


def test_auto_lets_a_decoder_write_if_that_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AUTO.choice(decoder()) == "self"
    assert np.array_equal(AUTO.batches(decoder(), 2, 0)[0]["ids"], texts(decoder(), 2))
    monkeypatch.setattr(written, "_CHEAP", 1000)
    assert AUTO.choice(decoder()) == "tokens"


def test_it_is_found_by_its_name_and_draws_lengths() -> None:
    assert source("self") == WRITTEN
    assert is_made_up(WRITTEN)
    assert draws_lengths(WRITTEN, decoder())
    assert draws_lengths(AUTO, decoder())


def test_a_command_can_say_what_each_source_is() -> None:
    names = set(plugins("redir.statistics")) - {str(AUTO)}
    assert console._SOURCES.keys() == names
