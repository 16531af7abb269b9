"""Sources of inputs: what stands for the data that a model will see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

import numpy as np

from redir import ops
from redir.io import arrays
from redir.io.plugins import plugin
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.runtime.inputs import Inputs
from redir.runtime.open_sizes import fitting_shapes
from redir.statistics.images import natural
from redir.statistics.walk import is_fixed


@runtime_checkable
class Source(Protocol):
    """What people may write for themselves: inputs on which statistics are taken.

    Hand one to a pass as its ``statistics``, or register an instance in the entry-point group
    ``redir.statistics`` and give its name. One that is equal to another gives the same.
    """

    def __hash__(self) -> int:
        """What tells sources apart."""

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """About ``count`` examples for ``graph``, in batches: inputs by name."""


def source(given: str | Source) -> Source:
    """The source of that name, or of an .npz file.

    Raises:
        BadPipeline: there is none.
    """
    if not isinstance(given, str):
        return given
    if given.endswith(".npz"):
        return Calibration(given)
    found: Source = plugin("redir.statistics", given, "source of statistics")
    return found


@dataclass(frozen=True)
class Calibration:
    """Inputs that the user gives: an .npz file with an array for each, examples first."""

    path: str

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """Examples of the file, drawn by ``seed``."""
        held = arrays.examples(self.path, graph)
        total = min(len(array) for array in held.values())
        some = np.random.default_rng(seed).permutation(total)[:count]
        return _cut({name: array[np.sort(some)] for name, array in held.items()}, graph)

    def __str__(self) -> str:
        return self.path


def _cut(held: Mapping[str, Array], graph: Graph) -> Sequence[Mapping[str, Array]]:
    """All examples at once, or as many at a time as the graph takes."""
    size = min((n for v in graph.inputs.values() if (n := v.type.size(0))), default=None)
    if size is None:
        return [held]
    total = min(len(a) for a in held.values()) // size
    return [{n: a[i * size : (i + 1) * size] for n, a in held.items()} for i in range(total)]


@dataclass(frozen=True)
class Drawn:
    """Inputs drawn at random: images of shapes before shapes, else what the graph wants."""

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """Examples drawn by ``seed``.

        Raises:
            Unsupported: no sizes fit the model.
        """
        shapes, size = sizes(graph, count)
        drawn = Inputs(graph, shapes)
        return [drawn.styled(seed + place, natural) for place in range(-(-count // size))]

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
    """What the graph allows: synthetic inputs where norms tell what flowed, else drawn ones."""

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """The examples of the source that is taken."""
        return source(self.choice(graph)).batches(graph, count, seed)

    def choice(self, graph: Graph) -> str:
        """The name of the source that is taken."""
        norms = any(node.op == ops.BatchNormalization for node in graph.nodes)
        return "synthetic" if norms and len(graph.inputs) == 1 and find_spec("torch") else "drawn"

    def __str__(self) -> str:
        return "auto"


AUTO, DRAWN = Auto(), Drawn()
