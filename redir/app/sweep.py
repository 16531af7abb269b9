"""The command ``redir sweep``: what several values of a target come to."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from redir.app import plots, tables
from redir.app.console import load, note, own_files, save, say_counted, with_source
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
from redir.app.points import Points, keys, point, row
from redir.app.report import command as report
from redir.app.report.facts import run_of
from redir.cost import Cost, example_shapes, total
from redir.errors import BadInput, Broken
from redir.evaluation import Judge, Judged
from redir.evaluation.metrics import USUAL
from redir.evaluation.scales import scale
from redir.io import outputs
from redir.ir import Graph
from redir.pipeline import Pipeline
from redir.pipeline.compress import (
    COUNTS,
    Clock,
    Result,
    missed,
    statistics_of,
    times_as_dict,
)
from redir.pipeline.sweep import Sweep, unjudged
from redir.progress import progress
from redir.runtime.open_sizes import parsed_shapes

EXAMPLE = "redir sweep model.onnx --macs 0.4:0.8:0.2 --eval images.npz"
_MOST = 100  # points
_ROUNDING = 1e-6  # of a step


def add_sweep(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    summary = "Compress to several values of a target, and show what each costs and loses."
    command = add_command(commands, "sweep", _sweep, summary, EXAMPLE)
    add_model(command)
    command.add_argument(
        "out",
        metavar="OUT",
        nargs="?",
        help="write the models, with the target for {}: small-{}.onnx",
    )
    add_pipeline(command, span)
    command.add_argument("--json", metavar="FILE|-", help="write the points as JSON; - for stdout")
    command.add_argument(
        "--resume", action="store_true", help="take up the points that the file of --json has"
    )
    command.add_argument("--plot", metavar="FILE", help="draw the curve: .svg, .png or .pdf")
    report.add_report(command)
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


def _sweep(options: argparse.Namespace) -> int:
    check_seed(options)
    report.check(options)
    if options.resume and options.json in {None, "-"}:
        raise BadInput("--resume takes up points of a file: --json names none")
    name, values = _target(options)
    asked = [argparse.Namespace(**{**vars(options), name: value}) for value in values]
    pipelines = list(map(chosen, asked))
    files = [_file(options.out, value) for value in values]
    graph = load(options, options.model)
    _check(options, graph, files)
    pipelines = with_source(options, graph, pipelines)
    shapes = parsed_shapes(options.input)
    sizes, judge = example_shapes(graph, shapes), judging(options, graph)
    head = {**_head(name, pipelines, total(graph, sizes), judge), "run": run_of(options)}
    points = Points(head, options.json)
    sweep = Sweep(graph, pipelines, judge or unjudged, options.seed, shapes)
    _Run(options, sweep, files, points).go()
    say_counted(options, graph, sizes)
    return _told(options, points)


def _head(
    name: str, pipelines: Sequence[Pipeline], before: Cost, judge: Judge | None
) -> dict[str, Any]:
    """What is known before there are points."""
    statistics = statistics_of(pipelines[0])
    counts = asdict(before)
    found = judge and judge.as_dict()
    right = found["before"] if found and found["metric"] == USUAL else None
    head = {"target": name, "statistics": statistics, "before": counts}
    return {**head, "accuracy": right, "eval": found}


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
        outputs.check(read, file, options.report)
    outputs.check(read, "-", options.json)
    outputs.check(read, "-", options.report)
    if options.plot:
        plots.check_ending(options.plot)
        outputs.check(read, "-", options.plot)


@dataclass(frozen=True, eq=False)
class _Run:
    """A sweep, the files that its models go to, and the points that it has come to."""

    options: argparse.Namespace
    sweep: Sweep
    files: Sequence[str | None]
    points: Points

    def go(self) -> None:
        """Come to all points, and write what is to be written of each as soon as it is known.

        Times are taken at the end where the runs are side by side, which would disturb them.
        """
        named, here = self._keys(), self.sweep.is_here
        if self.options.resume:
            self.points.resume(named, self.files)
        left = [place for place in range(len(self.files)) if place not in self.points.held]
        clock, later = Clock(self.sweep.graph, self.sweep.seed, self.sweep.input_shapes), {}
        with closing(self.sweep.points(left)) as results:
            for _ in progress(left, "models"):
                place, result, found = next(results)
                if self.options.timing and result.changed and not here:
                    later[place] = result.graph
                elif self.options.timing and result.changed:
                    result = replace(result, times=clock.times(result.graph))
                self._add(place, result, found, None if place in later else named[place])
        for place, after in progress(later.items(), "times"):
            time = times_as_dict(clock.times(after))
            held = {**self.points.held[place], "time": time, "key": named[place]}
            self.points.add(place, held)

    def _keys(self) -> list[str]:
        """What tells each run from others, if there is a file for that to be in."""
        options = self.options
        if options.json in {None, "-"}:
            return [""] * len(self.files)
        how = (
            f"{options.seed} {options.timing} {options.input} {options.metric} {options.preprocess}"
        )
        return keys(self.sweep.graph, self.sweep.pipelines, options.eval, how)

    def _add(self, place: int, result: Result, found: Judged | None, key: str | None) -> None:
        """Say what a run came to, write its model, and keep its point."""
        pipeline, file = self.sweep.pipelines[place], self.files[place]
        target = result.target(pipeline, found)
        assert target is not None
        why = missed(result.before, result.after, pipeline.asked, result.times)
        note(self.options, tables.told(target))
        if file and not why:
            save(result.graph, file)
        held = point(result, target, pipeline, found, why)
        self.points.add(place, {**held, "file": None if why else file, "key": key})


def _told(options: argparse.Namespace, points: Points) -> int:
    """Show what was found."""
    summary = points.as_dict()
    if options.plot:
        along = COUNTS.get(summary["target"], COUNTS["macs"])
        plots.save(plots.curve(summary, along), options.plot)
    points.write()
    report.save(summary, options.report)
    if options.json != "-":
        _write(summary)
    why = [f"{held['asked']:g}: {held['missed']}" for held in summary["points"] if held["missed"]]
    if why:
        raise Broken(f"{summary['target']} {why[0]}")
    return 0


def _write(summary: Mapping[str, Any]) -> None:
    before, held = summary["before"], summary["eval"]
    of = held and scale(held["metric"])
    right, title = (of.text(held["before"]), of.title) if of else ("-", "accuracy")
    original = ("original", "", *(before[c] for c in tables.COLUMNS), "", "", right)
    head = (summary["target"], "reached", *tables.COLUMNS, "deviation", "time", title)
    tables.write_table(head, [original, *(row(point, of) for point in summary["points"])])
