"""What other compilers make of redir's output: the page on toolchains, and its script."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import redir
from redir.io import models
from tests.source_files import imported

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/embed.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"^```python (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
DIGITS = ROOT / "redir/demo/digits.onnx"
RESNET = ROOT.parent / "shared/models/cifar10-resnet20-bn.onnx"
HALF = "fold-constants,prune{channel_ratio=0.5},fold-batchnorm,merge,eliminate-dead-channels"
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "iree": "iree.compiler"}
ROUNDING = 1e-5  # of the largest output
RUNTIMES = [
    "onnxruntime",
    "openvino",
    pytest.param("iree", marks=pytest.mark.nightly),  # it compiles for ten seconds
]


def present(runtime: str) -> None:
    pytest.importorskip(PACKAGES[runtime], reason=f"{runtime} is not installed")


@pytest.mark.parametrize("runtime", sorted(SNIPPETS))
def test_a_snippet_compiles_what_redir_writes(runtime: str, tmp_path: Path) -> None:
    """In a process of its own, as each brings libraries of its own."""
    present(runtime)
    models.save(redir.compress(DIGITS), str(tmp_path / "small.onnx"))
    (tmp_path / "snippet.py").write_text(SNIPPETS[runtime], encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.returncode) == ("(1, 10)\n", 0), ran.stderr


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_gives_the_outputs_of_onnxruntime(runtime: str, tmp_path: Path) -> None:
    present(runtime)
    present("onnxruntime")
    _compare(DIGITS, runtime, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("runtime", sorted(PACKAGES))
def test_it_does_of_a_trained_network_too(runtime: str, tmp_path: Path) -> None:
    present(runtime)
    present("onnxruntime")
    if not RESNET.exists():
        pytest.skip("../shared/models is not there")
    _compare(RESNET, runtime, tmp_path)


def _compare(model: Path, runtime: str, folder: Path) -> None:
    example = imported(ROOT / "docs/examples/runtimes.py")
    example.PAIRS = 3
    graphs = [redir.load(model), redir.compress(model), redir.compress(model, pipeline=HALF)]
    for place, graph in enumerate(graphs):
        models.save(graph, str(folder / f"{place}.onnx"))
    given = [example.single(folder / f"{place}.onnx") for place in range(len(graphs))]
    times, far = example.compared(given, example.RUNTIMES[runtime])
    assert len(times) == len(graphs)
    assert far < ROUNDING


def test_the_page_has_a_snippet_for_each_other_runtime() -> None:
    assert {"onnxruntime", *SNIPPETS} == set(PACKAGES)
