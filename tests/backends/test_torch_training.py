"""What redir made smaller learns again: as a module, and as the source that it wrote."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import redir
from tests.source_files import imported

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "finetune_digits.py"


@pytest.fixture(scope="module")
def script() -> Any:
    torch.set_num_threads(1)
    return imported(SCRIPT)


def test_the_example_regains_accuracy(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, "--out", str(tmp_path / "small.py")])
    script.main()
    whole, pruned, trained = map(float, re.findall(r"\d\.\d{4}", capsys.readouterr().out))
    assert pruned < trained <= 1
    assert trained > whole - 0.05
    assert (tmp_path / "small.safetensors").exists()


@pytest.mark.nightly
def test_the_source_of_what_best_made_regains_accuracy(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, seen = redir.load(script.DEMO / "digits.onnx"), script.DEMO / "digits-synthetic.npz"
    small = redir.compress(graph, preset="best", macs=0.15, statistics=str(seen), check=False)
    redir.save(small, tmp_path / "small.py")
    network, (image, label) = imported(tmp_path / "small.py").load(), script.held_out()
    before, data = script.accuracy(network, image, label), script.training(image)
    monkeypatch.setattr(script, "RATE", 0.005)  # gentle, since the norms are folded
    for _ in range(2):
        script.train(network, *data)
    assert script.accuracy(network, image, label) > before + 0.03
