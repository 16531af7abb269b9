"""The command line: ``redir`` and a command, such as ``compress``."""

from __future__ import annotations

import argparse
import io
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redir.app.commands import add_commands
from redir.app.console import WRITTEN, note, say
from redir.app.jobs import working
from redir.app.options import Command, Parser
from redir.app.signals import stoppable
from redir.app.status import showing
from redir.atomic import Stopped, discard_all
from redir.channels.families import and_more
from redir.errors import Broken, Fault, RedirError, Skipped, Unchanged, visible
from redir.ir import limits


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 if done, 1 if a check failed, 2 on bad input.

    A signal ends it with 128 and the signal's number: 130 for Ctrl-C.
    """
    WRITTEN.clear()
    try:
        with stoppable(_leave):
            return _run(argv)
    except Stopped as stopped:
        return _stopped(stopped)


def _leave(stopped: Stopped) -> None:
    discard_all()
    _stopped(stopped)


def _stopped(stopped: Stopped) -> int:
    written = and_more(list(WRITTEN)) if WRITTEN else "nothing"
    return _fail(f"{stopped}; {written} was written", 128 + stopped.number)


def _run(argv: Sequence[str] | None) -> int:
    try:
        _print_anything()
        given = sys.argv[1:] if argv is None else list(argv)
        options = _parser().parse_args(given, argparse.Namespace(argv=given))
        most = getattr(options, "max_bytes", 0)
        with limits.allowing(most), _telling(options), showing(options), working(options):
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
def _telling(options: argparse.Namespace) -> Iterator[None]:
    """Say redir's own warnings in a line each; others are shown as ever."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, Skipped | Unchanged):
            note(options, f"warning: {message}")
        elif issubclass(category, Fault):
            say(f"redir: warning: {visible(str(message))}")
        else:
            usual(message, category, *place)

    with warnings.catch_warnings():
        for told in (Skipped, Unchanged):
            warnings.simplefilter("always", told)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _print_anything() -> None:
    """Escape what the encoding of standard output lacks, as standard error does anyway."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(message: str, code: int) -> int:
    line = visible(" ".join(message.split()))
    short = line if len(line) <= _LINE else f"{line[: _LINE - 300]} ... {line[-200:]}"
    say(f"redir: error: {short}")
    return code


_LINE = 2000  # characters of an error, which may quote a name of any length


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "redir",
        description="Make trained neural networks smaller, without training data.",
        epilog="example: redir compress model.onnx half.onnx --macs 0.5\n"
        "each command has more to say: redir compress --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"redir {version('redir')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Command)
    add_commands(commands)
    return parser
