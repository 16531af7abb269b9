"""Merge channels that are always equal, and add up what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from redir.coupling import Coupling, equal_channels
from redir.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Node, Port, Source, Value
from redir.ops import tensor_of
from redir.pipeline import Pass
from redir.rewrite import Outputs, transform
from redir.tensor import Array, Tensor


@dataclass(frozen=True)
class Merge(Pass):
    """Channels of a coupled group that always hold the same become one; consumers add up.

    Two groups merge where every constant that makes them (weight rows, biases, norm parameters,
    each producer of a residual stream) holds the same for both, place by place. What reads them
    adds up its slices in float64 and rounds once. Groups that reach a graph input or output, or
    an operator that mixes channels, are left alone.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def explain(self, graph: Graph) -> Iterator[str]:
        """Each family of channels that is pinned, and what pins it."""
        coupling = Coupling(graph)
        for family in coupling.channel_families():
            pins = coupling.pins_of(family)
            value, axis = next(p for p in family if tensor_of(p[0]) is not None)
            if pins:
                width = value.type.size(axis)
                yield f"axis {axis} of {value.node}: {width} channels, pinned by {pins[0]}"

    def run(self, graph: Graph) -> Graph:
        """Merge until nothing is equal: equal columns may make equal rows further on."""
        while (after := _merged(graph)) is not graph:
            graph = after
        return graph


def _merged(graph: Graph) -> Graph:
    plan = plan_merge(Coupling(graph))
    return narrowed(graph, plan.kept, plan.into) if plan.kept else graph


@dataclass(frozen=True)
class Plan:
    """For ports that get narrower: the channels kept, and for each channel the one it joins."""

    kept: dict[Port, Array] = field(default_factory=dict)
    into: dict[Port, Array] = field(default_factory=dict)


def plan_merge(coupling: Coupling) -> Plan:
    """Which channels merge into which."""
    plan, numbers = Plan(), equal_channels(coupling)
    for family in coupling.families():
        joins = _joined(coupling, family, numbers)
        for port in family if joins else ():
            into = _into(coupling.group(port), joins)
            kept = np.flatnonzero(into == np.arange(into.size))
            if kept.size < into.size:
                plan.kept[port] = kept
                if port in coupling.summed:
                    plan.into[port] = into
    return plan


def _joined(coupling: Coupling, family: list[Port], numbers: dict[Port, Array]) -> dict[int, int]:
    """For each group that is equal to an earlier one of its family, that one."""
    content: dict[int, list[tuple[int, bytes]]] = {}
    for place, port in enumerate(family):
        for group, block in _blocks(coupling.group(port)):
            if group not in coupling.pinned:
                content.setdefault(group, []).append((place, numbers[port][block].tobytes()))
    first: dict[tuple[tuple[int, bytes], ...], int] = {}
    joins = {g: first.setdefault(tuple(what), g) for g, what in content.items()}
    return {g: to for g, to in joins.items() if g != to}


def _blocks(groups: Array) -> Iterator[tuple[int, Array]]:
    """Each group of a port with its channels there, in order."""
    order = np.argsort(groups, kind="stable")
    names, starts = np.unique(groups[order], return_index=True)
    yield from zip(names.tolist(), np.split(order, starts[1:]), strict=False)


def _into(groups: Array, joins: dict[int, int]) -> Array:
    """For each channel of a port the one that it joins, itself where it stays."""
    into = np.arange(groups.size)
    places = dict(_blocks(groups))
    for group, to in joins.items():
        if group in places:
            into[places[group]] = places[to]
    return into


def narrowed(graph: Graph, kept: dict[Port, Array], into: dict[Port, Array]) -> Graph:
    """``graph`` with only the ``kept`` channels; slices of ``into`` are added to those kept."""
    ports: dict[Value, list[int]] = {}
    for value, axis in kept:
        ports.setdefault(value, []).append(axis)

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        touched = any(v in ports for v in (*node.inputs, *node.outputs))
        if not touched:
            return None
        value = node.outputs[0]
        tensor = tensor_of(value)
        if tensor is None:
            return node.op.narrow(node, inputs, kept).outputs
        array, source = tensor.array, node.source or Source()
        for axis in ports[value]:
            array = _narrow(array, axis, kept[value, axis], into.get((value, axis)))
            source = source.keeping(axis, kept[value, axis])
        return replace(node, attrs={"value": Tensor.take(array)}, source=source).outputs

    return transform(graph, visit)


def _narrow(array: Array, axis: int, kept: Array, into: Array | None) -> Array:
    if into is None:
        return array.take(kept, axis)
    total = np.moveaxis(np.zeros(array.shape, np.float64), axis, 0)
    np.add.at(total, into, np.moveaxis(array, axis, 0))
    return np.moveaxis(total[kept], 0, axis).astype(array.dtype)
