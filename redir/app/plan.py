"""The command ``redir plan``: what a target would do to each layer, before it is done."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from redir.app import tables
from redir.app.api import plan_by
from redir.app.console import dump, load, own_files, say_counted, with_source
from redir.app.options import add_command, add_model, add_pipeline, chosen
from redir.cost import example_shapes
from redir.errors import Broken
from redir.io import outputs
from redir.pipeline.compress import missed
from redir.runtime.open_sizes import parsed_shapes

if TYPE_CHECKING:
    from redir.passes.factorize.plan import Line, Plan


def add_plan(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    summary = "Show what would become of each layer, and write nothing."
    command = add_command(commands, "plan", _plan, summary)
    add_model(command)
    add_pipeline(command)
    command.add_argument("--json", metavar="FILE|-", help="write the plan as JSON; - for stdout")


def _plan(options: argparse.Namespace) -> int:
    pipeline = chosen(options, "best")
    graph = load(options, options.model)
    outputs.check(own_files(options, graph), "-", options.json)
    sizes = example_shapes(graph, parsed_shapes(options.input))
    (pipeline,) = with_source(options, graph, [pipeline])
    plan = plan_by(pipeline, graph, sizes)
    say_counted(options, graph, sizes)
    if options.json:
        dump(plan.as_dict(), options.json)
    if options.json != "-":
        _write(plan)
    why = missed(plan.before, plan.after, plan.target)
    if why:
        raise Broken(why)
    return 0


def _write(plan: Plan) -> None:
    before, after = plan.counts
    head = ("layer", "form", "rank", plan.unit, "saved", "of all", "error")
    rows = [_row(line, before[plan.unit]) for line in plan.lines]
    tables.write_table(head, rows, left=(0, 1))
    sys.stdout.write("\n")
    left = (tables.ratio(after[name], before[name]) for name in before)
    counts = (("before", *before.values()), ("after", *after.values()), ("left", *left))
    tables.write_table(("", *before), counts)
    sys.stdout.write(f"\ndeviation: about {plan.deviation:.2g} of the spread of the outputs\n")


def _row(line: Line, whole: int) -> tables.Row:
    if line.form is None:
        return (line.layer, "-", "-", line.cost, "-", "-", "-")
    found = (line.saved, tables.ratio(line.saved, whole), f"{line.error:.2g}")
    return (line.layer, line.form, line.rank, line.cost, *found)
