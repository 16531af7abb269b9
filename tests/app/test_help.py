"""``--help`` of each command: it fits a screen, says the defaults, and gives an example."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

import pytest

from redir.app.cli import _parser
from redir.app.help import screen
from tests.commands import Redir

WIDTH, LINES = 80, 44


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def shown(name: str, capsys: pytest.CaptureFixture[str], redir: Redir) -> str:
    with pytest.raises(SystemExit):
        redir(f"{name} --help")
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["", *commands()])
def test_it_fits_a_screen(name: str, capsys: pytest.CaptureFixture[str], redir: Redir) -> None:
    lines = shown(name, capsys, redir).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= LINES


def defaults() -> list[Any]:
    """The options that do something by a value that they have anyway."""
    return [
        pytest.param(action, id=f"{name}-{action.dest}")
        for name, parser in commands().items()
        for action in parser._actions
        if action.nargs != 0 and action.default not in (None, [], argparse.SUPPRESS)
    ]


@pytest.mark.parametrize("action", defaults())
def test_it_says_defaults(action: argparse.Action) -> None:
    assert "default" in (action.help or "")


@pytest.mark.parametrize("name", commands())
def test_each_option_is_there_once(name: str) -> None:
    parser = commands()[name]
    text = screen(parser)
    flags = [action.option_strings[-1] for action in parser._actions if action.option_strings]
    heads = re.findall(r"^  (-.*?)(?:  |$)", text, re.MULTILINE)
    words = " ".join(heads).replace(",", " ").split()
    assert [flag for flag in flags if words.count(flag) != 1] == ["--help"]


@pytest.mark.parametrize("name", commands())
def test_its_example_is_one(name: str) -> None:
    head, _, example = (commands()[name].epilog or "").partition(": ")
    assert head == "example"
    call = shlex.split(example.removeprefix('eval "$(').removesuffix(')"'))
    assert call[:2] == ["redir", name]
    assert _parser().parse_args(call[1:]).run is not None


def test_the_whole_has_an_example(capsys: pytest.CaptureFixture[str], redir: Redir) -> None:
    assert "example: redir compress model.onnx half.onnx --macs 0.5" in shown("", capsys, redir)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("compres x.onnx y.onnx", "the nearest is compress"),
        ("compress x.onnx y.onnx --preset rd", "the nearest is red"),
        ("compress x.onnx y.onnx --metrics cosine", "the nearest is --metric"),
        ("stats x.onnx --inputs=x=1x2", "the nearest is --input"),
    ],
)
def test_what_is_misspelt_is_told_what_may_be_meant(redir: Redir, call: str, named: str) -> None:
    done = redir(call)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{named} (see redir" in done.err


def test_what_is_near_nothing_is_told_nothing(redir: Redir) -> None:
    assert "nearest" not in redir("xyzzy").err
