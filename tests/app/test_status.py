"""The line on a terminal that says how far a run is."""

from __future__ import annotations

import argparse
import io
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest

from redir import ops
from redir.app import status
from redir.app.cli import main
from redir.app.console import note
from redir.io import models
from redir.ir import Graph
from redir.progress import progress
from tests.helpers import const, placeholder

LOUD, QUIET = argparse.Namespace(), argparse.Namespace(quiet=True)


class Terminal(io.StringIO):
    """A terminal of one line, which carriage returns begin anew."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        """What stands on each line in the end."""
        return list(map(_overwritten, self.getvalue().split("\n")))


def _overwritten(line: str) -> str:
    found = ""
    for text in line.split("\r"):
        found = text + found[len(text) :]
    return found.rstrip()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(status, "_OFTEN", 0)
    monkeypatch.setattr(status, "_SOON", 0)
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def test_it_says_how_far_a_run_is(terminal: Terminal) -> None:
    with redirect_stderr(terminal), status.showing(LOUD):
        for _ in progress(range(2), "models"):
            next(progress(range(9), "layers"))
    assert "\rredir: models 2/2, layers 1/9\r" in terminal.getvalue()


def test_it_is_gone_when_all_is_done(terminal: Terminal) -> None:
    with redirect_stderr(terminal), status.showing(LOUD):
        list(progress(range(2), "models"))
    assert terminal.getvalue()
    assert terminal.seen() == [""]


def test_notes_take_its_place(terminal: Terminal) -> None:
    with redirect_stderr(terminal), status.showing(LOUD):
        for _ in progress(range(2), "a long name of models"):
            note(LOUD, "hello")
            assert status.STATUS.shown == ""
    assert terminal.seen() == ["redir: hello", "redir: hello", ""]


def test_it_fits_into_a_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    with redirect_stderr(terminal), status.showing(LOUD):
        next(progress(range(2), "models"))
    assert max(map(len, terminal.getvalue().split("\r"))) == 11


def test_what_is_quick_says_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_SOON", 60)
    with redirect_stderr(terminal), status.showing(LOUD):
        list(progress(range(2), "models"))
    assert terminal.getvalue() == ""


def test_a_quiet_run_says_nothing(terminal: Terminal) -> None:
    with redirect_stderr(terminal), status.showing(QUIET):
        list(progress(range(2), "models"))
    assert terminal.getvalue() == ""


def test_a_pipe_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with status.showing(LOUD):
        list(progress(range(2), "models"))
    assert capsys.readouterr().err == ""


def test_commands_show_passes_and_what_they_are_at(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x, rng = placeholder("n", 3, 8, 8), np.random.default_rng(0)
    y = ops.Relu(ops.Conv(x, const(rng.normal(size=(12, 3, 3, 3)))))
    models.save(
        Graph({"x": x}, {"y": ops.Conv(y, const(rng.normal(size=(8, 12, 3, 3))))}), "x.onnx"
    )
    asked = "--macs 0.5:0.6:0.1 --statistics drawn --align 1 --examples 8 --no-timing --json -"
    with redirect_stderr(terminal):
        assert main(["sweep", "x.onnx", *asked.split()]) == 0
    shown = terminal.getvalue()
    assert "redir: models 2/2, passes 1/" in shown
    assert all(part in shown for part in ("what flows", "forms", "effects of errors", "solving"))
    assert [line for line in terminal.seen() if line.startswith("redir: models")] == []
