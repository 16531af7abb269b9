"""Networks that are exported with open sizes lose as many channels as those of fixed sizes."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[torch]'")

from tests.real.open_maps import MAPS, apart, exported, share


@pytest.mark.filterwarnings("ignore")  # torch's older exporter warns that it is old, and of shapes
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.nightly] * (n == "YOLO")) for n in MAPS]
)
def test_as_much_goes_where_sizes_are_open(name: str) -> None:
    fixed, opened = (exported(MAPS[name], "torchscript", opened=o) for o in (False, True))
    assert fixed is not None
    assert opened is not None
    assert share(opened) < 0.5
    assert abs(share(opened) - share(fixed)) < 0.02
    assert apart(MAPS[name], opened) < 1e-4
