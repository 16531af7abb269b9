"""--jobs, --scheduler and --memory: what they refuse, and that what is made is the same."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from redir import __main__, forking
from redir.app import cli, jobs
from redir.pipeline.executors import Pool, pool
from redir.tasks import Executor, Serial
from tests.commands import Redir

MODEL = "redir/demo/digits.onnx"


@pytest.mark.parametrize("command", ["compress", "plan", "sweep", "opt"])
@pytest.mark.parametrize("option", ["--jobs", "--memory"])
@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many", "²"])
def test_what_is_no_number_above_0_is_refused(
    redir: Redir, command: str, option: str, number: str
) -> None:
    done = redir(f"{command} model.onnx out.onnx {option} {number}")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"argument {option}: {number!r} is no whole number above 0" in done.err


def test_one_option_says_where_to_work(redir: Redir) -> None:
    done = redir("opt model.onnx -p hash --jobs 2 --scheduler tcp://localhost:1")
    assert done.code == 2
    assert "--jobs and --scheduler are both given" in done.err


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """The address of something that answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def address(request: pytest.FixtureRequest, silent: str) -> str:
    """An address that a test names, in which SILENT stands for one that answers nothing."""
    return str(request.param).replace("SILENT", silent)


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:1", "tcp://SILENT", "nonsense", "foo://a:1", "tcp://a:b", "''"],
    indirect=True,
)
def test_a_wrong_address_is_refused_soon(redir: Redir, address: str) -> None:
    pytest.importorskip("distributed", reason="it knows addresses")
    start = time.monotonic()
    done = redir(f"opt model.onnx -p hash --scheduler {address}")
    assert time.monotonic() - start < 10
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "redir: error: --scheduler " in done.err


def test_without_dask_its_extra_is_named(redir: Redir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = redir("opt model.onnx -p hash --scheduler tcp://localhost:1")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--scheduler needs redir's extra 'dask'" in done.err


@pytest.fixture
def chosen(redir: Redir, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Executor]:
    """What gets the tasks of a command done."""
    found: list[Executor] = []

    @contextmanager
    def using(executor: Executor) -> Iterator[None]:
        found.append(executor)
        yield

    monkeypatch.setattr(jobs, "using", using)

    def run(given: str) -> Executor:
        assert redir(f"opt {MODEL} -p cse {given}").code == 0
        return [Serial(), *found].pop()

    return run


def test_each_core_has_a_process(
    chosen: Callable[[str], Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_cores", lambda: 3)
    found = chosen("")
    assert isinstance(found, Pool)
    assert found.jobs == 3
    assert found.memory > 2**27


def test_options_say_how_many_processes_and_how_much_memory(
    chosen: Callable[[str], Executor],
) -> None:
    found = chosen("--jobs 5 --memory 1000")
    assert isinstance(found, Pool)
    assert (found.jobs, found.memory) == (5, 1000)


def test_one_job_is_this_process(
    chosen: Callable[[str], Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen("--jobs 1").is_here
    monkeypatch.setattr(jobs, "_cores", lambda: 1)
    assert chosen("").is_here


@pytest.mark.parametrize(
    ("options", "begun"),
    [("", False), ("--jobs 1", False), ("--jobs=1", False), ("--jobs 2", True), ("--jobs=9", True)],
)
def test_what_starts_processes_starts_with_a_command_that_asks_for_them(
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    begun: bool,  # noqa: FBT001 - of parametrize
) -> None:
    monkeypatch.setattr(sys, "argv", ["redir", "opt", *options.split()])
    with patch.object(forking, "begin") as begin, patch.object(cli, "main", return_value=0):
        assert __main__.main() == 0
    assert begin.called == begun


def test_no_process_is_started_for_what_takes_a_moment(redir: Redir) -> None:
    with patch.object(pool, "Worker") as started:
        assert redir(f"opt {MODEL} -p hash,palettize{{bits=4}} --jobs 2").code == 0
    assert not started.called
