"""Channels that are added up wherever they are read: they may be added before."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from redir.channels.coupling import Coupling, fits
from redir.channels.removal import Joined
from redir.ir import Link, Node, Port, Value
from redir.ir.tensor import Array, is_floating
from redir.ops import tensor_of
from redir.passes.merge.algebra import is_linear, terms
from redir.passes.merge.plan import Plan, alike, in_steps, places, unjoined
from redir.passes.merge.value_numbering import content


def plan_added(coupling: Coupling, step: int = 1) -> Plan:
    """Which channels are added to which in the constants that make them.

    All that reads the two has the same slice for both, and all that lies between is linear.
    """
    plan, roles = Plan(), _roles(coupling)
    for family in coupling.families():
        joins = in_steps(coupling, _joins(coupling, family, roles), step)
        ports = {port: _joined(coupling, port, joins) for port in family if joins}
        plan.narrow(ports, roles.added)
    return plan


def _joined(coupling: Coupling, port: Port, joins: dict[int, int]) -> Joined:
    into = places(coupling.group(port), joins)
    return Joined(into, np.ones(into.size))


def _joins(coupling: Coupling, family: list[Port], roles: _Roles) -> dict[int, int]:
    """For each group that can be added to an earlier one of its family, that one."""
    if not any(port in coupling.summed for port in family):
        return {}
    held = cache(partial(_held, coupling, roles))
    joins = alike(coupling, family, held, roles.fixed)
    if not joins or not all(_fits(port) for port in family if port in roles.added):
        return {}
    for port in family:
        for _, link in coupling.links_of(port):
            if link.a == port and link.kind != "together":
                joins = unjoined(joins, coupling.group(port)[_crossing(coupling, link, joins)])
    return joins


def _held(coupling: Coupling, roles: _Roles, port: Port) -> Array:
    """A number for each slice of a constant that two channels must share, and else one for all."""
    found = content(port) if port in roles.kept or port in coupling.summed else None
    return np.zeros(coupling.group(port).size, int) if found is None else found.exactly()


def _crossing(coupling: Coupling, link: Link, joins: dict[int, int]) -> Array:
    """Which channels of one end of a link join another one than theirs of the other end does."""
    a, b = (places(coupling.group(port), joins) for port in (link.a, link.b))
    crossing: Array = link.index[a] != b[link.index]
    return crossing


def _fits(port: Port) -> bool:
    """Whether slices of a constant can be added up."""
    tensor = tensor_of(port[0])
    if tensor is None:
        return True
    return is_floating(tensor.type.dtype) and fits(tensor, port[1])


@dataclass(frozen=True)
class _Roles:
    """What becomes of the axes of operands where two channels of a result are to be added up.

    Those of ``added`` operands are added up too; constants that are ``kept`` must hold the same
    for both. ``fixed`` says of each group whether it cannot be added up.
    """

    added: set[Port]
    kept: set[Port]
    fixed: Array


def _roles(coupling: Coupling) -> _Roles:
    added, kept = set[Port](), set[Port]()
    stuck = {port for port in coupling.ports if _is_generated(port[0])}
    for node, result, operands in _ties(coupling):
        roles = _assigned(node, operands)
        if roles is None:
            stuck.update([result, *operands.values()])
        else:
            added.update(operands[v] for v in roles[0])
            kept.update(operands[v] for v in roles[1])
    fixed = coupling.groups_of(stuck | (added & kept))
    return _Roles(added, kept, coupling.marked(fixed | coupling.unmergeable))


def _is_generated(value: Value) -> bool:
    """Whether a value is made of nothing, and is no constant that one can look into."""
    return value.node is not None and not value.node.inputs and tensor_of(value) is None


def _ties(coupling: Coupling) -> Iterator[tuple[Node, Port, dict[Value, Port]]]:
    """For each axis of a result the axes of operands that it is tied to."""
    ties: dict[tuple[Node, Port], dict[Value, Port]] = {}
    for node, link in coupling.links:
        if link.kind not in {"summed", "together"}:
            result, operand = (link.a, link.b) if link.a[0] in node.outputs else (link.b, link.a)
            ties.setdefault((node, result), {})[operand[0]] = operand
    yield from ((node, result, operands) for (node, result), operands in ties.items())


def _assigned(node: Node, operands: Collection[Value]) -> tuple[set[Value], set[Value]] | None:
    """Which operands are added up if the result is, and which are kept; None if that is wrong."""
    if not is_linear(node):
        return None
    added, kept, left = set[Value](), set[Value](), set(range(len(node.inputs)))
    for factors in terms(node):
        linked = [i for i in factors if node.inputs[i] in operands]
        if not linked:
            return None  # something is added to each channel, and would be to a sum but once
        first = next((i for i in linked if tensor_of(node.inputs[i]) is None), linked[0])
        added.add(node.inputs[first])
        kept.update(node.inputs[i] for i in linked if i != first)
        left -= set(factors)
    kept.update(node.inputs[i] for i in left if node.inputs[i] in operands)
    wrong = added & kept or any(tensor_of(v) is None for v in kept)
    return None if wrong else (added, kept)
