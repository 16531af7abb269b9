"""Outputs of fewer numbers that go as far: of a last layer that makes many of what it reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.layers.linear import linear
from redir.statistics.judge import Judge
from redir.statistics.least_squares import root
from redir.statistics.walk import distance, energy, outputs

_MANY = 4  # results for each number that a last layer reads
_AT_ONCE = 2**12  # results whose weights are taken together


@dataclass(frozen=True, eq=False)
class Brief:
    """A ``graph`` that shows how far the outputs of another go, which has the same layers.

    ``plain`` are its outputs as they are, and ``shares`` how much of the energy of the other's they
    have.
    """

    graph: Graph
    plain: Mapping[str, Array]
    shares: Mapping[str, float]

    @classmethod
    def of(cls, judge: Judge, layers: Collection[Node]) -> Brief:
        """That of the graph of a judge, in which ``layers`` are to change.

        The words of a language model are told by far more logits than a word has features: a last
        layer W moves them by |W d|, where it reads what went by d. So does the root of W'W, which
        makes as many numbers as it reads.
        """
        graph, plain = judge.graph, judge.plain
        made = {n: _brief(graph, v, layers) for n, v in graph.outputs.items() if energy(plain[n])}
        brief = {name: value for name, value in made.items() if value is not None}
        if not brief:
            return cls(graph, plain, dict.fromkeys(plain, 1.0))
        after = replace(graph, outputs={**graph.outputs, **brief})
        found = outputs(after, judge.batches)
        shares = {n: energy(found[n]) / energy(plain[n]) if n in brief else 1.0 for n in plain}
        return cls(after, found, shares)

    def far(self, after: Mapping[str, Array]) -> float:
        """How far all outputs of the other went together, in shares of their variance."""
        each = ((self.shares[n], distance(array, after[n])) for n, array in self.plain.items())
        return sum(share * moved for share, moved in each)


def _brief(graph: Graph, value: Value, layers: Collection[Node]) -> Value | None:
    """What goes as far as an output, if a last layer makes that of much fewer numbers."""
    node = value.node
    if node is None or node in layers or not node.has("layer") or len(node.inputs) > _PLAIN:
        return None
    x, held = node.inputs
    if not _is_fixed(graph, held):
        return None
    array = evaluate(Graph({}, {"": held}, opset=graph.opset), {})[""]
    layer = linear(node.on((x, ops.constant(array))))
    if isinstance(layer, str) or layer.place != 1 or layer.kernel or layer.x_axis != -1:
        return None
    if layer.outputs < _MANY * layer.channels:
        return None
    weights, gram = layer.weight[0, :, :, 0], np.zeros((layer.channels,) * 2)
    for start in range(0, len(weights), _AT_ONCE):
        part = weights[start : start + _AT_ONCE].astype(np.float64) * layer.alpha
        gram += part.T @ part
    return ops.MatMul(x, ops.constant(root(gram)[0].astype(array.dtype)))


_PLAIN = 2  # operands of a layer that adds nothing


def _is_fixed(graph: Graph, value: Value) -> bool:
    """Whether a value is the same whatever the inputs are."""
    given, seen, left = set(graph.inputs.values()), set[Value](), [value]
    while left:
        value = left.pop()
        if value in given or (value.node is not None and not value.node.repeatable):
            return False
        if value not in seen and value.node is not None:
            seen.add(value)
            left += value.node.inputs
    return True
