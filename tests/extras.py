"""onnxruntime where it is installed; a test that touches it is skipped where it is not."""

from __future__ import annotations

from typing import Any

import pytest

try:
    import onnxruntime
except ImportError:  # the extra is optional
    onnxruntime = None


class _Absent:
    def __getattr__(self, name: str) -> Any:
        pytest.skip("onnxruntime is not installed")


ort: Any = _Absent() if onnxruntime is None else onnxruntime
