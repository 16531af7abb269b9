"""prune-vocabulary: what goes, what is left alone, files of ids, the conformance kit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import redir
from redir import ops
from redir.channels.removal import Joined, narrowed
from redir.errors import BadInput, BadPipeline, Broken
from redir.ir import Graph, Kept, Port, Value
from redir.ir.interpreter import evaluate
from redir.passes import PruneVocabulary, prune_vocabulary
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.pipeline import Pipeline
from redir.pipeline.compress import run as compress
from redir.testing import check_on, check_pass
from redir.text import parse
from tests.commands import running
from tests.extras import ort
from tests.helpers import const, ints, operators, placeholder
from tests.streams import IDS, PARTS, Stream

TABLE, HEAD = np.arange(40).reshape(10, 4) % 7, np.arange(40).reshape(4, 10) % 5
KEPT = [1, 4, 5, 9]


@pytest.fixture
def words(tmp_path: Path) -> PruneVocabulary:
    """The pass that keeps four of ten words."""
    path = tmp_path / "ids.json"
    path.write_text(json.dumps(KEPT[::-1]), encoding="utf-8")
    return PruneVocabulary(str(path))


def embedded(ids: Value = IDS) -> Value:
    return ops.Gather(const(TABLE), ids)


def of(*outputs: Value, **inputs: Value) -> Graph:
    given = inputs or {"ids": IDS}
    return Graph(given, {f"y{i}": y for i, y in enumerate(outputs)})


def tied(table: Value) -> Value:
    hidden = ops.Relu(ops.Gather(table, IDS))
    return ops.MatMul(hidden, ops.Transpose(table, perm=(1, 0)))


HELD = const(TABLE)
TYPES = placeholder("batch", 6, dtype=np.int64)
MASK = ops.Cast(ops.Equal(IDS, const(4, np.int64)), to=1)
GONE = ops.Cast(ops.Equal(const([2], np.int64), IDS), to=1)
PRUNED = {
    "an encoder": of(ops.Relu(embedded())),
    "a last layer": of(ops.MatMul(embedded(), const(HEAD))),
    "a last layer with a bias": of(ops.Add(ops.MatMul(embedded(), const(HEAD)), const(HEAD[0]))),
    "a table that is the last layer too": of(tied(HELD)),
    "a hidden result beside it": of(tied(HELD), ops.Relu(ops.Gather(HELD, IDS))),
    "ids of another type": of(
        embedded(ops.Cast(v := placeholder("n", dtype=np.uint16), to=7)), ids=v
    ),
    "ids that are moved": of(embedded(ops.Reshape(IDS, ints(-1, 3)))),
    "two tables": of(ops.Add(embedded(), ops.Gather(const(TABLE[::-1]), IDS))),
    "a smaller table of another input": of(
        ops.Add(embedded(), ops.Gather(const(TABLE[:2]), TYPES)), ids=IDS, types=TYPES
    ),
    "a word that is compared with": of(ops.Mul(embedded(), ops.Unsqueeze(MASK, ints(2)))),
    "a word that is not there any more": of(ops.Mul(embedded(), ops.Unsqueeze(GONE, ints(2)))),
    "sizes of ids": of(
        ops.Expand(embedded(), ops.Concat(ints(1), ops.Shape(IDS), ints(4), axis=0))
    ),
    "a network": Stream(PARTS["divided"]).graph(),
}


@pytest.mark.parametrize("graph", PRUNED.values(), ids=PRUNED)
def test_pruned(graph: Graph, words: PruneVocabulary) -> None:
    after = check_on(words, graph)
    assert json.loads(after.metadata["redir.vocabulary"]) == KEPT
    assert operators(after) == operators(graph)
    heights = {n.inputs[0].type.size(0) for n in after.nodes if n.op == ops.Gather}
    assert 10 not in heights


def test_outputs_at_old_ids_are_those_at_new_ones(words: PruneVocabulary) -> None:
    graph = PRUNED["a last layer with a bias"]
    after = words(graph)
    new = np.array([[0, 1, 2, 3, 0, 1]])
    (found,) = evaluate(after, {"ids": new}).values()
    (wanted,) = evaluate(graph, {"ids": np.array(KEPT)[new]}).values()
    assert found.shape == (1, 6, 4)
    np.testing.assert_array_equal(found, wanted[..., KEPT])


def test_ids_are_composed_where_words_go_twice(words: PruneVocabulary, tmp_path: Path) -> None:
    path = tmp_path / "again.txt"
    path.write_text("3, 0\n", encoding="utf-8")
    after = PruneVocabulary(str(path))(words(PRUNED["a last layer"]))
    assert json.loads(after.metadata["redir.vocabulary"]) == [1, 9]


def test_all_words_stay(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.arange(10))
    graph = PRUNED["a last layer"]
    assert PruneVocabulary(str(tmp_path / "all.npy"))(graph) is graph


LEFT: dict[str, tuple[Graph, str]] = {
    "no table": (of(ops.Cast(IDS, to=1)), "no input of whole numbers looks up"),
    "ids that are computed with": (
        of(embedded(ops.Mod(IDS, const(10, np.int64)))),
        "no input of whole numbers looks up",
    ),
    "ids that are compared by size": (
        of(embedded(), ops.Cast(ops.Greater(IDS, const(3, np.int64)), to=1)),
        "Greater reads ids of input 'ids'",
    ),
    "ids that are given out": (of(embedded(), ops.Identity(IDS)), "gives out ids"),
    "ids that are floats": (of(embedded(), ops.Cast(IDS, to=1)), "Cast reads ids"),
    "ids beside each other": (
        of(embedded(), embedded(ops.Concat(IDS, IDS, axis=1))),
        "Concat reads ids",
    ),
    "ids that are compared with what flows": (
        of(embedded(), ops.Cast(ops.Equal(IDS, ops.ReduceMax(IDS)), to=1)),
        "ReduceMax reads ids",
    ),
    "ids of a small type": (
        of(
            ops.Gather(const(np.ones((300, 2))), IDS),
            ops.Cast(ops.Equal(ops.Cast(IDS, to=2), const(4, np.uint8)), to=1),
        ),
        "ids of input 'ids' end at 255, below 300 rows",
    ),
    "a size of a table": (
        of(ops.Gather(HELD, IDS), ops.Cast(ops.Shape(HELD), to=1)),
        "Shape needs what is of all ids",
    ),
    "a size of what is given out": (
        of(y := tied(HELD), ops.Cast(ops.Shape(y), to=1)),
        "Shape needs what is of all ids",
    ),
    "tables of two sizes": (
        of(embedded(), ops.Gather(const(TABLE[:8]), IDS)),
        "tables of 8 and of 10 rows",
    ),
    "a table that others read": (
        of(ops.Gather(HELD, IDS), ops.ReduceMax(HELD, ints(0))),
        "ReduceMax needs what is of all ids",
    ),
    "a softmax over words": (
        of(ops.Softmax(ops.MatMul(embedded(), const(HEAD)))),
        "output 'y0' has a number for each id, but no weight alone",
    ),
    "words that are added up": (
        of(
            ops.MatMul(ops.MatMul(embedded(), t := const(HEAD)), ops.Transpose(t, perm=(1, 0))),
            ops.MatMul(embedded(), t),
        ),
        "mixes what is of each id",
    ),
    "logits that are normed": (
        of(tied(HELD), ops.ReduceMax(ops.Softmax(tied(HELD)), ints(2))),
        "Softmax needs what is of all ids",
    ),
    "a number for each word that is given": (
        of(
            ops.Add(ops.MatMul(embedded(), const(HEAD)), b := placeholder(10)),
            ids=IDS,
            bias=b,
        ),
        "an input of the graph has all ids",
    ),
}


@pytest.mark.parametrize(("graph", "why"), LEFT.values(), ids=LEFT)
def test_left_alone(graph: Graph, why: str, words: PruneVocabulary) -> None:
    assert words(graph) is graph
    (line,) = words.explain(graph)
    assert why in line


def test_another_input_is_named(words: PruneVocabulary) -> None:
    graph = PRUNED["a smaller table of another input"]
    step = PruneVocabulary(words.ids, input="types")
    with pytest.raises(BadInput, match="9 is no id of 2"):
        step(graph)


def test_an_input_that_is_not_there(words: PruneVocabulary) -> None:
    (line,) = PruneVocabulary(words.ids, input="x").explain(PRUNED["an encoder"])
    assert line == "input 'x' looks up no constant table"


# Files


FILES: dict[str, tuple[str, bytes, str]] = {
    "a word": ("a.txt", b"1 two", "not a file of whole numbers"),
    "nothing": ("a.txt", b"", "expected some whole numbers"),
    "twice": ("a.txt", b"1\n2\n1\n", "1 is there 2 times"),
    "below zero": ("a.txt", b"-1 2", "-1 is no id"),
    "beyond": ("a.txt", b"3 10", "10 is no id of 10"),
    "too large": ("a.txt", b"99999999999999999999", "expected some whole numbers"),
    "no list": ("a.json", b'{"a": 1}', "not a file of whole numbers"),
    "a fraction": ("a.json", b"[1.5]", "not a file of whole numbers"),
    "a flag": ("a.json", b"[true]", "not a file of whole numbers"),
    "no text": ("a.json", b"\xff", "not a file of whole numbers"),
    "no array": ("a.npy", b"1 2", "not a file of whole numbers"),
}


@pytest.mark.parametrize(("name", "held", "why"), FILES.values(), ids=FILES)
def test_a_bad_file_is_refused(name: str, held: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(held)
    with pytest.raises(BadInput, match=f"{name}: {why}"):
        PruneVocabulary(str(tmp_path / name))(PRUNED["an encoder"])


def test_an_array_of_fractions_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", [0.5])
    with pytest.raises(BadInput, match="expected some whole numbers"):
        PruneVocabulary(str(tmp_path / "a.npy"))(PRUNED["an encoder"])


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(BadInput, match=r"nowhere\.txt: No such file"):
        PruneVocabulary("nowhere.txt")(PRUNED["an encoder"])


def test_ids_are_asked_for() -> None:
    with pytest.raises(BadPipeline, match="ids=FILE names those that stay"):
        PruneVocabulary()(PRUNED["an encoder"])


# Outside


def test_the_map_is_in_the_file(words: PruneVocabulary, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    redir.save(words(PRUNED["a table that is the last layer too"]), path, notes=False)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    told: Any = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["redir.vocabulary"]) == KEPT
    assert redir.load(path).metadata == told
    text = tmp_path / "small.redir"
    redir.save(redir.load(path), text)
    assert redir.load(text).metadata == told


def test_the_map_is_pickled(words: PruneVocabulary) -> None:
    after = words(PRUNED["a last layer"])
    again = pickle.loads(pickle.dumps(after))  # noqa: S301 - of our own making
    assert again.metadata == after.metadata


@pytest.mark.parametrize("said", ["{'redir.a': 1}", "3", "('a', 'b')"])
def test_a_text_with_another_map_is_refused(said: str) -> None:
    text = str(PRUNED["an encoder"]).replace("'main'", f"'main', metadata={said}", 1)
    with pytest.raises(BadInput, match="metadata is no dict of texts"):
        parse(text)


def test_compress_compares_words_by_their_new_ids(words: PruneVocabulary) -> None:
    graph = Stream(PARTS["divided"]).graph()
    result = compress(graph, Pipeline((words, EliminateDeadChannels())), timing=False)
    assert [step.verdict for step in result.steps] == ["pass", "pass"]
    assert result.verdict == "pass"


def test_a_command_refuses_a_bad_file_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    redir.save(PRUNED["an encoder"], tmp_path / "a.onnx")
    (tmp_path / "ids.txt").write_text("1 1", encoding="utf-8")
    spec = f"prune-vocabulary{{ids={tmp_path / 'ids.txt'}}}"
    done = running(capsys)(f"opt {tmp_path / 'a.onnx'} -p {spec}")
    assert done.code == 2
    assert done.err == f"redir: error: {tmp_path / 'ids.txt'}: 1 is there 2 times\n"


# The conformance kit, and wrong versions


def test_keeps_its_promises(words: PruneVocabulary) -> None:
    check_pass(words, st.sampled_from(list(PRUNED.values())))


def test_words_that_keep_their_old_ids_are_refuted(
    words: PruneVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune_vocabulary, "_compared", lambda graph, *_: graph)
    with pytest.raises(Broken, match="same outputs"):
        check_on(words, PRUNED["a word that is compared with"])


def test_other_rows_are_refuted(words: PruneVocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: Graph, kept: Kept, added: Mapping[Port, Joined]) -> Graph:
        return narrowed(graph, {port: ids - 1 for port, ids in kept.items()}, added)

    monkeypatch.setattr(prune_vocabulary, "narrowed", wrong)
    with pytest.raises(Broken, match="same outputs"):
        check_on(words, PRUNED["a last layer"])


def test_reads_back_from_its_text() -> None:
    step = PruneVocabulary("a.txt", input="ids")
    assert Pipeline.parse(str(step)).passes == (step,)
