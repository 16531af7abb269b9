"""A layer that becomes its mean, and with it the branch that it ends, or a whole block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import transform
from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.ops import is_absent, tensor_of
from redir.passes.factorize.factors import Factors, Single
from redir.passes.factorize.forms import Factoring, Flow, aimed
from redir.passes.factorize.saved import Savings
from redir.statistics.moments import Moments

_AIMS = 10  # times that a target which depends on the mean is set anew
_BROADCASTING = 7  # the operator set from which operators of two operands broadcast untold


@dataclass(frozen=True, eq=False)
class Mean(Single):
    """A layer with weights of zero, so that its results are its bias."""

    @property
    def value(self) -> Value:
        """The bias as what broadcasts like the results."""
        return mean(self.layer, self.bias)


@dataclass(frozen=True, eq=False)
class Gone(Factoring):
    """A layer becomes its mean, and all that only it reads goes. There is only rank 0.

    ``needed`` are the nodes that go, the layer's among them, and ``saved`` is what the whole graph
    costs less then, by price.
    """

    needed: frozenset[Node]
    saved: Mapping[str, int]

    @property
    def name(self) -> str:
        """What the form is called."""
        return "gone"

    def ranks(self, step: int) -> range:
        """Only 0."""
        return range(0, step, step)

    def cost(self, rank: int, price: str) -> int:
        """What the layer costs, less what goes with it wherever that is."""
        del rank
        return self.dense(price) - self.saved[price]

    def errors(self, moments: Moments) -> Array:
        """All energy is lost."""
        del moments
        return np.ones(1)

    def fitted(
        self, rank: int, new: Moments, old: Moments, flow: Flow | None = None, mix: float = 0.2
    ) -> Factors:
        """The mean of what the results should be."""
        del rank, old, mix
        target, none = new.target, np.zeros((0, self.layer.outputs))
        if flow is not None:
            for _ in range(_AIMS):
                target, _ = aimed(flow, np.zeros((len(flow.read), 0)), none, target)
        first = np.zeros((0, self.order.size))
        return Mean(self.layer, (), first, none[:, None], self.metric.undone(target))

    def rough(self, rank: int, moments: Moments) -> Factors:
        """The mean, as if nothing before the layer changed."""
        return self.fitted(rank, moments, moments)

    guess = rough


def mean(layer: Linear, bias: Array) -> Value:
    """A number for each output of a layer, as what broadcasts like its results."""
    shape = np.ones(layer.y.rank or 1, int)
    shape[layer.y_axis] = layer.outputs
    return ops.constant(bias.reshape(shape).astype(layer.array.dtype))


def gone(
    graph: Graph, forms: Mapping[Node, Factoring], ignore: str, savings: Savings
) -> list[Gone]:
    """The layers that may become their mean: of those that meet, the one that saves most.

    ``forms`` has another form of each. None may go that ``ignore`` names.
    """
    best = dict[Node, Gone]()
    for node, plain in forms.items():
        meets = meeting(graph, plain.layer)
        needed = _needed(graph, node) if meets is not None else frozenset()
        kept = any(n.matches(ignore) for n in needed)
        if meets is not None and not kept and all(n.repeatable for n in needed):
            saved = savings.of(needed, partial(_without, graph, plain.layer))
            form = Gone(plain.layer, frozenset(), plain.metric, plain.ends, needed, saved)
            other = best.get(meets)
            if other is None or sum(form.saved.values()) > sum(other.saved.values()):
                best[meets] = form
    return list(best.values())


def meeting(graph: Graph, layer: Linear) -> Node | None:
    """The node at which what follows from a layer's result alone meets another value.

    Up to there each number must be made of one of the result. The other value must be of the
    shape that comes out, so that a result that is smaller may be broadcast. None if there is none.
    """
    value = layer.y
    while graph.uses[value] == 1 and (readers := graph.readers.get(value)):
        (node,) = readers
        if not node.has("elementwise") or len(node.outputs) > 1:
            return None
        others = [v for v in node.inputs if v != value and not is_absent(v) and not tensor_of(v)]
        if others:
            fits = any(v.type == node.outputs[0].type for v in others)
            return node if fits and node.op.version >= _BROADCASTING else None
        value = node.outputs[0]
    return None


def _needed(graph: Graph, node: Node) -> frozenset[Node]:
    """A node and all that only it reads, or only what only it reads."""
    found, given = {node}, set(graph.outputs.values())
    for before in reversed(graph.nodes[: graph.nodes.index(node)]):
        readers = [r for v in before.outputs for r in graph.readers.get(v, ())]
        if readers and given.isdisjoint(before.outputs) and found.issuperset(readers):
            found.add(before)
    return frozenset(found)


def _without(graph: Graph, layer: Linear) -> Graph:
    """A graph where a layer is its mean."""
    value = mean(layer, np.zeros(layer.outputs))
    return transform(graph, lambda node, _: value if node is layer.node else None)
