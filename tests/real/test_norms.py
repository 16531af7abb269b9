"""Norms of a real transformer become plain, and it computes the same."""

from __future__ import annotations

import pytest

from redir.check.outputs import verify
from redir.passes import CanonicalNorms
from redir.pipeline import Pipeline
from redir.pipeline.opsets import in_opset
from tests.helpers import operators
from tests.real.inputs import SHARED, loaded

TRACKER = [p for p in SHARED if p.stem == "trk-vittrack-transformer-op14"]


@pytest.mark.skipif(not TRACKER, reason="the models beside the repository are not there")
def test_norms_of_a_tracker_become_plain() -> None:
    graph = Pipeline.parse("fold-constants,eliminate-identity,simplify").run(
        in_opset(loaded(TRACKER[0]), 17)
    )
    after = CanonicalNorms()(graph)
    counts = [operators(g).count("LayerNormalization") for g in (graph, after)]
    assert counts == [7, 1]
    (why,) = CanonicalNorms().explain(graph)
    assert "reads zeros around it" in why
    assert verify(graph, after).verdict == "pass"
