"""The command ``passes``: every pass that is installed, or what one of them does."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING
from difflib import get_close_matches
from typing import Any

from redir.app.console import dump
from redir.app.options import add_command
from redir.errors import BadInput, visible
from redir.io.plugins import plugins
from redir.pipeline import Pass, available, fields_of, promised
from redir.pipeline.presets import PRESETS, preset

_WIDTH = 100  # characters of a line, or fewer on a narrow terminal
_NAMES = r"(?:``\w+``(?:,| or| and)? )*"  # options that a sentence begins with


def add_passes(commands: Any) -> None:
    """Add the command to the parsers of commands."""
    summary = "List the passes and presets, or say what one of them does."
    command = add_command(commands, "passes", _passes, summary, "redir passes merge")
    command.add_argument("name", metavar="NAME", nargs="?", help="a pass or a preset to explain")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _passes(options: argparse.Namespace) -> int:
    kinds, presets = available(), dict(PRESETS)
    name: str | None = options.name
    if name is not None:
        kinds, presets = _named(name, kinds)
    if options.json:
        passes = [_as_dict(name, kind) for name, kind in kinds.items()]
        dump({"passes": passes, "presets": presets}, "-")
    elif name is None:
        _write(_list(kinds))
    else:
        _write(_of_preset(name) if name in presets else _of_pass(name, kinds[name]))
    return 0


def _named(
    name: str, kinds: Mapping[str, type[Pass]]
) -> tuple[dict[str, type[Pass]], dict[str, str]]:
    """The pass ``name``, or the preset and its passes.

    Raises:
        BadInput: there is none of that name.
    """
    if name in PRESETS:
        names = dict.fromkeys(step.name for step in preset(name).passes)
        return {each: kinds[each] for each in names}, {name: PRESETS[name]}
    if name not in kinds:
        nearest = get_close_matches(name, [*kinds, *PRESETS], 1, 0)[0]
        raise BadInput(f"no pass or preset is called {name!r}; the nearest is {nearest!r}")
    return {name: kinds[name]}, {}


def _as_dict(name: str, kind: type[Pass]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": _summary(kind),
        "options": {option: f.default for option, f in fields_of(kind).items()},
        "guarantees": [g.name for g in promised(kind)],
    }


def _list(kinds: Mapping[str, type[Pass]]) -> Iterator[str]:
    for each in (_as_dict(name, kind) for name, kind in kinds.items()):
        yield f"{each['name']}: {each['summary']}"
        yield "  options: " + (", ".join(f"{k}={v}" for k, v in each["options"].items()) or "none")
        yield "  guarantees: " + ", ".join(each["guarantees"])
    yield from (f"preset {name}: {spec}" for name, spec in PRESETS.items())


def _of_preset(name: str) -> Iterator[str]:
    """What the documentation of ``preset`` says of one, and its passes."""
    said = [piece for piece in _sentences(inspect.getdoc(preset) or "") if f"``{name}``" in piece]
    yield from _wrapped(f"preset {name}: {' '.join(said)}")
    yield from ("", "passes, in this order")
    kinds = available()
    for step in preset(name).passes:
        yield from _wrapped(f"{step}: {_summary(kinds[step.name])}", 1)
    yield from ("", "example", f"  redir compress model.onnx small.onnx --preset {name}", "")
    yield "docs/passes.md leads to a section on each pass"


def _of_pass(name: str, kind: type[Pass]) -> Iterator[str]:
    """What a pass does by the documentation of its class, each sentence once."""
    options = _options(kind)
    yield from _wrapped(f"{name}: {_summary(kind)}")
    for paragraph in _paragraphs(kind)[1:]:
        kept = " ".join(p for p in _pieces(paragraph, kind) if p not in options)
        if kept:
            yield from ("", *_wrapped(kept, 1))
    yield from ("", "options" if any(options.values()) else "options: none")
    for about, names in options.items():
        yield from _wrapped(", ".join(_with_default(kind, n) for n in names), 1)
        yield from _wrapped(about if about.endswith(".") or not about else about + ".", 3)
    guarantees = ", ".join(g.name for g in promised(kind)) or "none"
    yield from ("", *_wrapped(f"guarantees, with these options: {guarantees}"))
    yield from ("", "example", f"  redir compress model.onnx small.onnx -p {_example(name, kind)}")
    yield from ("", *_wrapped(_where(name)))


def _options(kind: type[Pass]) -> dict[str, list[str]]:
    """The options by the sentence that says what they are; what nothing is said of is last."""
    said = [piece for paragraph in _paragraphs(kind)[1:] for piece in _pieces(paragraph, kind)]
    inherited = [_sentences(base.__dict__.get("__doc__") or "") for base in kind.__mro__[1:-1]]
    found: dict[str, list[str]] = {}
    for name in fields_of(kind):
        about = next((a for s in (said, *inherited) if (a := _about(name, s))), "")
        found.setdefault(about, []).append(name)
    places = {piece: place for place, piece in enumerate(said)}
    return dict(sorted(found.items(), key=lambda e: places.get(e[0], len(said) + (not e[0]))))


def _about(name: str, pieces: Iterable[str]) -> str:
    """The piece that says what an option is: one that begins with it, or else the first."""
    holding = [piece for piece in pieces if re.search(f"``{name}\\b", piece)]
    begun = (piece for piece in holding if re.match(f"{_NAMES}``{name}\\b", piece))
    return next(begun, holding[0] if holding else "")


def _pieces(text: str, kind: type[Pass]) -> list[str]:
    """The sentences of ``text``, and their parts behind a semicolon that begin with an option."""
    names = "|".join(fields_of(kind))
    parts = rf"; (?:and )?(?=``(?:{names})``)"
    return [piece for sentence in _sentences(text) for piece in re.split(parts, sentence)]


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.) (?=``|[A-Z])", " ".join(text.split()))


def _paragraphs(kind: type[Pass]) -> list[str]:
    return (inspect.cleandoc(kind.__doc__ or "")).split("\n\n")


def _summary(kind: type[Pass]) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _with_default(kind: type[Pass], name: str) -> str:
    """An option and its default, and what else it may be where it is one of a few words."""
    default = fields_of(kind)[name].default
    value = str(default).lower() if default is None or isinstance(default, bool) else default
    given = name if default is MISSING else f"{name}={value}"
    words = typing.get_args(typing.get_type_hints(kind)[name])
    others = [word for word in words if isinstance(word, str) and word != default]
    return f"{given} (or {', '.join(others)})" if others else given


def _example(name: str, kind: type[Pass]) -> str:
    """The pass with the options of the first example in its documentation, if there is one."""
    found = re.search(rf"``({re.escape(name)}\{{[^}}]*\}})``", kind.__doc__ or "")
    return f"'{found[1]}'" if found else name


def _where(name: str) -> str:
    """Where there is more to read."""
    point = plugins("redir.passes")[name]
    if point.module.startswith("redir.passes"):
        return f"docs/passes.md leads to the section on {name}"
    return f"{name} is in {point.module}, of the package {point.dist.name if point.dist else '?'}"


def _wrapped(text: str, depth: int = 0) -> list[str]:
    width, indent = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 0)).columns), "  " * depth
    plain = text.replace("``", "")
    return textwrap.wrap(
        plain, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _write(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(visible(line) + "\n")
