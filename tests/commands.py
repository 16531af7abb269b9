"""Running the command line in a test, and what it gave back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from redir.app import cli


@dataclass(frozen=True)
class Done:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Redir = Callable[[str], Done]


def running(capsys: pytest.CaptureFixture[str]) -> Redir:
    """Runs the command line in this process."""

    def run(command: str) -> Done:
        capsys.readouterr()
        code = cli.main(shlex.split(command))
        return Done(code, *capsys.readouterr())

    return run
