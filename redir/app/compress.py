"""The command ``redir compress``: a smaller model, checked, with a report."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from redir.app import tables
from redir.app.console import (
    dump,
    hint,
    load,
    note,
    own_files,
    save,
    say,
    say_counted,
    say_saturated,
    with_source,
)
from redir.app.options import (
    add_command,
    add_explain,
    add_model,
    add_pipeline,
    add_timing,
    check_seed,
    chosen,
    judging,
)
from redir.app.report import command as report
from redir.app.report.facts import Steps, facts, run_of
from redir.channels.coupling import Coupling, blocked
from redir.cost.models import LATENCY
from redir.errors import BadInput, Broken
from redir.evaluation import Judged
from redir.io import outputs
from redir.ir import Graph
from redir.layers.palette import unpacked
from redir.pipeline import Pipeline, compress, instruments, planning
from redir.pipeline.opsets import in_opset
from redir.runtime.open_sizes import parsed_shapes


def add_compress(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    command = add_command(
        commands,
        "compress",
        _compress,
        "Write a smaller model; without a target or a preset no output changes.",
        "redir compress model.onnx half.onnx --macs 0.5 --report half.html",
    )
    add_model(command)
    command.add_argument(
        "out", metavar="OUT", help="a .onnx, .py or .redir file, or - to print text"
    )
    add_pipeline(command)
    command.add_argument("--json", metavar="FILE|-", help="write a report as JSON; - for stdout")
    report.add_report(command)
    add_timing(command)
    add_explain(command)
    command.add_argument(
        "--opset",
        type=int,
        metavar="N",
        help="write version N of the operator set, if the outputs are the same (default: as it is)",
    )
    command.add_argument(
        "--no-notes",
        dest="notes",
        action="store_false",
        help="leave out documentation and metadata, as of torch's exporter",
    )
    command.add_argument("--strict", action="store_true", help="fail if an operator pins channels")


def _refuse(options: argparse.Namespace) -> None:
    outputs.check_ending(options.out)
    check_seed(options)
    report.check(options)
    if options.out == options.json == "-":
        raise BadInput("OUT and --json are both -: standard output can hold one of them")
    if options.opset is not None and not options.out.endswith(".onnx"):
        raise BadInput(f"--opset is for .onnx files, and {options.out} is none")
    if not options.notes and not options.out.endswith(".onnx"):
        raise BadInput(f"--no-notes is for .onnx files, and {options.out} is none")


def _compress(options: argparse.Namespace) -> int:
    _refuse(options)
    pipeline = chosen(options)
    graph = load(options, options.model)
    for written in (options.json, options.report):
        outputs.check(own_files(options, graph), options.out, written)
    if options.opset is not None:
        graph = in_opset(graph, options.opset, parsed_shapes(options.input))
    judge = judging(options, graph)
    (pipeline,) = with_source(options, graph, [pipeline])
    steps = Steps(parsed_shapes(options.input))
    result = _result(options, graph, pipeline, steps)
    why = compress.missed(result.before, result.after, pipeline.asked, result.times)
    if why:
        raise Broken(why)
    _say_pinned(options, result.graph)
    say_counted(options, graph, result.sizes)
    say_saturated(options, graph)
    judged = judge(result.graph) if judge else None
    target = result.target(pipeline, judged)
    save(result.graph, options.out, notes=options.notes)
    if _is_told(options):
        summary = facts(graph, result, steps)
        _tell(options, summary, judged, target)
    if not options.quiet and "-" not in (options.json, options.out):
        tables.write_result(result, judged, target)
    _warn(options, result)
    _say_steps(options, pipeline, target)
    if options.out != "-" and result.changed:
        hint(options, f"next: redir verify {options.model} {options.out} --inputs FILE.npz")
    return 0


def _is_told(options: argparse.Namespace) -> bool:
    """Whether what becomes of each part of the model is told."""
    return bool(options.json or options.report)


def _tell(
    options: argparse.Namespace,
    summary: dict[str, Any],
    judged: Judged | None,
    target: compress.Target | None,
) -> None:
    """Write what was found as JSON and as a report, if these are wanted."""
    if judged is not None:
        summary["eval"] = judged.as_dict()
        summary |= {"accuracy": judged.accuracy} if judged.accuracy else {}
    if target is not None:
        summary["target"] = asdict(target)
    summary["run"] = run_of(options)
    if options.json:
        dump(summary, options.json)
    report.save(summary, options.report)


def _result(
    options: argparse.Namespace, graph: Graph, pipeline: Pipeline, steps: Steps
) -> compress.Result:
    watching = [instruments.explain(say)] if options.explain else []
    with planning.hearing(steps.plans.append) if _is_told(options) else nullcontext():
        return compress.run(
            graph,
            pipeline,
            seed=options.seed,
            timing=options.timing,
            input_shapes=parsed_shapes(options.input),
            watching=[*watching, steps] if _is_told(options) else watching,
        )


def _say_pinned(options: argparse.Namespace, graph: Graph) -> None:
    coupling = unpacked(graph).analysis(Coupling)
    pinned = blocked(coupling)
    if not pinned:
        return
    families = sum(1 for _ in coupling.channel_families())
    text = (
        f"{len(pinned)} of {families} families of channels are pinned by operators alone, "
        f"the first by {pinned[0][1]}"
    )
    if options.strict:
        raise Broken(f"{text} (--strict)")
    note(options, f"{text}; redir groups lists them")


def _say_steps(
    options: argparse.Namespace, pipeline: Pipeline, target: compress.Target | None
) -> None:
    """Say that ranks come in steps, if less is left of a share than was asked."""
    steps = any(getattr(step, "align", 1) != 1 for step in pipeline.passes)
    if target and target.undershot and steps:
        note(options, f"ranks come in steps: --align 1 may come closer to {target.asked:g}")


def _warn(options: argparse.Namespace, result: compress.Result) -> None:
    if not result.changed:
        note(options, "nothing was found to remove: the output is the model as it was")
        return
    if result.verdict in {"skipped", "vacuous"}:
        note(options, f"warning: the check of the outputs is {result.verdict}: {result.reason}")
    if result.times and result.times.verdict != "faster":
        how = "slower" if result.times.verdict == "slower" else "not measurably faster"
        fewer = result.after.macs < result.before.macs and options.cost != str(LATENCY)
        hint = ", with fewer multiply-adds: --cost latency takes only what is faster"
        note(options, f"warning: the result is {how} in onnxruntime here{hint if fewer else ''}")
