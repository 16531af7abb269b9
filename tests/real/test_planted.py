"""Duplicate channels that are planted in real models are all removed, and the outputs stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redir.backends.onnx import save
from redir.channels.coupling import Coupling
from redir.check.guarantees import constants
from redir.frontends.onnx import load
from redir.ir import Graph
from redir.passes.merge import Merge
from redir.pipeline import Pipeline
from redir.testing import plant_duplicates
from tests.real.inputs import (
    REPEATED,
    SHARED,
    each,
    feeds_of,
    name_of,
    original,
    outputs_of,
    session,
)

CLEAN = Pipeline.parse("fold-constants,eliminate-identity,fold-batchnorm,cse,merge")
# Their weights are integers, lie in captured graphs, or are read where shapes are computed.
PINNED = {
    "cls-shufflenetv2-int8-onnxzoo",
    "vad-silero-v5-if-op16",
}
# What takes seconds each: made smaller by the preset exact for every change, here by night.
SLOW = {
    "aud-gtcrn-simple",
    "cifar10-resnet20-dynamo",
    "cifar10-resnet20-folded",
    "cls-imagenet-mobilenetv1-0.25-128-deq",
    "cls-vww-mobilenetv1-0.25-96-mlperftiny",
    "det-yunet-n-320",
    "lmk-mediapipe-facemesh-tf2onnx-nhwc",
    "ocr-ppocr-cls-op14",
    "txt-magika-v1",
    "trk-vittrack-transformer-op14",
}
each_free_model = each([p for p in SHARED if name_of(p) not in PINNED], SLOW | REPEATED)


def cleaned(path: Path) -> Graph:
    return CLEAN.run(load(path, overridable_initializers="constant"))


def size(graph: Graph) -> int:
    """How many numbers the weights hold: sizes, which are int64, come apart by planting."""
    return sum(t.array.size for t in constants(graph) if t.array.dtype != np.int64)


@each_free_model
def test_planted_channels_are_all_removed(path: Path) -> None:
    clean = cleaned(path)
    planted = plant_duplicates(clean, 0.2, seed=0)
    assert size(planted) > size(clean)
    assert size(Merge()(planted)) == size(clean)


@pytest.mark.nightly
@each_free_model
def test_the_outputs_are_those_of_the_original(path: Path, tmp_path: Path) -> None:
    merged = Merge()(plant_duplicates(cleaned(path), 0.2, seed=1))
    save(merged, tmp_path / "merged.onnx")
    first, held = original(path), session(tmp_path / "merged.onnx")
    assert first is not None
    assert held is not None
    feeds = feeds_of(path)
    found = outputs_of(held, {name: feeds[name] for name in merged.inputs if name in feeds})
    for name, array in outputs_of(first, feeds).items():
        # onnxruntime computes a Sigmoid to an absolute precision of about 1e-7.
        bound = 1e-6 + 1e-4 * np.abs(array).max()
        np.testing.assert_allclose(found[name], array, rtol=2e-2, atol=bound)


@pytest.mark.parametrize("path", [p for p in SHARED if name_of(p) in PINNED], ids=name_of)
def test_what_pins_the_others_is_said(path: Path) -> None:
    coupling = Coupling(cleaned(path))
    families = list(coupling.channel_families())
    apart = [any(port in coupling.apart for port in family) for family in families]
    assert all(coupling.pins_of(f) or a for f, a in zip(families, apart, strict=True))
