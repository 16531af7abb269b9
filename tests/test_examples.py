"""The scripts in docs/examples that no other test runs: each runs, and says what it should."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs/examples"
ULTRAFACE = ROOT.parent / "shared/models/det-ultraface-rfb320.onnx"

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def shown(script: str, *given: str | Path) -> str:
    """What a script prints."""
    command = [sys.executable, EXAMPLES / script, *given]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_detector_keeps_its_boxes_where_nothing_is_lost() -> None:
    text = shown("detector.py", "--exact")
    assert "pinned by graph input 'image', graph output 'boxes', graph output 'scores'" in text
    assert "exact: 1.00 left, 100% the same places" in text


@pytest.mark.nightly
def test_the_detector_is_compressed_to_a_target() -> None:
    assert "\n0.7 of the multiply-adds: 0.70 left" in shown("detector.py")


@pytest.mark.nightly
def test_a_real_detector_keeps_its_boxes() -> None:
    if not ULTRAFACE.exists():
        pytest.skip("../shared/models is not there")
    assert "left, 100% the same places" in shown("detector.py", "--exact", ULTRAFACE)


@pytest.mark.nightly
def test_a_sweep_writes_the_smallest_that_is_good_enough(tmp_path: Path) -> None:
    text = shown("sweep_digits.py", tmp_path / "small.onnx")
    lines = re.findall(r"asked .*: ([\d,]+) multiply-adds, accuracy ([\d.]+)%\n", text)
    good = [int(macs.replace(",", "")) for macs, found in lines if float(found) >= 98.33]
    assert len(lines) == 4
    assert text.endswith(f"small.onnx: {min(good):,} multiply-adds\n")
    assert (tmp_path / "small.onnx").exists()
