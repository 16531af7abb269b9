"""What each weight may be hashed to, and how many multiplications that leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redir.cost import multiplications
from redir.cost.allocation import Option
from redir.ir import Graph, Value
from redir.ir.rewriter import map_constants
from redir.ir.tensor import Array, Tensor
from redir.layers.output_error import relative_error
from redir.statistics.effects import Options

BANDWIDTHS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)  # multiples of Silverman's rule


def options(graph: Graph, levels: Sequence[Mapping[Value, Array]]) -> Options:
    """For each weight what it is on each of the ``levels``, with the multiplications of each.

    The errors are the squares of those that weights alone tell.
    """
    first, counts = levels[0], [_counted(graph, weights) for weights in levels]
    return {
        value: [
            Option(weights[value], costs[value], relative_error(array, weights[value]) ** 2)
            for weights, costs in zip(levels, counts, strict=True)
        ]
        for value, array in first.items()
    }


def _counted(graph: Graph, weights: Mapping[Value, Array]) -> Mapping[Value, int]:
    """The multiplications of the layers that read each of the weights."""
    found = dict.fromkeys(weights, 0)
    counts = multiplications(with_others(graph, weights))
    for node, count in zip(graph.walk(), counts, strict=True):
        for value in node.inputs[1:2] if count else ():
            found[value] = found.get(value, 0) + count
    return found


def with_others(graph: Graph, weights: Mapping[Value, Array]) -> Graph:
    """The graph with other numbers in place of some weights."""

    def moved(value: Value, tensor: Tensor) -> Tensor | None:
        new = Tensor.take(weights[value]) if value in weights else tensor
        return None if new == tensor else new

    return map_constants(graph, moved)
