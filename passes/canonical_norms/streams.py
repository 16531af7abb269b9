"""Streams of channels that norms read: what writes to them, and who else would miss their mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from redir import ops
from redir.channels.coupling import Coupling
from redir.channels.streams import is_norm, tied
from redir.ir import Graph, Node, Port, Value
from redir.ops import tensor_of


@dataclass
class Stream:
    """Axes that hold what is added up, from constants to norms along them.

    ``written`` are the constants that make it, each with the axis of the channels; ``norms`` read
    it. ``obstacle`` says why it cannot be without the mean of its channels, if it cannot.
    """

    written: dict[Value, int] = field(default_factory=dict)
    norms: list[Node] = field(default_factory=list)
    obstacle: str = ""

    def refuse(self, why: str) -> None:
        """Note the first obstacle."""
        self.obstacle = self.obstacle or why


def normed_streams(graph: Graph) -> Iterator[Stream]:
    """The streams that a LayerNormalization reads, each once."""
    seen = set[Node]()
    for node in graph.nodes:
        if is_norm(node, "LayerNormalization") and node not in seen:
            x = node.inputs[0]
            yield (found := _followed(graph, (x, (x.rank or 0) - 1)))
            seen.update(found.norms)


def _followed(graph: Graph, start: Port) -> Stream:
    """The stream of an axis, from all that it is made of to all that read it."""
    coupling, stream = graph.analysis(Coupling), Stream()
    reached = dict.fromkeys([start])
    for value, axis in (order := list(reached)):
        makers = _makers(coupling, (value, axis), stream)
        readers = _readers(coupling, (value, axis), stream)
        more = [p for p in (*makers.items(), *readers.items()) if p not in reached]
        reached.update(dict.fromkeys(more))
        order += more
    return stream


def _makers(coupling: Coupling, port: Port, stream: Stream) -> Mapping[Value, int]:
    """The operands that a value is a sum of, as far as its channels go; constants end here."""
    value, axis = port
    node = value.node
    if node is None:
        stream.refuse("it reads an input of the graph")
    elif tensor_of(value) is not None:
        if stream.written.setdefault(value, axis) != axis or value.type.dtype.kind != "f":
            stream.refuse(f"a constant of {node} is added to it in two ways")
    else:
        linked = tied(coupling, node, port)
        operands = {v: linked[v] for v in node.inputs if v in linked}
        for term in node.op.terms(node):
            if not node.has("linear") or sum(node.inputs[i] in operands for i in term) != 1:
                stream.refuse(f"{node} makes it, which mixes or scales channels")
                return {}
        return operands
    return {}


def _readers(coupling: Coupling, port: Port, stream: Stream) -> Mapping[Value, int]:
    """The results that go on as parts of the stream; norms end here."""
    value, axis = port
    graph, found = coupling.graph, dict[Value, int]()
    if value in graph.outputs.values():
        stream.refuse("the graph gives it out")
    for node in dict.fromkeys(graph.readers.get(value, ())):
        last = axis == (value.rank or 0) - 1 and node.inputs.count(value) == 1
        if last and is_norm(node, "LayerNormalization") and node.inputs[0] is value:
            if node not in stream.norms:
                stream.norms.append(node)
        elif node.op != ops.Shape:
            linked = tied(coupling, node, port)
            results = {v: linked[v] for v in node.outputs if v in linked}
            if not results:
                stream.refuse(f"{node} reads it, which would miss its mean")
            found.update(results)
    return found
