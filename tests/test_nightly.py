"""A hundred thousand drawn graphs on which the exact passes break no promise."""

from __future__ import annotations

import pytest

from redir.pipeline import Pipeline
from redir.presets import PRESETS
from redir.testing import check_pass

GRAPHS, SHARDS = 100_000, 4
EXACT = [*PRESETS["exact"].split(","), PRESETS["exact"]]


@pytest.mark.nightly
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("spec", EXACT)
def test_no_promise_is_broken(spec: str, shard: int) -> None:  # noqa: ARG001 - each draws others
    check_pass(Pipeline.parse(spec), max_examples=-(-GRAPHS // (len(EXACT) * SHARDS)))
