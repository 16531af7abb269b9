"""What criteria may ask for: random numbers, what flows, and a little data with labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np

from redir.channels.coupling import Coupling
from redir.cost import macs
from redir.errors import BadInput
from redir.importance.family import Family, families
from redir.importance.labelled import Labelled
from redir.ir import Graph, Node
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.statistics.norms import fitted, is_norm
from redir.statistics.sources import AUTO, Source, is_made_up
from redir.statistics.walk import Batches, Held, applied, cut, walk

Found = TypeVar("Found")
AtLayer = Callable[[Linear, Sequence[Array], Sequence[Array]], Array]
"""What is asked of a layer, by what it reads in each batch and what it makes of that."""

_LEAST, _USUAL = 16, 256  # examples
_CHEAP = 2.5e11  # multiply-adds of as many as are usual: seconds on a core


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a graph beyond its weights, found out when it is first asked for.

    ``source`` gives ``count`` inputs (0: 256, or fewer of a large model). They are drawn by
    ``seed``, as what ``rng`` gives is. ``given`` are labelled examples, if there are any.
    """

    graph: Graph
    source: Source = AUTO
    count: int = 0
    seed: int = 0
    given: Labelled | None = None
    rng: np.random.Generator = field(init=False)
    _known: dict[Any, Any] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Start to draw."""
        object.__setattr__(self, "rng", np.random.default_rng(self.seed))

    @property
    def labelled(self) -> Labelled:
        """Labelled examples.

        Raises:
            BadInput: there are none.
        """
        if self.given is None:
            raise BadInput("the criterion needs labelled examples: give a file with --examples")
        return self.given

    @cached_property
    def families(self) -> Sequence[Family]:
        """All families of the graph that may lose channels."""
        return families(self.graph.analysis(Coupling))

    def remembered(self, of: Callable[[Evidence], Found]) -> Found:
        """What a function makes of this, which it is asked once."""
        if of not in self._known:
            self._known[of] = of(self)
        return cast("Found", self._known[of])

    @cached_property
    def batches(self) -> Batches:
        """Inputs of the graph.

        Raises:
            Unsupported: none fit it.
        """
        usual = int(max(min(_USUAL, _CHEAP / max(macs(self.graph), 1)), _LEAST))
        count = self.count or usual
        return cut(self.graph, self.source.batches(self.graph, count, self.seed))

    @property
    def energies(self) -> Mapping[Node, Array]:
        """For each linear layer the mean square of each channel that it reads.

        Raises:
            Unsupported: the graph cannot be run.
        """
        return self.at_layers(_mean_square)

    def at_layers(self, of: AtLayer) -> Mapping[Node, Array]:
        """What is asked of each linear layer.

        Norms are fitted to inputs that are made up.

        Raises:
            Unsupported: the graph cannot be run.
        """
        if of not in self._known:
            self._known[of] = self._at_layers(of)
        return cast("Mapping[Node, Array]", self._known[of])

    def _at_layers(self, of: AtLayer) -> Mapping[Node, Array]:
        graph, found = flowing_in(self.graph, self.source, self.batches), dict[Node, Array]()
        twins = paired(graph, self.graph)

        def step(node: Node, operands: list[list[Any]], _: Held) -> list[Sequence[Any]] | None:
            layer = linear(node) if node.has("layer") else ""
            if not isinstance(layer, Linear):
                return None
            read, made = (
                [each[1 - layer.place] for each in operands],
                applied(graph, node, operands),
            )
            found[twins[node]] = of(layer, read, [y for (y,) in made])
            return made

        walk(graph, self.batches, step, "what flows")
        return found


def flowing_in(graph: Graph, source: Source, batches: Batches) -> Graph:
    """The graph that inputs of a source flow through: norms are fitted to those made up."""
    made_up = is_made_up(source) and any(map(is_norm, graph.nodes))
    return fitted(graph, batches) if made_up else graph


def paired(graph: Graph, other: Graph) -> Mapping[Node, Node]:
    """For each operator of a graph that of another which differs in constants alone."""
    return dict(zip(*([n for n in g.nodes if n.inputs] for g in (graph, other)), strict=True))


def _mean_square(layer: Linear, read: Sequence[Array], made: Sequence[Array]) -> Array:
    del made
    return by_channel(layer, read, np.square)


def by_channel(layer: Linear, read: Sequence[Array], of: Callable[[Array], Array]) -> Array:
    """The mean of a function of the numbers of each channel that a layer reads."""
    rows = [np.moveaxis(x, layer.x_axis, 0).reshape(x.shape[layer.x_axis], -1) for x in read]
    total = sum(of(x.astype(np.float64)).sum(1) for x in rows)
    found: Array = total / max(sum(x.shape[1] for x in rows), 1)
    return found
