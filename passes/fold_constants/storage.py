"""Which of the values that are known to store, so that a graph stores no more numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import networkx as nx

from redir import ops
from redir.check.guarantees import stored
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import transform
from redir.ops import tensor_of

_SOURCE, _SINK = "source", "sink"


@dataclass
class Known:
    """What is known of the nodes of a graph, and how they may be written therefore.

    ``constants`` has the results of those that can be computed, and ``open`` those whose results
    are sizes of which some are open. ``goals`` has the sizes that a Reshape may be given instead
    of its own, and ``flat`` the axis of a Flatten that may stand for it and needs no sizes.
    """

    constants: dict[Node, Sequence[Value]] = field(default_factory=dict)
    open: set[Node] = field(default_factory=set)
    goals: dict[Node, Value] = field(default_factory=dict)
    flat: dict[Node, int] = field(default_factory=dict)


def affordable(graph: Graph, known: Known, whole: Graph) -> Graph:
    """``whole``, in which all that is ``known`` is written, if it stores no more than ``graph``.

    Else Flattens stand where they can, or what is stored is the least that all the rest can be
    computed from: first with sizes for nothing, since they tell how channels go, and then with
    all counted. That is never more than ``graph`` stores, which is one way to choose.
    """
    ways: tuple[Callable[[], Graph], ...] = (
        lambda: whole,
        lambda: _written(graph, known),
        lambda: _written(graph, _least(graph, known, sizes_count=False)),
        lambda: _written(graph, _least(graph, known, sizes_count=True)),
    )
    most = stored(graph)
    return next((after for way in ways if stored(after := way()) <= most), graph)


def _written(graph: Graph, known: Known) -> Graph:
    flatten = ops.lookup("Flatten", graph.opset.get("", ops.OPSET))

    def visit(node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if node in known.constants:
            return known.constants[node]
        if node in known.flat and flatten is not None:
            attrs = {"axis": known.flat[node]}
            return Node(flatten, inputs[:1], attrs, source=node.source).outputs
        if node in known.goals:
            return node.on((inputs[0], known.goals[node])).outputs
        return None

    return transform(graph, visit)


def _least(graph: Graph, known: Known, *, sizes_count: bool) -> Known:
    """What of the ``known`` to write where the least numbers are stored.

    It is a cut between the constants and what needs them: what is at the cut is stored, what is
    before it goes, and what is behind it is computed. Of the least cuts it is the last.
    """
    net: nx.DiGraph[Hashable] = nx.DiGraph()
    net.add_nodes_from((_SOURCE, _SINK))
    for node in graph.nodes:
        key, tensor = _key(node), tensor_of(node.outputs[0])
        if tensor is not None:
            net.add_edge(_SOURCE, ("from", key))
            net.add_edge(("from", key), ("to", key), capacity=tensor.array.size)
        elif node in known.constants:
            cost = _numbers(known.constants[node])
            counts = sizes_count or not _tells_sizes(graph, node)
            net.add_edge(("from", key), ("to", key), capacity=cost if counts else 0)
        elif node in known.open:
            net.add_edge(("from", key), ("to", key))
        for place, value in enumerate(node.inputs):
            net.add_edge(_end(value), _start(known, node, place))
    for goal in known.goals.values():
        net.add_edge(goal, _SINK, capacity=_numbers([goal]) if sizes_count else 0)
    net.add_edges_from((_end(value), _SINK) for value in graph.outputs.values())
    _, (gone, _) = nx.minimum_cut(net, _SOURCE, _SINK)
    return Known(
        {n: values for n, values in known.constants.items() if ("from", n) in gone},
        known.open,
        {n: goal for n, goal in known.goals.items() if goal in gone},
        known.flat,
    )


def _key(node: Node) -> Hashable:
    """What stands for a node: of constants that share a tensor, that."""
    tensor = tensor_of(node.outputs[0])
    return node if tensor is None else id(tensor)


def _end(value: Value) -> Hashable:
    """Where ``value`` leaves its node; what is no constant, and not made of any, needs nothing."""
    return ("to", _key(value.node)) if value.node is not None else "input"


def _start(known: Known, node: Node, place: int) -> Hashable:
    """Where an operand enters ``node``: the sink, if the node stays and reads it there."""
    if node in known.constants or node in known.open:
        return ("from", node)
    if place == 1 and node in known.flat:
        return "nowhere"
    return known.goals[node] if place == 1 and node in known.goals else _SINK


def _tells_sizes(graph: Graph, node: Node) -> bool:
    """Whether a reader of ``node`` takes its sizes from it."""
    return any(
        reader.has("takes_sizes") and v.type.dtype.kind == "i" and v is not reader.inputs[0]
        for v in node.outputs
        for reader in graph.readers.get(v, ())
    )


def _numbers(values: Sequence[Value]) -> int:
    held = (tensor_of(v) for v in values)
    return sum(t.array.size for t in held if t is not None)
