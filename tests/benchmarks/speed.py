"""What reading a model, the preset ``exact`` and writing take, beside onnxslim.

It needs ``pip install onnxslim==0.1.98``. Each is a process of its own, one after the other, so
that what they import counts too: the processor time of the quickest of three runs, and the most
memory. Nothing is run or checked by either::

    python -m tests.benchmarks.speed models/*.onnx
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from redir.app import tables
from tests.benchmarks.spending import Spent, spent

RUNS = 3
_REDIR = """
import sys
import redir
from redir.pipeline import Pipeline
from redir.pipeline.presets import PRESETS
graph = redir.load(sys.argv[1])
redir.save(Pipeline.parse(PRESETS["exact"]).run(graph), sys.argv[2])
"""
TOOLS: dict[str, Sequence[str]] = {
    "redir": (sys.executable, "-c", _REDIR),
    "onnxslim": (sys.executable, "-m", "onnxslim"),
}
HEAD = ("model", "redir, s", "onnxslim, s", "ratio", "redir, MB", "onnxslim, MB", "ratio")


def measured(model: Path, folder: Path) -> list[Spent | None]:
    """What each tool takes for a model, None where it fails."""
    found = [[_ran(tool, model, folder) for tool in TOOLS] for _ in range(RUNS)]
    return [_least(tries) for tries in zip(*found, strict=True)]


def _ran(tool: str, model: Path, folder: Path) -> Spent | None:
    try:
        return spent(*TOOLS[tool], str(model), str(folder / f"{tool}.onnx"))
    except subprocess.CalledProcessError:
        return None


def _least(tries: Sequence[Spent | None]) -> Spent | None:
    known = [found for found in tries if found]
    return Spent(*map(min, zip(*known, strict=True))) if len(known) == len(tries) else None


def row(name: str, ours: Spent | None, theirs: Spent | None) -> list[str]:
    """A line of the table: what both take, and the shares."""
    if ours is None or theirs is None:
        failed = " and ".join(t for t, s in zip(TOOLS, (ours, theirs), strict=True) if s is None)
        return [f"{name}: {failed} failed", *[""] * (len(HEAD) - 1)]
    return [
        name,
        *_compared(ours.processor, theirs.processor, "{:.2f}"),
        *_compared(1e3 * ours.peak, 1e3 * theirs.peak, "{:.0f}"),
    ]


def _compared(ours: float, theirs: float, form: str) -> list[str]:
    return [form.format(ours), form.format(theirs), f"{ours / theirs:.2f}"]


def main(paths: Sequence[str]) -> None:
    """Print the table, and a line for the sum of the models that both can read."""
    rows, both = [], list[list[Spent]]()
    with TemporaryDirectory() as folder:
        for path in map(Path, paths):
            ours, theirs = measured(path, Path(folder))
            rows.append(row(path.stem, ours, theirs))
            if ours and theirs:
                both.append([ours, theirs])
    sums = [Spent(*map(sum, zip(*column, strict=True))) for column in zip(*both, strict=True)]
    if len(both) > 1:
        rows.append(row("all", *sums))
    tables.write_table(HEAD, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
