"""What redir writes for every real model, as digests, to compare two versions of redir.

``python tests/real/digests.py > before.tsv``, and again with the other version: a line is a model,
a pipeline, the first digits of the file's SHA-256 and its size.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

SHARED = Path(__file__).parents[3] / "shared" / "models"
REDIR = str(Path(sys.executable).parent / "redir")
DEMO = Path(__file__).parents[2] / "redir" / "demo"
PRUNED = "fold-constants,prune{channel_ratio=0.5}"
OPTIONS = (
    *(("compress", "--no-timing", "--preset", preset) for preset in ("exact", "red", "red++")),
    ("opt", "-p", PRUNED),
)


def models() -> list[Path]:
    """The ONNX files that ship with redir, and those beside the checkout."""
    return sorted([*DEMO.glob("*.onnx"), *SHARED.rglob("*.onnx")])


def digest(model: Path, options: Sequence[str]) -> str:
    """The first digits of the SHA-256 of the file that a command writes, and its size in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.onnx"
        command, *rest = options
        made = [REDIR, command, *rest, str(model), str(out)]
        ended = subprocess.run(made, capture_output=True, text=True, check=False)
        if ended.returncode:
            return ended.stderr.strip().splitlines()[-1]
        data = out.read_bytes()
        return f"{hashlib.sha256(data).hexdigest()[:16]}\t{len(data)}"


def table() -> Iterator[str]:
    """One line for each model and pipeline."""
    for model in models():
        for options in OPTIONS:
            yield "\t".join([model.name, options[-1], digest(model, options)])


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)  # noqa: T201
