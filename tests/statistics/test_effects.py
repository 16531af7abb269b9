"""What others in place of weights do to the outputs of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.cost.allocation import Option
from redir.errors import TooLarge
from redir.ir import Graph, Value
from redir.ir.rewriter import map_constants
from redir.ir.tensor import Array, Tensor
from redir.ops import tensor_of
from redir.statistics import effects as module
from redir.statistics import source
from redir.statistics.effects import Options, effects, weighed
from redir.statistics.walk import far, outputs
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
BATCHES = [{"x": RNG.normal(size=(n, 4)).astype(np.float32)} for n in (5, 3)]


def shared() -> Graph:
    """Three layers, two of one weight, and a table that is read at constant places."""
    x, weight = placeholder("n", 4), const(RNG.normal(size=(4, 4)))
    row = ops.Gather(const(RNG.normal(size=(3, 4))), ops.constant(np.array(1)))
    y = ops.MatMul(ops.Relu(ops.Gemm(x, weight)), weight)
    last = ops.MatMul(y, const(RNG.normal(size=(4, 2))))
    return Graph({"x": x}, {"y": last, "z": ops.Add(x, row)})


def halved(graph: Graph) -> Options:
    """Each matrix, and half of it."""
    arrays = {v: t.array for v in graph.uses if (t := tensor_of(v)) and t.array.ndim > 1}
    return {v: [Option(a, 2.0, 0.0), Option(a / 2, 1.0, 9.0)] for v, a in arrays.items()}


def with_other(graph: Graph, value: Value, array: Array) -> Graph:
    return map_constants(graph, lambda v, _: Tensor.take(array) if v is value else None)


@pytest.mark.parametrize("place", range(3))
def test_what_is_seen_is_what_the_whole_graph_does(place: int) -> None:
    graph = shared()
    found = effects(graph, halved(graph), BATCHES)
    assert len(found) == 3
    value = list(found)[place]
    itself, half = found[value]
    moved = outputs(with_other(graph, value, half.what), BATCHES)
    assert itself.error == 0
    assert half.error == pytest.approx(far(outputs(graph, BATCHES), moved), rel=1e-4)


def test_costs_stay() -> None:
    graph = shared()
    found = effects(graph, halved(graph), BATCHES)
    assert [[o.cost for o in each] for each in found.values()] == [[2.0, 1.0]] * 3


def test_a_graph_that_cannot_be_run_keeps_its_errors() -> None:
    x, weight = placeholder("n", 4), const(RNG.normal(size=(4, 4)))
    made = ops.MatMul(x, weight)
    graph = Graph({"x": x}, {"y": ops.opaque("Mystery", "custom", 1, [made.type])(made)})
    given = halved(graph)
    assert weighed(graph, given, source("drawn"), 4, graph) is given


def test_outputs_that_are_not_finite_say_nothing() -> None:
    x, weight = placeholder("n", 4), const(RNG.normal(size=(4, 4)))
    graph = Graph({"x": x}, {"y": ops.Log(ops.MatMul(x, weight))})
    ((_, half),) = effects(graph, halved(graph), BATCHES).values()
    assert half.error == 9.0


def test_what_takes_too_much_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = shared()

    def refuse(*_: object) -> Options:
        raise TooLarge("too large")

    monkeypatch.setattr(module, "effects", refuse)
    with pytest.raises(TooLarge):
        weighed(graph, halved(graph), source("drawn"), 4, graph)
