"""The command ``redir report``, and the option ``--report`` of others."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redir.app.console import note, write
from redir.app.options import add_command
from redir.app.report import pages, schema
from redir.errors import BadInput
from redir.io import outputs


def add_report_command(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    summary = "Make the report of redir compress or redir sweep again, from its JSON."
    command = add_command(
        commands, "report", _report, summary, "redir report report.json report.html"
    )
    command.add_argument("json", metavar="FILE.json", help="what --json of compress or sweep wrote")
    command.add_argument(
        "out",
        metavar="OUT",
        nargs="?",
        help="a .html file, or a .md file for the short form (default: FILE.html)",
    )


def _report(options: argparse.Namespace) -> int:
    out = options.out or str(Path(options.json).with_suffix(pages.ENDINGS[0]))
    pages.check_ending(out)
    held = schema.read(options.json)
    outputs.check({Path(options.json)}, "-", out)
    write(pages.page_of(*held, out), out)
    if not options.out:
        note(options, f"{out} is written")
    return 0


def add_report(command: argparse.ArgumentParser) -> None:
    """Take where a report goes."""
    command.add_argument(
        "--report",
        metavar="FILE",
        help="write a report for people: .html, or .md for a short one; needs jinja2 (report)",
    )


def check(options: argparse.Namespace) -> None:
    """Refuse a report that cannot be made, or that would be written over something else.

    Raises:
        BadInput: its name has another ending, or is that of another output.
        MissingExtra: jinja2 is not installed.
    """
    if options.report is None:
        return
    pages.check_ending(options.report)
    for name in ("json", "plot"):
        other = getattr(options, name, None)
        if other is not None and Path(other).resolve() == Path(options.report).resolve():
            raise BadInput(f"--{name} and --report are both {options.report}: they are two files")


def save(data: Mapping[str, Any], path: str | None) -> None:
    """Write the report on ``data``, as ``--json`` holds it, if one is wanted."""
    if path is not None:
        write(pages.page(data, path), path)
