"""Sources of inputs: given ones, drawn ones, and those that a model's norms ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.errors import BadInput, BadPipeline
from redir.io.cache import Bank
from redir.ir import Graph
from redir.ir.interpreter import values
from redir.statistics import Source, source, synthetic
from redir.statistics.sources import AUTO, DRAWN
from redir.statistics.synthetic import SYNTHETIC
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)


WEIGHT = RNG.normal(size=(4, 3, 3, 3))


def net(
    *shape: int | str,
    norm: bool = True,
    weight: np.ndarray | None = None,
    var: Sequence[float] = (4.0, 0.25, 1.0, 9.0),
) -> Graph:
    x = placeholder(*shape)
    w = const(RNG.normal(size=(4, 3, 3, 3)) if weight is None else weight)
    y = ops.Conv(x, w, pads=(1, 1, 1, 1))
    stored = const([1.0, -2.0, 0.0, 3.0]), const(var)
    z = ops.BatchNormalization(y, const(np.ones(4)), const(np.zeros(4)), *stored) if norm else y
    return Graph({"x": x}, {"y": ops.Relu(z)})


OPEN, FIXED = net("n", 3, 8, 8, weight=WEIGHT), net(2, 3, 8, 8)


def test_an_open_batch_takes_all_examples_at_once() -> None:
    (batch,) = DRAWN.batches(OPEN, 6, 0)
    assert batch["x"].shape == (6, 3, 8, 8)


def test_a_fixed_batch_is_filled_as_often_as_it_takes() -> None:
    assert [batch["x"].shape for batch in DRAWN.batches(FIXED, 5, 0)] == [(2, 3, 8, 8)] * 3


def test_the_seed_decides_what_is_drawn() -> None:
    one, same, other = (DRAWN.batches(OPEN, 2, seed)[0]["x"] for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_drawn_images_become_what_the_model_wants_to_read() -> None:
    (batch,) = source("drawn", "bytes").batches(OPEN, 32, 0)
    assert 0 <= batch["x"].min() < 30
    assert 225 < batch["x"].max() <= 255
    last = net("n", 8, 8, 3, norm=False, weight=RNG.normal(size=(4, 8, 3, 3)))
    (turned,) = source("drawn", "mean=0.5:0.4:0.3+std=0.25").batches(last, 32, 0)
    wanted = (np.moveaxis(batch["x"], 1, 3) / 255 - [0.5, 0.4, 0.3]) / 0.25
    np.testing.assert_allclose(turned["x"], wanted, atol=1e-5)


def test_auto_draws_them_so_too() -> None:
    plain = net("n", 3, 8, 8, norm=False)
    (one,), (other,) = (source(n, "unit").batches(plain, 4, 0) for n in ("auto", "drawn"))
    assert np.array_equal(one["x"], other["x"])


@pytest.mark.parametrize("given", ["auto", "drawn"])
def test_no_preprocessing_is_refused_before_anything_is_drawn(given: str) -> None:
    with pytest.raises(BadPipeline, match="'caffe' is not one of"):
        source(given, "caffe")


def test_three_numbers_are_not_for_two_channels() -> None:
    with pytest.raises(BadInput, match="is for 3 channels, and the model reads 2"):
        source("drawn", "imagenet").batches(net("n", 2, 8, 8, weight=WEIGHT[:, :2]), 2, 0)


def test_what_is_no_image_stays_as_it_is() -> None:
    x = placeholder("n", 7)
    rows = Graph({"x": x}, {"y": ops.Relu(x)})
    (one,), (other,) = (source("drawn", how).batches(rows, 4, 0) for how in ("bytes", ""))
    assert np.array_equal(one["x"], other["x"])


def test_a_file_gives_some_of_its_examples(tmp_path: Path) -> None:
    held = RNG.normal(size=(9, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=held)
    (batch,) = source(str(tmp_path / "x.npz")).batches(OPEN, 4, 0)
    assert {row.tobytes() for row in batch["x"]} < {row.tobytes() for row in held}
    assert len(batch["x"]) == 4
    assert len(source(str(tmp_path / "x.npz")).batches(FIXED, 9, 0)) == 4


def off(batches: list[np.ndarray]) -> float:
    """How far what the norm reads is from what it stored."""
    norm = OPEN.nodes[-2]
    (seen,) = values(OPEN, {"x": np.concatenate(batches)}, [norm.inputs[0]])
    mean, var = (node.attrs["value"].array for v in norm.inputs[3:] if (node := v.node))
    return float(
        np.abs(seen.mean((0, 2, 3)) - mean).max() + np.abs(seen.var((0, 2, 3)) / var - 1).max()
    )


def test_synthetic_inputs_give_norms_what_they_remember() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    drawn, made = (s.batches(OPEN, 32, 0) for s in (DRAWN, SYNTHETIC))
    assert off([b["x"] for b in made]) < 0.2 * off([b["x"] for b in drawn])


def entries(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[[], list[Path]]:
    """The files of a cache of its own."""
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setenv("REDIR_CACHE", str(folder))
    return lambda: sorted((folder / "synthetic").iterdir())


def test_synthetic_inputs_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = entries(monkeypatch, tmp_path)
    made = SYNTHETIC.batches(OPEN, 70, 0)
    assert len(files()) == 1
    monkeypatch.setattr(synthetic, "_made", None)
    again = SYNTHETIC.batches(net("n", 3, 8, 8, weight=WEIGHT), 70, 0)
    assert [b["x"].tobytes() for b in again] == [b["x"].tobytes() for b in made]
    assert again[0]["x"].dtype == np.float32


def test_of_a_large_model_few_inputs_are_made_and_the_others_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries(monkeypatch, tmp_path)
    monkeypatch.setattr(synthetic, "GRADIENTS", 5000)
    monkeypatch.setattr(synthetic, "_AT_ONCE", 2000)
    batches = [batch["x"] for batch in SYNTHETIC.batches(OPEN, 20, 0)]
    assert [len(batch) for batch in batches] == [2] * 10
    made, drawn = batches[:3], batches[3:]
    assert len({batch.tobytes() for batch in batches}) == 10
    assert all(batch.std() == pytest.approx(1) for batch in drawn)
    assert off(made) < 0.5 * off(drawn)


@pytest.mark.parametrize("change", ["count", "seed", "weight", "method"])
def test_synthetic_inputs_are_kept_apart(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = entries(monkeypatch, tmp_path)
    SYNTHETIC.batches(OPEN, 4, 0)
    monkeypatch.setattr(synthetic, "_METHOD", "other" if change == "method" else synthetic._METHOD)
    graph = net("n", 3, 8, 8) if change == "weight" else OPEN
    SYNTHETIC.batches(graph, 5 if change == "count" else 4, int(change == "seed"))
    assert len(files()) == 2


def test_a_damaged_cache_is_as_good_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = entries(monkeypatch, tmp_path)
    made = SYNTHETIC.batches(OPEN, 4, 0)[0]["x"]
    (file,) = files()
    for held in ({"inputs": made}, {"inputs": made[None].astype(float)}, {"other": made}):
        Bank(file.parent).write(file.stem, held)
        assert np.array_equal(SYNTHETIC.batches(OPEN, 4, 0)[0]["x"], made)
    file.write_text("hello")
    assert np.array_equal(SYNTHETIC.batches(OPEN, 4, 0)[0]["x"], made)


def test_making_stops_where_nothing_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    seen = list[float]()
    far = iter([3.0, 1.0, *[2.0] * 99])

    def off(x: Any, *_: Any) -> Any:
        seen.append(float(x.detach().sum()))
        return x.sum() * 0 + next(far)

    monkeypatch.setattr(synthetic, "_off", off)
    made = synthetic._made(lambda x: x * 1, [(None, None, 0.0)], np.ones((1, 2)))
    assert len(seen) == 2 + synthetic._PATIENCE
    assert float(torch.tensor(made).sum()) == seen[1]


def test_auto_is_synthetic_where_norms_remember() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    remembered = AUTO.batches(OPEN, 4, 0)[0]["x"]
    assert np.array_equal(remembered, SYNTHETIC.batches(OPEN, 4, 0)[0]["x"])
    plain = net("n", 3, 8, 8, norm=False)
    assert np.array_equal(AUTO.batches(plain, 4, 0)[0]["x"], DRAWN.batches(plain, 4, 0)[0]["x"])


def test_auto_draws_inputs_where_norms_do_not_say_what_they_stored() -> None:
    x, one = placeholder("n", 4, 8, 8), const(np.ones(4))
    y = ops.BatchNormalization(x, one, one, ops.Relu(one), one)
    assert AUTO.choice(Graph({"x": x}, {"y": y})) == "drawn"


def test_auto_draws_inputs_of_a_model_for_which_few_could_be_made() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    large = net("n", 3, 1024, 1024)
    assert [AUTO.choice(graph) for graph in (OPEN, large)] == ["synthetic", "drawn"]


@pytest.mark.parametrize(("plain", "choice"), [(1, "synthetic"), (2, "drawn")])
def test_norms_of_few_layers_tell_too_little(plain: int, choice: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    y = OPEN.outputs["y"]  # of a layer and its norm
    for _ in range(plain):
        y = ops.Conv(y, const(np.ones((y.type.size(1) or 0, y.type.size(1) or 0, 1, 1))))
    assert AUTO.choice(Graph(OPEN.inputs, {"y": y})) == choice


def test_dead_channels_do_not_keep_others_from_their_moments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are 0 on all inputs, and so were in training."""
    pytest.importorskip("torch", reason="torch is not installed")
    far, was = list[float](), synthetic._off

    def noted(*given: Any) -> Any:
        far.append(was(*given).item())
        return was(*given)

    monkeypatch.setattr(synthetic, "_off", noted)
    dead = WEIGHT * np.reshape([1, 1, 0, 1], (4, 1, 1, 1))
    SYNTHETIC.batches(net("n", 3, 8, 8, weight=dead, var=(4, 0.25, 1e-12, 9)), 4, 0)
    assert np.isfinite(far).all()
    assert far[-1] < 0.5 * far[0]


def test_synthetic_inputs_need_norms() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(BadInput, match="need norms"):
        SYNTHETIC.batches(net("n", 3, 8, 8, norm=False), 4, 0)


@pytest.mark.parametrize("name", ["auto", "drawn", "synthetic"])
def test_sources_have_names(name: str) -> None:
    assert str(source(name)) == name
    assert isinstance(source(name), Source)


def test_a_source_that_there_is_not_is_refused() -> None:
    with pytest.raises(BadPipeline, match="no source of statistics is called 'dreams'"):
        source("dreams")
