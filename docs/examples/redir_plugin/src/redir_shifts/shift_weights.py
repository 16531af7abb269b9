"""The pass: weights that hardware applies by shifts and additions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from redir import Graph, Pass
from redir.check.guarantees import CONSTANTS_ONLY, SAME_INTERFACE, Guarantee
from redir.errors import BadPipeline
from redir.ir import Value, map_constants
from redir.ir.tensor import Tensor
from redir.layers import Linear, linear
from redir_shifts.digits import digits, rounded


@dataclass(frozen=True)
class ShiftWeights(Pass):
    """Each weight becomes a sum of few powers of two, so that no layer needs a multiplier.

    A product with such a weight is a few shifts and additions, as in ``shift-weights{terms=2}``:
    Zhou et al., Incremental Network Quantization (ICLR 2017), has one power for each weight, and
    Li et al., Additive Powers-of-Two Quantization (ICLR 2020), sums of them. ``terms`` is how many
    each weight may have. ``shifts`` is by how many places the hardware shifts: powers that are
    further below the largest weight of the layer are left out. Run it behind ``fold-batchnorm``,
    which scales weights.
    """

    terms: int = 2
    shifts: int = 15

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        if self.terms < 1:
            raise BadPipeline(f"shift-weights: terms must be at least 1, not {self.terms}")
        if self.shifts < 0:
            raise BadPipeline(f"shift-weights: shifts must be at least 0, not {self.shifts}")

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """No weight has more terms than asked for, and nothing but constants moves."""
        few = Guarantee("few terms", partial(_too_many, self.terms))
        return (few, CONSTANTS_ONLY, SAME_INTERFACE)

    def run(self, graph: Graph) -> Graph:
        """Round the weights of all layers."""
        weights = _weights(graph)

        def change(value: Value, tensor: Tensor) -> Tensor | None:
            if value not in weights:
                return None
            new = rounded(tensor.array, self.terms, self.shifts)
            return None if np.array_equal(new, tensor.array) else Tensor(new)

        return map_constants(graph, change)

    def explain(self, graph: Graph) -> Iterator[str]:
        """Which layers keep their weights, and why."""
        kept = set(_layers(graph)) - set(_weights(graph))
        for value, layer in _layers(graph).items():
            if value in kept:
                yield f"{layer.node}: its weights are {layer.array.dtype}, or not all finite"


def _layers(graph: Graph) -> dict[Value, Linear]:
    """The constants that are weights of layers, each with the first layer that reads it."""
    found: dict[Value, Linear] = {}
    for node in graph.nodes:
        layer = linear(node)  # a text, which says why, where it is none
        if isinstance(layer, Linear):
            found.setdefault(layer.held, layer)
    return found


def _weights(graph: Graph) -> dict[Value, Linear]:
    """Those that can be rounded."""
    return {
        value: layer
        for value, layer in _layers(graph).items()
        if layer.array.dtype.kind == "f" and np.isfinite(layer.array).all()
    }


def _too_many(terms: int, before: Graph, after: Graph) -> str | None:
    del before
    for layer in _weights(after).values():
        most = int(np.max(digits(layer.array), initial=0))
        if most > terms:
            return f"{layer.node} has a weight of {most} terms, and {terms} are allowed"
    return None
