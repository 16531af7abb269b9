"""A network in which the channels of a family can be put out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TypeAlias

import numpy as np

from redir import ops
from redir.importance.family import Family
from redir.importance.labelled import Labelled, judged
from redir.ir import Graph, Node, Port, Value
from redir.ir.builtin import tensor_of
from redir.ir.tensor import Array, TensorType
from redir.runtime.onnxruntime import runner

_BROADCASTING = 7  # the operator set from which a Mul does so untold

Sites: TypeAlias = Mapping[Port, Sequence[Node]]
"""Axes that something adds up over, and what does that."""


def sites(family: Family) -> Sites:
    """The computed axes that something adds up over, and what does that.

    A channel that is zero there might as well be gone.
    """
    ports, found = set(family.ports), dict[Port, list[Node]]()
    for node, link in family.coupling.links:
        if link.kind == "summed" and link.a in ports and tensor_of(link.a[0]) is None:
            found.setdefault(link.a, []).append(node)
    return found


def ones(port: Port) -> Array:
    """A mask that lies along an axis, and changes nothing."""
    value, axis = port
    shape = [1] * (value.rank or 0)
    shape[axis] = value.type.size(axis) or 1
    return np.ones(shape, value.type.dtype)


def masked(
    nodes: Sequence[Node], env: dict[Value, Value], reading: Sites, masks: Mapping[Port, Value]
) -> dict[Port, Value]:
    """Compute ``nodes`` in ``env``, what is read at each site being times its mask.

    What is then read there comes back, of which nothing else is made.
    """
    at, found = defaultdict[tuple[Node, Value], list[Port]](list), dict[Port, Value]()
    for port, users in reading.items():
        for node in users:
            at[node, port[0]].append(port)
    made, mul = dict[tuple[Value, Port], Value](), ops.lookup("Mul", _BROADCASTING)
    assert mul is not None

    def times(x: Value, port: Port) -> Value:
        if (x, port) not in made:
            found[port] = made[x, port] = mul(x, masks[port])
        return made[x, port]

    for node in nodes:
        given = [reduce(times, at.get((node, v), ()), env.get(v, v)) for v in node.inputs]
        env.update(zip(node.outputs, node.on(given).outputs, strict=True))
    return found


@dataclass(frozen=True, eq=False)
class Masked:
    """Examples in a network with masks for the channels of a family.

    What is before the first of its ``sites`` is computed once.
    """

    family: Family
    labelled: Labelled

    def losses(self, mask: Array) -> Array:
        """The loss of each example where channels are times the numbers of ``mask``."""
        feeds = {name: self._lying(port, mask) for name, port in self._masks.items()}
        made = [
            self.labelled.losses(next(iter(self._run({**held, **feeds}).values())), labels)
            for held, labels in self._held
        ]
        return np.concatenate(made)

    @cached_property
    def graph(self) -> Graph:
        """The network, of which the loss is taken."""
        return judged(self.family.coupling.graph, self.labelled.loss)

    @cached_property
    def _sites(self) -> Sites:
        return sites(self.family)

    @cached_property
    def _masks(self) -> Mapping[str, Port]:
        return {f"mask {number}": port for number, port in enumerate(self._sites)}

    def _lying(self, port: Port, mask: Array) -> Array:
        """A mask as it lies along an axis, 1 for what is no channel of the family."""
        like, numbers = ones(port), np.append(mask, 1.0)[self.family.places(port)]
        return numbers.reshape(like.shape).astype(like.dtype)

    @cached_property
    def _nodes(self) -> Sequence[Node]:
        """What is computed from the first site on."""
        nodes = self.graph.nodes
        reading = {node for found in self._sites.values() for node in found}
        first = next((place for place, node in enumerate(nodes) if node in reading), len(nodes))
        return [node for node in nodes[first:] if node.inputs]

    @cached_property
    def _live(self) -> Mapping[str, Value]:
        """What flows there."""
        own = {value for node in self._nodes for value in node.outputs}
        read = [v for node in self._nodes for v in node.inputs] + list(self.graph.outputs.values())
        flows = (v for v in dict.fromkeys(read) if v not in own and _is_computed(v))
        return {f"held {number}": value for number, value in enumerate(flows)}

    @cached_property
    def _held(self) -> Sequence[tuple[Mapping[str, Array], Array]]:
        run = runner(replace(self.graph, outputs=self._live))
        return [
            ({name: np.array(a) for name, a in run(inputs).items()}, labels)
            for inputs, labels in self.labelled.parts(self.graph)
        ]

    @cached_property
    def _run(self) -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
        inputs = {name: Value(value.type) for name, value in self._live.items()}
        env = {value: inputs[name] for name, value in self._live.items()}
        masks = {port: Value(_type(ones(port))) for port in self._masks.values()}
        inputs |= {name: masks[port] for name, port in self._masks.items()}
        masked(self._nodes, env, self._sites, masks)
        made = {name: env.get(v, v) for name, v in self.graph.outputs.items()}
        return runner(replace(self.graph, inputs=inputs, outputs=made, defaults={}))


def _type(array: Array) -> TensorType:
    return TensorType(array.dtype, array.shape)


def _is_computed(value: Value) -> bool:
    return value.node is None or bool(value.node.inputs)
