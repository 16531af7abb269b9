"""How often words occur, from a file of counts or the description of a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from redir.errors import BadInput
from redir.ir.tensor import Array

_MOST = 2**24  # ids


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The ``ids`` (n,) that are drawn, how often each ``counts`` (n,), and what is around a text.

    Errors speak of ``path``, where it was read.
    """

    path: str
    ids: Array
    counts: Array
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """That of a file.

        It is JSON: an object of counts by id, as in ``{"17": 4}``, a list of counts, that of id 0
        first, or a ``tokenizer.json`` as Hugging Face writes it. The words of that are alike
        likely, but for those that it calls special.

        Raises:
            BadInput: it cannot be read, or is none of these.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror or error}") from None
        except (ValueError, RecursionError):
            raise BadInput(f"{path}: not JSON") from None
        if isinstance(found, dict) and "model" in found:
            return _tokenizer(str(path), found)
        if not isinstance(found, dict | list):
            raise BadInput(f"{path}: {_FORMS}")
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        try:
            counts = {int(i): float(count) for i, count in pairs}
        except (TypeError, ValueError):
            raise BadInput(f"{path}: {_FORMS}") from None
        return _counted(str(path), counts)

    @classmethod
    def of_all(cls, size: int) -> Vocabulary:
        """That of all ids below ``size``, each as likely as any other, with nothing around."""
        return cls("", np.arange(size), np.ones(size))

    @cached_property
    def shares(self) -> Array:
        """How likely each of the ids is: (n,)."""
        found: Array = self.counts / self.counts.sum()
        return found

    def fits(self, size: int) -> None:
        """Refuse a model that has fewer words, of ids below ``size``.

        Raises:
            BadInput: the file has ids beyond that.
        """
        most = max(int(self.ids.max()), *self.first, *self.last, 0)
        if most >= size:
            raise BadInput(f"{self.path}: the model has no word of id {most}, but {size} words")

    def marked(self, found: Array, lengths: Array) -> Array:
        """Ids (examples, tokens) of texts ``lengths`` (examples,) long, with what is around."""
        found[:, : len(self.first)] = self.first
        for place, word in enumerate(self.last):
            at = np.maximum(lengths - len(self.last) + place, 0)
            found[np.arange(len(found)), at] = word
        return found


_FORMS = 'expected counts by id, as in {"17": 4}, a list of counts, or a tokenizer.json'


def _counted(path: str, counts: Mapping[int, float]) -> Vocabulary:
    held = {i: c for i, c in counts.items() if c != 0}
    bad = [i for i, c in held.items() if not (0 <= i < _MOST and 0 < c < np.inf)]
    if bad or not held:
        raise BadInput(f"{path}: {_FORMS}; counts are 0 or more, and some are more")
    return Vocabulary(path, np.array(list(held)), np.array(list(held.values())))


def _tokenizer(path: str, found: Mapping[str, Any]) -> Vocabulary:
    """The words of a tokenizer that are not special, and what it puts around a text."""
    try:
        model, added = found["model"], found.get("added_tokens") or []
        words = model["vocab"]
        held = set(words.values() if isinstance(words, dict) else range(len(words)))
        special = {each["id"] for each in added if each.get("special")}
        first, last = _around(found.get("post_processor") or {})
        ids = np.array(sorted(map(int, held - special)))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput(f"{path}: not the tokenizer.json of a model") from None
    if not ids.size or ids[0] < 0:
        raise BadInput(f"{path}: a tokenizer without words")
    return Vocabulary(path, ids, np.ones(len(ids)), first, last)


def _around(after: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that a tokenizer puts before a text, and behind it."""
    for each in after.get("processors", ()):  # of a sequence of them
        if (found := _around(each)) != ((), ()):
            return found
    if "cls" in after and "sep" in after:
        return (int(after["cls"][1]),), (int(after["sep"][1]),)
    before, behind, seen = list[int](), list[int](), False
    for part in after.get("single", ()):
        seen = seen or "Sequence" in part
        name = part.get("SpecialToken", {}).get("id")
        if name is not None:
            ids = map(int, after["special_tokens"][name]["ids"])
            (behind if seen else before).extend(ids)
    return tuple(before), tuple(behind)
