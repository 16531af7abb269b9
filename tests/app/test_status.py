"""The line on a terminal that says how far a run is."""

from __future__ import annotations

import argparse
import io
import re
import time
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest

from redir import ops
from redir.app import bars, status
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
def drawn(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal on which bars are drawn, each time there is something new."""
    pytest.importorskip("rich", reason="rich draws bars")
    monkeypatch.setattr(status, "_beat", lambda _: None)
    monkeypatch.setattr(status, "_OFTEN", 0)
    monkeypatch.setattr(status, "_SOON", 0)
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


@pytest.fixture
def terminal(drawn: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The same, with a line of text in place of bars."""
    monkeypatch.setenv("NO_COLOR", "1")
    return drawn


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
            assert status.STATUS.screen.shown == ""  # type: ignore[attr-defined]
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
    assert re.search(r"redir: models 2/2(?: \(\d+ s left\))?, passes 1/", shown)
    assert all(part in shown for part in ("what flows", "forms", "effects of errors", "solving"))
    assert [line for line in terminal.seen() if line.startswith("redir: models")] == []


# bars, by rich

ERASED = "\x1b[2K"  # a line, in which nothing stands any more


def test_bars_say_how_far_each_level_is_and_are_gone(drawn: Terminal) -> None:
    with redirect_stderr(drawn), status.showing(LOUD):
        for _ in progress(range(2), "models"):
            next(progress(range(9), "layers"))
    shown = drawn.getvalue()
    assert re.search(r"models.*2/2.*\n.*layers.*1/9", shown)
    assert shown.rpartition("1/9")[2].count(ERASED) >= 2


def test_notes_stand_above_bars(drawn: Terminal) -> None:
    with redirect_stderr(drawn), status.showing(LOUD):
        for _ in progress(range(2), "models"):
            note(LOUD, "hello")
    before, _, after = drawn.getvalue().partition("redir: hello\n")
    assert before.endswith(ERASED)
    assert "models" in after


@pytest.mark.parametrize("how", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_that_wants_no_colours_gets_a_line(
    drawn: Terminal, how: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in how.items():
        monkeypatch.setenv(name, value)
    with redirect_stderr(drawn), status.showing(LOUD):
        list(progress(range(2), "models"))
    assert "\x1b" not in drawn.getvalue()
    assert "models 1/2" in drawn.getvalue()


def test_without_rich_there_is_a_line(drawn: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "Console", None)
    with redirect_stderr(drawn), status.showing(LOUD):
        list(progress(range(2), "models"))
    assert "\x1b" not in drawn.getvalue()


# how long still


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    return found


def test_what_is_alike_says_how_long_it_still_takes(terminal: Terminal, clock: Clock) -> None:
    with redirect_stderr(terminal), status.showing(LOUD):
        for _ in progress(range(40), "models"):
            clock.now += 3
    assert "models 1/40\r" in terminal.getvalue()
    assert "models 2/40 (2 min left)" in terminal.getvalue()
    assert "models 40/40 (3 s left)" in terminal.getvalue()


def test_a_step_that_takes_longer_counts_down(terminal: Terminal, clock: Clock) -> None:
    with redirect_stderr(terminal), status.showing(LOUD):
        models = progress(range(3), "models")
        next(models)
        clock.now += 30
        next(models)
        clock.now += 10
        status.STATUS.draw()
    assert "models 2/3 (50 s left)" in terminal.getvalue()


def test_a_step_that_is_slower_than_those_before_it_is_heeded(
    terminal: Terminal, clock: Clock
) -> None:
    with redirect_stderr(terminal), status.showing(LOUD):
        models = progress(range(4), "models")
        next(models)
        clock.now += 1
        next(models)
        clock.now += 9
        status.STATUS.draw()
    assert "models 2/4 (6 s left)" in terminal.getvalue()


def test_what_is_not_alike_says_nothing_of_time(terminal: Terminal, clock: Clock) -> None:
    with redirect_stderr(terminal), status.showing(LOUD):
        for _ in progress(range(4), "passes", alike=False):
            clock.now += 3
    assert "left" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s left"), (59, "59 s left"), (90, "2 min left"), (7500, "2 h 5 min left")],
)
def test_times_are_in_words(seconds: float, words: str) -> None:
    assert status.told(seconds) == words


def test_a_step_that_takes_long_is_shown_all_the_same(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(status, "_SOON", 0.05)
    monkeypatch.setattr(status, "_OFTEN", 0.01)
    with redirect_stderr(terminal), status.showing(LOUD):
        step = progress(range(2), "models")
        next(step)
        end = time.monotonic() + 10
        while "models 1/2" not in terminal.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    assert "models 1/2" in terminal.getvalue()
