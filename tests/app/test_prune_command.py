"""Pruning from the command line: criteria by name, and labelled examples from a file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from redir import ops
from redir.io import models, plugins
from redir.ir import Graph, Value
from tests.commands import Redir
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)


def conv(x: Value, outputs: int) -> Value:
    weight = RNG.normal(size=(outputs, x.type.size(1) or 0, 3, 3))
    return ops.Relu(ops.Conv(x, const(weight), pads=(1, 1, 1, 1)))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder that holds ``good.onnx`` and labelled images."""
    monkeypatch.chdir(tmp_path)
    x = placeholder("n", 3, 6, 6)
    pooled = ops.Flatten(ops.GlobalAveragePool(conv(conv(x, 20), 24)))
    y = ops.MatMul(pooled, const(RNG.normal(size=(24, 4))))
    models.save(Graph({"x": x}, {"y": y}), "good.onnx")
    images = RNG.normal(size=(12, 3, 6, 6)).astype(np.float32)
    np.savez("data.npz", x=images, labels=RNG.integers(0, 4, 12))


@pytest.mark.parametrize("name", ["shapley", "apoz", "mint", "dafp", "fpgm"])
def test_a_criterion_prunes_by_examples_from_a_file(redir: Redir, name: str) -> None:
    spec = f"prune{{criterion={name},macs=0.8,reconstruct=true}}"
    done = redir(f"compress good.onnx out.onnx -p {spec} --examples data.npz --no-timing --json -")
    assert done.code == 0
    assert 0.7 < done.json["after"]["macs"] / done.json["before"]["macs"] <= 0.8


def test_gradients_score_a_file_too(redir: Redir) -> None:
    pytest.importorskip("torch")
    spec = "prune{criterion=taylor,macs=0.8}"
    done = redir(f"compress good.onnx out.onnx -p {spec} --examples data.npz --no-timing --json -")
    assert done.code == 0


def test_without_examples_it_says_what_is_missing(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx -p prune{criterion=shapley}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "needs labelled examples: give a file with --examples" in done.err


def test_an_unknown_criterion_lists_what_there_is(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx -p prune{criterion=shapely}")
    assert done.code == 2
    assert "there are apoz, bn_scale, dafp, energy, fpgm, l1, l2, lamp, mint" in done.err


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("many", "expected a whole number, or an .npz file"),
        ("no.npz", "no.npz: No such file"),
    ],
)
def test_what_are_no_examples_is_refused(redir: Redir, given: str, why: str) -> None:
    done = redir(f"compress good.onnx out.onnx -p prune{{criterion=apoz}} --examples {given}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert why in done.err


def test_labelled_examples_are_for_prune_alone(redir: Redir) -> None:
    done = redir("compress good.onnx out.onnx --macs 0.5 --examples data.npz")
    assert done.code == 2
    assert "no pass takes labelled" in done.err


def test_the_criterion_of_the_documentation_has_a_name_once_it_is_installed(
    redir: Redir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """As pip leaves it: a package, and a folder that says what it is and adds."""
    page = Path(__file__).parents[2] / "docs/write-a-criterion.md"
    source, points = re.findall(
        r"```python\n(.*?)```.*?```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    )[0]
    ((group, named),) = tomllib.loads(points)["project"]["entry-points"].items()
    ((name, where),) = named.items()
    files = {
        f"{where.partition(':')[0].replace('.', '/')}.py": source,
        "mine-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n",
        "mine-1.0.dist-info/entry_points.txt": f"[{group}]\n{name} = {where}\n",
    }
    for file, text in files.items():
        (tmp_path / "site" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / file).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    request.addfinalizer(plugins.forget)
    plugins.forget()
    done = redir(f"compress good.onnx out.onnx -p prune{{criterion={name},macs=0.8}} --json -")
    assert done.code == 0
    assert done.json["passes"][0]["changed"]
    assert len(source.splitlines()) < 16
