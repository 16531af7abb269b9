"""What ``redir completion`` prints completes in real shells, on real terminals."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redir.app.cli import _parser
from redir.app.completion import Option
from redir.io import plugins
from tests.commands import Redir, running

SHELLS = {"bash": "--noprofile --norc -i", "zsh": "-f -i"}
PATIENCE = 20.0  # seconds
DONE = "<done>"


@pytest.fixture
def redir(capsys: pytest.CaptureFixture[str]) -> Redir:
    return running(capsys)


class Terminal:
    """A shell on a terminal, in which redir is a function that prints what it is given."""

    def __init__(self, shell: str, script: Path) -> None:
        ours, theirs = pty.openpty()
        command = [shell, *SHELLS[shell].split()]
        known = {**os.environ, "TERM": "dumb", "PS1": "", "HOME": str(script.parent)}
        self.handle = ours
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=known, cwd=script.parent
        )
        os.close(theirs)
        defined = "redir() { printf '[%s]' \"$@\"; printf '<%s>\\n' done; }"
        self.typed(f"source ./{script.name}; {defined}; redir ready\n")

    def typed(self, keys: str) -> list[str]:
        """What redir is given when these keys are typed."""
        os.write(self.handle, keys.encode())
        said, end = "", time.monotonic() + PATIENCE
        while DONE not in said and time.monotonic() < end:
            if select.select([self.handle], [], [], 0.1)[0]:
                said += os.read(self.handle, 4096).decode()
        assert DONE in said, said
        return re.findall(r"\[([^\[\]]*)\]", said.partition(DONE)[0].rpartition("\n")[2])

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.handle)


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, redir: Redir, tmp_path: Path) -> Iterator[Terminal]:
    shell: str = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "some model.onnx").touch()
    script = tmp_path / f"redir.{shell}"
    script.write_text(redir(f"completion {shell}").out, encoding="utf-8")
    found = Terminal(shell, script)
    yield found
    found.close()


def test_a_shell_completes_what_is_typed(terminal: Terminal) -> None:
    for keys, given in (
        ("redir compr\t\n", ["compress"]),
        ("redir compress so\t out.onnx\n", ["compress", "some model.onnx", "out.onnx"]),
        ("redir compress x --exp\t\n", ["compress", "x", "--explain"]),
        ("redir compress x --preset pal\t\n", ["compress", "x", "--preset", "palettes"]),
        ("redir compress x -p palet\t\n", ["compress", "x", "-p", "palettize"]),
        ("redir compress x -p cse,palet\t\n", ["compress", "x", "-p", "cse,palettize"]),
        ("redir opt x --pipeline 'hash{bandwidth=0.2},palet\t\n",
         ["opt", "x", "--pipeline", "hash{bandwidth=0.2},palettize"]),
        ("redir opt x --print-ir-after al\t\n", ["opt", "x", "--print-ir-after", "all"]),
        ("redir compress x --cost lat\t\n", ["compress", "x", "--cost", "latency"]),
        ("redir passes eliminate-d\t\n", ["passes", "eliminate-dead-channels"]),
        ("redir completion ba\t\n", ["completion", "bash"]),
    ):  # fmt: skip
        assert terminal.typed(keys) == given


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_what_is_typed(redir: Redir, tmp_path: Path) -> None:
    (tmp_path / "redir.fish").write_text(redir("completion fish").out, encoding="utf-8")

    def offered(line: str) -> list[str]:
        code = f"source redir.fish; complete -C {line!r}"
        fish = ["fish", "--no-config", "-c", code]
        ran = subprocess.run(fish, cwd=tmp_path, capture_output=True, text=True, check=True)
        return [row.partition("\t")[0] for row in ran.stdout.splitlines()]

    assert offered("redir compr") == ["compress"]
    assert offered("redir compress x -p cse,palet") == ["cse,palettize"]
    assert offered("redir compress --preset pal") == ["palettes"]
    assert "--explain" in offered("redir compress --e")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_the_script(redir: Redir, shell: str) -> None:
    script = redir(f"completion {shell}").out
    (commands,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        assert re.search(rf"\b{name}\b", script)
        for flag in (f for action in parser._actions for f in action.option_strings):
            bare = flag.lstrip("-")
            assert re.search(rf"(-l |-s |-|'){bare}\b", script), flag
    assert all(name in script for name in plugins.plugins("redir.passes"))


def test_a_name_that_a_shell_would_run_is_left_out() -> None:
    action = argparse.ArgumentParser().add_argument("--x", choices=["fine", "$(echo bad)", "a b"])
    assert Option.of(action).words == ("fine",)


def test_another_shell_is_refused(redir: Redir) -> None:
    done = redir("completion csh")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "bash" in done.err
