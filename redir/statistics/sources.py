"""Sources of inputs: what stands for the data that a model will see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from redir.errors import BadPipeline
from redir.io.plugins import plugin, plugins
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.runtime.inputs import Inputs, Style
from redir.runtime.open_sizes import fitting_shapes
from redir.statistics.given import Calibration, Images
from redir.statistics.images import natural, photographs
from redir.statistics.norms import is_norm
from redir.statistics.preprocessing import Preprocessing
from redir.statistics.tokens import TOKENS, Tokens, reads_text
from redir.statistics.walk import flowing, is_fixed
from redir.statistics.written import WRITTEN, Written, writes


@runtime_checkable
class Source(Protocol):
    """What people may write for themselves: inputs on which statistics are taken.

    Hand one to a pass as its ``statistics``, or register an instance in the entry-point group
    ``redir.statistics`` and give its name. One that is equal to another gives the same. One that
    makes inputs up says so by an attribute ``made_up`` that is true: then norms are fitted to them.
    """

    def __hash__(self) -> int:
        """What tells sources apart."""

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """About ``count`` examples for ``graph``, in batches: inputs by name."""


def is_made_up(source: Source) -> bool:
    """Whether a source makes inputs up, as its attribute ``made_up`` says if it has one."""
    return bool(getattr(source, "made_up", False))


_GROUP = "redir.statistics"
GRADIENTS = 2**28  # numbers of which there are gradients in all: about ten minutes on a core
_MANY = 64  # synthetic inputs; with fewer, drawn ones do as well


def source(given: str | Source, preprocess: str = "") -> Source:
    """The source of that name, of an .npz file, or of a folder or a .zip of images.

    A .json file says how often words occur: see ``Tokens``. ``preprocess`` is for images, also
    drawn ones: see ``Preprocessing``.

    Raises:
        BadPipeline: there is none, or it takes no ``preprocess``.
    """
    file = isinstance(given, str) and given.endswith((".npz", ".json"))
    named = not isinstance(given, str) or given in plugins(_GROUP) or file
    if isinstance(given, str) and not named and (given.endswith(".zip") or Path(given).is_dir()):
        return Images(given, preprocess)
    if preprocess and given not in _DRAWN:
        raise BadPipeline(f"preprocess is for images, and {given} are none")
    if not isinstance(given, str):
        return given
    if given.endswith(".json"):
        return Tokens(given)
    if given.endswith(".npz"):
        return Calibration(given)
    if not named:
        raise BadPipeline(
            f"no source of statistics is called {given!r}: there are "
            f"{', '.join(plugins(_GROUP))}, .npz files, .json files of counts of words, and "
            "folders and .zip files of images"
        )
    if preprocess:
        return _DRAWN[given](preprocess)
    found: Source = plugin(_GROUP, given, "source of statistics")
    return found


@dataclass(frozen=True)
class Drawn:
    """Inputs drawn at random: images of shapes before shapes, else what the graph wants.

    Images have variance 1 about 0, or are what ``preprocess`` makes of photographs.
    """

    preprocess: str = ""
    made_up: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what is no preprocessing."""
        self._style()

    def _style(self) -> Style:
        how = Preprocessing(self.preprocess) if self.preprocess else None
        return natural if how is None else partial(photographs, how.numbers)

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """Examples drawn by ``seed``.

        Raises:
            BadInput: images have other channels than ``preprocess``.
            Unsupported: no sizes fit the model.
        """
        shapes, size = sizes(graph, count)
        drawn, style = Inputs(graph, shapes), self._style()
        return [drawn.styled(seed + place, style) for place in range(-(-count // size))]

    def __str__(self) -> str:
        return "drawn"


def sizes(graph: Graph, count: int) -> tuple[dict[str, tuple[int, ...]], int]:
    """The shape of each input for up to ``count`` examples at once, and how many those are.

    Raises:
        Unsupported: no sizes fit the model.
    """
    shapes = next(fitting_shapes(graph))
    if is_fixed(graph):
        return dict(shapes), min((shape[0] for shape in shapes.values() if shape), default=1)
    return {name: (count, *shape[1:]) for name, shape in shapes.items()}, count


@dataclass(frozen=True)
class Auto:
    """Synthetic inputs where norms tell what flowed, and many are made in minutes, else drawn.

    A model that looks up ids of words gets texts of them: see ``Tokens``. One of language that
    writes some within minutes gets those: see ``Written``.
    Norms tell it where there is one for every second layer at least: few say next to nothing, and
    inputs that suit them take as long to make.
    """

    preprocess: str = ""
    made_up: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what is no preprocessing."""
        Drawn(self.preprocess)

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """The examples of the source that is taken."""
        choice = self.choice(graph)
        found = Drawn(self.preprocess) if choice == str(DRAWN) else source(choice)
        return found.batches(graph, count, seed)

    def choice(self, graph: Graph) -> str:
        """The name of the source that is taken.

        Raises:
            Unsupported: no sizes fit the model.
        """
        if reads_text(graph):
            return str(WRITTEN if writes(graph) else TOKENS)
        norms = sum(map(is_norm, graph.nodes))
        told = norms and 2 * norms >= sum(node.has("layer") for node in graph.nodes)
        quick = len(graph.inputs) == 1 and _MANY * flowing(graph) <= GRADIENTS
        return "synthetic" if told and quick and find_spec("torch") else "drawn"

    def __str__(self) -> str:
        return "auto"


def draws_lengths(source: Source, graph: Graph) -> bool:
    """Whether a source draws sizes that ``graph`` leaves open, as texts are of many lengths."""
    auto = isinstance(source, Auto) and source.choice(graph) in {str(TOKENS), str(WRITTEN)}
    return auto or isinstance(source, Tokens | Written)


AUTO, DRAWN = Auto(), Drawn()
_DRAWN: Mapping[str, type[Auto | Drawn]] = {str(AUTO): Auto, str(DRAWN): Drawn}
