"""What the commands have in common on the command line: their parser and shared options."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from redir.errors import BadInput


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


def add_shapes(command: argparse.ArgumentParser) -> None:
    """Take the shapes of inputs."""
    command.add_argument(
        "--input",
        metavar="NAME=SHAPE",
        action="append",
        default=[],
        help="the shape of an input whose sizes are open, as in x=1x3x640x640; may be repeated",
    )
