"""The command line: ``redir compress | opt | stats | verify | groups | passes | demo``."""

from __future__ import annotations

import argparse
import io
import json
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from redir.app import demo, tables
from redir.app.signals import stoppable
from redir.app.svg import drawing
from redir.atomic import Stopped, discard_all, replacing
from redir.backends.torch.interface import states
from redir.channels import families
from redir.channels.coupling import Coupling, blocked
from redir.check.guarantees import operations
from redir.check.outputs import verify
from redir.cost import Cost, example_shapes, layers, open_layers, total
from redir.errors import BadInput, Broken, Fault, RedirError, visible, visible_lines
from redir.io import arrays, models, outputs
from redir.ir import Graph, limits
from redir.layers.palette import unpacked
from redir.pipeline import Pipeline, available, compress, instruments, promised
from redir.pipeline.presets import PRESETS
from redir.pipeline.runner import Instrument, run
from redir.runtime import onnxruntime
from redir.runtime.open_sizes import Shapes, check_shapes, parsed_shapes
from redir.text import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 if done, 1 if a check failed, 2 on bad input.

    A signal ends it with 128 and the signal's number: 130 for Ctrl-C.
    """
    try:
        with stoppable(_leave):
            return _run(argv)
    except Stopped as stopped:
        return _fail(f"{stopped}; nothing was written", 128 + stopped.number)


def _leave(stopped: Stopped) -> None:
    discard_all()
    _fail(f"{stopped}; nothing was written", 128 + stopped.number)


def _run(argv: Sequence[str] | None) -> int:
    try:
        _print_anything()
        options = _parser().parse_args(argv)
        with limits.allowing(getattr(options, "max_bytes", 0)), _telling_faults():
            code: int = options.run(options)
        sys.stdout.flush()
    except Broken as error:
        return _fail(str(error), 1)
    except RedirError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except (OSError, MemoryError) as error:
        return _fail(str(error) or "out of memory", 2)
    except Exception as error:  # noqa: BLE001 - a bug of ours, but never a traceback
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return _fail(f"unexpected {type(error).__name__} at {place}: {error}; please report it", 2)
    return code


@contextmanager
def _telling_faults() -> Iterator[None]:
    """Say in a line what redir's own entries fail on; other warnings are shown as ever."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, Fault):
            print("redir: warning:", visible(str(message)), file=sys.stderr)
        else:
            usual(message, category, *place)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _print_anything() -> None:
    """Escape what the encoding of standard output lacks, as standard error does anyway."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(message: str, code: int) -> int:
    line = visible(" ".join(message.split()))
    short = line if len(line) <= _LINE else f"{line[: _LINE - 300]} ... {line[-200:]}"
    print("redir: error:", short, file=sys.stderr)
    return code


_LINE = 2000  # characters of an error, which may quote a name of any length


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {self.prog} --help)")


class _Command(_Parser):
    """Refuses what it does not know itself, and so names its own help."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "redir", description="Make trained neural networks smaller, without training data."
    )
    parser.add_argument("--version", action="version", version=f"redir {version('redir')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    for add in (_add_compress, _add_opt, _add_stats, _add_verify, _add_groups, _add_passes):
        add(commands)
    _add_demo(commands)
    return parser


def _command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run)
    return command


_MODEL = "a .onnx, .pt2 or .redir file; package.module:factory; or - to read text from stdin"


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=_MODEL)
    _add_overridable(command)


def _add_overridable(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-bytes",
        type=int,
        default=0,
        metavar="N",
        help="bytes of memory that the model may need (default: 16 times its size, at least 1 GiB)",
    )
    command.add_argument(
        "--overridable-initializers",
        choices=("input", "constant"),
        default="input",
        help="how to read an initializer that is also an input (default: input)",
    )


def _add_shapes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--input",
        metavar="NAME=SHAPE",
        action="append",
        default=[],
        help="the shape of an input whose sizes are open, as in x=1x3x640x640; may be repeated",
    )


def _load(options: argparse.Namespace, model: str) -> Graph:
    graph = _loaded(options, model)
    _say_overridable(options, graph)
    return graph


def _loaded(options: argparse.Namespace, model: str) -> Graph:
    if model == "-":
        return _standard_input()
    _find_factory(model)
    return models.load(model, overridable_initializers=options.overridable_initializers)


def _say_overridable(options: argparse.Namespace, *graphs: Graph) -> None:
    state = {each.input for graph in graphs for each in states(graph)}
    count = max(len(graph.defaults.keys() - state) for graph in graphs)
    if state:
        names = families.and_more(list(map(repr, sorted(state))))
        _note(
            options,
            f"note: {names}, state that the module keeps, is an input whose default is its value, "
            "and an output whose name ends in _next",
        )
    if count:
        _note(
            options,
            f"warning: {count} initializers are inputs too and may be overridden, so they stay as "
            "they are; --overridable-initializers=constant takes them for constants",
        )


def _find_factory(model: str) -> None:
    """Let a factory's module be imported from the current folder, as ``python -m`` does."""
    if models.is_factory(model) and "" not in sys.path:
        sys.path.insert(0, "")


