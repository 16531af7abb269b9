"""Texts that a language model writes itself: what it has learnt stands for the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from redir.cost import Sizes, macs
from redir.errors import BadInput, RedirError
from redir.ir import Graph
from redir.ir.limits import nbytes
from redir.ir.tensor import Array
from redir.progress import progress
from redir.runtime.onnxruntime import Run, allowance
from redir.statistics.stepwise import Stepwise
from redir.statistics.tokens import Read
from redir.statistics.walk import is_fixed, running

_AXES = 3  # of logits: texts, places, words
_AT_ONCE = 2**25  # logits of one run, of which there are two copies: 256 MB
_MANY = 64  # texts
_CHEAP = 2**45  # multiply-adds that make so many: about a quarter of an hour on a core
_TOGETHER = 32  # texts that are written together where words are written one after the other
_SHORT = 8  # words of a text on which it is tried whether they can
_CLOSE = 1e-3  # of the spread of logits, that rounding may move them
LEAST = 1e-30  # of the numbers whose logarithm is taken


@dataclass(frozen=True, eq=False)
class Decoder:
    """A graph that tells, at each place of a text, which word comes next.

    ``words`` is the input of ids, (texts, length), ``logits`` the output, (texts, length, words).
    """

    graph: Graph
    read: Read
    words: str
    logits: str

    @classmethod
    def of(cls, graph: Graph) -> Decoder:
        """What a graph is as a decoder; whether it reads what comes later is not looked at.

        Raises:
            BadInput: it reads anything but text, or tells of no next word.
            Unsupported: no sizes fit the model.
        """
        read = graph.analysis(Read.of)
        if len(read.words) != 1 or read.others:
            raise BadInput("self is for models that read one text and nothing else")
        ((words, size),) = read.words.items()
        told = [n for n, v in graph.outputs.items() if v.rank == _AXES and v.type.size(2) == size]
        if len(told) != 1:
            raise BadInput(f"self is for models that tell which of {size} words comes next")
        return cls(graph, read, words, told[0])

    @property
    def size(self) -> int:
        """How many words there are."""
        return self.read.words[self.words]

    @property
    def is_open(self) -> bool:
        """Whether it takes texts of any length."""
        return self.read.is_open

    @property
    def at_once(self) -> int:
        """The texts of one run: as many as the graph says, or as fit into memory.

        They do where a run may hold all that flows, of which most is gone before the rest is made.
        """
        texts, length = self.read.shape
        if is_fixed(self.graph):
            return texts
        one = Sizes(self.graph, self.read.sized(1, length))
        values = (v for node in self.graph.nodes if node.inputs for v in node.outputs)
        flows = sum(nbytes(one.type(value)) for value in values)
        fit = allowance(self.graph) // max(flows, 1)
        return max(min(_AT_ONCE // (length * self.size), fit), 1)

    def running(self) -> Run:
        """What computes the logits."""
        logits = {self.logits: self.graph.outputs[self.logits]}
        run = running(replace(self.graph, outputs=logits))
        return lambda feeds: {self.logits: _logits(run(feeds)[self.logits])}

    def feeds(self, ids: Array) -> Mapping[str, Array]:
        """Arrays for all inputs, of texts without padding."""
        return self.read.filled({self.words: ids}, np.ones(ids.shape, bool))

    def is_causal(self, run: Run) -> bool:
        """Whether the last word of a text moves no logits before it.

        Raises:
            Unsupported: it cannot be run.
        """
        ids = np.random.default_rng(0).integers(0, self.size, self.read.shape)
        others = ids[:, :-1]
        if not self.is_open:
            others = np.concatenate([others, (ids[:, -1:] + 1) % self.size], 1)
        told = (run(self.feeds(each))[self.logits] for each in (ids, others))
        before, after = (each[:, : ids.shape[1] - 1] for each in told)
        return bool(np.abs(before - after).max(initial=0) <= _CLOSE * before.std())

    def stepwise(self, texts: int, length: int) -> Stepwise:
        """What computes the logits a place after the other, for so many texts of a length.

        Raises:
            Unsupported: the model cannot be run so.
        """
        whole = Sizes(self.graph, self.read.sized(texts, length)).whole
        feeds = self.feeds(np.zeros((texts, length), np.int64))
        return Stepwise(whole, feeds, self.words, self.logits)

    def is_stepwise(self, run: Run) -> bool:
        """Whether logits that are computed a place after the other are those of whole texts."""
        texts, length = self.read.shape
        length = min(length, _SHORT) if self.is_open else length
        texts = texts if is_fixed(self.graph) else 1
        ids = np.random.default_rng(0).integers(0, self.size, (texts, length))
        try:
            steps = self.stepwise(texts, length)
            found = [_logits(steps.step(ids[:, place], place)) for place in range(length)]
        except RedirError:
            return False
        whole = run(self.feeds(ids))[self.logits]
        return bool(np.abs(whole - np.stack(found, 1)).max() <= _CLOSE * whole.std())

    def write_stepwise(self, ids: Array, seed: int) -> None:
        """Put words that the model writes behind the first of each of ``ids`` (texts, length)."""
        count, length = ids.shape
        each = self.read.shape[0] if is_fixed(self.graph) else min(_TOGETHER, count)
        steps, given = self.stepwise(each, length), np.zeros(each, ids.dtype)
        for start in progress(range(0, count, each), "texts"):
            part = ids[start : start + each]
            for place in progress(range(length - 1), "words"):
                given[: len(part)] = part[:, place]
                logits = _logits(steps.step(given, place))
                for row in range(len(part)):
                    word = self._sample(logits[row], seed, start + row, place + 1)
                    part[row, place + 1] = word

    def write(self, run: Run, texts: Array, ids: Array, seed: int, rounds: int) -> None:
        """Put words that the model writes behind the first of each of ``ids`` (texts, length).

        ``texts`` are the numbers of these, which the noise goes by: Gumbel's, added to the logits,
        whose largest is then a sample. So each word is sampled after the other, where a text may
        be of any length, else all at once, so many times. Where nothing changed before a place,
        that place is as it will stay.
        """
        length = ids.shape[1]
        if self.is_open:
            for end in progress(range(1, length), "words"):
                logits = run(self.feeds(ids[:, :end]))[self.logits]
                for row, text in enumerate(texts):
                    ids[row, end] = self._sample(logits[row, end - 1], seed, int(text), end)
            return
        start = np.ones(len(ids), np.int64)  # the first place of each text that may change
        for _ in progress(range(rounds), "rounds"):
            logits, old = run(self.feeds(ids))[self.logits], ids.copy()
            for row, text in enumerate(texts):
                for place in range(start[row], length):
                    ids[row, place] = self._sample(logits[row, place - 1], seed, int(text), place)
                (changed,) = np.nonzero(old[row] != ids[row])
                start[row] = changed[0] + 1 if changed.size else length
            if start.min() >= length:
                return

    def _sample(self, logits: Array, seed: int, text: int, place: int) -> int:
        """A word by the logits (words,) at the place before."""
        return int(np.argmax(logits + _noise(self.size, seed, text, place)))


@dataclass(frozen=True)
class Written:
    """Texts that the model writes, if it is one of language: each word as likely as it says.

    The first word of each is any. The others are sampled one after the other, where it can be
    followed what each place of a text needs of those before it: that is kept, and each place is
    computed once. Where it cannot, and a model takes texts of one length only, all are sampled at
    once, again and again, with the noise of each place drawn once (Song et al.,
    Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving, ICML 2021): after
    so many ``rounds`` as many words are what it would have written one after the other, and those
    behind them nearly.
    """

    rounds: int = 32
    made_up: ClassVar[bool] = True

    def batches(self, graph: Graph, count: int, seed: int) -> list[Mapping[str, Array]]:
        """So many texts of the usual length, sampled by ``seed``.

        Raises:
            BadInput: the graph does not tell which word comes next, or knows it.
            Unsupported: no sizes fit the model, or it cannot be run.
        """
        decoder = graph.analysis(Decoder.of)
        ids, each = graph.analysis(_Texts(count, seed, self.rounds)), decoder.at_once
        return [decoder.feeds(ids[start : start + each]) for start in range(0, len(ids), each)]

    def __str__(self) -> str:
        return "self"


@dataclass(frozen=True)
class _Texts:
    """An analysis of a graph: the ids (texts, length) of what it writes."""

    count: int
    seed: int
    rounds: int

    def __call__(self, graph: Graph) -> Array:
        decoder = graph.analysis(Decoder.of)
        run, length, each = decoder.running(), decoder.read.shape[1], decoder.at_once
        if not decoder.is_causal(run):
            raise BadInput("self is for models that read what comes before a word, not behind it")
        texts = np.arange(-(-self.count // each) * each if is_fixed(graph) else self.count)
        ids = np.random.default_rng(self.seed).integers(0, decoder.size, (len(texts), length))
        if decoder.is_stepwise(run):
            decoder.write_stepwise(ids, self.seed)
            return ids
        parts = [slice(start, start + each) for start in range(0, len(texts), each)]
        for part in progress(parts, "what the model writes"):
            decoder.write(run, texts[part], ids[part], self.seed, self.rounds)
        return ids


def writes(graph: Graph) -> bool:
    """Whether a graph is a language model that writes texts within minutes.

    Raises:
        Unsupported: no sizes fit the model.
    """
    return graph.analysis(_writes)


def _writes(graph: Graph) -> bool:
    try:
        decoder = graph.analysis(Decoder.of)
    except BadInput:
        return False
    texts, length = decoder.read.shape
    each = _MANY * macs(graph, decoder.read.sizes) / texts  # multiply-adds of all texts, read once
    if each > _CHEAP:
        return False
    runs = length / 2 if decoder.is_open else min(WRITTEN.rounds, length)
    try:
        run = decoder.running()
        return decoder.is_causal(run) and (runs * each <= _CHEAP or decoder.is_stepwise(run))
    except RedirError:
        return False


def _noise(size: int, seed: int, text: int, place: int) -> Array:
    """Gumbel noise for each word at a place of a text, always the same."""
    key = np.array([seed % 2**64, text << 32 | place], np.uint64)
    drawn = np.random.Generator(np.random.Philox(key=key)).standard_exponential(size, np.float32)
    found: Array = -np.log(np.maximum(drawn, np.float32(LEAST)))
    return found


def _logits(told: Array) -> Array:
    """What is told of words as logits: a few models tell how likely each is."""
    return np.log(np.maximum(told, LEAST)) if are_probabilities(told) else told


def are_probabilities(told: Array) -> bool:
    """Whether what is told of words (..., words) is how likely each is, and no logits."""
    return bool(told.min(initial=0) >= 0 and np.allclose(told.sum(-1), 1, atol=1e-3))


WRITTEN = Written()
