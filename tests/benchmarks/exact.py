"""What ``exact`` leaves of models, beside onnxslim and onnxsim at their defaults.

It needs ``pip install onnxslim==0.1.98 onnxsim==0.8.1``. For each model it prints what is
in the file, and what each tool leaves: nodes, stored numbers, bytes, and the processor time that
the tool took; how long what redir made runs in onnxruntime beside what the other made, in turn and
on one thread: the median of the pairs and their quartiles; and where outputs are not the same, what
became of them. Initializers that are inputs are constants to redir here, as they are to the
others::

    python -m tests.benchmarks.exact models/*.onnx
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from redir.check.observed import Observed
from redir.check.outputs import verify
from redir.errors import RedirError
from redir.frontends.onnx import load
from redir.runtime.onnxruntime import session, time_pairs

SECONDS = 300
TOOLS: dict[str, Callable[[str, str], list[str]]] = {
    "redir": lambda a, b: [
        *(str(Path(sys.executable).with_name("redir")), "compress", a, b, "--no-timing", "--quiet"),
        *("--overridable-initializers", "constant"),
    ],
    "onnxslim": lambda a, b: [sys.executable, "-m", "onnxslim", a, b],
    "onnxsim": lambda a, b: [sys.executable, "-m", "onnxsim", a, b],
}
HEAD = ("model", "tool", "nodes", "numbers", "bytes", "seconds", "redir's time", "outputs")
_READ = partial(load, overridable_initializers="constant")
_Row = tuple[object, ...]


@dataclass(frozen=True)
class Left:
    """What is in a file: nodes but constants, the numbers that are stored, and its bytes."""

    nodes: int
    numbers: int
    bytes: int

    @classmethod
    def of(cls, path: Path) -> Left:
        """What is in the file at ``path``."""
        model = onnx.load(path)
        return cls(*_counted(model.graph), path.stat().st_size)


def _counted(graph: onnx.GraphProto) -> tuple[int, int]:
    """The nodes and the numbers of a graph and its bodies."""
    nodes = sum(node.op_type != "Constant" for node in graph.node)
    numbers = sum(prod(tensor.dims) for tensor in graph.initializer)
    for attribute in (a for node in graph.node for a in node.attribute):
        numbers += prod(attribute.t.dims) if attribute.HasField("t") else 0
        if attribute.HasField("g"):
            inner = _counted(attribute.g)
            nodes, numbers = nodes + inner[0], numbers + inner[1]
    return nodes, numbers


def rows(path: Path, folder: Path) -> Iterator[_Row]:
    """What is in a model, and what each tool leaves of it."""
    given = Left.of(path)
    yield path.stem, "", given.nodes, given.numbers, given.bytes, "", "", ""
    ours = folder / "redir.onnx"
    for tool, command in TOOLS.items():
        out = folder / f"{tool}.onnx"
        seconds, why = _run(command(str(path), str(out)))
        if why or not out.exists():
            yield path.stem, tool, "", "", "", f"{seconds:.1f}", "", why or "nothing was written"
            continue
        left, found = Left.of(out), _judged(path, out)
        times = "" if out == ours or found else _times(path, ours, out)
        counts = left.nodes, left.numbers, left.bytes
        yield path.stem, tool, *counts, f"{seconds:.1f}", times, found
    for out in folder.iterdir():
        out.unlink()


def _times(path: Path, ours: Path, theirs: Path) -> str:
    """How long our model runs, as a share of the time of theirs, with the quartiles."""
    try:
        (feeds,) = Observed.of(_READ(path), samples=1).feeds
        run, other = (session(_READ(out), exact=False) for out in (ours, theirs))
        pairs = round(2 / time_pairs(other, run, feeds, 3).before)
        found = time_pairs(other, run, feeds, min(max(pairs, 15), 400))
    except (RedirError, OSError) as error:
        return f"not timed: {error}"[:40]
    return f"{found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})"


def _run(command: Sequence[str]) -> tuple[float, str]:
    """The processor time of a command, and why it failed, if it did."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        words = (done.stderr or done.stdout).strip().splitlines()[-1:]
        why = "" if done.returncode == 0 else f"failed: {' '.join(words)[:80]}"
    except subprocess.TimeoutExpired:
        why = f"took more than {SECONDS} s"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, why


def _judged(path: Path, out: Path) -> str:
    """Nothing where outputs are those of the original, as far as they can be compared."""
    try:
        found = verify(_READ(path), _READ(out))
    except RedirError as error:
        return f"not compared: {error}"[:80]
    return "" if found.verdict in {"pass", "skipped"} else f"{found.verdict}: {found.reason}"[:80]


def main(paths: Sequence[str]) -> None:
    """Print the table."""
    print(*HEAD, sep="\t")
    with TemporaryDirectory() as folder:
        for row in (row for path in paths for row in rows(Path(path), Path(folder))):
            print(*row, sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
