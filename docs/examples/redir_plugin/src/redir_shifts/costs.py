"""The cost model: how many shifted numbers a model adds up for one example."""

from __future__ import annotations

from dataclasses import dataclass

from redir import Graph
from redir.cost import Layer, layers
from redir.layers import Linear, linear
from redir_shifts.digits import digits

UNKNOWN = 8  # digits of a factor that is not known before the model runs


@dataclass(frozen=True)
class Additions:
    """Additions: one for each power of two of a weight, as often as the weight is used."""

    by_parts: bool = True  # the cost of a model is the sum of those of its layers
    zeros_free: bool = True  # a zero has no powers of two
    measured: bool = False  # nothing is run for it

    def ratio(self, before: Graph, after: Graph) -> float:
        """The additions of ``after`` as a multiple of those of ``before``."""
        old, new = additions(before), additions(after)
        return new / old if old else 1.0 + new

    def __str__(self) -> str:
        return "additions"


ADDITIONS = Additions()


def additions(graph: Graph) -> int:
    """How many shifted numbers a graph adds up for one example."""
    return round(sum(_additions(layer) for layer in layers(graph, values=False)))


def _additions(counted: Layer) -> float:
    layer = None if counted.node is None else linear(counted.node)
    if isinstance(layer, Linear) and layer.array.size:
        return counted.cost.macs * float(digits(layer.array).mean())
    return counted.cost.macs * UNKNOWN
