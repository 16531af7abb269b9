"""What ``redir COMMAND --help`` prints: a screen, with options by what they are for."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping, Sequence

_WIDTH, _COLUMN = 80, 25  # of a line, and where the words on an option begin
_MANY = 12  # options, from which on they are in sections
_SECTIONS: Mapping[str, Sequence[str]] = {  # options side by side have one line
    "how far to go, one of these": (
        "macs", "params bytes", "multiplications", "speed", "error", "max_drop", "plan",
    ),
    "what to do": ("preset", "pipeline", "forms", "cost", "align", "ignore"),
    "what flows through": ("statistics", "preprocess", "examples", "input"),
    "what to measure and write": (
        "eval", "metric", "timing quiet", "seed", "json report", "plot resume", "explain strict",
        "opset notes",
    ),
    "how to work": ("jobs memory", "scheduler", "max_bytes", "overridable_initializers"),
}  # fmt: skip
_SHARED: Mapping[str, str] = {  # what stands beside several
    "params bytes": "the same of the parameters, or of bytes in palettes",
    "explain strict": "say what stays, and why; fail if operators pin channels",
    "timing quiet": "take no times; print errors only",
    "json report": "write what was found: as JSON, as a .html or .md page",
    "opset notes": "in that operator set (default: as it is); no metadata",
    "plot resume": "draw the curve: .svg, .png, .pdf; go on with --json",
    "jobs memory": "processes (default: one a core); bytes (half of all)",
}


def screen(parser: argparse.ArgumentParser) -> str:
    """The help of a command."""
    actions = [action for action in parser._actions if action.dest != "help"]  # noqa: SLF001 - argparse tells nobody
    taken = [action for action in actions if not action.option_strings]
    left = {action.dest: action for action in actions if action.option_strings}
    usage = ["usage:", parser.prog, *map(_word, taken), *(["[options]"] if left else [])]
    lines = [" ".join(usage), "", *textwrap.wrap(parser.description or "", _WIDTH), ""]
    lines += [line for action in taken for line in _row(_word(action), action.help or "")]
    lines += _sections(left) if len(left) > _MANY else []
    if left:
        lines.append("options:")
        lines += _rows(left, list(left))
    return "\n".join([*lines, *([""] if actions else []), parser.epilog or "", ""])


def _sections(left: dict[str, argparse.Action]) -> Iterator[str]:
    """The lines of options by what they are for, which are taken from those that are ``left``."""
    for title, keys in _SECTIONS.items():
        lines = list(_rows(left, keys))
        yield from [f"{title}:", *lines] if lines else []


def _rows(left: dict[str, argparse.Action], keys: Sequence[str]) -> Iterator[str]:
    """A line for each key, with its options, taken from those that are ``left``."""
    for key in keys:
        found = [left.pop(dest) for dest in key.split() if dest in left]
        if len(found) > 1:
            yield from _row(", ".join(map(_flags, found)), _SHARED[key])
        elif found:
            yield from _row(_flags(found[0]), found[0].help or "")


def _row(name: str, text: str) -> Iterator[str]:
    """A name and the text on it, in lines that fit."""
    lines = textwrap.wrap(text, _WIDTH - _COLUMN)
    head = f"  {name}"
    if len(head) > _COLUMN - 2:
        yield head
        head = ""
    for line in lines:
        yield f"{head.ljust(_COLUMN)}{line}"
        head = ""


def _flags(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_word(action)}"
    return ", ".join(action.option_strings) + value


def _word(action: argparse.Action) -> str:
    """What stands for the value of an option, or of what is taken without one."""
    found = action.metavar or action.dest.upper()
    text = found if isinstance(found, str) else " ".join(found)
    return f"[{text}]" if action.nargs == "?" and not action.option_strings else text
