"""A Shape pins the axes whose sizes somebody takes, and no others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from redir import ops
from redir.channels import coupling
from redir.channels.coupling import Coupling
from redir.ir import Graph, Value, evaluate
from redir.passes import Prune
from tests.helpers import const, ints, placeholder

RNG = np.random.default_rng(0)
INDEX = placeholder(1, dtype=np.int64)
Read = Callable[[Value], Value]


def network(read: Read, *, index: bool = False) -> tuple[Graph, Value]:
    """Two layers, and what is read of the shape of the map between them; and that map."""
    x = placeholder("n", 3, "h", "w")
    weights = (const(RNG.normal(size=shape), "float32") for shape in ((8, 3, 3, 3), (2, 8, 1, 1)))
    between = ops.Relu(ops.Conv(x, next(weights)))
    y = ops.Conv(between, next(weights))
    inputs = {"x": x, **({"i": INDEX} if index else {})}
    return Graph(inputs, {"y": y, "z": read(between)}), between


def gathered(*places: int) -> Read:
    return lambda r: ops.Gather(ops.Shape(r), ints(*places))


FREE: dict[str, Read] = {
    "a height": gathered(2),
    "a batch and a width, from the end": gathered(0, -1),
    "a Slice behind the channels": lambda r: ops.Slice(ops.Shape(r), ints(2), ints(4)),
    "a Slice in steps": lambda r: ops.Slice(ops.Shape(r), ints(0), ints(9), ints(0), ints(2)),
    "a Shape from an axis on": lambda r: ops.Shape(r, start=2),
    "a Shape up to an axis": lambda r: ops.Shape(r, end=1),
    "a Shape from an axis on, and a part of it": lambda r: ops.Gather(
        ops.Shape(r, start=-2), ints(1)
    ),
    "two parts": lambda r: ops.Add(
        ops.Gather(s := ops.Shape(r), ints(0)), ops.Slice(s, ints(3), ints(4))
    ),
}
PINNED: dict[str, Read] = {
    "the channels": gathered(1),
    "the channels, from the end": gathered(2, -3),
    "a Slice over them": lambda r: ops.Slice(ops.Shape(r), ints(0), ints(2)),
    "a Slice from them backwards": lambda r: ops.Slice(
        ops.Shape(r), ints(1), ints(-9), ints(0), ints(-1)
    ),
    "all": ops.Shape,
    "all from them on": lambda r: ops.Shape(r, start=1),
    "all, computed with": lambda r: ops.Add(ops.Shape(r), ints(1)),
    "a part that a value names": lambda r: ops.Gather(ops.Shape(r), INDEX),
    "a part, and all": lambda r: ops.Concat(
        ops.Gather(s := ops.Shape(r), ints(0)), ops.Abs(s), axis=0
    ),
    "a place that is out of range": gathered(7),
    "sizes at places that are sizes": lambda r: ops.Gather(
        s := ops.Shape(r, start=2, end=3), ops.Sub(s, s)
    ),
}


@pytest.mark.parametrize("what", FREE)
def test_channels_whose_number_nobody_takes_are_free(what: str) -> None:
    graph, between = network(FREE[what])
    assert not Coupling(graph).is_pinned((between, 1))


@pytest.mark.parametrize("what", PINNED)
def test_channels_whose_number_somebody_takes_are_pinned(what: str) -> None:
    read = PINNED[what]
    graph, between = network(read, index="value names" in what)
    free = what == "sizes at places that are sizes"
    assert Coupling(graph).is_pinned((between, 1)) != free


def compared(read: Read) -> None:
    """Compare a network without half of its channels with one that has zeros for them."""
    assert_pruned_alike(network(read)[0])


def assert_pruned_alike(graph: Graph) -> None:
    """Assert that without half of its channels it gives what it gives with zeros for them."""
    x = RNG.normal(size=(2, 3, 7, 6)).astype(np.float32)
    zeros, left = (
        evaluate(Prune(0.5, compact=compact)(graph), {"x": x}) for compact in (False, True)
    )
    for name, array in zeros.items():
        np.testing.assert_allclose(left[name], array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", FREE)
def test_without_channels_the_sizes_that_are_taken_stay(what: str) -> None:
    compared(FREE[what])


def cropped(axes: Value) -> tuple[Graph, Value]:
    """Two layers, and between them a map that is cut to the size of another."""
    x = placeholder("n", 3, "h", "w")
    weights = (const(RNG.normal(size=shape), "float32") for shape in ((8, 3, 3, 3), (2, 8, 1, 1)))
    between = ops.Relu(ops.Conv(x, next(weights)))
    wide = ops.Pad(between, ints(0, 0, 0, 0, 0, 0, 1, 1))
    sizes = ops.Slice(ops.Shape(between), ints(2), ints(4))
    cut = ops.Slice(wide, ints(0, 0), sizes, axes)
    return Graph({"x": x}, {"y": ops.Conv(cut, next(weights))}), between


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_channels_are_free_where_other_axes_are_cut_to_a_size_that_flows(
    axes: tuple[int, int],
) -> None:
    graph, between = cropped(ints(*axes))
    assert not Coupling(graph).is_pinned((between, 1))
    assert_pruned_alike(graph)


def test_channels_that_are_cut_to_a_size_that_flows_are_pinned() -> None:
    graph, between = cropped(ints(1, 3))
    assert Coupling(graph).is_pinned((between, 1))


def test_that_no_size_is_taken_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coupling, "taken", lambda *_: set())
    with pytest.raises(AssertionError):
        compared(gathered(1))
