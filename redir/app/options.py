"""What the commands have in common on the command line: their parser and shared options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn

from redir.errors import BadInput
from redir.pipeline import Pipeline, compress
from redir.pipeline.presets import PRESETS


class Parser(argparse.ArgumentParser):
    """Refuses in one line, as everything does."""

    def error(self, message: str) -> NoReturn:
        """Refuse what was given, and name the help."""
        raise BadInput(f"{message} (see {self.prog} --help)")


class Command(Parser):
    """Refuses what it does not know itself, and so names its own help."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what no option takes."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def add_command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    """Add the command ``name``, which ``run`` runs with its options."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run)
    return command


MODEL = "a .onnx, .pt2 or .redir file; package.module:factory; or - to read text from stdin"


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
        help="bytes of memory that the model may need (default: 16 times its size, at least 1 GiB)",
    )
    command.add_argument(
        "--overridable-initializers",
        choices=("input", "constant"),
        default="input",
        help="how to read an initializer that is also an input (default: input)",
    )


TARGETS: Mapping[str, tuple[Any, str, str]] = {
    "macs": (float, "R", "leave this share of the multiply-adds, as in 0.5"),
    "params": (float, "R", "leave this share of the parameters"),
    "bytes": (float, "R", "leave this share of the bytes"),
    "speed": (float, "X", "become this many times as fast in onnxruntime here"),
    "error": (float, "E", "become as small as outputs within this share of their spread allow"),
    "max_drop": (float, "D", "become as small as D points of accuracy on the --eval data allow"),
}
HOW: Mapping[str, tuple[Any, str, str]] = {
    "statistics": (str, "SOURCE", "what flows: auto (default), synthetic, drawn, or a FILE.npz"),
    "forms": (str, "FORMS", "what layers may become, joined by +: see redir passes (default: all)"),
    "align": (int, "N", "make ranks multiples of N (default: what suits each layer)"),
    "ignore": (str, "GLOB", "leave alone the layers of these names"),
    "plan": (str, "FILE", "do what this file of redir plan --json says, edited or not"),
}
COST = "what a change must not increase: macs (default), multiplications, bytes or latency"


def add_pipeline(command: argparse.ArgumentParser) -> None:
    """Take what is to be done to a model."""
    command.add_argument(
        "--preset", choices=PRESETS, help="passes by name (default: exact; with a target, best)"
    )
    command.add_argument(
        "-p", "--pipeline", metavar="PIPELINE", help="passes to run instead, separated by commas"
    )
    command.add_argument("--cost", metavar="COST", help=COST)
    add_targets(command)
    add_shapes(command)
    command.add_argument(
        "--eval", metavar="FILE.npz", help="measure accuracy on these inputs and labels"
    )


def add_targets(command: argparse.ArgumentParser) -> None:
    """Take a target, and how to reach it: all go to the passes that take them."""
    for name, (kind, metavar, text) in {**TARGETS, **HOW}.items():
        flag = "--" + name.replace("_", "-")
        command.add_argument(flag, dest=name, type=kind, metavar=metavar, help=text)


def chosen(options: argparse.Namespace, usual: str | None = None) -> Pipeline:
    """The pipeline that is asked for, or ``usual``."""
    if options.preset and options.pipeline is not None:
        raise BadInput("--preset and --pipeline are both given: one of them says what to run")
    preset = options.preset or (usual if options.pipeline is None else None)
    return compress.chosen(preset, options.pipeline, options.cost, **targets(options))


def targets(options: argparse.Namespace) -> dict[str, Any]:
    """Those that were given."""
    found = {name: getattr(options, name) for name in {**TARGETS, **HOW}}
    given = {name: value for name, value in found.items() if value is not None}
    for name in (name for name in given if name in TARGETS and not given[name] > 0):
        raise BadInput(f"--{name.replace('_', '-')} {given[name]}: expected more than 0")
    return given | ({"eval": options.eval or ""} if "max_drop" in given else {})


def add_shapes(command: argparse.ArgumentParser) -> None:
    """Take the shapes of inputs."""
    command.add_argument(
        "--input",
        metavar="NAME=SHAPE",
        action="append",
        default=[],
        help="the shape of an input whose sizes are open, as in x=1x3x640x640; may be repeated",
    )
