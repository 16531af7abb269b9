"""Half of the free channels of real models removed is the same as half of them silenced.

Each model has one criterion of several, and channels of all its families are compared or not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redir.backends.onnx import save
from redir.frontends.onnx import load
from redir.passes.prune import Prune, Scope
from redir.pipeline import Pipeline
from tests.real.inputs import SHARED, feeds_of, name_of, outputs_of, session

CLEAN = Pipeline.parse("fold-constants,eliminate-identity,fold-batchnorm,cse")


CRITERIA = ("l2", "dafp", "fpgm", "lamp", "l1", "bn_scale", "rectified", "random")
WAYS = [(path, CRITERIA[i % 8], ("layer", "global")[i % 3 % 2]) for i, path in enumerate(SHARED)]


@pytest.mark.parametrize(
    ("path", "criterion", "scope"), WAYS, ids=[f"{name_of(p)}-{c}-{s}" for p, c, s in WAYS]
)
def test_removing_is_the_same_as_silencing(
    path: Path, criterion: str, scope: Scope, tmp_path: Path
) -> None:
    graph = CLEAN.run(load(path, overridable_initializers="constant"))
    given = {name: array for name, array in feeds_of(path).items() if name in graph.inputs}
    found = []
    for compact in (False, True):
        prune = Prune(criterion=criterion, compact=compact, scope=scope)
        save(prune(graph), tmp_path / "pruned.onnx")
        held = session(tmp_path / "pruned.onnx")
        assert held is not None
        found.append(outputs_of(held, given))
    for name, array in found[0].items():
        bound = 1e-6 + 1e-5 * np.abs(array).max()
        np.testing.assert_allclose(found[1][name], array, rtol=0, atol=bound)
