"""The command ``redir compress``: a smaller model, checked, with a report."""

from __future__ import annotations

import argparse
from typing import Any

from redir.app import tables
from redir.app.console import dump, load, note, own_files, save, say_counted, say_saturated
from redir.app.options import add_command, add_model, add_shapes, add_targets, targets
from redir.channels.coupling import Coupling, blocked
from redir.errors import BadInput, Broken
from redir.io import arrays, outputs
from redir.ir import Graph
from redir.layers.palette import unpacked
from redir.pipeline import Pipeline, compress
from redir.pipeline.presets import PRESETS
from redir.runtime import onnxruntime
from redir.runtime.open_sizes import parsed_shapes
from redir.statistics.sources import AUTO

_COST = "what a change must not increase: macs (default), multiplications, bytes or latency"


def add_compress(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    command = add_command(commands, "compress", _compress, "Write a smaller model.")
    add_model(command)
    command.add_argument(
        "out", metavar="OUT", help="a .onnx, .py or .redir file, or - to print text"
    )
    command.add_argument("--preset", choices=PRESETS, help="passes by name (default: exact)")
    command.add_argument(
        "-p", "--pipeline", metavar="PIPELINE", help="passes to run instead, separated by commas"
    )
    command.add_argument("--cost", metavar="COST", help=_COST)
    add_targets(command)
    add_shapes(command)
    command.add_argument(
        "--eval", metavar="FILE.npz", help="measure accuracy on these inputs and labels"
    )
    command.add_argument("--json", metavar="FILE|-", help="write a report as JSON; - for stdout")
    command.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the random inputs that models are checked on (default: 0)",
    )
    command.add_argument(
        "--no-timing", dest="timing", action="store_false", help="do not measure times"
    )
    command.add_argument("--strict", action="store_true", help="fail if an operator pins channels")
    command.add_argument("--quiet", action="store_true", help="print errors only")


def _refuse(options: argparse.Namespace) -> None:
    outputs.check_ending(options.out)
    if options.seed < 0:
        raise BadInput(f"--seed {options.seed}: expected 0 or more")
    if options.out == options.json == "-":
        raise BadInput("OUT and --json are both -: standard output can hold one of them")
    if options.preset and options.pipeline is not None:
        raise BadInput("--preset and --pipeline are both given: one of them says what to run")


def _compress(options: argparse.Namespace) -> int:
    _refuse(options)
    asked = targets(options)
    pipeline = compress.chosen(options.preset, options.pipeline, options.cost, **asked)
    graph = load(options, options.model)
    outputs.check(own_files(options, graph), options.out, options.json)
    data = arrays.labelled(options.eval, graph) if options.eval else None
    shapes = parsed_shapes(options.input)
    pipeline = _with_source(options, graph, pipeline)
    result = compress.run(
        graph, pipeline, seed=options.seed, timing=options.timing, input_shapes=shapes
    )
    why = compress.missed(result.before, result.after, asked)
    if why:
        raise Broken(why)
    _say_pinned(options, result.graph)
    say_counted(options, graph, result.sizes)
    say_saturated(options, graph)
    summary = result.as_dict()
    if data is not None:
        summary["accuracy"] = {
            "before": onnxruntime.accuracy(onnxruntime.runner(graph), *data),
            "after": onnxruntime.accuracy(onnxruntime.runner(result.graph), *data),
        }
    save(result.graph, options.out)
    if options.json:
        dump(summary, options.json)
    if not options.quiet and "-" not in (options.json, options.out):
        tables.write_result(result, summary.get("accuracy"))
    _warn(options, result)
    return 0


_SOURCES = {
    "synthetic": "inputs made to fit the moments that its norms store; no data is used",
    "drawn": "random inputs, a poor guess: without norms and PyTorch nothing better is known; "
    "inputs of your own, as in --statistics FILE.npz, lose less",
}


def _with_source(options: argparse.Namespace, graph: Graph, pipeline: Pipeline) -> Pipeline:
    """The pipeline with the source of statistics that ``auto`` stands for, which is said."""
    if all(getattr(step, "statistics", "") != "auto" for step in pipeline.passes):
        return pipeline
    name = AUTO.choice(graph)
    note(options, f"statistics from {_SOURCES[name]}")
    return pipeline.given(statistics=name)


def _say_pinned(options: argparse.Namespace, graph: Graph) -> None:
    coupling = Coupling(unpacked(graph))
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


def _warn(options: argparse.Namespace, result: compress.Result) -> None:
    if not any(step.changed for step in result.steps):
        note(options, "nothing was found to remove: the output is the model as it was")
        return
    if result.verdict in {"skipped", "vacuous"}:
        note(options, f"warning: the check of the outputs is {result.verdict}: {result.reason}")
    if result.times and result.times.verdict != "faster":
        how = "slower" if result.times.verdict == "slower" else "not measurably faster"
        note(options, f"warning: the result is {how} in onnxruntime here")
