"""The table of channel groups in the documentation is what redir finds."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.real.inputs import SHARED

ROOT = Path(__file__).parents[2]


@pytest.mark.nightly
@pytest.mark.skipif(not SHARED, reason="needs the folder of shared models")
def test_channel_groups() -> None:
    table = runpy.run_path(str(ROOT / "docs/examples/pinned_channels.py"))["table"]
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in page if line.startswith("|")]
    found = list(table(sorted(SHARED, key=lambda path: path.stem)))
    assert rows[: len(found)] == found
