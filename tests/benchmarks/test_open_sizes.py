"""Networks whose sizes are open lose as much as those whose sizes are fixed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[torch]'")
pytest.importorskip("transformers", reason="needs transformers: pip install transformers")

from tests.benchmarks.open_networks import NETWORKS
from tests.benchmarks.open_sizes import measured

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("name", NETWORKS)
def test_as_much_goes_where_sizes_are_open(name: str) -> None:
    rows = list(measured([name]))
    print(*rows, sep="\n")
    assert rows
    assert all(abs(row.open - row.fixed) < 0.02 for row in rows)
    assert all(row.apart < 1e-4 for row in rows)
