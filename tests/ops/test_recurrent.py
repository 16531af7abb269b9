"""LSTM, GRU and RNN in whole graphs: units go and merge, and onnxruntime computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.check.guarantees import constants
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, TensorType
from redir.ops import Absent
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.passes.merge import Merge
from redir.passes.prune import Prune
from redir.runtime.onnxruntime import session
from redir.testing import plant_duplicates
from tests.helpers import const, ints

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
X = np.random.default_rng(1).normal(size=(6, 2, 5)).astype(np.float32)
each_kind = pytest.mark.parametrize("name", GATES)
each_way = pytest.mark.parametrize("way", ["forward", "reverse", "bidirectional"])


def layer(rng: np.random.Generator, name: str, x: Value, features: int, way: str) -> Node:
    """A recurrent layer of 8 units."""
    ways, gates = 2 if way == "bidirectional" else 1, GATES[name]
    shapes = [(ways, 8 * gates, features), (ways, 8 * gates, 8), (ways, 16 * gates)]
    w, r, b = (const(rng.normal(size=shape) / 2) for shape in shapes)
    return Node(getattr(ops, name), (x, w, r, b, Absent()), {"direction": way}, arity=2)


def stacked(name: str, way: str) -> Graph:
    """Two layers, as exporters write them, and a classifier on the last state of the second."""
    rng, ways = np.random.default_rng(0), 2 if way == "bidirectional" else 1
    x = Value(TensorType(np.dtype(np.float32), X.shape))
    first = layer(rng, name, x, 5, way).outputs[0]
    turned = ops.Transpose(first, perm=(0, 2, 1, 3))
    features = ops.Reshape(turned, ints(0, 0, -1))
    last = layer(rng, name, features, 8 * ways, way).outputs[1]
    state = ops.Gather(last, const(0, "int64"), axis=0)
    y = ops.MatMul(ops.Relu(state), const(rng.normal(size=(8, 3))))
    return Graph({"x": x}, {"y": y}, opset={"": 21})


def run(graph: Graph) -> Array:
    found: Array = session(graph)({"x": X})["y"]
    return found


def size(graph: Graph) -> int:
    return sum(t.array.size for t in constants(graph))


@each_kind
@each_way
def test_removing_units_is_the_same_as_silencing_them(name: str, way: str) -> None:
    graph = stacked(name, way)
    small, silent = Prune(0.5)(graph), Prune(0.5, compact=False)(graph)
    assert size(small) < 0.6 * size(graph)
    np.testing.assert_allclose(run(small), run(silent), 1e-5, 1e-6)


@each_kind
@each_way
def test_silent_units_are_removed(name: str, way: str) -> None:
    graph = stacked(name, way)
    removed = EliminateDeadChannels()(Prune(0.5, compact=False)(graph))
    assert size(removed) == size(Prune(0.5)(graph))


@each_kind
@each_way
def test_planted_units_are_all_merged(name: str, way: str) -> None:
    graph = stacked(name, way)
    planted = plant_duplicates(graph, 0.5, seed=0)
    merged = Merge()(planted)
    assert size(planted) > size(graph) == size(merged)
    np.testing.assert_allclose(run(planted), run(graph), 1e-4, 1e-5)
    np.testing.assert_allclose(run(merged), run(graph), 1e-4, 1e-5)


def test_units_that_differ_in_a_peephole_are_not_merged() -> None:
    x = Value(TensorType(np.dtype(np.float32), X.shape))
    weights = [const(np.full(shape, 0.5)) for shape in ((1, 8, 5), (1, 8, 2))]
    p = const([[1.0, 1.0, 1.0, 1.0, 1.0, 2.0]])
    node = Node(ops.LSTM, (x, *weights, *[Absent()] * 4, p), arity=1)
    y = ops.MatMul(node.outputs[0], const(np.ones((2, 3))))
    graph = Graph({"x": x}, {"y": y}, opset={"": 21})
    assert Merge()(graph) is graph


@each_kind
def test_units_are_followed_where_the_rank_of_what_is_read_is_not_known(name: str) -> None:
    x = Value(TensorType(np.dtype(np.float32)))
    node = layer(np.random.default_rng(0), name, x, 5, "forward")
    assert {(v, a) for k in node.op.links(node) for v, a in (k.a, k.b)} >= {(node.outputs[1], 2)}
