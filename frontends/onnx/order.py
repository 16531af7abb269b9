"""The order in which the nodes of an ONNX graph can be read."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

import onnx

from redir.errors import BadInput


def ordered(nodes: Sequence[onnx.NodeProto], defined: Container[str]) -> Iterable[onnx.NodeProto]:
    """The nodes, each behind those whose results it reads; ``defined`` are the names before them.

    Raises:
        BadInput: a name is defined twice, or nodes read one another in a circle.
    """
    makers: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in makers or name in defined:
                raise BadInput(f"{spoken(node)} defines {name!r}, which is defined already")
            makers[name] = place
    before = {i: {makers[n] for n in _reads(node) if n in makers} for i, node in enumerate(nodes)}
    if all(max(needed, default=-1) < place for place, needed in before.items()):
        return nodes
    try:
        return [nodes[place] for place in TopologicalSorter(before).static_order()]
    except CycleError as error:
        circle = " > ".join(spoken(nodes[place]) for place in error.args[1])
        raise BadInput(f"nodes read one another in a circle: {circle}") from None


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads from around it, in its bodies too."""
    yield from node.input
    for body in (g for a in node.attribute for g in (a.g, *a.graphs)):
        own = {i.name for i in (*body.input, *body.initializer)}
        own.update(t.values.name for t in body.sparse_initializer)
        own.update(name for inner in body.node for name in inner.output)
        within = (name for inner in body.node for name in _reads(inner))
        yield from (n for n in (*within, *(o.name for o in body.output)) if n not in own)


def spoken(node: onnx.NodeProto) -> str:
    """A node in a message: its operator, and its name or else that of its first result."""
    return f"{node.op_type} {node.name or next(iter(node.output), '')!r}"