def _standard_input() -> Graph:
    try:
        return parse(sys.stdin.read())
    except UnicodeError:
        raise BadInput("standard input: not a text; name the file of an ONNX model") from None
    except RedirError as error:
        raise type(error)(f"standard input: {error}") from None


def _note(options: argparse.Namespace, text: str) -> None:
    if not getattr(options, "quiet", False):
        print("redir:", visible(text), file=sys.stderr)


def _save(graph: Graph, out: str) -> None:
    if out == "-":
        print(graph, end="")
    else:
        models.save(graph, out)


def _say(text: str) -> None:
    print(visible_lines(text), file=sys.stderr)


def _read(options: argparse.Namespace, graph: Graph) -> set[Path]:
    """The files that must not be written to."""
    return set() if options.model == "-" else models.files(graph, options.model)


def _dump(data: Any, path: str) -> None:
    _write(json.dumps(data, indent=2) + "\n", path)


def _write(text: str, path: str) -> None:
    if path == "-":
        print(text, end="")
        return
    with replacing(Path(path)) as (file,):
        file.write(text.encode())


# compress


_COST = "what a change must not increase: macs (default), multiplications, bytes or latency"


def _add_compress(commands: Any) -> None:
    command = _command(commands, "compress", _compress, "Write a smaller model.")
    _add_model(command)
    command.add_argument(
        "out", metavar="OUT", help="a .onnx, .py or .redir file, or - to print text"
    )
    command.add_argument("--preset", choices=PRESETS, help="passes by name (default: exact)")
    command.add_argument(
        "-p", "--pipeline", metavar="PIPELINE", help="passes to run instead, separated by commas"
    )
    command.add_argument("--cost", metavar="COST", help=_COST)
    _add_shapes(command)
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


def _compress(options: argparse.Namespace) -> int:
    outputs.check_ending(options.out)
    if options.seed < 0:
        raise BadInput(f"--seed {options.seed}: expected 0 or more")
    if options.out == options.json == "-":
        raise BadInput("OUT and --json are both -: standard output can hold one of them")
    if options.preset and options.pipeline is not None:
        raise BadInput("--preset and --pipeline are both given: one of them says what to run")
    pipeline = compress.chosen(options.preset, options.pipeline, options.cost)
    graph = _load(options, options.model)
    outputs.check(_read(options, graph), options.out, options.json)
    data = arrays.labelled(options.eval, graph) if options.eval else None
    shapes = parsed_shapes(options.input)
    result = compress.run(
        graph, pipeline, seed=options.seed, timing=options.timing, input_shapes=shapes
    )
    _say_pinned(options, result.graph)
    _say_counted(options, graph, result.sizes)
    _say_saturated(options, graph)
    summary = result.as_dict()
    if data is not None:
        summary["accuracy"] = {
            "before": onnxruntime.accuracy(onnxruntime.runner(graph), *data),
            "after": onnxruntime.accuracy(onnxruntime.runner(result.graph), *data),
        }
    _save(result.graph, options.out)
    if options.json:
        _dump(summary, options.json)
    if not options.quiet and "-" not in (options.json, options.out):
        tables.write_result(result, summary.get("accuracy"))
    _warn(options, result)
    return 0


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
    _note(options, f"{text}; redir groups lists them")


def _say_counted(options: argparse.Namespace, graph: Graph, sizes: Shapes) -> None:
    """Say with which sizes multiply-adds were counted, where the model leaves them open."""
    free = [name for name, v in graph.inputs.items() if v.type.static is None and name in sizes]
    if free:
        named = ", ".join(f"{name}={'x'.join(map(str, sizes[name]))}" for name in free)
        _note(options, f"counted with {named}; --input gives other sizes")
    count = open_layers(graph, sizes)
    if count:
        _note(options, f"{count} layers have sizes that are not known; each of those counts as 1")


def _say_saturated(options: argparse.Namespace, graph: Graph) -> None:
    if onnxruntime.mixes_bytes(graph) and onnxruntime.saturates():
        _note(
            options,
            "onnxruntime's products of uint8 and int8 saturate on this CPU; outputs are compared "
            "with exact ones",
        )


def _warn(options: argparse.Namespace, result: compress.Result) -> None:
    if not any(step.changed for step in result.steps):
        _note(options, "nothing was found to remove: the output is the model as it was")
        return
    if result.verdict in {"skipped", "vacuous"}:
        _note(options, f"warning: the check of the outputs is {result.verdict}: {result.reason}")
    if result.times and result.times.verdict != "faster":
        how = "slower" if result.times.verdict == "slower" else "not measurably faster"
        _note(options, f"warning: the result is {how} in onnxruntime here")


# opt


