"""Which of the values that are known to store, so that a graph stores no more numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from redir.check.guarantees import says_sizes, stored
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import transform
from redir.ops import tensor_of

_SOURCE, _SINK = "source", "sink"


def number(value: Value) -> Hashable:
    """What a constant of one number holds, bit by bit and with its shape; None of any other."""
    tensor = tensor_of(value)
    if tensor is None or tensor.size != 1:
        return None
    return tensor.type.dtype, tensor.array.shape, tensor.array.tobytes()


def single_numbers(graph: Graph) -> Mapping[Hashable, Value]:
    """The constants of one number that a graph stores already, by what they hold."""
    held = (v for node in graph.nodes for v in node.outputs)
    return {key: v for v in held if (key := number(v)) is not None}


@dataclass
class Known:
    """What is known of the nodes of a graph, and how they may be written therefore.

    ``constants`` has the results of those that can be computed, and ``open`` those whose results
    are sizes of which some are open. ``goals`` has the sizes that a Reshape may be given instead
    of its own.
    """

    constants: dict[Node, Sequence[Value]] = field(default_factory=dict)
    open: set[Node] = field(default_factory=set)
    goals: dict[Node, Value] = field(default_factory=dict)


def affordable(graph: Graph, known: Known, whole: Graph) -> Graph:
    """``whole``, in which all that is ``known`` is written, if it stores no more than ``graph``.

    Else what is stored is the least that all the rest can be computed from. That is never more than
    ``graph`` stores, which is one way to choose. A few numbers that only say sizes cost nothing.
    """
    if stored(whole, sizes=False) <= stored(graph):
        return whole
    least = _written(graph, _least(graph, known))
    return least if stored(least, sizes=False) <= stored(graph) else graph


def _written(graph: Graph, known: Known) -> Graph:
    def visit(node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if node in known.constants:
            return known.constants[node]
        if node in known.goals:
            return node.on((inputs[0], known.goals[node])).outputs
        return None

    return transform(graph, visit)


def _least(graph: Graph, known: Known) -> Known:
    """What of the ``known`` to write where the least numbers are stored.

    It is a cut between the constants and what needs them: what is at the cut is stored, what is
    before it goes, and what is behind it is computed. Of the least cuts it is the last.
    """
    if _is_least(graph, known):
        return Known({}, known.open)
    import networkx as nx  # noqa: PLC0415 - slow, and few models need it
    from networkx.algorithms.flow import boykov_kolmogorov  # noqa: PLC0415

    net: nx.DiGraph[Hashable] = nx.DiGraph()
    net.add_nodes_from((_SOURCE, _SINK))
    for node in graph.nodes:
        key, tensor = _key(node), tensor_of(node.outputs[0])
        if tensor is not None:
            net.add_edge(_SOURCE, ("from", key))
            net.add_edge(("from", key), ("to", key), capacity=tensor.size)
        elif node in known.constants:
            net.add_edge(("from", key), ("to", key), capacity=_size(graph, node, known))
        elif node in known.open:
            net.add_edge(("from", key), ("to", key))
        for place, value in enumerate(node.inputs):
            if _is_made(known, value):
                net.add_edge(_end(value), _start(known, node, place))
    for goal in known.goals.values():
        net.add_edge(goal, _SINK, capacity=0)
    made = (value for value in graph.outputs.values() if _is_made(known, value))
    net.add_edges_from((_end(value), _SINK) for value in made)
    _, (gone, _) = nx.minimum_cut(net, _SOURCE, _SINK, flow_func=boykov_kolmogorov)
    return Known(
        {n: values for n, values in known.constants.items() if ("from", n) in gone},
        known.open,
        {n: goal for n, goal in known.goals.items() if goal in gone},
    )


def _is_least(graph: Graph, known: Known) -> bool:
    """Whether what stays reads each of the constants: these are stored, and any more are too many.

    So it is where a file gives one weight several names.
    """
    if known.goals or not all(_size(graph, node, known) for node in known.constants):
        return False
    staying = (n for n in graph.nodes if n not in known.constants and n not in known.open)
    values = [*graph.outputs.values(), *(v for node in staying for v in node.inputs)]
    read = {_key(v.node) for v in values if v.node is not None}
    return all(_key(n) in read for n in graph.nodes if tensor_of(n.outputs[0]) is not None)


def _key(node: Node) -> Hashable:
    """What stands for a node: of constants that share a tensor, that."""
    tensor = tensor_of(node.outputs[0])
    return node if tensor is None else id(tensor)


def _is_made(known: Known, value: Value) -> bool:
    """Whether a value is a constant, or made of them alone: what else there is needs nothing."""
    held = tensor_of(value) is not None
    return held or value.node in known.constants or value.node in known.open


def _end(value: Value) -> Hashable:
    """Where ``value`` leaves its node."""
    assert value.node is not None
    return "to", _key(value.node)


def _start(known: Known, node: Node, place: int) -> Hashable:
    """Where an operand enters ``node``: the sink, if the node stays and reads it there."""
    if node in known.constants or node in known.open:
        return ("from", node)
    return known.goals[node] if place == 1 and node in known.goals else _SINK


def _size(graph: Graph, node: Node, known: Known) -> int:
    """The numbers that the results of a node would be stored as."""
    pairs = zip(node.outputs, known.constants[node], strict=True)
    held = ((old, t) for old, new in pairs if (t := tensor_of(new)) is not None)
    return sum(0 if says_sizes(graph, old, t) else t.size for old, t in held)
