"""The points of a sweep: what is known of each, and the file that keeps them as they get done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redir.app import tables
from redir.app.console import dump
from redir.errors import BadInput
from redir.evaluation import Judged
from redir.evaluation.judge import bounded
from redir.evaluation.scales import Scale
from redir.ir import Graph
from redir.pipeline import Pipeline
from redir.pipeline.compress import Result, Target

Held = Mapping[str, Any]
"""A point, as ``redir sweep --json`` prints it."""


def point(
    result: Result,
    target: Target,
    pipeline: Pipeline,
    judged: Judged | None,
    missed: str | None,
) -> dict[str, Any]:
    """What one value of a target came to; its file and key are for others to say."""
    held = result.as_dict()
    return {
        "asked": target.asked,
        "reached": target.reached,
        **held["after"],
        "deviation": held["deviation"],
        "time": held["time"],
        "eval": judged and bounded(judged.after),
        "accuracy": judged and judged.accuracy and judged.accuracy["after"],
        "file": None,
        "missed": missed,
        "pipeline": str(pipeline),
        "key": None,
    }


def row(held: Held, of: Scale | None = None) -> tables.Row:
    """A point in the table, with what was judged of it on a scale, if it was."""
    reached, moved = held["reached"], held["deviation"]
    return (
        f"{held['asked']:g}",
        "-" if reached is None else f"{reached:.3g}",
        *(held[count] for count in tables.COLUMNS),
        "-" if moved is None else f"{moved:.1e}",
        "-" if held["time"] is None else tables.share_of(held["time"]),
        of.text(held["eval"]) if of else "-",
    )


@dataclass
class Points:
    """The points that are known, by their places, under the ``head`` of them all.

    They are in the file ``path`` after each of them, if there is one.
    """

    head: Mapping[str, Any]
    path: str | None
    held: dict[int, Held] = field(default_factory=dict)

    def add(self, place: int, found: Held) -> None:
        """Keep a point."""
        self.held[place] = found
        if self.path not in {None, "-"}:
            self.write()

    def write(self) -> None:
        """Write them all as JSON, if that is wanted."""
        if self.path:
            dump(self.as_dict(), self.path)

    def as_dict(self) -> dict[str, Any]:
        """What ``redir sweep --json`` prints."""
        return {**self.head, "points": [self.held[place] for place in sorted(self.held)]}

    def resume(self, keys: Sequence[str], files: Sequence[str | None]) -> None:
        """Take up what the file holds of the same runs, where their models are still there.

        Raises:
            BadInput: it holds something else.
        """
        before = {old["key"]: old for old in _read(Path(self.path or ""))}
        for place, (key, file) in enumerate(zip(keys, files, strict=True)):
            old = before.get(key)
            if old and (not file or old["missed"] or (old["file"] == file and Path(file).exists())):
                self.held[place] = old


def _read(path: Path) -> Sequence[Held]:
    """The points of a file, none if there is none."""
    if not path.exists():
        return ()
    try:
        points: Sequence[Held] = json.loads(path.read_text(encoding="utf-8"))["points"]
        _ = [(held["key"], held["file"], held["missed"], row(held)) for held in points]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise BadInput(f"{path}: it holds no points of redir sweep, to resume") from None
    return points


def keys(graph: Graph, pipelines: Sequence[Pipeline], data: str | None, how: str) -> list[str]:
    """What tells runs apart: the model, the pipeline, the ``data`` to judge by, and ``how`` else.

    Statistics of a file or folder are told apart by its name alone, and a folder of images to judge
    by by the names and sizes of what is in it.
    """
    read = hashlib.sha256(_content(Path(data))).hexdigest() if data else ""
    whole = [version("redir"), repr(graph), read, how]
    texts = ("\0".join([*whole, str(pipeline)]) for pipeline in pipelines)
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def _content(path: Path) -> bytes:
    if not path.is_dir():
        return path.read_bytes()
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return "\n".join(f"{each}: {each.stat().st_size}" for each in files).encode()