def _add_opt(commands: Any) -> None:
    command = _command(commands, "opt", _opt, "Run passes, and show what each of them does.")
    _add_model(command)
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
        metavar="PIPELINE",
        required=True,
        help="passes to run, separated by commas",
    )
    _add_shapes(command)
    command.add_argument(
        "--verify-each",
        choices=("off", "structure", "numeric"),
        default="off",
        help="check what each pass promises; structure does not run the model (default: off)",
    )
    command.add_argument(
        "--print-ir-after", metavar="PASS|all", help="print the model as text after a pass"
    )
    command.add_argument("--time-passes", action="store_true", help="print each pass's time")
    command.add_argument(
        "--pass-statistics", action="store_true", help="print nodes and parameters after each pass"
    )
    command.add_argument(
        "--explain", action="store_true", help="print what each pass leaves alone, and why"
    )


def _opt(options: argparse.Namespace) -> int:
    outputs.check_ending(options.out)
    pipeline = Pipeline.parse(options.pipeline)
    graph = _load(options, options.model)
    outputs.check(_read(options, graph), options.out)
    shapes = parsed_shapes(options.input)
    check_shapes(graph, shapes)
    outputs_check = instruments.Outputs(3, input_shapes=shapes)
    watching = _instruments(options, pipeline, outputs_check)
    after, records = run(graph, pipeline, *watching)
    _save(after, options.out)
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
        yield instruments.print_ir(which, _say)
    if options.explain:
        yield instruments.explain(_say)


# stats, verify, groups, passes


def _add_stats(commands: Any) -> None:
    command = _command(commands, "stats", _stats, "Count what a model stores and computes.")
    _add_model(command)
    _add_shapes(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _stats(options: argparse.Namespace) -> int:
    options.quiet = options.json
    graph = _load(options, options.model)
    sizes = example_shapes(graph, parsed_shapes(options.input))
    _say_counted(options, graph, sizes)
    found = layers(graph, sizes)
    whole = sum((layer.cost for layer in found), Cost())
    if options.json:
        data = {c: getattr(whole, c) for c in tables.COLUMNS}
        shapes = {name: list(shape) for name, shape in sizes.items()}
        _dump({"total": data, "sizes": shapes, "layers": [layer.as_dict() for layer in found]}, "-")
        return 0
    head, rows = tables.layer_table(found)
    tables.write_table(head, [*rows, ("total", "", *(getattr(whole, c) for c in tables.COLUMNS))])
    return 0


def _add_verify(commands: Any) -> None:
    command = _command(commands, "verify", _verify, "Compare the outputs of two models.")
    command.add_argument("a", metavar="A", help=f"the original: {_MODEL}")
    command.add_argument("b", metavar="B", help="the model to compare with it")
    command.add_argument("--inputs", metavar="FILE.npz", help="the inputs to run on, by name")
    _add_shapes(command)
    _add_overridable(command)
    command.add_argument(
        "--samples",
        type=int,
        default=3,
        metavar="N",
        help="how many inputs to draw where none are given (default: 3)",
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
        help="allow a difference of E times the largest number of the output",
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
    a, b = _loaded(options, options.a), _loaded(options, options.b)
    _say_overridable(options, a, b)
    _say_saturated(options, a)
    feeds = [arrays.inputs(options.inputs, a)] if options.inputs else None
    found = verify(a, b, feeds, samples=options.samples, **bounds, input_shapes=shapes)
    if all(bound is None for bound in bounds.values()):
        found = found.unjudged()
    if options.json:
        _dump(found.as_dict(), "-")
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
    command = _command(commands, "groups", _groups, summary)
    _add_model(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument(
        "--svg", metavar="FILE|-", help="draw the operators, coloured by family; - for stdout"
    )


def _groups(options: argparse.Namespace) -> int:
    options.quiet = options.json
    if options.json and options.svg == "-":
        raise BadInput("--json and --svg - are both given: standard output can hold one of them")
    graph = _load(options, options.model)
    outputs.check(_read(options, graph), "-", options.svg)
    clean = Pipeline.parse("fold-constants").run(graph)  # as every preset does first
    found = families.families(clean)
    if options.svg:
        _write(drawing(clean, found), options.svg)
    if options.json:
        _dump(families.as_dict(found), "-")
    elif options.svg != "-":
        tables.write_table(*families.table(found), left=families.TEXTS)
        print(families.verdict(found))
    return 0


def _add_passes(commands: Any) -> None:
    command = _command(
        commands,
        "passes",
        _passes,
        "List the passes, with options and guarantees, and the presets.",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _passes(options: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "summary": (kind.__doc__ or "").strip().splitlines()[0],
            "options": {f.name: f.default for f in fields(kind)},
            "guarantees": [g.name for g in promised(kind)],
        }
        for name, kind in available().items()
    ]
    if options.json:
        _dump({"passes": found, "presets": dict(PRESETS)}, "-")
        return 0
    for each in found:
        print(f"{each['name']}: {each['summary']}")
        print("  options:", ", ".join(f"{k}={v}" for k, v in each["options"].items()) or "none")
        print("  guarantees:", ", ".join(each["guarantees"]))
    for name, spec in PRESETS.items():
        print(f"preset {name}: {spec}")
    return 0


# demo


def _add_demo(commands: Any) -> None:
    _command(commands, "demo", _demo, "Compress the model that ships with redir.")


def _demo(_: argparse.Namespace) -> int:
    tables.write_table(*demo.table())
    return 0
