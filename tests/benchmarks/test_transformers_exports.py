"""redir works on transformers as people export them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers"),
]


UNMET = {"Llama", "Qwen2", "Qwen3"}  # as docs/models.md says


def test_every_export_is_pruned_and_compressed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.transformers", str(tmp_path)]
    table = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) >= 58
    assert "**" not in table
    assert {row[0] for row in rows if "-" in row[5:7]} <= UNMET
