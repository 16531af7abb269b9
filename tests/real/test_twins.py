"""On whole-number twins of real models, what the passes promise is compared with ==."""

from __future__ import annotations

from pathlib import Path

import pytest

from redir.check.guarantees import SAME_OUTPUTS, constants, is_whole
from redir.frontends.onnx import load
from redir.ir import Graph
from redir.passes.merge import Merge
from redir.pipeline import Pipeline
from redir.pipeline.presets import preset
from redir.testing import check_removal, plant_duplicates, whole_number_twin
from tests.real.inputs import SHARED, each, name_of

CLEAN = Pipeline.parse("fold-constants,eliminate-identity,fold-batchnorm,cse")
QUICK = {
    "ad-toycar-autoencoder-mlperftiny",
    "cls-cifar10-resnet8-mlperftiny",
    "cls-mnist-cntk-op7",
    "kws-oww-alexa",
}  # to interpret; the others are for the night
# Recurrent, captured and quantised weights meet numbers that are not rounded.
NOT_WHOLE = {
    "aud-gtcrn-simple",
    "cls-shufflenetv2-int8-onnxzoo",
    "vad-silero-v5-if-op16",
}
each_model = each(SHARED, {name_of(p) for p in SHARED} - QUICK)


def twin_of(path: Path) -> Graph:
    graph = CLEAN.run(load(path, overridable_initializers="constant"))
    return whole_number_twin(plant_duplicates(graph, 0.2, seed=0))


@each_model
def test_planted_channels_are_merged_exactly(path: Path) -> None:
    twin = twin_of(path)
    merged = Merge()(twin)
    assert is_whole(twin) != (name_of(path) in NOT_WHOLE)
    assert SAME_OUTPUTS.refute(twin, merged) is None


@each_model
def test_the_exact_preset_is_exact(path: Path) -> None:
    twin = twin_of(path)
    assert SAME_OUTPUTS.refute(twin, preset("exact").run(twin)) is None


@each_model
def test_channels_go_as_if_they_were_zero(path: Path) -> None:
    check_removal(twin_of(path), share=0.3)


@pytest.mark.parametrize(
    "path", [p for p in SHARED if name_of(p) == "cifar10-resnet20-folded"], ids=name_of
)
def test_a_twin_keeps_which_weights_are_equal(path: Path) -> None:
    twin = twin_of(path)
    before, after = (sum(t.array.size for t in constants(g)) for g in (twin, Merge()(twin)))
    assert after < before
