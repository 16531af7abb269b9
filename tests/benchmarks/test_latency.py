"""Under cost=latency no real model becomes slower in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import pytest

from redir.io.models import load
from redir.ir import Graph
from redir.pipeline.compress import chosen
from redir.pipeline.presets import PRESETS
from redir.runtime.onnxruntime import pair_ratio, session
from tests.real.inputs import SHARED, feeds_of, name_of

SLOWER = 1.02  # the median ratio of the times of pairs
LOSSY = "uneven-depthwise{error=0.5}"  # so that there is something to choose
PIPELINES = {
    "red": PRESETS["red"],
    "red++": PRESETS["red++"],
    "error": f"fold-constants,eliminate-identity,fold-batchnorm,cse,{LOSSY}",
}


def ratio(path: Path, before: Graph, pipeline: str) -> float:
    """The time of the model behind a pipeline over that of the original, by the same inputs."""
    after = chosen(None, pipeline, "latency").run(before)
    runs = session(before), session(after)
    feeds = {name: array for name, array in feeds_of(path).items() if name in before.inputs}
    return pair_ratio(*runs, feeds, seconds=2)


@pytest.mark.bench
@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("path", SHARED, ids=name_of)
def test_latency_makes_no_model_slower(path: Path, pipeline: str) -> None:
    before = load(path, overridable_initializers="constant")
    found = ratio(path, before, PIPELINES[pipeline])
    if found > SLOWER:  # noise of this machine: once more
        found = min(found, ratio(path, before, PIPELINES[pipeline]))
    print(f"\n{name_of(path)}, {pipeline}: {found:.3f}")
    assert found <= SLOWER
