"""The command ``redir plan``: what a target would do to each layer, before it is done."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from redir.app import tables
from redir.app.api import plan_by
from redir.app.console import dump, hint, load, own_files, say_counted, with_source
from redir.app.options import add_command, add_model, add_pipeline, chosen
from redir.cost import example_shapes
from redir.errors import Broken
from redir.io import outputs
from redir.pipeline.compress import missed
from redir.pipeline.planning import Planned
from redir.runtime.open_sizes import parsed_shapes


def add_plan(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    summary = "Show what would become of each layer, and write nothing."
    command = add_command(
        commands, "plan", _plan, summary, "redir plan model.onnx --macs 0.5 --json plan.json"
    )
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
    how = f"--plan {options.json}" if options.json not in {None, "-"} else "and the same options"
    hint(options, f"next: redir compress {options.model} OUT {how}")
    why = missed(plan.before, plan.after, plan.target)
    if why:
        raise Broken(why)
    return 0


def _write(plan: Planned) -> None:
    head, rows = plan.table
    tables.write_table(head, rows, left=(0, 1) if head[1] == "form" else (0,))
    sys.stdout.write("\n")
    before, after = plan.counts
    left = (tables.ratio(after[name], before[name]) for name in before)
    counts = (("before", *before.values()), ("after", *after.values()), ("left", *left))
    tables.write_table(("", *before), counts)
    sys.stdout.write(f"\n{plan.said}\n")
