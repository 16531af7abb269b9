"""Sizes that a Shape gives and nobody takes."""

from __future__ import annotations

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Port, Value
from redir.ops import tensor_of
from redir.ops.slicing import cut_of


def untaken(graph: Graph, node: Node) -> set[Port]:
    """The axes whose sizes a node reads for nobody: of a Shape those that all its readers leave."""
    x = node.inputs[0] if node.op == ops.Shape else None
    if x is None or x.rank is None:
        return set()
    told = range(x.rank)[slice(node.attrs.get("start", 0), node.attrs.get("end"))]
    taken = {told[place] for place in _places(graph, node.outputs[0], len(told))}
    return {(x, axis) for axis in range(x.rank) if axis not in taken}


def _places(graph: Graph, sizes: Value, count: int) -> set[int]:
    """The places of a vector of sizes that are taken."""
    whole = set(range(count))
    if sizes in graph.outputs.values():
        return whole
    each = (_picked(node, sizes, count) for node in graph.readers.get(sizes, ()))
    return set[int]().union(*(whole if found is None else found for found in each))


def _picked(node: Node, sizes: Value, count: int) -> set[int] | None:
    """The places that a Gather or a Slice takes, where these are constant."""
    if node.inputs[0] is not sizes or sizes in node.inputs[1:]:
        return None
    if node.op == ops.Gather:
        index = tensor_of(node.inputs[1])
        if index is None or not np.all((index.array >= -count) & (index.array < count)):
            return None
        return {int(place) % count for place in index.array.reshape(-1)}
    cut = cut_of(node) if node.op == ops.Slice else None
    if cut is None:
        return None
    return {place for _, run in cut.runs for place in range(count)[slice(*run)]}
