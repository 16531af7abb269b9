"""torchvision's architectures come back from redir as they were, and so they do through ``exact``.

A long run (``make architectures``), that needs torchvision.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[torch]'")

from tests.benchmarks.round_trips import faults, printed

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(find_spec("torchvision") is None, reason="needs torchvision"),
]


def test_every_architecture_computes_the_same() -> None:
    table = printed("tests.benchmarks.torchvision_models")
    assert len(table.splitlines()) >= 2 + 95
    assert not faults(table)
