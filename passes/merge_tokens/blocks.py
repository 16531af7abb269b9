"""The blocks of an encoder: attention of tokens to each other, added to the tokens it is of."""

from __future__ import annotations

from dataclasses import dataclass

from redir import ops
from redir.ir import Graph, Node, Port, Value
from redir.ir.tensor import Dim
from redir.ops import tensor_of
from redir.passes.merge_tokens.fused import parts_of
from redir.passes.merge_tokens.ties import Ties

_FLAT = 3  # axes of a stream: examples, tokens, channels


@dataclass(frozen=True)
class Keys:
    """What tokens are compared by: a value, and its axes of ``tokens`` and of ``channels``.

    ``rows`` is that of examples, None where there is one example, without an axis. ``heads`` lie
    side by side along the channels if there are more than 1, else along the other axes.
    """

    value: Value
    tokens: int
    channels: int
    rows: int | None
    heads: int = 1


@dataclass(frozen=True, eq=False)
class Block:
    """Where tokens can be merged: behind the sum ``residual`` (examples, tokens, channels)."""

    keys: Keys
    residual: Node

    @property
    def stream(self) -> Value:
        """The tokens that are merged."""
        return self.residual.outputs[0]

    @property
    def tokens(self) -> int:
        """How many there are."""
        return self.stream.type.size(1) or 0


@dataclass(frozen=True)
class _Attention:
    """The axis of tokens of its keys, that of their channels, and what it makes of each query."""

    keys: Port
    channels: int
    heads: int
    results: Port


def attends(graph: Graph) -> bool:
    """Whether there may be attention: that is told at once, and axes are followed in seconds."""
    return any(node.op == ops.Softmax or parts_of(node) is not None for node in graph.nodes)


def blocks(ties: Ties) -> list[Block]:
    """The blocks of a graph, in order."""
    found = dict[Node, Block]()
    for node in ties.graph.nodes:
        attention = _attention(ties, node)
        block = None if attention is None else _block(ties, attention)
        if block is not None:
            found.setdefault(block.residual, block)
    return [found[node] for node in ties.graph.nodes if node in found]


def rows_of(value: Value, examples: Dim, *others: int) -> int | str | None:
    """The axis of the examples, which is none of ``others``; None if there is one example.

    It says why where that cannot be told.
    """
    if examples == 1:
        return None
    dims = value.type.shape or ()
    found = [a for a, d in enumerate(dims) if d == examples and d is not None and a not in others]
    if len(found) == 1:
        return found[0]
    return f"it is not known which axis of {value.node} is that of examples"


def _attention(ties: Ties, node: Node) -> _Attention | None:
    """Where a node weighs tokens, in itself or for another that sums them up."""
    parts = parts_of(node)
    if parts is not None:
        keys = node.inputs[parts.keys]
        results = node.outputs[0], parts.axis
        return _Attention((keys, parts.axis), (keys.rank or 0) - 1, parts.heads, results)
    if node.op != ops.Softmax or not node.inputs[0].rank:
        return None
    axis = int(node.attrs.get("axis", -1)) % node.inputs[0].rank
    met = _scores(ties, (node.inputs[0], axis))
    weighed = _weighed(ties, (node.outputs[0], axis))
    if met is None or weighed is None:
        return None
    found = ties.forth(weighed[0], (weighed[1], met[2]))
    return _Attention(met[0], met[1], 1, found[0]) if found else None


def _scores(ties: Ties, port: Port) -> tuple[Port, int, int] | None:
    """The keys that scores along an axis are of, their channels, and the axis of the queries."""
    for end in (order := [port]):
        node = end[0].node
        for keys in ties.back(end):
            assert node is not None
            met = _multiplied(ties, node, keys)
            if met is not None:
                queries = {p[1] for p in _of(ties, node, met[0])}
                queries -= {p[1] for p in _of(ties, node, keys[0])}
                return (keys, met[1], queries.pop()) if len(queries) == 1 else None
            moved = node.has("elementwise") or node.has("moves_data")
            order += [keys] if moved and keys not in order else []
    return None


def _multiplied(ties: Ties, node: Node, keys: Port) -> tuple[Value, int] | None:
    """The queries that a node multiplies keys by, along which of the axes of these."""
    for axis in range(keys[0].rank or 0):
        met = ties.summed(node, (keys[0], axis))
        if met is not None and tensor_of(met[0]) is None:
            return met[0], axis
    return None


def _of(ties: Ties, node: Node, value: Value) -> list[Port]:
    """The axes of a result along which is what is along those of an operand."""
    return [p for axis in range(value.rank or 0) for p in ties.forth(node, (value, axis))]


def _weighed(ties: Ties, port: Port) -> tuple[Node, Value] | None:
    """The node that adds up what is weighed along an axis, and the weights that it reads."""
    for value, axis in (order := [port]):
        for node in ties.graph.readers.get(value, ()):
            if ties.summed(node, (value, axis)) is not None:
                return node, value
            order += [p for p in ties.forth(node, (value, axis)) if p not in order and p[1] == axis]
    return None


def _block(ties: Ties, attention: _Attention) -> Block | None:
    """The block of an attention, if its results are added to the tokens that have the keys."""
    met = _residual(ties, attention.results)
    if met is None or met[0].outputs[0].rank != _FLAT or met[0].outputs[0].type.size(1) is None:
        return None
    residual, skips = met
    tied = (residual.outputs[0], 1) in [p for s in skips for p in ties.forth(residual, s)]
    if not tied or not _descends(ties, attention.keys, skips):
        return None
    examples = (residual.outputs[0].type.shape or (None,))[0]
    value, axis = attention.keys
    rows = rows_of(value, examples, axis, attention.channels)
    if isinstance(rows, str):
        return None
    return Block(Keys(value, axis, attention.channels, rows, attention.heads), residual)


def _residual(ties: Ties, start: Port) -> tuple[Node, list[Port]] | None:
    """The first sum with something else that a result goes into, and the axes of that."""
    reached = [start]
    for value, axis in reached:
        for node in ties.graph.readers.get(value, ()):
            results = ties.forth(node, (value, axis))
            others = [p for y in results for p in ties.back(y) if p not in reached]
            if others and node.has("linear") and len(node.op.terms(node)) > 1:
                return node, others
            reached += [p for p in results if p not in reached]
    return None


def _descends(ties: Ties, port: Port, ancestors: list[Port]) -> bool:
    """Whether an axis is that of one of its ``ancestors``, token by token."""
    reached = [port]
    seen = set(reached)
    for each in reached:
        if each in ancestors:
            return True
        more = [p for p in ties.back(each) if p not in seen]
        seen.update(more)
        reached += more
    return False
