"""Operands that a Concat repeats: what reads them may add up its slices instead."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from redir import ops
from redir.channels.coupling import Coupling, followed
from redir.channels.ports import declared
from redir.ir import Graph, Link, Node, Port, width
from redir.ops import layout
from redir.passes.merge.plan import Plan, joins_of, unjoined
from redir.passes.merge.value_numbering import number_channels


def plan_unrepeated(coupling: Coupling) -> Plan:
    """Which operands of which Concat go, and what reads them.

    The result of such a Concat is taken for a source of its own, whose channels need not go
    together with those of its operands.
    """
    plan, repeats = Plan(), dict(_repeats(coupling))
    if not repeats:
        return plan
    cut = _cut(coupling.graph, repeats)
    numbers = number_channels(_joined(cut, repeats))
    fixed = cut.marked(cut.unmergeable)
    for family in cut.families():
        if not repeats.keys().isdisjoint(family):
            joins = joins_of(cut, family, numbers, fixed)
            plan.merge(cut, family, _whole(cut, family, repeats, joins), numbers)
    return plan


def _repeats(coupling: Coupling) -> Iterator[tuple[Port, Node]]:
    """Each axis along which a Concat puts a value beside itself."""
    for node in coupling.graph.nodes:
        if node.op == ops.Concat and len(set(node.inputs)) < len(node.inputs):
            port = layout.concat_axis(node)
            if port is not None and any(n is node for n, _ in coupling.links_of(port)):
                yield port, node


def _cut(graph: Graph, repeats: dict[Port, Node]) -> Coupling:
    """The coupling in which the ``repeats`` are tied to themselves instead of their operands."""
    ties = [(n, Link(p, p, np.arange(width(p)), kind="together")) for p, n in repeats.items()]
    left = [(n, k) for n, k in declared(graph) if repeats.get(k.b) is not n]
    return followed(graph, [*left, *ties])


def _joined(cut: Coupling, repeats: dict[Port, Node]) -> Coupling:
    """The coupling along what ``cut`` follows, and from the ``repeats`` to their operands."""
    along = [(n, k) for n, k in cut.links if repeats.get(k.b) is not n]
    back = [(n, k) for n, k in declared(cut.graph) if repeats.get(k.b) is n]
    return Coupling(cut.graph, [*along, *back])


def _whole(
    cut: Coupling, family: list[Port], repeats: dict[Port, Node], joins: dict[int, int]
) -> dict[int, int]:
    """Those of the joins by which operands go as a whole."""
    fewer = joins
    for port in family:
        if port in repeats:
            ends = np.cumsum([x.type.size(port[1]) or 0 for x in repeats[port].inputs])
            for groups in np.split(cut.group(port), ends[:-1]):
                if not joins.keys() >= set(groups.tolist()):
                    fewer = unjoined(fewer, groups)
    return fewer if fewer == joins else _whole(cut, family, repeats, fewer)
