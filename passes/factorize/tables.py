"""Tables of what heads are multiplied by, one for each attention: of one that is cut, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from redir.channels.coupling import Coupling
from redir.channels.ports import axes
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ops import tensor_of
from redir.passes.factorize.attentions import closed
from redir.passes.factorize.heads import Heads

_FEW = 2  # times as many numbers as a table is made of have the weights of its heads, at least


@dataclass(frozen=True, eq=False)
class Apart:
    """A graph in which heads have tables of their own; ``twins`` are the nodes that were shared.

    Of ``attentions`` that are one node it has layers, with a node of the name that each has here.
    """

    graph: Graph
    twins: Mapping[Node, Node] = field(default_factory=dict)
    attentions: Mapping[str, Node] = field(default_factory=dict)

    def shared(self, graph: Graph) -> Graph:
        """What became of the graph, with one table again for all heads that still have all.

        And attentions are one node again.
        """
        graph = closed(graph, self.attentions)
        if not self.twins:
            return graph

        def visit(node: Node, _: tuple[Value, ...]) -> Outputs | None:
            return self.twins[node].outputs if node in self.twins else None

        return transform(graph, visit)


def apart(graph: Graph, found: Sequence[Heads]) -> Apart:
    """The graph in which tables, such as cosines and sines for places, are made for each heads.

    They are made again where others read them too: else all would have to lose the same channels.
    What they are made of must be fewer numbers than the weights, or nothing would be saved.
    """
    coupling = graph.analysis(Coupling)
    made = dict[Node, dict[Node, Node]]()  # by the node that reads a table, and what is copied
    for heads in found:
        tables = _tables(graph, coupling, heads)
        if tables and _is_shared(graph, tables, heads) and _fits(tables, heads):
            copies = dict[Node, Node]()
            for node in (n for n in graph.nodes if n in tables):
                copies[node] = _copied(node, copies)
            made.update((node, copies) for node in heads.aside)
    if not made:
        return Apart(graph)

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        copies = made.get(node)
        return None if copies is None else node.on(_on(inputs, copies)).outputs

    twins = {copy: node for copies in made.values() for node, copy in copies.items()}
    return Apart(transform(graph, visit), twins)


def stored_again(coupling: Coupling, groups: set[int]) -> int:
    """How many numbers of constants are stored once, but not without some groups of channels."""
    tensors = [(node.outputs[0], tensor_of(node.outputs[0])) for node in coupling.graph.nodes]
    counts = Counter(id(tensor) for _, tensor in tensors if tensor is not None)
    copied = [(v, tensor) for v, tensor in tensors if tensor is not None and counts[id(tensor)] > 1]
    mine = (t for v, t in copied if not groups.isdisjoint(coupling.groups_of(axes(v))))
    return sum(tensor.size for tensor in mine)


def _copied(node: Node, copies: Mapping[Node, Node]) -> Node:
    return replace(node, inputs=tuple(_on(node.inputs, copies)))


def _on(values: Sequence[Value], copies: Mapping[Node, Node]) -> Iterator[Value]:
    """What is copied in place of values."""
    for value in values:
        copy = None if value.node is None else copies.get(value.node)
        yield value if copy is None else copy.outputs[value.index]


def _tables(graph: Graph, coupling: Coupling, heads: Heads) -> set[Node]:
    """The nodes that make what heads are multiplied by, as far as they carry its channels."""
    groups, mine = _groups(coupling, heads), _behind(graph, heads)
    found = set[Node]()
    stack = [v.node for node in heads.aside for v in node.inputs]
    while stack:
        node = stack.pop()
        if node is None or node in found or node in mine:
            continue
        ports = [port for v in node.outputs for port in axes(v)]
        if not groups.isdisjoint(coupling.groups_of(ports)):
            found.add(node)
            stack += [v.node for v in node.inputs]
    return found


def _groups(coupling: Coupling, heads: Heads) -> set[int]:
    port = heads.first.y_port
    return set(coupling.group(port)[heads.left].flat) if port in coupling.starts else set()


def _behind(graph: Graph, heads: Heads) -> set[Node]:
    """The nodes behind the two layers."""
    found = {heads.first.node, heads.second.node}
    for node in graph.nodes:
        if any(v.node in found for v in node.inputs):
            found.add(node)
    return found


def _is_shared(graph: Graph, tables: set[Node], heads: Heads) -> bool:
    mine, given = {*tables, *heads.aside}, set(graph.outputs.values())
    values = [v for node in tables for v in node.outputs]
    return any(v in given or not mine.issuperset(graph.readers.get(v, ())) for v in values)


def _fits(tables: set[Node], heads: Heads) -> bool:
    held = [tensor_of(node.outputs[0]) for node in tables]
    numbers = sum(tensor.size for tensor in held if tensor is not None)
    return numbers * _FEW <= heads.first.array.size + heads.second.array.size
