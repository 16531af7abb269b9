"""Ids of words for models that read text: drawn, where there is no text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np

from redir.errors import BadInput, RedirError
from redir.io.vocabulary import Vocabulary
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.runtime.inputs import Inputs
from redir.runtime.open_sizes import Shapes, fitting_shapes
from redir.statistics.topics import Topics, topics
from redir.statistics.walk import is_fixed

_WORDS = 64  # that a table has at least: what has fewer tells kinds, and not words
_SHORT, _MEAN = 3, 6  # tokens of a text at least, and how many more it has on average
_AT_ONCE = 48  # texts of one length
_AXES = 2  # examples, and the tokens of each
Cut: TypeAlias = tuple[slice, ...]
_POSITIONS = {"position", "positions"}


@dataclass(frozen=True, eq=False)
class Read:
    """What a graph reads of texts: by input, the ids of words, places, marks of what counts.

    ``words`` have the size of the table that they are looked up in. All are of one ``shape``:
    examples, and tokens of each. ``sizes`` are the shapes of all inputs then.
    """

    graph: Graph
    sizes: Shapes
    shape: tuple[int, int]
    words: Mapping[str, int]
    places: frozenset[str]
    marks: frozenset[str]
    kinds: frozenset[str]

    @classmethod
    def of(cls, graph: Graph) -> Read:
        """That of a graph; one that reads no text has no words.

        Raises:
            Unsupported: no sizes fit the model.
        """
        shapes = next(fitting_shapes(graph))
        wanted = Inputs(graph, shapes).wanted()
        texts = {n: w for n, w in wanted.items() if len(shapes[n]) == _AXES}
        whole = {n: w for n, w in texts.items() if graph.inputs[n].type.dtype.kind in "iu"}
        tables = {n: int(w.high) + 1 for n, w in whole.items() if w.bounded and w.low == 0}
        large = {n: size for n, size in tables.items() if size >= _WORDS}
        places = {n for n in large if _POSITIONS & set(re.split(r"[^a-z]+", n.lower()))}
        words = {n: size for n, size in large.items() if n not in places}
        shape = shapes[next(iter(words))] if words else (0, 0)
        alike = {n for n in texts if shapes[n] == shape}
        words = {n: size for n, size in words.items() if n in alike}
        marks = frozenset(n for n in alike if texts[n].flag)
        kinds = frozenset(alike & tables.keys() - marks - large.keys())
        both = shape[0], shape[1]
        return cls(graph, shapes, both, words, frozenset(places & alike), marks, kinds)

    @property
    def others(self) -> frozenset[str]:
        """The inputs that are not of a text."""
        known = self.words.keys() | self.places | self.marks | self.kinds
        return frozenset(self.sizes.keys() - known)

    @property
    def is_open(self) -> bool:
        """Whether the graph takes texts of any length."""
        return all(self.graph.inputs[name].type.size(1) is None for name in self.words)

    def filled(self, given: Mapping[str, Array], within: Array) -> Mapping[str, Array]:
        """Arrays for all inputs: the ``given`` ones, and what stands beside words in a text.

        ``within`` (examples, tokens) says where the words are of a text, and not behind its end.
        """
        found, along = dict(given), np.arange(within.shape[1])
        for names, array in ((self.places, along), (self.marks, within), (self.kinds, 0)):
            found.update({name: np.broadcast_to(array, within.shape) for name in names})
        inputs = self.graph.inputs
        return {name: found[name].astype(inputs[name].type.dtype) for name in self.sizes}

    def sized(self, examples: int, length: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes for so many texts of a length, where these are open."""
        graph, shapes = self.graph, self.sizes
        dims = (graph.inputs[next(iter(self.words))].type.shape or ())[:_AXES]
        new = dict(zip(dims, (examples, length), strict=True))

        def size(dim: int | str | None, usual: int) -> int:
            return new[dim] if isinstance(dim, str) and dim in new else usual

        types = {n: graph.inputs[n].type.shape or usual for n, usual in shapes.items()}
        return {n: tuple(map(size, types[n], usual)) for n, usual in shapes.items()}


