"""Texts drawn for models that look up ids of words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.errors import BadInput
from redir.ir import Graph, Value
from redir.ir.tensor import TensorType
from redir.statistics import draws_lengths, source
from redir.statistics.sources import AUTO, DRAWN
from redir.statistics.tokens import TOKENS, reads_text
from redir.statistics.topics import topics
from tests.helpers import const, ints

RNG = np.random.default_rng(0)
WORDS, WIDTH = 200, 4


def integers(*shape: int | str) -> Value:
    return Value(TensorType(np.dtype(np.int64), shape))


def encoder(*shape: int | str, table: int = WORDS) -> Graph:
    """Words, their places and their kinds are looked up; a mask says which count."""
    ids, mask, kinds, places = (integers(*shape) for _ in range(4))
    sizes = {"words": table, "kinds": 2, "places": 90}
    held = {name: const(RNG.normal(size=(size, WIDTH))) for name, size in sizes.items()}
    looked = [ops.Gather(held["words"], ids), ops.Gather(held["kinds"], kinds)]
    total = ops.Add(ops.Add(*looked), ops.Gather(held["places"], places))
    kept = ops.Unsqueeze(ops.Cast(mask, to=1), ints(2))
    y = ops.ReduceMean(ops.Mul(total, kept), ints(1), keepdims=0)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
    return Graph({**inputs, "position_ids": places}, {"y": y})


OPEN, FIXED = encoder("n", "length"), encoder(2, 12)


def test_texts_are_of_many_lengths_and_as_many_tokens_as_in_the_usual_examples() -> None:
    batches = TOKENS.batches(OPEN, 16, 0)
    assert len({batch["input_ids"].shape[1] for batch in batches}) > 1
    assert min(batch["input_ids"].shape[1] for batch in batches) > 3
    assert 16 * 64 <= sum(batch["input_ids"].size for batch in batches) < 16 * 64 + 64


def test_what_stands_beside_words_is_as_in_a_text() -> None:
    for batch in TOKENS.batches(OPEN, 4, 0):
        ids = batch["input_ids"]
        assert ids.dtype == np.int64
        assert ids.min() >= 0
        assert ids.max() < WORDS
        assert np.all(batch["attention_mask"] == 1)
        assert np.all(batch["token_type_ids"] == 0)
        assert np.array_equal(
            batch["position_ids"], np.broadcast_to(range(ids.shape[1]), ids.shape)
        )


def test_what_lies_behind_a_text_is_masked_where_there_is_one_length() -> None:
    batches = TOKENS.batches(FIXED, 9, 0)
    assert [batch["input_ids"].shape for batch in batches] == [(2, 12)] * 5
    for batch in batches:
        mask = batch["attention_mask"].astype(bool)
        assert np.all(mask[:, :4])
        assert np.all(np.sort(mask, 1)[:, ::-1] == mask)
        assert np.all(batch["input_ids"][~mask] == 0)
    assert not np.all([batch["attention_mask"] for batch in batches])


def test_the_seed_decides_what_is_drawn() -> None:
    one, same, other = (TOKENS.batches(FIXED, 2, seed)[0]["input_ids"] for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_auto_takes_texts_for_what_looks_up_words() -> None:
    image = Value(TensorType(np.dtype(np.float32), ("n", 3)))
    other = Graph({"x": image}, {"y": ops.Relu(image)})
    few = encoder("n", "length", table=9)
    assert AUTO.choice(OPEN) == "tokens"
    assert AUTO.choice(other) == "drawn"
    assert not reads_text(few)
    assert draws_lengths(AUTO, OPEN)
    assert draws_lengths(TOKENS, OPEN)
    assert not draws_lengths(AUTO, other)
    assert not draws_lengths(DRAWN, OPEN)
    with pytest.raises(BadInput, match="look up ids of words"):
        TOKENS.batches(other, 2, 0)


def test_counts_say_which_words_occur(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"7": 3, "11": 1, "12": 0}))
    ids = np.concatenate([b["input_ids"].ravel() for b in source(str(path)).batches(OPEN, 40, 0)])
    assert set(ids.tolist()) == {7, 11}
    assert np.mean(ids == 7) == pytest.approx(0.75, abs=0.05)
    path.write_text(json.dumps([0, 2, 2]))
    ids = source(str(path)).batches(OPEN, 4, 0)[0]["input_ids"]
    assert set(ids.ravel().tolist()) == {1, 2}


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ],
    "special_tokens": {"[CLS]": {"ids": [1]}, "[SEP]": {"ids": [2]}},
}
BERT = {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]}


@pytest.mark.parametrize(
    "after", [TEMPLATE, BERT, {"type": "Sequence", "processors": [{"type": "ByteLevel"}, BERT]}]
)
def test_a_tokenizer_tells_what_stands_around_a_text(tmp_path: Path, after: Any) -> None:
    path = tmp_path / "tokenizer.json"
    vocab = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5}
    special = [{"id": i, "special": True} for i in range(3)]
    held = {"model": {"vocab": vocab}, "added_tokens": special, "post_processor": after}
    path.write_text(json.dumps(held))
    for batch in source(str(path)).batches(FIXED, 4, 0):
        ids, lengths = batch["input_ids"], batch["attention_mask"].sum(1)
        assert np.all(ids[:, 0] == 1)
        for row, length in zip(ids, lengths, strict=True):
            assert row[length - 1] == 2
            assert set(row[1 : length - 1].tolist()) <= {3, 4, 5}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "not JSON"),
        ("3", "expected counts"),
        ("{}", "some are more"),
        ('{"a": 1}', "expected counts"),
        ('{"3": -1}', "0 or more"),
        ('{"3": NaN}', "0 or more"),
        ('{"-3": 1}', "0 or more"),
        ('{"model": 3}', "not the tokenizer.json"),
        ('{"model": {"vocab": {"a": "b"}}}', "not the tokenizer.json"),
        ('{"model": {"vocab": {}}}', "without words"),
    ],
)
def test_a_file_that_is_no_counts_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=told):
        source(str(path))


def test_a_file_with_words_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    path.write_text('{"5000": 1}')
    with pytest.raises(BadInput, match="no word of id 5000"):
        source(str(path)).batches(OPEN, 2, 0)
    with pytest.raises(BadInput, match="No such file"):
        source(str(tmp_path / "missing.json"))


def given(folder: Path, graph: Graph, lengths: list[int], *, gap: bool = False) -> list[Any]:
    """Batches of a file of texts so long, each of one id, with 7 behind its end."""
    within = np.arange(12) < np.array(lengths)[:, None]
    ids = np.where(within, np.arange(len(lengths))[:, None] + 20, 7)
    within[:, 1] &= not gap
    arrays = {"input_ids": ids, "attention_mask": within, "token_type_ids": 0 * ids}
    arrays["position_ids"] = np.broadcast_to(np.arange(12), ids.shape)
    whole: dict[str, Any] = {name: array.astype(np.int64) for name, array in arrays.items()}
    np.savez(folder / "texts.npz", **whole)
    return list(source(str(folder / "texts.npz")).batches(graph, len(lengths), 0))


def test_texts_of_a_file_end_where_their_marks_do(tmp_path: Path) -> None:
    batches = given(tmp_path, OPEN, [3, 12, 5, 3])
    shapes = {batch["input_ids"].shape for batch in batches}
    assert shapes == {(2, 3), (1, 12), (1, 5)}
    for batch in batches:
        assert {array.shape for array in batch.values()} == {batch["input_ids"].shape}
        assert np.all(batch["attention_mask"] == 1)
        assert 7 not in batch["input_ids"]
    assert sum(len(batch["input_ids"]) for batch in batches) == 4


def test_texts_of_a_file_stay_whole_where_there_is_one_length(tmp_path: Path) -> None:
    assert [b["input_ids"].shape for b in given(tmp_path, FIXED, [3, 12, 5, 3])] == [(2, 12)] * 2


def test_texts_of_a_file_stay_whole_where_their_marks_have_gaps(tmp_path: Path) -> None:
    assert [b["input_ids"].shape for b in given(tmp_path, OPEN, [3, 12], gap=True)] == [(2, 12)]


def pairs(first: str, second: str) -> Graph:
    """Two texts, each with a mask, and the boxes of the words of the first: 4 numbers each."""
    ids, mask = integers("n", first), integers("n", first)
    boxes = Value(TensorType(np.dtype(np.float32), ("n", first, WIDTH)))
    others, theirs = integers("n", second), integers("n", second)
    held = [const(RNG.normal(size=(WORDS, WIDTH))) for _ in range(2)]
    sums = [
        ops.ReduceSum(ops.Mul(of, ops.Unsqueeze(ops.Cast(m, to=1), ints(2))), ints(1))
        for of, m in (
            (ops.Add(ops.Gather(held[0], ids), boxes), mask),
            (ops.Gather(held[1], others), theirs),
        )
    ]
    inputs = {"a": ids, "a_mask": mask, "boxes": boxes, "b": others, "b_mask": theirs}
    return Graph(inputs, {"y": ops.Add(*sums)})


def of_pairs(folder: Path, graph: Graph) -> list[Any]:
    """Batches of a file of pairs of texts, 3 and 4, and 5 and 2 words long."""
    ids = np.array([[20] * 5 + [7], [21] * 5 + [7]])
    first, second = (np.arange(6) < np.array(n)[:, None] for n in ([3, 5], [4, 2]))
    boxes = np.repeat(ids[:, :, None], WIDTH, 2).astype(np.float32)
    masks = {"a_mask": first.astype(np.int64), "b_mask": second.astype(np.int64)}
    arrays: dict[str, Any] = {"a": ids, "b": ids, "boxes": boxes, **masks}
    np.savez(folder / "pairs.npz", **arrays)
    return list(source(str(folder / "pairs.npz")).batches(graph, 2, 0))


def test_all_that_lies_along_a_text_is_cut_where_it_ends(tmp_path: Path) -> None:
    batches = of_pairs(tmp_path, pairs("length", "length"))
    assert sorted(batch["boxes"].shape for batch in batches) == [(1, 4, WIDTH), (1, 5, WIDTH)]
    for batch in batches:
        assert np.all(batch["boxes"] == batch["a"][:, :, None])
        assert np.array_equal(batch["a"], batch["b"])


def test_two_texts_that_may_be_of_two_lengths_stay_whole(tmp_path: Path) -> None:
    (batch,) = of_pairs(tmp_path, pairs("first", "second"))
    assert batch["a"].shape == batch["b"].shape == (2, 6)


def test_a_text_whose_parts_have_lengths_of_many_names_is_cut(tmp_path: Path) -> None:
    shapes = [("n", f"length of {name}") for name in range(4)]
    named = dict(zip(OPEN.inputs, shapes, strict=True))
    inputs = {name: integers(*shape) for name, shape in named.items()}
    nodes = dict(zip(OPEN.inputs.values(), inputs.values(), strict=True))
    apart = Graph(inputs, {"y": rebound(OPEN.outputs["y"], nodes)})
    shapes_of = {batch["input_ids"].shape for batch in given(tmp_path, apart, [3, 12, 5, 3])}
    assert shapes_of == {(2, 3), (1, 12), (1, 5)}


def rebound(value: Value, env: dict[Value, Value]) -> Value:
    """A value made again, of other inputs."""
    if value not in env and value.node is not None:
        env[value] = value.node.on([rebound(v, env) for v in value.node.inputs]).outputs[0]
    return env[value]


def grouped(words: int = WORDS, *, ids: Value | None = None, scale: float = 1.0) -> Graph:
    """Words that are looked up in a table in which those of 40 in a row are alike."""
    ids = integers("n", "length") if ids is None else ids
    noise = 0.01 * RNG.normal(size=(words, 8))
    table = np.repeat(RNG.normal(size=(words // 40, 8)), 40, axis=0) + noise
    return Graph({"ids": ids}, {"y": ops.ReduceMean(ops.Gather(const(table * scale), ids))})


def alike(batches: Any) -> list[float]:
    """For each text, how often two of its words are of one group."""
    found = []
    for batch in batches:
        groups = batch["ids"] // 40
        pairs = (groups[:, :, None] == groups[:, None]).sum((1, 2)) - groups.shape[1]
        found += (pairs / (groups.shape[1] * (groups.shape[1] - 1))).tolist()
    return found


def test_a_share_of_the_words_of_a_text_are_alike_and_shares_are_of_all_sizes() -> None:
    found = alike(TOKENS.batches(grouped(), 16, 0))
    assert np.mean(found) > 0.35  # by chance 0.2 would be, and with topics 0.2 + 0.8 / 3
    assert min(found) < 0.2
    assert max(found) > 0.9


def test_words_are_as_likely_as_any_other_with_topics_too() -> None:
    ids = np.concatenate([b["ids"].reshape(-1) for b in TOKENS.batches(grouped(), 400, 0)])
    counts = np.bincount(ids, minlength=WORDS) / len(ids) * WORDS
    assert np.abs(np.sort(counts)[[5, -5]] - 1).max() < 0.5


def test_words_of_a_topic_are_those_of_the_file_and_as_likely(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({str(word): 9 if word % 2 else 1 for word in range(20, 180)}))
    ids = np.concatenate(
        [b["ids"].reshape(-1) for b in source(str(path)).batches(grouped(), 100, 0)]
    )
    assert ids.min() >= 20
    assert ids.max() < 180
    assert np.mean(ids % 2) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    "graph",
    {
        "a table of whole numbers": Graph(
            {"ids": (whole := integers("n", "length"))},
            {"y": ops.Gather(ops.constant(np.arange(400).reshape(200, 2)), whole)},
        ),
        "a table of one axis": Graph(
            {"ids": (line := integers("n", "length"))},
            {"y": ops.Gather(const(RNG.normal(size=200)), line)},
        ),
        "a table that is computed": Graph(
            {"ids": (made := integers("n", "length"))},
            {"y": ops.Gather(ops.MatMul(const(RNG.normal(size=(200, 3))), const(np.eye(3))), made)},
        ),
        "ids read twice": Graph(
            {"ids": (twice := integers("n", "length"))},
            {"y": ops.Gather(const(RNG.normal(size=(200, 3))), ops.Add(twice, twice))},
        ),
    }.values(),
)
def test_words_go_with_no_others_where_no_table_says_so(graph: Graph) -> None:
    assert not topics(graph)


@pytest.mark.parametrize("scale", [0.0, np.nan, np.inf, 1e38, 1e-38])
def test_a_table_may_hold_any_numbers(scale: float) -> None:
    with np.errstate(all="ignore"):
        graph = grouped(scale=scale)
    ids = np.concatenate([b["ids"].reshape(-1) for b in TOKENS.batches(graph, 4, 0)])
    assert ids.min() >= 0
    assert ids.max() < WORDS


def test_a_table_is_found_behind_what_moves_ids_or_casts_them() -> None:
    ids = integers("n", "length")
    moved = ops.Reshape(ops.Cast(ids, to=6), ints(-1, 8))
    table = RNG.normal(size=(200, 4))
    found = topics(Graph({"ids": ids}, {"y": ops.Gather(const(table), moved)}))
    assert np.array_equal(found["ids"].table, table.astype(np.float32))
