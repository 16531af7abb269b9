"""What criteria may ask for: random numbers, and what flows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from redir.cost import macs
from redir.ir import Graph, Node
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.statistics.norms import fitted, is_norm
from redir.statistics.sources import AUTO, Source
from redir.statistics.walk import Batches, Held, applied, cut, walk

_LEAST, _USUAL = 16, 256  # examples
_CHEAP = 2.5e11  # multiply-adds of as many as are usual: seconds on a core


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a graph beyond its weights, found out when it is first asked for.

    ``source`` gives ``count`` inputs (0: 256, or fewer of a large model). They are drawn by
    ``seed``, as what ``rng`` gives is.
    """

    graph: Graph
    source: Source = AUTO
    count: int = 0
    seed: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        """Start to draw."""
        object.__setattr__(self, "rng", np.random.default_rng(self.seed))

    @cached_property
    def batches(self) -> Batches:
        """Inputs of the graph.

        Raises:
            Unsupported: none fit it.
        """
        usual = int(max(min(_USUAL, _CHEAP / max(macs(self.graph), 1)), _LEAST))
        count = self.count or usual
        return cut(self.graph, self.source.batches(self.graph, count, self.seed))

    @cached_property
    def energies(self) -> Mapping[Node, Array]:
        """For each linear layer the mean square of each channel that it reads.

        Norms are fitted to inputs that are made up.

        Raises:
            Unsupported: the graph cannot be run.
        """
        graph, found = flowing_in(self.graph, self.source, self.batches), dict[Node, Array]()
        twins = paired(graph, self.graph)

        def step(node: Node, operands: list[list[Any]], _: Held) -> list[Sequence[Any]] | None:
            layer = linear(node) if node.has("layer") else ""
            if isinstance(layer, Linear):
                read = [each[1 - layer.place] for each in operands]
                found[twins[node]] = _mean_square(read, layer.x_axis)
                return applied(graph, node, operands)
            return None

        walk(graph, self.batches, step, "what flows")
        return found


def flowing_in(graph: Graph, source: Source, batches: Batches) -> Graph:
    """The graph that inputs of a source flow through: norms are fitted to those made up."""
    made_up = getattr(source, "made_up", False)
    return fitted(graph, batches) if made_up and any(map(is_norm, graph.nodes)) else graph


def paired(graph: Graph, other: Graph) -> Mapping[Node, Node]:
    """For each operator of a graph that of another which differs in constants alone."""
    return dict(zip(*([n for n in g.nodes if n.inputs] for g in (graph, other)), strict=True))


def _mean_square(arrays: Sequence[Array], axis: int) -> Array:
    rows = [np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in arrays]
    total = sum(np.square(x, dtype=np.float64).sum(1) for x in rows)
    found: Array = total / max(sum(x.shape[1] for x in rows), 1)
    return found
