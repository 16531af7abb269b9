"""Models larger than memory should hold: what they take in time and memory, beside a copy of them.

The weights are drawn and lie in a file beside the model, as those of every model above 2 GB do. It
needs twice the space on disk, and minutes.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from redir.app import tables
from tests.benchmarks.chains import drawn
from tests.benchmarks.spending import redir

LAYERS = 200
WIDTH = 3162  # 40 MB each, 8 GB together
LARGEST = 1.5  # GB that exact may hold
COPIES = 2.5  # times that copying the weights takes
WIDE, FEW = 6325, 25  # 160 MB each, a billion weights together
PALETTES = 4.0  # GB that a billion weights in 4 bits may take


@pytest.fixture(name="space")
def _space(tmp_path: Path) -> Path:
    if shutil.disk_usage(tmp_path).free < 2.5e10:
        pytest.skip("needs 25 GB of disk")
    return tmp_path


@pytest.mark.bench
def test_eight_gigabytes_are_compressed_in_the_time_of_a_few_copies(space: Path) -> None:
    model = drawn(space / "large.onnx", LAYERS, WIDTH)
    os.sync()  # what is still to be written to disk would take from what is measured
    found = redir("compress", "--no-timing", model, space / "small.onnx")
    (space / "small.onnx.data").unlink()
    os.sync()
    start = time.perf_counter()
    shutil.copyfile(space / "large.onnx.data", space / "copy")
    copied = time.perf_counter() - start
    rows = [
        ("copy of the weights", f"{copied:.1f}", "", ""),
        ("redir compress", f"{found.wall:.1f}", f"{found.processor:.1f}", f"{found.peak:.2f}"),
    ]
    print()
    tables.write_table(("", "seconds", "of the processor", "peak memory, GB"), rows)
    print(f"{found.wall / copied:.2f} times as long as a copy")
    assert found.peak < LARGEST
    assert found.wall < COPIES * copied


@pytest.mark.bench
def test_a_billion_weights_become_palettes_one_layer_at_a_time(space: Path) -> None:
    model = drawn(space / "large.onnx", FEW, WIDE)
    options = ("--jobs", "1", "--verify-each", "off", "-p", "palettize{bits=4}")
    found = redir("opt", model, space / "small.onnx", *options)
    size = (space / "small.onnx").stat().st_size / 1e9
    print(f"\n{found.processor:.0f} s of the processor, {found.peak:.2f} GB, {size:.2f} GB written")
    assert found.peak < PALETTES
    assert size < 0.6
