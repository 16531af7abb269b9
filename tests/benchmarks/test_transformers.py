"""Models of transformers: onnxruntime gives on their graphs what the modules give."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'redir[torch]'")
pytest.importorskip("transformers", reason="needs transformers: pip install transformers")

SCRIPT = Path(__file__).with_name("transformers_models.py")
CELL = re.compile(r"-|\d(\.\d+)?e[-+]\d+")  # a number that is not marked, or no such model

pytestmark = pytest.mark.bench


def test_every_configuration_computes_the_same() -> None:
    call = [sys.executable, str(SCRIPT)]
    table = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    print(f"\n{table}")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    wrong = {name: cells for name, *cells in rows if not all(map(CELL.fullmatch, cells))}
    assert len(rows) >= 21
    assert not wrong
