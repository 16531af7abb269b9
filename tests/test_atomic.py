"""Writing: what is replaced, what is written to, and what is left after a failure or a signal."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
from onnx import parser

from redir.atomic import probe, replacing
from redir.errors import BadInput
from redir.io.models import load, save

DEMO = Path(__file__).parents[1] / "redir" / "demo" / "digits.onnx"
ROOT = os.geteuid() == 0


def write(path: Path, content: bytes = b"new") -> None:
    with replacing(path) as (file,):
        file.write(content)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join()
    assert got == [b"new"]
    assert pipe.is_fifo()


def test_a_device_is_written_to() -> None:
    write(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


def test_standard_output_is_written_to_where_it_is_a_file(tmp_path: Path) -> None:
    command = (
        "from tests.test_atomic import *; print('first', flush=True); write(Path('/dev/stdout'))"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", command], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "first\nnew"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/target")
    write(link)
    assert (tmp_path / "there" / "target").read_bytes() == b"new"
    assert link.is_symlink()


def test_links_that_lead_to_themselves_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BadInput, match="cannot write"):
        write(tmp_path / "a")


def test_permissions_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o640)
    write(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write(path)
    assert path.read_bytes() == b"new"


def test_a_name_that_is_too_long_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot write"):
        probe(tmp_path / ("n" * 256))


def test_a_name_with_nul_is_refused(tmp_path: Path) -> None:
    graph = load(DEMO)
    with pytest.raises(BadInput, match="NUL"):
        save(graph, tmp_path / "a\0b.onnx")


def test_reading_a_name_with_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="NUL"):
        load(tmp_path / "a\0b.onnx")


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with full_disk(), pytest.raises(BadInput, match=r"cannot write .*file"):
        write(path, bytes(5000))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.skipif(ROOT, reason="the superuser may write everywhere")
def test_a_folder_that_is_read_only_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="Permission denied"):
        probe(tmp_path / "file")


# Signals

BUSY = """
import signal, sys, time
from pathlib import Path
import numpy as np
from redir import load
from redir.app import cli, commands
from redir.runtime.onnxruntime import session
from redir.atomic import replacing, temporary_folder

def work(options):
    with replacing(Path(sys.argv[1]) / "out") as (file,), temporary_folder() as folder:
        file.write(b"half")
        print("ready", flush=True)
        {work}

commands._demo = work
signal.signal(int(sys.argv[2]), signal.SIG_DFL)  # which a shell ignores for what runs behind it
sys.exit(cli.main(["demo"]))
"""
PYTHON = "time.sleep(60)"
LIBRARY = "session(load(Path(sys.argv[1]) / 'long.onnx'))({'x': np.ones((512, 512), np.float32)})"
STARTING = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
except BaseException as stopped:
    raise ImportError("initialization failed") from stopped
"""
LONG = """<ir_version: 9, opset_import: ["" : 17]>
g (float[512, 512] x) => (float[512, 512] y) <int64 n = {100000}, bool go = {1}> {
  y = Loop (n, go, x) <body = b (int64 i, bool a, float[512, 512] s)
    => (bool o, float[512, 512] t) { o = Identity (a)  u = MatMul (s, s)  t = Tanh (u) }>
}"""


def stopped(work: str, number: int, folder: Path) -> tuple[int, str]:
    """The exit code and what is said, of a command that gets a signal in the middle of its work."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY.format(work=work), str(folder), str(int(number))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},  # where libraries leave files of their own
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        return process.wait(30), process.communicate()[1]


def left(folder: Path) -> list[Path]:
    return [*folder.glob("*redir*"), *folder.glob("out")]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.nightly)]
)
def test_a_signal_is_one_line_and_leaves_nothing(number: int, tmp_path: Path) -> None:
    name = signal.Signals(number).name
    said = f"redir: error: stopped by {name}; nothing was written\n"
    assert stopped(PYTHON, number, tmp_path) == (128 + number, said)
    assert left(tmp_path) == []


def test_a_signal_is_heard_while_a_library_starts(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(STARTING)
    work = f"sys.path.insert(0, {str(tmp_path)!r}); session(None)"
    code, said = stopped(work, signal.SIGCONT, tmp_path)  # which stops nothing
    assert (code, said.count("\n")) == (128 + signal.SIGTERM, 1)
    assert left(tmp_path) == []


def test_a_signal_is_heard_while_a_library_works(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx.save(parser.parse_model(LONG), tmp_path / "long.onnx")
    code, said = stopped(LIBRARY, signal.SIGINT, tmp_path)
    assert (code, said.count("\n")) == (130, 1)
    assert left(tmp_path) == []
