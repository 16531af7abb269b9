"""What is saved without some of a graph: counted once for parts that are alike, and rightly."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.cost import Sizes, macs
from redir.ir import Graph, Value
from redir.passes.factorize import saved as module
from redir.passes.factorize.gone import Gone
from redir.passes.factorize.narrower import Narrower
from redir.passes.factorize.ways import all_factorings
from redir.runtime.open_sizes import Shapes
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def gated(x: Value, hidden: int, down: Value | None = None) -> Value:
    """A block with units of which each is a gate and what goes through it."""
    gate, up = (ops.MatMul(x, normal(6, hidden)) for _ in range(2))
    units = ops.Mul(ops.Mul(gate, ops.Sigmoid(gate)), up)
    return ops.Add(x, ops.MatMul(units, normal(hidden, 6) if down is None else down))


def network(*hidden: int) -> Graph:
    x = y = placeholder("n", 5, 6)
    for each in hidden:
        y = gated(y, each)
    return Graph({"x": x}, {"y": y})


def saved(graph: Graph, form: type[Narrower | Gone]) -> list[dict[str, int]]:
    found = all_factorings(Sizes.of(graph)).values()
    return [dict(f.saved) for forms in found for f in forms if isinstance(f, form)]


def test_a_unit_of_a_gated_layer_is_a_gate_what_it_lets_through_and_what_reads_both() -> None:
    each = {"macs": 5 * 18, "parameters": 18}
    assert saved(network(8, 8, 4), Narrower) == [each] * 3


def test_a_block_that_goes_saves_all_its_layers() -> None:
    found = saved(network(8, 8, 4), Gone)[1::2]  # the others are what a gate lets through
    assert [each["macs"] for each in found] == [5 * 18 * n for n in (8, 8, 4)]
    assert [each["parameters"] for each in found] == [18 * n - 6 for n in (8, 8, 4)]


def test_what_is_alike_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = list[Graph]()

    def count(graph: Graph, shapes: Shapes) -> int:
        counted.append(graph)
        return macs(graph, shapes)

    monkeypatch.setattr(module, "macs", count)
    all_factorings(Sizes.of(network(*[8] * 6)))
    assert len(counted) == 4  # as it is, a unit less, half of what meets in it, a block less
    all_factorings(Sizes.of(network(8, 8, 4)))
    assert len(counted) == 4 + 7


def test_a_weight_that_others_read_is_not_saved() -> None:
    x, up = placeholder("n", 5, 6), normal(6, 8)
    units = ops.Mul(ops.Sigmoid(ops.MatMul(x, normal(6, 8))), ops.MatMul(x, up))
    y = ops.Add(x, ops.MatMul(units, normal(8, 6)))
    graph = Graph({"x": x}, {"y": ops.Add(y, gated(x, 8)), "z": ops.MatMul(x, up)})
    blocks = sorted(each["parameters"] for each in saved(graph, Gone))[-2:]
    assert blocks == [12 * 8 - 6, 18 * 8 - 6]
