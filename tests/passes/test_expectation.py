"""The expected number of products: on drawn weights, on silent channels and on real layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.layers.products import split_ratio
from redir.passes.hash import Hash
from redir.passes.split_inputs.expectation import expected_kernels, expected_split_ratio
from redir.passes.split_inputs.forms import SPLITTABLE, layer_of
from redir.pipeline import Pipeline
from tests.real.inputs import SHARED, loaded

RNG = np.random.default_rng(0)
SHARES = np.array([0.6, 0.25, 0.1, 0.05])
NAMES = (
    "cifar10-resnet20-folded",
    "cifar10-resnet32-bn",
    "cls-cifar10-resnet8-mlperftiny",
    "cls-cifar10-resnet-large-mlperftiny",
    "cls-imagenet-mobilenetv1-0.25-128-deq",
    "cls-imagenet-mobilenetv1-0.5-160-deq",
)
REAL = [p for p in SHARED if p.stem in NAMES]
FEW = ("cifar10-resnet20-folded", "cls-imagenet-mobilenetv1-0.25-128-deq")
PREDICTED = [
    (Hash(), FEW),
    pytest.param(Hash(), NAMES, marks=pytest.mark.nightly),
    pytest.param(Hash(error=0.05), NAMES, marks=pytest.mark.nightly),
]


def drawn(*shape: int) -> Array:
    return RNG.choice([0.0, 1.0, 2.0, 3.0], size=shape, p=SHARES)


@pytest.mark.parametrize(("numbers", "draws"), [(1, 8), (2, 8), (4, 40), (9, 64), (9, 1)])
def test_expected_kernels_are_those_of_draws(numbers: int, draws: int) -> None:
    counts = [len(np.unique(drawn(draws, numbers), axis=0)) for _ in range(2000)]
    assert expected_kernels(SHARES, draws, numbers) == pytest.approx(np.mean(counts), rel=0.01)


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((64, 300, 1, 1), 1), ((64, 300), 1), ((32, 200, 2, 2), 1), ((16, 200, 3, 1), 2)],
)
def test_the_ratio_of_drawn_weights(shape: tuple[int, ...], groups: int) -> None:
    weights = drawn(*shape)
    expected = expected_split_ratio(weights, groups)
    assert expected == pytest.approx(split_ratio(weights, groups), rel=0.02)


def test_silent_channels_are_counted() -> None:
    weights = RNG.normal(size=(16, 8, 3, 3))
    weights[:4] = 0.25
    weights[:, :3] = -0.5
    weights[:, 3:5] = 0.0
    assert split_ratio(weights) == pytest.approx((3 * 1 + 3 * (12 + 1)) / (16 * 8))
    assert expected_split_ratio(weights) == pytest.approx(split_ratio(weights))


@pytest.mark.parametrize(("shape", "groups"), [((1, 1), 1), ((1, 9), 1), ((8, 1, 3, 3), 8)])
def test_a_single_output_shares_nothing(shape: tuple[int, ...], groups: int) -> None:
    assert expected_split_ratio(RNG.normal(size=shape), groups) == pytest.approx(1)


def layers(path: Path, step: Hash) -> list[Linear]:
    graph = step(Pipeline.parse("fold-constants,fold-batchnorm").run(loaded(path)))
    found = [layer_of(graph, n) for n in graph.nodes if n.op in SPLITTABLE]
    return [x for x in found if isinstance(x, Linear)]


@pytest.mark.nightly
@pytest.mark.parametrize(("step", "names"), PREDICTED, ids=str)
def test_it_predicts_the_ratio_of_hashed_real_layers(step: Hash, names: tuple[str, ...]) -> None:
    if len(REAL) < len(NAMES):
        pytest.skip("needs the folder shared/models")
    pairs = [
        (expected_split_ratio(w, x.groups), split_ratio(w, x.groups))
        for path in REAL
        if path.stem in names
        for x in layers(path, step)
        for w in [x.weight.reshape(x.outputs, *x.weight.shape[2:])]
    ]
    off = np.array([abs(expected / found - 1) for expected, found in pairs])
    assert off.size > 15 * len(names)
    assert np.mean(off <= 0.05) > 0.95
    assert off.max() < 0.15
