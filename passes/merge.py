"""Merge channels that are always equal, and add up what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from redir.coupling import Coupling, equal_channels
from redir.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Port
from redir.narrow import narrowed
from redir.ops import tensor_of
from redir.pipeline import Pass
from redir.tensor import Array


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
            if group not in coupling.unmergeable:
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
