"""The commands: what each takes and does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from redir.app import demo, tables
from redir.app.completion import add_completion
from redir.app.compress import add_compress
from redir.app.console import (
    dump,
    load,
    loaded,
    own_files,
    save,
    say,
    say_counted,
    say_overridable,
    say_saturated,
    write,
)
from redir.app.jobs import add_jobs
from redir.app.options import (
    MODEL,
    add_command,
    add_explain,
    add_model,
    add_overridable,
    add_shapes,
)
from redir.app.passes import add_passes
from redir.app.plan import add_plan
from redir.app.report.command import add_report_command
from redir.app.svg import drawing
from redir.app.sweep import add_sweep
from redir.channels import families
from redir.check.guarantees import operations
from redir.check.outputs import verify
from redir.cost import Cost, example_shapes, layers, total
from redir.errors import BadInput, Broken, visible
from redir.io import arrays, outputs
from redir.pipeline import Pipeline, instruments
from redir.pipeline.runner import Instrument, run
from redir.runtime.open_sizes import check_shapes, parsed_shapes


def add_commands(commands: Any) -> None:
    """Add every command to the parsers of commands."""
    for add in (add_compress, add_plan, add_sweep, add_report_command):
        add(commands)
    for add in (_add_opt, _add_stats, _add_verify, _add_groups, add_passes):
        add(commands)
    add_command(commands, "demo", _demo, "Compress the model that ships with redir.", "redir demo")
    add_completion(commands)


# opt


def _add_opt(commands: Any) -> None:
    command = add_command(
        commands,
        "opt",
        _opt,
        "Run passes, and show what each of them does.",
        "redir opt model.onnx out.onnx -p fold-batchnorm,merge --explain",
    )
    add_model(command)
    command.add_argument(
        "out",
        metavar="OUT",
        nargs="?",
        default="-",
        help="a .onnx, .py or .redir file, or - to print text (default: -)",
    )
    command.add_argument(
        "-p",
        "--pipeline",
        metavar="SPEC",
        required=True,
        help="passes to run, separated by commas",
    )
    add_shapes(command)
    add_jobs(command)
    _add_watching(command)
    add_explain(command)


def _add_watching(command: argparse.ArgumentParser) -> None:
    """What is checked and printed of each pass."""
    command.add_argument(
        "--verify-each",
        choices=("off", "structure", "numeric"),
        default="off",
        metavar="HOW",
        help="check each pass: off (default), structure, numeric",
    )
    command.add_argument(
        "--print-ir-after", metavar="PASS|all", help="print the model as text after a pass"
    )
    command.add_argument("--time-passes", action="store_true", help="print each pass's time")
    command.add_argument(
        "--pass-statistics", action="store_true", help="print nodes and parameters after each pass"
    )


def _opt(options: argparse.Namespace) -> int:
    outputs.check_ending(options.out)
    pipeline = Pipeline.parse(options.pipeline)
    graph = load(options, options.model)
    outputs.check(own_files(options, graph), options.out)
    shapes = parsed_shapes(options.input)
    check_shapes(graph, shapes)
    outputs_check = instruments.Outputs(3, input_shapes=shapes, each=True)
    watching = _instruments(options, pipeline, outputs_check)
    after, records = run(graph, pipeline, *watching)
    save(after, options.out)
    if options.verify_each == "numeric":
        checks = [
            (s.name, s.verdict or "-" if s.changed else "-", s.moved) for s in outputs_check.steps
        ]
        tables.write_table(("pass", "verdict", "deviation"), checks, sys.stderr)
    if options.time_passes:
        rows = [(str(r.step), f"{r.seconds:.3f} s") for r in records]
        tables.write_table(("pass", "time"), rows, sys.stderr)
    if options.pass_statistics:
        named = [("", graph), *((str(r.step), r.after) for r in records)]
        counts = [(name, operations(g), total(g).parameters) for name, g in named]
        tables.write_table(("after", "nodes", "parameters"), counts, sys.stderr)
    return 0


def _instruments(
    options: argparse.Namespace, pipeline: Pipeline, check: Instrument
) -> Iterator[Instrument]:
    """What the options ask to watch."""
    if options.verify_each != "off":
        yield instruments.promises(numeric=options.verify_each == "numeric")
    if options.verify_each == "numeric":
        yield check
    if which := options.print_ir_after:
        names = {step.name for step in pipeline.passes}
        if which not in {"all", *names}:
            known = ", ".join(sorted(names))
            raise BadInput(f"--print-ir-after {which}: the pipeline runs {known}")
        yield instruments.print_ir(which, say)
    if options.explain:
        yield instruments.explain(say)


# stats, verify, groups


def _add_stats(commands: Any) -> None:
    command = add_command(
        commands,
        "stats",
        _stats,
        "Count what a model stores and computes, layer by layer.",
        "redir stats model.onnx --input x=1x3x224x224",
    )
    add_model(command)
    add_shapes(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _stats(options: argparse.Namespace) -> int:
    options.quiet = options.json
    graph = load(options, options.model)
    sizes = example_shapes(graph, parsed_shapes(options.input))
    say_counted(options, graph, sizes)
    found = layers(graph, sizes)
    whole = sum((layer.cost for layer in found), Cost())
    if options.json:
        data = {c: getattr(whole, c) for c in tables.COLUMNS}
        shapes = {name: list(shape) for name, shape in sizes.items()}
        dump({"total": data, "sizes": shapes, "layers": [layer.as_dict() for layer in found]}, "-")
        return 0
    head, rows = tables.layer_table(found)
    tables.write_table(head, [*rows, ("total", "", *(getattr(whole, c) for c in tables.COLUMNS))])
    return 0


def _add_verify(commands: Any) -> None:
    command = add_command(
        commands,
        "verify",
        _verify,
        "Compare the outputs of two models.",
        "redir verify model.onnx small.onnx --error 0.05",
    )
    command.add_argument("a", metavar="A", help=f"the original: {MODEL}")
    command.add_argument("b", metavar="B", help="the model to compare with it")
    command.add_argument("--inputs", metavar="FILE.npz", help="the inputs to run on, by name")
    add_shapes(command)
    add_overridable(command)
    command.add_argument(
        "--samples",
        type=int,
        default=3,
        metavar="N",
        help="how many inputs to draw (default: 3)",
    )
    command.add_argument(
        "--rtol", type=float, metavar="R", help="allow a difference of R times each number"
    )
    command.add_argument(
        "--atol", type=float, metavar="A", help="allow a difference of A (default: rounding only)"
    )
    command.add_argument(
        "--error",
        type=float,
        metavar="E",
        help="allow E times the largest number of the output",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _verify(options: argparse.Namespace) -> int:
    if options.samples < 1:
        raise BadInput(f"--samples {options.samples}: expected at least 1")
    bounds = {name: getattr(options, name) for name in ("rtol", "atol", "error")}
    for name, bound in bounds.items():
        if bound is not None and not bound >= 0:
            raise BadInput(f"--{name} {bound}: expected 0 or more")
    if options.inputs and options.input:
        raise BadInput("--inputs and --input are both given: the arrays have their shapes")
    shapes = parsed_shapes(options.input)
    a, b = loaded(options, options.a), loaded(options, options.b)
    say_overridable(options, a, b)
    say_saturated(options, a)
    feeds = [arrays.inputs(options.inputs, a)] if options.inputs else None
    found = verify(a, b, feeds, samples=options.samples, **bounds, input_shapes=shapes)
    if all(bound is None for bound in bounds.values()):
        found = found.unjudged()
    if options.json:
        dump(found.as_dict(), "-")
    else:
        print(found.verdict, visible(found.reason), sep=": " if found.reason else "")
        rows = [
            (f.output, *(f"{x:.3g}" for x in (f.difference, f.own, f.allowed, f.scale)))
            for f in found.outputs
        ]
        tables.write_table(("output", "difference", "float error", "allowed", "magnitude"), rows)
        if found.active is not None:
            print(f"active: {100 * found.active:.1f}% of the channels with new weights")
    if found.verdict != "pass":
        raise Broken(f"{options.b}: {found.verdict}: {found.reason or 'the outputs differ'}")
    return 0


def _add_groups(commands: Any) -> None:
    summary = "Show which channels belong together, what pins them, and why."
    command = add_command(
        commands, "groups", _groups, summary, "redir groups model.onnx --svg groups.svg"
    )
    add_model(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument(
        "--svg", metavar="FILE|-", help="draw the operators, coloured by family; - for stdout"
    )


def _groups(options: argparse.Namespace) -> int:
    options.quiet = options.json
    if options.json and options.svg == "-":
        raise BadInput("--json and --svg - are both given: standard output can hold one of them")
    graph = load(options, options.model)
    outputs.check(own_files(options, graph), "-", options.svg)
    clean = Pipeline.parse("fold-constants").run(graph)  # as every preset does first
    found = families.families(clean)
    if options.svg:
        write(drawing(clean, found), options.svg)
    if options.json:
        dump(families.as_dict(found), "-")
    elif options.svg != "-":
        tables.write_table(*families.table(found), left=families.TEXTS)
        print(families.verdict(found))
    return 0


def _demo(_: argparse.Namespace) -> int:
    tables.write_table(*demo.table())
    return 0
