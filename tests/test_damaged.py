"""Damaged files: whatever a file holds, a command ends soon, in little memory, with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.damaged.cases import make
from tests.damaged.driver import context, findings

FEW = {"onnx": 12, "text": 6, "npz": 6}
MANY = {"onnx": 2000, "pt2": 500, "text": 500, "npz": 500}
SHARDS = 10


@pytest.mark.parametrize("kind", FEW)
def test_a_damaged_file_is_one_line(kind: str, tmp_path: Path) -> None:
    cases = [make(kind, number, tmp_path) for number in range(FEW[kind])]
    assert findings(context("redir.cli"), cases) == []


@pytest.mark.nightly
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("kind", MANY)
def test_no_damaged_file_is_more_than_one_line(kind: str, shard: int, tmp_path: Path) -> None:
    cases = [make(kind, number, tmp_path) for number in range(shard, MANY[kind], SHARDS)]
    assert findings(context("redir.cli", "redir.frontends.torch"), cases) == []
