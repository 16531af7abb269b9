"""RED's passes fire on trained networks that are hashed, and keep what these compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redir.cost import macs, products
from redir.io.models import load
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.pipeline import Pipeline
from redir.pipeline.presets import preset
from redir.runtime.onnxruntime import session
from tests.helpers import one_of_three

MODELS = (
    "cls-cifar10-resnet8-mlperftiny",
    "ad-toycar-autoencoder-mlperftiny",
    "kws-oww-alexa",
)
HASHED = Pipeline.parse(
    "fold-constants,eliminate-identity,fold-batchnorm,cse,hash{bandwidth=0.3},merge"
)
SPLIT = "split-inputs{cost=multiplications}"
SEPARATED = "uneven-depthwise{basis=multiples,cost=multiplications}"
COARSE = "uneven-depthwise{error=0.4}"


def outputs(graph: Graph) -> dict[str, Array]:
    """What onnxruntime computes on random numbers, a batch of two where it is open."""
    rng = np.random.default_rng(0)
    shapes = {
        n: [d if isinstance(d, int) else 2 for d in v.type.shape or ()]
        for n, v in graph.inputs.items()
    }
    return session(graph)({n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()})


def assert_same(after: Graph, before: Graph) -> None:
    found, wanted = outputs(after), outputs(before)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * np.abs(array).max())


@pytest.fixture
def hashed(shared: Path, name: str) -> Graph:
    return HASHED.run(load(shared / f"models/{name}.onnx"))


@pytest.mark.parametrize("name", MODELS)
def test_products_are_shared(hashed: Graph) -> None:
    after = Pipeline.parse(SPLIT).run(hashed)
    assert products(after) < products(hashed)
    assert_same(after, hashed)


@pytest.mark.parametrize("name", MODELS[:1])
def test_kernels_are_separated(hashed: Graph) -> None:
    after = Pipeline.parse(SEPARATED).run(hashed)
    assert products(after) < products(hashed)
    assert_same(after, hashed)


@pytest.mark.parametrize("name", MODELS[:1])
def test_an_error_saves_multiply_adds(hashed: Graph) -> None:
    after = Pipeline.parse(COARSE).run(hashed)
    assert macs(after) < macs(hashed)


@pytest.mark.parametrize("name", one_of_three(MODELS))
@pytest.mark.parametrize("named", [pytest.param("red", marks=pytest.mark.nightly), "red++"])
def test_the_presets_change_nothing_behind_hash(shared: Path, named: str, name: str) -> None:
    """What they do to a hashed network is exact."""
    before = load(shared / f"models/{name}.onnx")
    steps = preset(named).passes
    place = [step.name for step in steps].index("hash") + 1
    moved = Pipeline(steps[:place]).run(before)
    assert_same(Pipeline(steps[place:]).run(moved), moved)
