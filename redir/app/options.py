"""What the commands have in common on the command line: their parser and shared options."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from redir.app.help import screen
from redir.app.jobs import add_jobs
from redir.errors import BadInput
from redir.evaluation import Judge
from redir.evaluation.judge import is_album
from redir.io.plugins import find_here
from redir.ir import Graph
from redir.pipeline import Pipeline, compress
from redir.pipeline.presets import PRESETS

_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)", re.DOTALL)  # of argparse
_QUOTED = re.compile(r"[\w+-]+")


def nearest(word: str, known: Sequence[str]) -> str:
    """Which of the words that are known may be meant, if one is near."""
    found = difflib.get_close_matches(word, known, 1)
    return f"; the nearest is {found[0]}" if found else ""


class Parser(argparse.ArgumentParser):
    """Refuses in one line, as everything does."""

    def error(self, message: str) -> NoReturn:
        """Refuse what was given, and name the help, and of choices the nearest."""
        found = _CHOICE.search(message)
        near = nearest(found[1], _QUOTED.findall(found[2])) if found else ""
        raise BadInput(f"{message}{near} (see {self.prog} --help)")


class Command(Parser):
    """Refuses what it does not know itself, and so names its own help, which fits a screen."""

    def format_help(self) -> str:
        """All that ``--help`` prints."""
        return screen(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what no option takes."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = nearest(unknown[0].partition("=")[0], [*self._option_string_actions])
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return known, unknown


def add_command(
    commands: Any, name: str, run: Any, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add the command ``name``, which ``run`` runs with its options, as in the ``example``."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=f"example: {example}"
    )
    command.set_defaults(run=run)
    return command


MODEL = "a .onnx, .pt2 or .redir file, package.module:name, or -"


def add_model(command: argparse.ArgumentParser) -> None:
    """Take a model, and how it is read."""
    command.add_argument("model", metavar="MODEL", help=MODEL)
    add_overridable(command)


def add_overridable(command: argparse.ArgumentParser) -> None:
    """Take how models are read."""
    command.add_argument(
        "--max-bytes",
        type=int,
        default=0,
        metavar="N",
        help="memory for the model (default: 16 times its size)",
    )
    command.add_argument(
        "--overridable-initializers",
        choices=("input", "constant"),
        default="input",
        metavar="HOW",
        help="initializers that are inputs: input (default), constant",
    )


TARGETS: Mapping[str, tuple[str, str]] = {
    "macs": ("R", "leave this share of the multiply-adds, as in 0.5"),
    "params": ("R", "leave this share of the parameters"),
    "bytes": ("R", "leave this share of the bytes, with weights in palettes"),
    "multiplications": ("R", "the same of products with distinct weights, by hashing"),
    "speed": ("X", "become this many times as fast in onnxruntime here"),
    "error": ("E", "outputs move by at most this share of their spread"),
    "max_drop": ("D", "lose at most D points of the --metric of --eval data"),
}
HOW: Mapping[str, tuple[Any, str, str]] = {
    "statistics": (
        str,
        "SOURCE",
        "auto (default), synthetic, drawn, self, tokens, FILE.npz, a FOLDER or FILE.zip of images",
    ),
    "preprocess": (
        str,
        "HOW",
        "imagenet, unit, symmetric, bytes, mean=M+std=S, ...+bgr",
    ),
    "examples": (
        str,
        "N|FILE.npz",
        "how many inputs (default: 256, or 32), or labelled ones",
    ),
    "forms": (str, "FORMS", "what layers may become, joined by + (default: all)"),
    "align": (int, "N", "ranks are multiples of N (default: what suits a layer)"),
    "ignore": (str, "GLOB", "leave alone the layers of these names, as in head*"),
    "plan": (str, "FILE", "do what this file of redir plan --json says"),
}
COST = "what may not rise: macs (default), bytes, latency, ..."


def add_pipeline(command: argparse.ArgumentParser, number: Any = float) -> None:
    """Take what is to be done to a model; ``number`` reads how far a target goes."""
    command.add_argument(
        "--preset",
        choices=PRESETS,
        metavar="NAME",
        help=", ".join(PRESETS).replace("exact", "exact (default)"),
    )
    command.add_argument(
        "-p", "--pipeline", metavar="SPEC", help="passes instead, with commas: see redir passes"
    )
    command.add_argument("--cost", metavar="COST", help=COST)
    _add_targets(command, number)
    add_shapes(command)
    add_jobs(command)
    command.add_argument(
        "--eval", metavar="DATA", help="on this FILE.npz, or images in a FOLDER or FILE.zip"
    )
    command.add_argument(
        "--metric",
        metavar="M",
        help="top1 (default), top5, psnr, cosine, mse, miou, mod:fn",
    )


def _add_targets(command: argparse.ArgumentParser, number: Any) -> None:
    """Take a target, and how to reach it: all go to the passes that take them."""
    found = {name: (number, *told) for name, told in TARGETS.items()}
    for name, (kind, metavar, text) in {**found, **HOW}.items():
        command.add_argument(_flag(name), dest=name, type=kind, metavar=metavar, help=text)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_timing(command: argparse.ArgumentParser) -> None:
    """Take how a model is checked and timed, and how much is said of it."""
    command.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of the random inputs to check on (default: 0)",
    )
    command.add_argument(
        "--no-timing", dest="timing", action="store_false", help="do not measure times"
    )
    command.add_argument("--quiet", action="store_true", help="print errors only")


def add_explain(command: argparse.ArgumentParser) -> None:
    """Take whether to say what stays, and why."""
    command.add_argument(
        "--explain", action="store_true", help="print what each pass leaves alone, and why"
    )


def check_seed(options: argparse.Namespace) -> None:
    """Refuse a seed that is none."""
    if options.seed < 0:
        raise BadInput(f"--seed {options.seed}: expected 0 or more")


def chosen(options: argparse.Namespace, usual: str = "exact") -> Pipeline:
    """The pipeline that is asked for, or that of the preset ``usual``."""
    if options.preset and options.pipeline is not None:
        raise BadInput("--preset and --pipeline are both given: one of them says what to run")
    given = options.preset, options.pipeline, options.cost
    return compress.chosen(*given, usual=usual, **targets(options))


def targets(options: argparse.Namespace) -> dict[str, Any]:
    """Those that were given."""
    if options.metric:
        find_here(options.metric)
    found = {name: getattr(options, name) for name in {**TARGETS, **HOW}}
    given = {name: value for name, value in found.items() if value is not None}
    given |= _examples(given.pop("examples", None))
    if options.eval and is_album(options.eval) and given.keys() == {"preprocess"}:
        given.clear()  # it is for the images to judge by alone
    for name in (name for name in given if name in TARGETS and not given[name] > 0):
        raise BadInput(f"{_flag(name)} {given[name]}: expected more than 0")
    if "max_drop" not in given:
        return given
    if not options.eval:
        raise BadInput(f"--max-drop {given['max_drop']} is judged on data: --eval names none")
    judged = {"eval": options.eval or "", "metric": options.metric}
    return given | {name: value for name, value in judged.items() if value is not None}


def _examples(given: str | None) -> dict[str, Any]:
    """How many examples there are to be, or the file of labelled ones."""
    if given is None:
        return {}
    if given.endswith(".npz"):
        return {"labelled": given}
    try:
        return {"examples": int(given)}
    except ValueError:
        raise BadInput(f"--examples {given}: expected a whole number, or an .npz file") from None


def add_shapes(command: argparse.ArgumentParser) -> None:
    """Take the shapes of inputs."""
    command.add_argument(
        "--input",
        metavar="NAME=SHAPE",
        action="append",
        default=[],
        help="the shape of an input, as in x=1x3x640x640; repeatable",
    )


def judging(options: argparse.Namespace, graph: Graph) -> Judge | None:
    """What compares others with ``graph`` on the data of ``--eval``, if there are any.

    Raises:
        BadInput: the data or the metric cannot be used.
    """
    if not options.eval:
        if options.metric:
            raise BadInput(f"--metric {options.metric} judges outputs on data: --eval names none")
        return None
    judge = Judge.of(graph, options.eval, options.metric or "", options.preprocess or "")
    _ = judge.before  # which may be refused
    return judge
