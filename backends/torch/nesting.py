"""Steps written as people nest them: what only the next step reads stands in its text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from redir.backends.torch.emit.flow import Step
from redir.backends.torch.emit.text import (
    depths,
    plain,
    value_mark,
    values_in,
    with_paths,
    with_values,
)

_WIDEST, _DEEPEST = 60, 3  # letters, and brackets in one another, of what is nested
_LAZY = re.compile(r"\b(for|if|lambda)\b")  # what these hold runs at another time
_CUT = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")


def nested(steps: Sequence[Step], outputs: Collection[int], depth: int) -> list[Step]:
    """The steps of a module ``depth`` levels down, fewer where some stand in the text of others.

    All runs in the order it did: what goes into a text stands before what went in earlier.
    """
    reads = Counter([*(v for s in steps for v in values_in(s.text)), *outputs])
    kept: list[Step] = []
    for step in steps:
        text, end = step.text, len(step.text)
        while kept and (place := _place(kept[-1], text[:end], reads)) is not None:
            made = _joined(kept[-1], text, place)
            if made is None or not _reads_well(made, depth):
                break
            text, end = made, place
            kept.pop()
        kept.append(replace(step, text=text))
    return kept


def _place(step: Step, text: str, reads: Counter[int]) -> int | None:
    """Where ``text`` reads the result of ``step``, if nothing else does."""
    values = values_in(step.targets)
    if len(values) != 1 or reads[values[0]] != 1 or text.count(value_mark(values[0])) != 1:
        return None
    return text.index(value_mark(values[0]))


def _joined(step: Step, text: str, place: int) -> str | None:
    """``text`` with that of ``step`` for its result, if that asks for no brackets around it."""
    if _LAZY.search(step.text) or _LAZY.search(text):
        return None
    before, after = text[:place], text[place + len(step.targets) :]
    alone = before.endswith(("(", ", ")) and after.startswith((")", ", "))
    if not (alone and "," not in _outside(step.text)) and not _is_atom(step.text):
        return None
    return _cut_once(step.text, after) if not before else before + step.text + after


def _outside(text: str) -> str:
    """What of a text is in no bracket."""
    return "".join(text[place] for place, depth in depths(text) if depth == 0)


def _is_atom(text: str) -> bool:
    """Whether a text is a name, a call or an index, which binds tighter than any operator."""
    return not re.search(r"[^\w.()\[\]\ue000-\ue003]", _outside(text)) and not text[0].isdigit()


def _cut_once(text: str, after: str) -> str:
    """An index of an index: one of both, where no axis is cut twice."""
    first, second = _CUT.fullmatch(text), _CUT.fullmatch(f"x{after}")
    if first is None or second is None or re.search("[\"']", text):
        return text + after
    items = [[i.strip() for i in cut[2].split(",")] for cut in (first, second)]
    size = max(map(len, items))
    pairs = list(zip(*(i + [":"] * (size - len(i)) for i in items), strict=True))
    if not all(":" in a and ":" in pair for pair in pairs for a in pair):
        return text + after
    return f"{first[1]}[{', '.join(a if b == ':' else b for a, b in pairs)}]"


def _reads_well(text: str, depth: int) -> bool:
    shown = with_paths(
        with_values(plain(text), lambda _: "x"), lambda p: ".".join(("self", *p[depth:]))
    )
    return len(shown) <= _WIDEST and max(d for _, d in depths(shown)) <= _DEEPEST
