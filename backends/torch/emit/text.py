"""Text of the PyTorch source being written: marks in it, and lines that fit.

Until classes are known, a text holds marks: for a value that a step computes, for the path of a
module or tensor, and for a number that a class may take as an argument of its constructor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Path = tuple[str, ...]
WIDTH = 88
STRIDE = "stride_of_layer"  # the role of a stride, which need not be said where it is 1
_VALUE, _PATH, _NUMBER, _END = "\ue000", "\ue001", "\ue002", "\ue003"
_VALUES = re.compile(f"{_VALUE}(\\d+){_END}")
_PATHS = re.compile(f"{_PATH}([^{_END}]*){_END}")
_NUMBERS = re.compile(f"{_NUMBER}(\\w+)=([^{_END}]*){_END}")
_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "\"'"


def value_mark(index: int) -> str:
    """Stands for the name of a value."""
    return f"{_VALUE}{index}{_END}"


def path_mark(path: Path) -> str:
    """Stands for how a module or tensor is reached from ``self``."""
    return f"{_PATH}{'.'.join(path)}{_END}"


def number_mark(role: str, number: object) -> str:
    """Stands for a number that instances of one class may differ in."""
    return f"{_NUMBER}{role}={number}{_END}"


def values_in(text: str) -> list[int]:
    """The values that ``text`` mentions, in order, each once."""
    return list(dict.fromkeys(int(v) for v in _VALUES.findall(text)))


def numbers_in(text: str) -> list[tuple[str, str]]:
    """The role and the text of each number marked."""
    return [(role, number) for role, number in _NUMBERS.findall(text)]


def paths_in(text: str) -> list[Path]:
    """The paths that ``text`` mentions."""
    return [tuple(p.split(".")) for p in _PATHS.findall(text)]


def with_values(text: str, name: Callable[[int], str]) -> str:
    """``text`` with each value by its name."""
    return _VALUES.sub(lambda m: name(int(m[1])), text)


def with_paths(text: str, reach: Callable[[Path], str]) -> str:
    """``text`` with each path as it is reached."""
    return _PATHS.sub(lambda m: reach(tuple(m[1].split("."))), text)


def with_numbers(text: str, show: Callable[[str, str], str]) -> str:
    """``text`` with each marked number as ``show(role, number)``."""
    return _NUMBERS.sub(lambda m: show(m[1], m[2]), text)


def plain(text: str) -> str:
    """``text`` with its marked numbers as they are."""
    return with_numbers(text, lambda _, number: number)


def wrapped(line: str, indent: int = 0) -> Iterator[str]:
    """``line`` as lines of which each fits: a bracket that is too long gets a line per item."""
    pad = " " * indent
    cut = None if len(pad + line) <= WIDTH else _longest_bracket(line)
    if cut is None:
        yield from _in_brackets(line, pad)
        return
    first, last = cut
    items = split_items(line[first + 1 : last])
    group = len(items) == 1 and line[first] == "(" and not _is_call(line[:first])
    yield pad + line[: first + 1]
    for item in items:
        *start, end = wrapped(item, indent + 4)
        yield from start
        yield end + ("" if group or _is_comprehension(item) else ",")
    yield pad + line[last:]


def _in_brackets(line: str, pad: str) -> Iterator[str]:
    """An assignment that no bracket of its own can break, its right side in brackets."""
    left, equals, right = line.partition(" = ")
    if not equals or len(pad + line) <= WIDTH:
        yield pad + line
        return
    yield f"{pad}{left} = ("
    for part in re.split(r" (?=[*/+] )", right):
        yield f"{pad}    {part}"
    yield f"{pad})"


def _is_call(before: str) -> bool:
    """Whether a bracket behind ``before`` is that of a call, not one around an expression."""
    word = re.search(r"(\w+)$", before)
    return (word is not None and word[1] not in {"return", "if", "else"}) or before.endswith(
        (")", "]")
    )


def split_items(text: str) -> list[str]:
    """The parts of ``text`` between the commas that no bracket or string holds."""
    parts, start = [], 0
    for place, depth in depths(text):
        if depth == 0 and text[place] == ",":
            parts.append(text[start:place].strip())
            start = place + 1
    parts.append(text[start:].strip())
    return [p for p in parts if p]


def _is_comprehension(text: str) -> bool:
    return " for " in text and not text.startswith(("[", "(", '"'))


def depths(text: str) -> Iterator[tuple[int, int]]:
    """The place of each character outside of strings, and how many brackets it lies in."""
    depth, quote = 0, ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote and text[place - 1] != "\\" else quote
            continue
        if sign in _QUOTES:
            quote = sign
            continue
        depth -= sign in _CLOSE
        yield place, depth
        depth += sign in _OPEN


def _longest_bracket(text: str) -> tuple[int, int] | None:
    """Where the longest call at depth 0 opens and closes; an index is not broken."""
    found, start = [], 0
    for place, depth in depths(text):
        if depth == 0 and text[place] in _OPEN:
            start = place
        if depth == 0 and text[place] in _CLOSE and place > start + 1:
            found.append((start, place))
    calls = [f for f in found if text[f[0]] != "[" or f[0] == 0 or text[f[0] - 1] in " =(["]
    return max(calls, key=lambda f: f[1] - f[0], default=None)
