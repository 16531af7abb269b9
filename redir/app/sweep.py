"""The command ``redir sweep``: what several values of a target come to."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from redir.app import plots, tables
from redir.app.console import dump, load, note, own_files, save, say_counted, with_source
from redir.app.options import (
    TARGETS,
    add_command,
    add_model,
    add_pipeline,
    add_timing,
    check_seed,
    chosen,
    judging,
)
from redir.check.outputs import finite
from redir.errors import BadInput, Broken
from redir.io import outputs
from redir.ir import Graph
from redir.pipeline import Pipeline
from redir.pipeline.compress import COUNTS, Result, Target, missed
from redir.pipeline.sweep import swept
from redir.progress import progress
from redir.runtime.open_sizes import parsed_shapes

_MOST = 100  # points
_ROUNDING = 1e-6  # of a step


def add_sweep(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    summary = "Compress to several values of a target, and show what each costs and loses."
    command = add_command(commands, "sweep", _sweep, summary)
    add_model(command)
    command.add_argument(
        "out",
        metavar="OUT",
        nargs="?",
        help="write the models to files of this name, with the target for {}, as in small-{}.onnx",
    )
    add_pipeline(command, span)
    command.add_argument("--json", metavar="FILE|-", help="write the points as JSON; - for stdout")
    command.add_argument("--plot", metavar="FILE", help="draw the curve: .svg, .png or .pdf")
    add_timing(command)


def span(text: str) -> tuple[float, ...]:
    """The numbers of LOW:HIGH:STEP, both ends included, or a number alone.

    Raises:
        ArgumentTypeError: it is neither.
    """
    with suppress(ValueError, OverflowError, ZeroDivisionError):
        low, high, step = map(float, text.split(":") if ":" in text else (text, text, "1"))
        count = int((high - low) / step + _ROUNDING) + 1
        if 0 < low <= high and step > 0 and count <= _MOST:
            return tuple(round(low + step * number, 10) for number in range(count))
    raise argparse.ArgumentTypeError(
        f"{text!r} is not LOW:HIGH:STEP, as in 0.3:0.9:0.1, with at most {_MOST} numbers above 0"
    )


@dataclass(frozen=True)
class _Point:
    """What one value of a target came to, and the ``file`` it is in, if it was written."""

    target: Target
    result: Result
    accuracy: Mapping[str, float] | None
    file: str | None
    missed: str | None

    def as_dict(self) -> dict[str, Any]:
        """The point as ``redir sweep --json`` prints it."""
        held = self.result.as_dict()
        return {
            "asked": self.target.asked,
            "reached": self.target.reached,
            **held["after"],
            "deviation": held["deviation"],
            "time": held["time"],
            "accuracy": self.accuracy and self.accuracy["after"],
            "file": self.file,
            "missed": self.missed,
        }

    def row(self) -> tables.Row:
        """The point in the table."""
        reached, times = self.target.reached, self.result.times
        moved = finite(self.result.deviation)
        return (
            f"{self.target.asked:g}",
            "-" if reached is None else f"{reached:.3g}",
            *(getattr(self.result.after, count) for count in tables.COLUMNS),
            "-" if moved is None else f"{moved:.1e}",
            "-" if times is None else tables.share_of(times),
            "-" if self.accuracy is None else f"{100 * self.accuracy['after']:.2f}%",
        )


def _sweep(options: argparse.Namespace) -> int:
    check_seed(options)
    name, values = _target(options)
    asked = [argparse.Namespace(**{**vars(options), name: value}) for value in values]
    pipelines = list(map(chosen, asked))
    files = [_file(options.out, value) for value in values]
    graph = load(options, options.model)
    _check(options, graph, files)
    pipelines = with_source(options, graph, pipelines)
    runs = list(zip(pipelines, files, strict=True))
    points = list(_points(options, graph, runs))
    first = points[0].result
    say_counted(options, graph, first.sizes)
    summary = {
        "target": name,
        "statistics": points[0].target.statistics,
        "before": asdict(first.before),
        "accuracy": points[0].accuracy and points[0].accuracy["before"],
        "points": [point.as_dict() for point in points],
    }
    if options.plot:
        plots.save(plots.curve(summary, COUNTS.get(name, COUNTS["macs"])), options.plot)
    if options.json:
        dump(summary, options.json)
    if options.json != "-":
        _write(points)
    why = [f"{point.target.asked:g}: {point.missed}" for point in points if point.missed]
    if why:
        raise Broken(f"{name} {why[0]}")
    return 0


def _target(options: argparse.Namespace) -> tuple[str, Sequence[float]]:
    """The one target that is given, and its values."""
    given = [(name, values) for name in TARGETS if (values := getattr(options, name)) is not None]
    if len(given) != 1:
        raise BadInput("expected one target to go through, as in --macs 0.3:0.9:0.1")
    return given[0]


def _file(out: str | None, value: float) -> str | None:
    """The name of a model's file, if it is to be written."""
    if out is None:
        return None
    if "{}" not in out:
        raise BadInput(
            f"{out}: expected a name in which {{}} stands for the target: small-{{}}.onnx"
        )
    outputs.check_ending(out)
    return out.replace("{}", f"{value:g}")


def _check(options: argparse.Namespace, graph: Graph, files: Sequence[str | None]) -> None:
    """Refuse what cannot be written."""
    read = own_files(options, graph)
    for file in filter(None, files):
        outputs.check(read, file, options.json)
        outputs.check(read, file, options.plot)
    outputs.check(read, "-", options.json)
    if options.plot:
        plots.check_ending(options.plot)
        outputs.check(read, "-", options.plot)


def _points(
    options: argparse.Namespace, graph: Graph, runs: Sequence[tuple[Pipeline, str | None]]
) -> Iterator[_Point]:
    judge = judging(options, graph)
    how = {"timing": options.timing, "input_shapes": parsed_shapes(options.input)}
    results = swept(graph, [pipeline for pipeline, _ in runs], seed=options.seed, **how)
    for pipeline, file in progress(runs, "models"):
        result = next(results)
        found = judge(result.graph)
        target = result.target(pipeline, found)
        assert target is not None
        why = missed(result.before, result.after, pipeline.asked, result.times)
        note(options, tables.told(target))
        if file and not why:
            save(result.graph, file)
        yield _Point(target, result, found, None if why else file, why)


def _write(points: Sequence[_Point]) -> None:
    first = points[0]
    counts = (getattr(first.result.before, count) for count in tables.COLUMNS)
    right = "-" if first.accuracy is None else f"{100 * first.accuracy['before']:.2f}%"
    head = (first.target.name, "reached", *tables.COLUMNS, "deviation", "time", "accuracy")
    rows = [point.row() for point in points]
    tables.write_table(head, [("original", "", *counts, "", "", right), *rows])
