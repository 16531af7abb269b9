"""The package in docs/examples/redir_plugin: it installs, and redir finds all that it brings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redir.io import plugins
from tests.commands import Redir, running

EXAMPLE = Path(__file__).parents[1] / "docs/examples/redir_plugin"
DIGITS = Path(__file__).parents[1] / "redir/demo/digits.onnx"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs it, which downloads nothing."""
    pytest.importorskip("setuptools", reason="setuptools builds the package")
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source")
    offline = "--disable-pip-version-check --no-index --no-deps --no-build-isolation".split()
    where = ["--target", str(folder / "site"), str(folder / "source")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *offline, *where], check=True)
    return folder / "site"


@pytest.fixture
def redir(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Redir]:
    """Runs the command line where the package is installed."""
    monkeypatch.syspath_prepend(site)
    plugins.forget()
    yield running(capsys)
    monkeypatch.undo()
    plugins.forget()


def python(site: Path, *command: str | Path) -> str:
    """What Python prints where the package is installed."""
    found = {**os.environ, "PYTHONPATH": str(site)}
    ran = subprocess.run(
        [sys.executable, *command], env=found, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_its_pass_is_listed_and_explained(redir: Redir) -> None:
    assert "shift-weights: Each weight becomes a sum of few powers of two" in redir("passes").out
    told = redir("passes shift-weights").out
    assert "shift-weights is in redir_shifts.shift_weights, of the package redir-shifts" in told


def test_pass_criterion_and_cost_model_go_by_their_names(redir: Redir, tmp_path: Path) -> None:
    prune = "prune{criterion=per_addition,channel_ratio=0.2},fold-batchnorm"
    steps = f"{prune},hash{{bandwidth=0.2}},split-inputs,shift-weights{{terms=3}}"
    out = tmp_path / "small.onnx"
    done = redir(f"compress {DIGITS} {out} -p {steps} --cost additions --json - --no-timing")
    assert done.code == 0
    assert [step["name"] for step in done.json["passes"] if not step["changed"]] == []


def test_its_own_tests_pass(site: Path) -> None:
    shown = python(site, "-m", "pytest", "-q", "-c", os.devnull, "-W", "error", EXAMPLE / "tests")
    assert " passed" in shown


def test_its_table_is_that_of_its_readme(site: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    shown = python(site, EXAMPLE / "show.py")
    assert shown in (EXAMPLE / "README.md").read_text(encoding="utf-8")
