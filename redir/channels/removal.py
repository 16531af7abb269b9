"""Removing channels: every tensor that carries them gets narrower, and operators follow."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.channels.coupling import Coupling
from redir.channels.means import corrected, corrections
from redir.channels.resting import resting
from redir.ir import Graph, Node, Port, Source, Value, width
from redir.ir.rewriter import Outputs, map_constants, transform
from redir.ir.tensor import Array, Tensor
from redir.ops import sizes, tensor_of

__all__ = ["silenced", "spared", "without"]

_DIVIDING = (ops.Div, ops.Mod)


def without(coupling: Coupling, groups: Collection[int]) -> Graph:
    """The graph without the channels of ``groups``; pinned ones stay.

    Where nothing would be left of an axis its first group stays, since no tensor is empty; but a
    result that nothing reads may go.
    """
    gone = spared(coupling, groups)
    lost_of = coupling.among(gone)
    places = {port: lost_of(port) for port in coupling.ports if gone}
    kept = {port: np.flatnonzero(~lost) for port, lost in places.items() if lost.any()}
    return narrowed(coupling.graph, kept, {}) if kept else coupling.graph


def spared(coupling: Coupling, groups: Collection[int]) -> set[int]:
    """Those of ``groups`` that can go: not the pinned, and of no axis that is read all."""
    gone, uses = set(groups) - coupling.pinned, coupling.graph.uses
    mask = coupling.marked(gone)
    for port in coupling.ports if gone else ():
        here = coupling.group(port)
        if here.size and mask[here].all() and uses[port[0]]:
            gone.discard(int(here.min()))
            mask[here.min()] = False
    return gone


@dataclass(frozen=True)
class Joined:
    """For each channel of an axis the one that it is added to, itself if it stays, times what."""

    into: Array
    factor: Array


def narrowed(graph: Graph, kept: Mapping[Port, Array], added: Mapping[Port, Joined]) -> Graph:
    """``graph`` with only the ``kept`` channels; slices of constants are ``added`` to those."""
    ports: dict[Value, list[int]] = {}
    for value, axis in kept:
        ports.setdefault(value, []).append(axis)
    written: dict[tuple[Value, Hashable], Value] = {}

    def shared(old: Value, new: Value) -> Value:
        """One operand where several nodes that shared one now ask for the same."""
        held = tensor_of(new) or _told(new)
        return new if held is None or old is new else written.setdefault((old, held), new)

    grown = corrections(graph, kept)

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        touched = any(v in ports for v in (*node.inputs, *node.outputs))
        if not touched and node not in grown:
            return None
        value = node.outputs[0]
        tensor = tensor_of(value)
        if tensor is None:
            new = node.op.narrow(node, corrected(inputs, grown.get(node, {})), kept)
            if len(new.inputs) == len(node.inputs):
                new = new.on(map(shared, inputs, new.inputs))
            return _results(node, new, kept)
        array, source = tensor.array, node.source or Source()
        for axis in ports[value]:
            array = _narrow(array, axis, kept[value, axis], added.get((value, axis)))
            source = source.keeping(axis, kept[value, axis])
        return replace(node, attrs={"value": Tensor.take(array)}, source=source).outputs

    return transform(graph, visit)


def _told(value: Value) -> Hashable:
    """What a vector of sizes holds, if one knows of each number what it is."""
    told = None if value.node is None or value.node.sizes is None else sizes.of(value)
    known = () if told is None else tuple(told.reshape(-1))
    return known if all(s.port is not None or s.dim is not None for s in known) else None


def _results(node: Node, new: Node, kept: Mapping[Port, Array]) -> Outputs:
    """What stands for the results of ``node``: any for one of which nothing is left."""
    if new.arity == node.arity:
        return new.outputs
    left = iter(new.outputs)
    empty = {v for v, axis in kept if not kept[v, axis].size and width((v, axis))}
    return [new.outputs[0] if value in empty else next(left) for value in node.outputs]


def _narrow(array: Array, axis: int, kept: Array, joined: Joined | None) -> Array:
    if joined is None:
        return array.take(kept, axis)
    rows = np.moveaxis(array, axis, 0)
    total = np.zeros(rows.shape, np.float64)
    factor = joined.factor.reshape(-1, *(1,) * (rows.ndim - 1))
    np.add.at(total, joined.into, rows * factor)
    return np.moveaxis(total[kept], 0, axis).astype(array.dtype)


def silenced(coupling: Coupling, groups: Collection[int]) -> Graph:
    """The graph with zeros in constants for the channels of ``groups``: as if they were gone.

    Integers become what stands for zero. What divides stays as it is: zero by it is zero.
    """
    lost_of, ports = coupling.among(groups), dict[Value, list[int]]()
    for value, axis in coupling.ports:
        if lost_of((value, axis)).any():
            ports.setdefault(value, []).append(axis)

    divisors = {node.inputs[1] for node in coupling.graph.nodes if node.op in _DIVIDING}

    def without_sound(value: Value, tensor: Tensor) -> Tensor | None:
        if value not in ports or value in divisors:
            return None
        array = tensor.array.copy()
        rest = coupling.graph.analysis(resting).get(value, np.zeros_like(array))
        for axis in ports[value]:
            lost = lost_of((value, axis))
            np.moveaxis(array, axis, 0)[lost] = np.moveaxis(rest, axis, 0)[lost]
        return Tensor.take(array)

    return map_constants(coupling.graph, without_sound)
