"""redir keeps more of a network than its peers, before anything is trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ("redir, no data", "redir, 256 images")
ABSENT = [name for name in ("torch", "torch_pruning", "onnxsim") if find_spec(name) is None]

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(bool(ABSENT), reason=f"needs {ABSENT}, as tests/benchmarks/peers.py says"),
]


def printed(program: str, folder: Path, name: str) -> None:
    """Show what a benchmark prints; it writes into the folder."""
    # torch warns, which is an error among tests
    command = [sys.executable, "-W", "ignore", "-m", program, str(folder), name]
    print(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("name", ["cifar10-resnet20", "cifar10-resnet32"])
def test_redir_keeps_more_than_its_peers(name: str, tmp_path: Path) -> None:
    printed("tests.benchmarks.peers", tmp_path, name)
    found = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["methods"]
    right = {method: [point["accuracy"] for point in points] for method, points in found.items()}
    ours = [min(pair) for pair in zip(*(right.pop(own) for own in OWN), strict=True)]
    theirs = [max(row) for row in zip(*right.values(), strict=True)]
    assert [mine for mine, other in zip(ours, theirs, strict=True) if mine <= other] == []


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("name", ["cifar10-resnet20", "cifar10-resnet32", "encoder"])
def test_redir_keeps_more_by_the_same_criterion(name: str, tmp_path: Path) -> None:
    printed("tests.benchmarks.pruning", tmp_path, name)
    rows = json.loads((tmp_path / f"{name}-pruned.json").read_text(encoding="utf-8"))
    ours = {row["criterion"]: row["accuracy"] for row in rows if row["who"] == "redir"}
    theirs = [row for row in rows if not row["who"].startswith("redir")]
    assert [row for row in theirs if row["accuracy"] > ours[row["criterion"]]] == []
