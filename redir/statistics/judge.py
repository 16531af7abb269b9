"""What a change does to the outputs, as it would be on real inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.builtin import tensor_of
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array
from redir.statistics.norms import EPSILON, is_norm
from redir.statistics.rest import Made
from redir.statistics.walk import Batches, Held, applied, distance, outputs, walk


@dataclass(frozen=True, eq=False)
class Judge:
    """A ``graph`` and the ``batches`` on which its outputs are compared.

    ``twins`` are its nodes for those of the graph that it was made from, and ``gains`` by how much
    less a layer's results spread in that than they did in training, where a norm says so.
    """

    graph: Graph
    batches: Batches
    twins: Mapping[Node, Node]
    gains: Mapping[Node, Array] = field(default_factory=dict)

    def on(self, node: Node, made: Made) -> Made:
        """What stands for a layer where it errs as ``made`` does, but in shares of its spread."""
        gain = self.gains.get(node)
        if gain is None:
            return made
        rest = self.twins[node].inputs[1:]

        def on(x: Value) -> Value:
            (y,) = node.on((x, *rest)).outputs
            return ops.Add(y, ops.Mul(ops.Sub(made(x), y), ops.constant(gain)))

        return on

    @cached_property
    def plain(self) -> Mapping[str, Array]:
        """The outputs as they are."""
        return outputs(self.graph, self.batches)

    def moved(self, made: Mapping[Node, Made]) -> Mapping[str, float]:
        """How far each output goes, as a share of its variance, if others stand for some layers."""
        new = {self.twins[node]: self.on(node, on) for node, on in made.items()}

        def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            return new[node](inputs[0]) if node in new else None

        after = outputs(transform(self.graph, visit), self.batches)
        return {name: distance(array, after[name]) for name, array in self.plain.items()}


def judge(original: Graph, graph: Graph, batches: Batches) -> Judge:
    """What judges changes of ``graph``, which is ``original`` or that with its norms fitted.

    A fitted norm gives its channels the spread that they had in training by amplifying what it
    reads: a change too, which the original's does not amplify. So in its place stand the scale of
    the original's and, read as an input, what comes on top of that in each example. One whose scale
    is computed stays.

    Raises:
        Unsupported: the graph cannot be run.
    """
    pairs = zip(*([n for n in g.nodes if n.inputs] for g in (graph, original)), strict=True)
    norms = {node: twin for node, twin in pairs if is_norm(twin) and tensor_of(twin.inputs[1])}
    if graph is original or not norms:
        return Judge(graph, batches, {node: node for node in graph.nodes})
    scales = {node: _scale(twin) for node, twin in norms.items()}
    alone = ((norm.inputs[0].node, norm) for norm in norms if graph.uses[norm.inputs[0]] == 1)
    gains = {n: _spread(norms[norm]) / _spread(norm) for n, norm in alone if n is not None}
    on_top = _on_top(graph, batches, scales)
    named = {_unlike(graph.inputs) + str(place): node for place, node in enumerate(on_top)}
    given = {name: Value(node.outputs[0].type) for name, node in named.items()}
    read, twins = {named[name]: value for name, value in given.items()}, dict[Node, Node]()

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node in read:
            return ops.Add(ops.Mul(inputs[0], ops.constant(scales[node])), read[node])
        twins[node] = node.on(inputs)
        return twins[node].outputs

    whole = transform(replace(graph, inputs={**graph.inputs, **given}), visit)
    each = zip(batches, zip(*on_top.values(), strict=True), strict=True)
    return Judge(whole, [{**b, **dict(zip(given, a, strict=True))} for b, a in each], twins, gains)


def _scale(norm: Node) -> Array:
    """What a norm multiplies each channel by, in the shape of what it reads but the batch."""
    spread, gamma = _spread(norm), tensor_of(norm.inputs[1])
    assert gamma is not None
    found: Array = gamma.array.reshape(spread.shape) / spread
    return found


def _spread(norm: Node) -> Array:
    """The deviation that a norm stores, in the shape of what it reads but the batch."""
    var = tensor_of(norm.inputs[4])
    assert var is not None
    found: Array = np.sqrt(var.array + norm.attrs.get("epsilon", EPSILON)).astype(var.array.dtype)
    return found.reshape(-1, *[1] * ((norm.inputs[0].rank or 2) - 2))


def _on_top(
    graph: Graph, batches: Batches, scales: Mapping[Node, Array]
) -> Mapping[Node, Sequence[Array]]:
    """What each norm gives beyond what it reads times its scale, for each batch."""
    found = dict[Node, Sequence[Array]]()

    def step(node: Node, operands: list[list[Any]], _: Held) -> list[Sequence[Any]] | None:
        if node not in scales:
            return None
        made = applied(graph, node, operands)
        pairs = zip(made, operands, strict=True)
        found[node] = [y - scales[node] * x for (y, *_), (x, *_) in pairs]
        return made

    walk(graph, batches, step, "what norms add")
    return found


def _unlike(names: Iterable[str]) -> str:
    """A name that begins as none of some does."""
    return "_" * (1 + max(map(len, names), default=0))
