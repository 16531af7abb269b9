"""heads: what a node reads twice, sums up in parts, or pads is not taken for channels that meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest

from redir import ops
from redir.cost import macs
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor
from redir.layers.linear import Linear
from redir.passes import Heads, Narrower
from redir.passes.factorize.turning import turned
from tests.helpers import const, ints, placeholder
from tests.passes.test_heads import (
    EACH,
    FEW,
    GRAPHS,
    IMAGE,
    PLACES,
    WIDTH,
    attention,
    drawn,
    graph_of,
    layer,
    met,
    normal,
    off,
)


def test_a_head_of_which_nothing_is_read_is_turned_as_well() -> None:
    graph = GRAPHS["plain"]
    values = next(each for each in met(graph) if each.reads)
    weights = values.second.weight.copy()
    weights[0][:, values.right[1]] = 0
    idle = _with_weights(graph, values.second, weights)
    after = turned(idle, [drawn(idle)], met(idle))
    assert off(idle, after) < 1e-4
    less = Heads(rank=5, **FEW)(idle)
    assert macs(less) < macs(idle)


def _with_weights(graph: Graph, layer: Linear, weights: Array) -> Graph:
    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        held = layer.held.node is node
        stored = Tensor.take(layer.stored(weights).astype(np.float32))
        return node.on(inputs, value=stored).outputs if held else None

    return transform(graph, visit)


def sharing(*places: int, opset: int = 23) -> Callable[[Value], Value]:
    """An Attention whose operands are results of three layers, some of them of one."""

    def make(x: Value) -> Value:
        op = ops.lookup("Attention", opset)
        assert op is not None
        parts = [layer(x, (WIDTH, 3 * PLACES)) for _ in range(3)]
        split = [
            ops.Transpose(ops.Reshape(part, ints(0, 0, 3, PLACES)), perm=(0, 2, 1, 3))
            for part in parts
        ]
        flat = ops.Transpose(
            Node(op, tuple(split[p] for p in places)).outputs[0], perm=(0, 2, 1, 3)
        )
        return layer(ops.Reshape(flat, ints(0, 0, 3 * PLACES)), (3 * PLACES, WIDTH))

    return make


def squared(x: Value) -> Value:
    """Values that weigh themselves."""
    values = layer(x, (WIDTH, PLACES))
    return layer(ops.MatMul(values, values), (PLACES, WIDTH))


def padded(*pads: int, channels: int = 6) -> Graph:
    """An image behind a convolution with a border of zeros, which another reads."""
    wide = ops.Pad(ops.Conv(IMAGE, normal(6, 4, 1, 1), normal(6)), ints(*pads))
    y = ops.Conv(wide, normal(4, channels, 1, 1), normal(4))
    return Graph({"x": IMAGE}, {"y": y}, opset={"": 17})


@pytest.mark.parametrize(
    ("graph", "count"),
    [
        (padded(0, 0, 1, 1, 0, 0, 1, 1), 0),
        (padded(0, 1, 0, 0, 0, 1, 0, 0, channels=8), 0),
        (
            graph_of(
                partial(attention, between=lambda q: ops.Pad(q, ints(0, 0, 1, 0, 0, 0, 0, 0)))
            ),
            1,
        ),
    ],
)
def test_a_border_of_zeros_is_no_channel(graph: Graph, count: int) -> None:
    found = met(graph)
    assert len(found) == count
    assert off(graph, turned(graph, [drawn(graph)], found)) < 1e-4
    assert Heads(rank=EACH, **FEW)(graph)


READ_TWICE: Mapping[str, tuple[Graph, list[bool]]] = {
    "keys are values": (graph_of(sharing(0, 1, 1), 23), []),
    "queries are values": (graph_of(sharing(0, 1, 0), 23), []),
    "values are the mask": (graph_of(sharing(0, 1, 2, 2), 23), [False]),
    "queries are the mask": (graph_of(sharing(0, 1, 2, 0), 23), [True]),
    "values weigh themselves": (graph_of(squared), []),
}


@pytest.mark.parametrize("why", READ_TWICE)
def test_what_a_node_reads_twice_is_not_turned(why: str) -> None:
    graph, reads = READ_TWICE[why]
    found = met(graph)
    assert [each.reads for each in found] == reads
    assert off(graph, turned(graph, [drawn(graph)], found)) < 1e-4


@pytest.mark.parametrize("count", [1, 3])
def test_heads_side_by_side_are_told_apart(count: int) -> None:
    op = ops.lookup("MultiHeadAttention", 1, "com.microsoft")
    assert op is not None
    x = placeholder("n", PLACES, WIDTH)
    parts = [layer(x, (WIDTH, 3 * EACH)) for _ in range(3)]
    mixed = Node(op, tuple(parts), {"num_heads": count}).outputs[0]
    y = layer(mixed, (3 * EACH, WIDTH))
    graph = Graph({"x": x}, {"y": y}, opset={"": 17, "com.microsoft": 1})
    found = met(graph)
    assert [each.reads for each in found] == [False, True]
    assert all(each.left.shape == (count, 3 * EACH // count) for each in found)
    assert off(graph, turned(graph, [drawn(graph)], found)) < 1e-4


def resized(x: Value) -> Value:
    return ops.Resize(x, const([]), const([1, 1, 2, 2]), mode="nearest")


def pooled(x: Value) -> Value:
    return ops.AveragePool(x, kernel_shape=(3, 3))


@pytest.mark.parametrize("between", [resized, pooled])
def test_what_is_pooled_or_resized_is_narrower_and_no_head(
    between: Callable[[Value], Value],
) -> None:
    wide = between(ops.Conv(IMAGE, normal(6, 4, 1, 1), normal(6)))
    y = ops.Conv(wide, normal(4, 6, 1, 1), normal(4))
    graph = Graph({"x": IMAGE}, {"y": y}, opset={"": 17})
    assert not met(graph)
    after = Narrower(rank=4, **FEW)(graph)
    assert macs(after) < macs(graph)
    assert off(graph, after) < 0.1