@dataclass(frozen=True)
class Tokens:
    """Texts of words drawn at random: ids of a table that the graph looks up.

    Each word is as likely as any other, or as a file at ``path`` says: counts of ids, or the
    ``tokenizer.json`` of the model, whose marks then begin and end each text. A share of the words
    of a text, large or small, are alike: see ``Topics``. They are short, three tokens and mostly up
    to a dozen more: the longer a text of words that have nothing to do with each other, the less it
    is like one that has a meaning. There are as many tokens as in so many examples of the usual
    size.
    """

    path: str = ""
    made_up: ClassVar[bool] = True
    vocabulary: Vocabulary | None = field(init=False, compare=False, repr=False, default=None)

    def __post_init__(self) -> None:
        """Read the file, if there is one."""
        if self.path:
            object.__setattr__(self, "vocabulary", Vocabulary.read(self.path))

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """Texts drawn by ``seed``, those of a batch of one length.

        Raises:
            BadInput: the graph reads no ids, or the file has others.
            Unsupported: no sizes fit the model.
        """
        read = graph.analysis(Read.of)
        if not read.words:
            raise BadInput("tokens are for models that look up ids of words, and this does not")
        rng, (_, longest) = np.random.default_rng(seed), read.shape
        if is_fixed(graph) or not read.is_open:
            return list(self._padded(read, count, rng))
        found, left = list[Mapping[str, Array]](), count * longest
        while left > 0:
            length = int(min(_SHORT + rng.geometric(1 / _MEAN), longest))
            texts = min(_AT_ONCE, -(-left // length))
            found.append(self._filled(read, np.full(texts, length), rng))
            left -= texts * length
        return found

    def _padded(
        self, read: Read, count: int, rng: np.random.Generator
    ) -> Iterator[Mapping[str, Array]]:
        """Batches of the one length that a graph takes, with what comes behind texts masked."""
        texts, length = read.shape
        each = texts if is_fixed(read.graph) else count
        for _ in range(-(-count // each)):
            lengths = np.minimum(_SHORT + rng.geometric(1 / _MEAN, each), length)
            ends = lengths if read.marks else np.full(each, length)
            yield self._filled(read, ends, rng)

    def _filled(self, read: Read, lengths: Array, rng: np.random.Generator) -> Mapping[str, Array]:
        """Arrays for all inputs, of texts ``lengths`` (examples,) long."""
        whole = int(lengths.max()) if read.is_open else read.shape[1]
        within = np.arange(whole) < lengths.reshape(-1, 1)
        alike = read.graph.analysis(topics)
        given = {
            name: self._drawn(rng, within, size, alike.get(name))
            for name, size in read.words.items()
        }
        if read.others:
            drawn = Inputs(read.graph, read.sized(*within.shape)).normal(int(rng.integers(2**31)))
            given.update({name: drawn[name] for name in read.others})
        return read.filled(given, within)

    def _drawn(
        self, rng: np.random.Generator, within: Array, size: int, alike: Topics | None
    ) -> Array:
        """Ids (examples, tokens) ``within`` texts, with the marks of a tokenizer around each."""
        words = self.vocabulary or Vocabulary.of_all(size)
        words.fits(size)
        found = rng.choice(words.ids, within.shape, p=words.shares)
        if alike is not None and len(alike.table) >= size:
            found = alike.drawn(rng, found, words)
        return np.where(within, words.marked(found, within.sum(1)), 0)

    def __str__(self) -> str:
        return self.path or "tokens"


def reads_text(graph: Graph) -> bool:
    """Whether a graph looks up ids of words.

    Raises:
        Unsupported: no sizes fit the model.
    """
    integers = any(value.type.dtype.kind in "iu" for value in graph.inputs.values())
    return integers and bool(graph.analysis(Read.of).words)


def by_length(graph: Graph, held: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
    """Texts cut to where the last of their marks ends, those of one length together.

    What stands behind a text would count as much as the text when layers are solved. There are none
    where the graph takes one length only, or no marks, or these begin later or have gaps, or where
    it takes two texts, each as long as it likes.

    Raises:
        Unsupported: no sizes fit the model.
    """
    if not reads_text(graph) or is_fixed(graph):
        return
    read = graph.analysis(Read.of)
    names = read.words.keys() | read.places | read.marks | read.kinds
    marks = [held[name] != 0 for name in read.marks if name in held]
    if not marks or not read.is_open or len({held[n].shape for n in names & held.keys()}) > 1:
        return
    within = np.logical_or.reduce(marks)
    lengths = within.sum(1)
    whole = np.array_equal(within, np.arange(within.shape[1]) < lengths[:, None])
    if not whole or not lengths.all() or not _is_one_text(read, names):
        return
    along = {d for n in names for d in graph.inputs[n].type.shape or () if isinstance(d, str)}
    along -= {(graph.inputs[n].type.shape or ("",))[0] for n in names}
    for length in np.unique(lengths):
        some = {name: array[lengths == length] for name, array in held.items()}
        cuts = {n: _cut(graph.inputs[n].type.shape or (), along, int(length)) for n in some}
        cuts.update(dict.fromkeys(names & some.keys(), (slice(None), slice(int(length)))))
        yield {name: array[cuts[name]] for name, array in some.items()}


def _cut(
    shape: Sequence[int | str | None], along: Collection[int | str | None], length: int
) -> Cut:
    """What cuts the axes of an array that are ``along`` a text."""
    return tuple(slice(length) if dim in along else slice(None) for dim in shape)


def _is_one_text(read: Read, names: Collection[str]) -> bool:
    """Whether all that is of a text is as long as the marks: no other length of it would fit."""
    examples, length = read.shape
    mark, *_ = sorted(read.marks)
    dims = {n: (read.graph.inputs[n].type.shape or (None, None))[1] for n in sorted(names)}
    apart = (n for n, dim in dims.items() if n != mark and (dim is None or dim != dims[mark]))
    for name in apart:
        shapes = {mark: (examples, length), name: (examples, length - 1)}
        try:
            next(fitting_shapes(read.graph, shapes))
        except RedirError:
            continue
        return False
    return True


TOKENS = Tokens()
