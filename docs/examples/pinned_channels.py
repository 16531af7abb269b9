"""Print a table of the channel groups of models, and of what pins them.

python docs/examples/pinned_channels.py model.onnx other.onnx
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import redir
from redir.channels.families import families
from redir.pipeline import Pipeline

CLEAN = "fold-constants,eliminate-identity,fold-batchnorm,cse"
HEAD = "| model | families | pinned | channels | pinned | pinned by |\n|---|--:|--:|--:|--:|---|"


def row(path: Path) -> str:
    """The families of coupled channels of a model, those pinned, and the nearest cause of each."""
    graph = Pipeline.parse(CLEAN).run(redir.load(path, overridable_initializers="constant"))
    found = families(graph)
    pinned = [family for family in found if family.pinned]
    causes = Counter(family.pins[0].kind for family in pinned)
    why = ", ".join(
        f"{what} {n}" for what, n in sorted(causes.items(), key=lambda c: (-c[1], c[0]))
    )
    channels = sum(f.width for f in found), sum(f.pinned for f in found)
    numbers = " | ".join(f"{n:,}" for n in (len(found), len(pinned), *channels))
    return f"| {path.stem} | {numbers} | {why or '-'} |"


def table(paths: Iterable[Path]) -> Iterator[str]:
    """The lines of the table."""
    yield from HEAD.splitlines()
    yield from map(row, paths)


if __name__ == "__main__":
    print(*table(map(Path, sys.argv[1:])), sep="\n")
