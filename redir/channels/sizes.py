"""Sizes that a Shape gives: which somebody takes, and which axes are given the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from redir import ops
from redir.ir import Graph, Link, Node, Port, Value, width
from redir.ops import sizes


def carried(graph: Graph, node: Node) -> Iterator[Link]:
    """A link from each axis that is given a size which ``node`` reads to the axis that has it."""
    for port, goal in _reads(graph, node):
        if goal is not None and width(goal) == width(port):
            yield Link(goal, port, np.arange(width(port)))


def taken(graph: Graph, node: Node) -> set[Port]:
    """The axes whose sizes ``node`` reads for somebody who does more than give them to an axis."""
    return {port for port, goal in _reads(graph, node) if goal is None}


def _reads(graph: Graph, node: Node) -> Iterator[tuple[Port, Port | None]]:
    """Each axis whose size a Shape reads, with each axis that is given it, or None."""
    if node.op != ops.Shape:
        return
    if node.sizes is None:
        yield from (((node.inputs[0], axis), None) for axis in range(node.inputs[0].rank or 0))
        return
    outputs, moved = set(graph.outputs.values()), dict.fromkeys([node.outputs[0]])
    for value in (order := list(moved)):
        held = _ports(node, value)
        if value in outputs:
            yield from ((port, None) for port in held)
        for reader in graph.readers.get(value, ()) if held else ():
            goal = sizes.goal_of(reader)
            if goal is not None and goal.vector is value:
                yield from _given(node, reader, goal)
            elif reader.sizes is not None:
                order += [y for y in reader.outputs if y not in moved]
                moved.update(dict.fromkeys(reader.outputs))
            else:
                yield from ((port, None) for port in held)


def _ports(node: Node, value: Value) -> list[Port]:
    """The axes of what ``node`` reads whose sizes a value holds."""
    told = sizes.of(value)
    held = [] if told is None else [size.port for size in told.reshape(-1)]
    return [port for port in held if port is not None and port[0] is node.inputs[0]]


def _given(node: Node, reader: Node, goal: sizes.Goal) -> Iterator[tuple[Port, Port | None]]:
    """The axes of a result that are given sizes, or None for each that ``reader`` does not tie."""
    tied = {port for link in reader.op.links(reader) for port in (link.a, link.b)}
    for axis, size in goal.sizes.items():
        if size.port is not None and size.port[0] is node.inputs[0]:
            given = reader.outputs[0], axis
            yield size.port, given if given in tied else None
