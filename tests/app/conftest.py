"""What tests of the command line share."""

from __future__ import annotations

import pytest

from tests.commands import Redir, running


@pytest.fixture
def redir(capsys: pytest.CaptureFixture[str]) -> Redir:
    """Runs the command line in this process."""
    return running(capsys)
