"""The graph in which tokens are merged, and count from there on by their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Port, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array
from redir.ops import OPSET
from redir.passes.merge_tokens.ends import averages
from redir.passes.merge_tokens.fused import parts_of
from redir.passes.merge_tokens.matching import Matching, Writer, features, merged
from redir.passes.merge_tokens.stages import Counted, Stages

_SCORES = 4  # axes: examples, heads, queries, keys


def rewritten(stages: Stages, numbers: Sequence[int]) -> Graph:
    """The graph of ``stages``, in which each merge takes away so many tokens."""
    left, matchings = stages.merges[0].tokens, []
    for number in numbers:
        matchings.append(Matching(left, number, stages.places))
        left -= number
    write = Writer(stages.graph.opset.get("", OPSET))
    return transform(stages.graph, _Rewriting(stages, matchings, write).visit)


@dataclass(eq=False)
class _Rewriting:
    """What stands for each node, and what has been made so far."""

    stages: Stages
    matchings: Sequence[Matching]
    write: Writer
    made: dict[Value, Value] = field(default_factory=dict)  # keys, by those that there were
    sizes: list[Value] = field(default_factory=list)  # behind each merge

    def __post_init__(self) -> None:
        """Note which nodes are to be seen."""
        merges, along = self.stages.merges, self.stages.along
        self.behind = {block.residual: i for i, block in enumerate(merges)}
        self.keys = {block.keys.value for block in merges}
        self.kept: dict[Port, Array] = {port: np.arange(self.left(port)) for port in along}
        self.held = {value for value, _ in along}

    def left(self, port: Port) -> int:
        """How many tokens there are along an axis."""
        tokens = self.stages.along[port]
        return self.matchings[tokens.merge].left - tokens.skipped

    def visit(self, node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        """What stands for a node on ``inputs``."""
        touched = any(v in self.held for v in node.inputs)
        if not touched and node not in self.behind and self.keys.isdisjoint(node.outputs):
            return None
        new = list(self.changed(node, inputs)) if touched else list(node.on(inputs).outputs)
        self.made.update((v, y) for v, y in zip(node.outputs, new, strict=True) if v in self.keys)
        if node in self.behind:
            new[0] = self.merge(self.behind[node], new[0])
        return new

    def changed(self, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value]:
        """The results of a node on merged tokens."""
        given = list(inputs)
        for place in self.stages.even.get(node, ()):
            even = self.stages.ties.even(node.inputs[place])
            assert even is not None
            given[place] = ops.constant(even.array)
        if node in self.stages.biased:
            self.bias(node, given, self.stages.biased[node])
        if node in self.stages.pooled:
            self.weigh(node, given, self.stages.pooled[node])
        if node in self.behind or node in self.stages.biased:
            return node.on(given).outputs
        return node.op.narrow(node, tuple(given), self.kept).outputs

    def bias(self, node: Node, given: list[Value], counted: Counted) -> None:
        """Add the logarithm of the sizes to what a Softmax reads, or make it a mask."""
        parts, x = parts_of(node), given[counted.place]
        bias = self.write.op("Log", self.of(counted, x))
        if parts is None:
            bias = self.spread(bias, counted, x.rank or 0, counted.axis, counted.rows)
            given[counted.place] = self.write.op("Add", x, bias)
            return
        port = node.inputs[parts.queries], parts.axis
        queries = self.left(port) if port in self.stages.along else port[0].type.size(port[1])
        mask = self.spread(bias, counted, _SCORES, -1, None if counted.rows is None else 0)
        given += [ops.Absent()] * (parts.mask + 1 - len(given))
        shape = self.write.ints(1, 1, queries or 1, 1)  # onnxruntime does not broadcast queries
        given[parts.mask] = self.write.op("Expand", mask, shape)

    def weigh(self, node: Node, given: list[Value], counted: Counted) -> None:
        """Multiply tokens by their sizes, before they are added up."""
        x = given[counted.place]
        sizes = self.of(counted, x)
        if averages(node):
            before = self.matchings[0].tokens - counted.tokens.skipped
            share = self.write.number(self.count(counted) / before, x.type.dtype)
            sizes = self.write.op("Mul", sizes, share)
        spread = self.spread(sizes, counted, x.rank or 0, counted.axis, counted.rows)
        given[counted.place] = self.write.op("Mul", x, spread)

    def count(self, counted: Counted) -> int:
        """How many tokens there are now."""
        return self.matchings[counted.tokens.merge].left - counted.tokens.skipped

    def of(self, counted: Counted, x: Value) -> Value:
        """The sizes of tokens (examples, tokens, 1), in the type of ``x``."""
        sizes, skipped = self.sizes[counted.tokens.merge], counted.tokens.skipped
        sizes = self.write.cut(sizes, 1, skipped) if skipped else sizes
        same = sizes.type.dtype == x.type.dtype
        return sizes if same else self.write.cast(sizes, x.type.dtype)

    def spread(
        self, sizes: Value, counted: Counted, rank: int, axis: int, rows: int | None
    ) -> Value:
        """Sizes along an axis of tokens and one of examples, of so many axes."""
        shape = [1] * rank
        shape[axis] = self.count(counted)
        if rows is not None:
            shape[rows] = -1
        if rows is not None and rows > axis >= 0:
            sizes = self.write.op("Transpose", sizes, perm=(1, 0, 2))
        return self.write.op("Reshape", sizes, self.write.ints(*shape))

    def merge(self, number: int, x: Value) -> Value:
        """The tokens behind a merge."""
        keys = self.stages.merges[number].keys
        found = features(self.write, self.made[keys.value], keys)
        before = self.sizes[-1] if self.sizes else None
        tokens, sizes = merged(self.write, x, before, found, self.matchings[number])
        self.sizes.append(sizes)
        return tokens
