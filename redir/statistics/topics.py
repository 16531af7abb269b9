"""Words that go together, by the table in which a model looks them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from redir import ops
from redir.io.vocabulary import Vocabulary
from redir.ir import Graph, Node, Value
from redir.ir.builtin import tensor_of
from redir.ir.tensor import Array

_NEAR = 30  # words of a topic
_MOST = 2**28  # numbers of a table: a gigabyte
_MATRIX = 2


@dataclass(frozen=True, eq=False)
class Topics:
    """Which words are alike: those whose rows of a ``table`` (words, features) point one way.

    Rows are taken from their mean. A model learns from texts, so words that it has for alike are
    found in one text more often than others.
    """

    table: Array

    def drawn(self, rng: np.random.Generator, found: Array, words: Vocabulary) -> Array:
        """Texts ``found`` (examples, tokens) of any ``words``, each of them now about something.

        Each text has a word for topic, and takes a share of its words from the 30 that are most
        like that. A share is drawn for each, from 0 to 1.
        """
        texts, near = len(found), min(_NEAR, len(words.ids))
        topics = rng.choice(words.ids, texts, p=words.shares)
        alike = np.argpartition(-self._likeness(topics)[:, words.ids], near - 1)[:, :near]
        chance = np.log(words.shares[alike])[:, None] + rng.gumbel(size=(*found.shape, near))
        picked = words.ids[np.take_along_axis(alike, chance.argmax(2), 1)]
        share = rng.random((texts, 1))
        return np.where(rng.random(found.shape) < share, picked, found)

    def _likeness(self, words: Array) -> Array:
        """How alike each of ``words`` is to any: (those, words), in proportion to the cosine."""
        with np.errstate(all="ignore"):  # a table may hold any numbers
            toward = self.table[words] - self._mean
            found: Array = (toward @ self.table.T - (toward @ self._mean)[:, None]) / self._lengths
        return np.nan_to_num(found)

    @cached_property
    def _mean(self) -> Array:
        found: Array = self.table.mean(0)
        return found

    @cached_property
    def _lengths(self) -> Array:
        """Those of the rows from their mean."""
        squares = np.einsum("wf,wf->w", self.table, self.table)
        from_mean = squares - 2 * self.table @ self._mean + self._mean @ self._mean
        found: Array = np.sqrt(np.maximum(from_mean, np.finfo(np.float32).tiny))
        return found


def topics(graph: Graph) -> Mapping[str, Topics]:
    """By input, the topics of the words of a model, where a table is known."""
    found = ((name, _table(graph, value)) for name, value in graph.inputs.items())
    return {name: Topics(table) for name, table in found if table is not None}


def _table(graph: Graph, ids: Value) -> Array | None:
    """The first table of numbers in which ids are looked up."""
    for value in (moved := [ids]):
        for node in graph.readers.get(value, ()):
            if _looks_up(node, value):
                tensor = tensor_of(node.inputs[0])
                return None if tensor is None else _numbers(tensor.array)
            if node.inputs[0] is value and (node.has("moves_data") or node.op == ops.Cast):
                moved += node.outputs
    return None


def _looks_up(node: Node, ids: Value) -> bool:
    return node.op == ops.Gather and node.inputs[1] is ids and not node.attrs.get("axis")


def _numbers(table: Array) -> Array | None:
    """The rows as float32, unless they are no such numbers, or a copy would be too large."""
    rows = table.ndim == _MATRIX and table.dtype.kind == "f" and 0 < table.size <= _MOST
    with np.errstate(all="ignore"):
        return table.astype(np.float32, copy=False) if rows else None
