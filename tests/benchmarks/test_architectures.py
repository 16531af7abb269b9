"""Every torchvision architecture, by both exporters: channels removed are channels silenced.

A long run of its own (``make architectures``), that needs torchvision.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from redir.channels.coupling import Coupling
from redir.channels.families import families
from redir.check.guarantees import constants
from redir.io.models import load
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.passes.prune import Prune
from redir.pipeline.presets import preset
from redir.runtime.inputs import normal_feeds
from redir.runtime.onnxruntime import session

SCRIPT = Path(__file__).with_name("architectures.py")
MEMORY = 20 * 2**30  # bytes that an exporter may take
ROUNDING = 1e-5  # as a share of the output's magnitude

pytestmark = pytest.mark.bench


def architectures() -> list[str]:
    if find_spec("torchvision") is None:
        return []
    call = [sys.executable, str(SCRIPT)]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout.split()


def exported(name: str, exporter: str, folder: Path) -> Path:
    """The architecture as a file; where the exporter cannot write it the test is skipped."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    path = folder / "model.onnx"
    call = [sys.executable, str(SCRIPT), name, exporter, str(path)]
    done = subprocess.run(call, check=False, capture_output=True, text=True, preexec_fn=limit)
    if done.returncode:
        pytest.skip(f"torch cannot export {name}: {done.stderr.strip().splitlines()[-1:]}")
    return path


def parameters(graph: Graph) -> int:
    return sum(t.array.size for t in constants(graph) if t.array.dtype.kind == "f")


def outputs(graph: Graph, feeds: dict[str, Array]) -> list[Array]:
    return [np.asarray(a) for a in session(graph, threads=2)(feeds).values()]


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", architectures())
def test_half_of_the_channels_go_as_if_they_were_zero(
    name: str, exporter: str, tmp_path: Path
) -> None:
    original = load(exported(name, exporter, tmp_path))
    graph = preset("exact").run(original)
    silent, small = (Prune(0.5, "l2", compact)(graph) for compact in (False, True))
    feeds = normal_feeds(graph, seed=0)
    found = [outputs(g, feeds) for g in (silent, small)]
    moved = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(*found, strict=True))
    assert moved <= ROUNDING

    pinned = Counter(pin.kind for family in families(graph) for pin in family.pins[:1])
    reasons = ", ".join(f"{n} {why}" for why, n in pinned.most_common())
    kept = parameters(small) / parameters(original)
    total = f"{parameters(original) / 1e6:.1f} M"
    print(f"\n| {name} | {exporter} | {total} | {kept:.2f} | {moved:.0e} | {reasons} |")
    assert Coupling(small).pinned  # what is left is followed, too
