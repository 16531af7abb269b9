"""Models of transformers come back from redir as they were, and so they do through ``exact``."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[torch]'")
pytest.importorskip("transformers", reason="needs transformers: pip install transformers")

from tests.benchmarks.round_trips import faults, printed

pytestmark = pytest.mark.bench


def test_every_configuration_computes_the_same() -> None:
    table = printed("tests.benchmarks.transformers_models")
    assert len(table.splitlines()) >= 2 + 38
    assert not faults(table)
