"""Heads of an Attention are pruned whole where they share keys and values."""

from __future__ import annotations

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.passes.prune import Prune
from redir.testing import check_on, check_removal
from tests.helpers import const, ints, placeholder

EACH = 2


def rows(*shape: int, seed: int) -> Value:
    return const(np.random.default_rng(seed).integers(-3, 4, shape))


def apart(x: Value, heads: int) -> Value:
    """Heads as an axis before that of places."""
    return ops.Transpose(ops.Reshape(x, ints(0, 0, heads, EACH)), perm=(0, 2, 1, 3))


def grouped(many: int, few: int) -> Graph:
    """An Attention of which several heads of queries share one of keys, between layers."""
    x, op = placeholder("batch", 5, 3), ops.lookup("Attention", 23)
    assert op is not None
    counts = (many, few, few)
    q, k, v = (ops.MatMul(x, rows(3, n * EACH, seed=s)) for s, n in enumerate(counts))
    heads = [apart(part, n) for part, n in zip((q, k, v), counts, strict=True)]
    y = ops.Transpose(Node(op, tuple(heads)).outputs[0], perm=(0, 2, 1, 3))
    y = ops.MatMul(ops.Reshape(y, ints(0, 0, many * EACH)), rows(many * EACH, 2, seed=3))
    return Graph({"x": x}, {"y": y}, opset={"": 23})


def test_heads_of_queries_go_with_the_keys_that_they_share() -> None:
    graph = grouped(8, 4)
    after = check_on(Prune(channel_ratio=0.5), graph)
    (node,) = (n for n in after.nodes if n.op.name == "Attention")
    assert [v.type.size(1) for v in node.inputs] == [4, 2, 2]
    assert [v.type.size(3) for v in node.inputs] == [EACH] * 3
    check_removal(graph)
