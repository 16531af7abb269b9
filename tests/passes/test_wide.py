"""factorize: a layer that reads too many numbers for moments of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.cost import Sizes, macs
from redir.ir import Graph, Value, evaluate
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.passes.factorize import Factorize, ways, wide
from redir.passes.factorize.forms import Flow
from redir.passes.factorize.metric import Metric
from redir.passes.factorize.wide import Wide
from redir.statistics.moments import channels, drawn_places, features, targets
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)


def conv(x: Value, outputs: int, size: tuple[int, ...], **attrs: Any) -> Value:
    weight = const(RNG.normal(size=(outputs, x.type.size(1) or 0, *size)))
    return ops.Conv(x, weight, const(RNG.normal(size=outputs)), **attrs)


LAYERS = {
    "square": conv(placeholder("n", 6, 9, 8), 5, (3, 3), pads=(1, 1, 1, 1)),
    "a row": conv(placeholder("n", 5, 40), 7, (9,), strides=(2,), pads=(3, 4)),
    "dilated": conv(placeholder("n", 4, 9, 9), 6, (3, 2), dilations=(1, 2)),
}


def layer_of(kind: str) -> Linear:
    node = LAYERS[kind].node
    assert node is not None
    found = linear(node)
    assert isinstance(found, Linear)
    return found


def flowing(layer: Linear, low_rank: bool = False) -> tuple[Wide, Flow, Array]:  # noqa: FBT001, FBT002
    """A form of the layer, what flows through it, and its results there."""
    form = Wide(layer, frozenset(), Metric(np.ones(layer.outputs)), (layer.x.type, layer.y.type))
    shape = (16, *(layer.x.type.size(a) or 1 for a in range(1, layer.x.rank or 0)))
    x = RNG.normal(size=shape).astype(np.float32)
    if low_rank:
        mixed = RNG.normal(size=(2, layer.channels)).astype(np.float32)
        x = np.einsum("rc,nr...->nc...", mixed, x[:, :2])
    made = evaluate(Graph({"x": layer.x}, {"y": layer.y}), {"x": x})["y"]
    places = drawn_places(RNG, layer, made, 400)
    wanted = targets(layer, made, places)
    return form, Flow(form.read(x, places), lambda _: wanted, [x], [places]), wanted


def missed(form: Wide, rank: int, flow: Flow, wanted: Array, *, solved: bool) -> float:
    """The share of the results' variance that the form misses."""
    moments = form.seen(flow.read, wanted)
    factors = form.fitted(rank, moments, moments, flow if solved else None)
    graph = Graph({"x": form.layer.x}, {"y": factors.on(form.layer.x)})
    made = evaluate(graph, {"x": flow.operands[0]})["y"]
    off = targets(form.layer, made, flow.places[0]) - wanted
    return float(np.square(off).mean() / wanted.var())


@pytest.mark.parametrize("kind", LAYERS)
def test_at_full_rank_nothing_changes(kind: str) -> None:
    form, flow, wanted = flowing(layer_of(kind))
    assert missed(form, form.full, flow, wanted, solved=True) < 1e-6
    assert missed(form, form.full, flow, wanted, solved=False) < 1e-2  # the mean is of samples


@pytest.mark.parametrize("kind", LAYERS)
def test_channels_that_follow_from_others_are_not_needed(kind: str) -> None:
    form, flow, wanted = flowing(layer_of(kind), low_rank=True)
    assert missed(form, 2, flow, wanted, solved=True) < 1e-4
    assert missed(form, 1, flow, wanted, solved=True) > 1e-2


@pytest.mark.parametrize("kind", LAYERS)
def test_what_flows_says_more_than_the_weights(kind: str) -> None:
    form, flow, wanted = flowing(layer_of(kind))
    told, solved = (missed(form, 2, flow, wanted, solved=s) for s in (False, True))
    assert solved < told


@pytest.mark.parametrize("kind", LAYERS)
def test_each_place_gives_one_tap(kind: str) -> None:
    layer = layer_of(kind)
    _, flow, _ = flowing(layer)
    x, places = flow.operands[0], flow.places[0]
    whole = features(layer, x, places).reshape(len(flow.read), layer.channels, -1)
    taps = whole.shape[2]
    for number, row in enumerate(channels(layer, x, places)):
        assert np.array_equal(row, whole[number, :, number % taps])


def test_a_layer_that_reads_much_becomes_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "FEATURES", 50)
    monkeypatch.setattr(wide, "FEATURES", 50)
    y = ops.Relu(LAYERS["square"])
    graph = Graph({"x": layer_of("square").x}, {"y": conv(y, 4, (3, 3))})
    after = Factorize(macs=0.8, statistics="drawn", examples=16, align=1)(graph)
    assert 0.6 < macs(after) / macs(graph) <= 0.8
    first, second, *_ = (n.inputs[1].type.shape for n in after.nodes if n.op == ops.Conv)
    assert first is not None
    assert second is not None
    assert first[1:] == (6, 1, 1)
    assert second[2:] == (3, 3)


def test_one_with_too_many_channels_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "FEATURES", 5)
    layer = layer_of("square")
    why = ways.factorings(Sizes.of(Graph({"x": layer.x}, {"y": layer.y})), layer.node)
    assert why == "each of its outputs reads more than 5 numbers"
