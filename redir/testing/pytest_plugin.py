"""What pytest finds where redir is installed: the conformance kit as a fixture."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def check_pass() -> Callable[..., None]:
    """``redir.testing.check_pass``: refutes a pass that breaks a promise, or never fires."""
    from redir.testing import conformance  # noqa: PLC0415 - only those who ask for it need hypothesis

    return conformance.check_pass
