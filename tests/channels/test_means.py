"""Channels of a stream behind norms by a mean of squares: zeros go, and constants say how many."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.channels.coupling import Coupling
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, constants
from redir.ir import Graph, Value
from redir.ir.interpreter import evaluate
from redir.passes import Merge, Prune
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.runtime.inputs import whole_feeds
from redir.testing import check_on, check_removal
from tests.helpers import const, ints, one_of_three, placeholder
from tests.streams import PARTS, Norm, Stream

X = placeholder(3, 2)
HIDDEN = ops.MatMul(X, const([[1, 0, 2, 0, 3], [2, 0, -1, 0, 1]]))  # two of five are always zero


def of(y: Value, **more: Value) -> Graph:
    return Graph({"x": X}, {"y": y, **more})


def widths(graph: Graph) -> set[int]:
    """The sizes of the axes of the stream, which the tables of words and places have."""
    return {t.array.shape[-1] for t in constants(graph) if t.array.shape[:1] in {(10,), (6,)}}


@pytest.mark.parametrize("norm", one_of_three(PARTS.values()), ids=PARTS)
def test_dead_channels_of_a_stream_go(norm: Norm) -> None:
    graph = Stream(norm, dead=(1, 4, 5)).graph()
    after = check_on(EliminateDeadChannels(), graph)
    assert (widths(graph), widths(after)) == ({8}, {5})
    assert NO_GROWTH.refute(graph, after) is NO_MORE_PARAMETERS.refute(graph, after) is None
    feeds = whole_feeds(graph, 0)
    found, wanted = (evaluate(g, feeds)["logits"] for g in (after, graph))
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)


@pytest.mark.parametrize("norm", PARTS.values(), ids=PARTS)
def test_what_is_removed_is_as_if_it_were_zero(norm: Norm) -> None:
    graph = Stream(norm).graph()
    assert any(check_removal(graph, seed=seed) is not graph for seed in range(3))


def test_half_of_a_stream_is_pruned() -> None:
    assert widths(check_on(Prune(), Stream(PARTS["divided"]).graph())) == {4}


def test_equal_channels_of_a_stream_stay() -> None:
    stream = Stream(PARTS["divided"])
    stream.written = lambda *shape: const(np.ones((*shape, 8)))  # type: ignore[method-assign]
    assert widths(Merge()(stream.graph())) == {8}


MEAN = ops.ReduceMean(ops.Mul(HIDDEN, HIDDEN), ints(-1))
ROOT = ops.Sqrt(ops.Add(MEAN, const(0.5)))
SCALE = const([1, 2, 3, 4, 5])
NORMED = ops.Mul(ops.Div(HIDDEN, ROOT), SCALE)


def read(normed: Value) -> Value:
    return ops.MatMul(normed, const([[1], [2], [3], [4], [5]]))


def test_norms_of_an_axis_before_the_last_are_followed() -> None:
    turned = ops.Transpose(HIDDEN, perm=(1, 0))
    mean = ops.ReduceMean(ops.Mul(turned, turned), ints(0))
    normed = ops.Mul(ops.Div(turned, ops.Sqrt(ops.Add(mean, const(0.5)))), const(2))
    after = check_on(EliminateDeadChannels(), of(ops.MatMul(const([[1, 2, 3, 4, 5]]), normed)))
    assert {t.array.shape for t in constants(after) if t.array.ndim == 2} == {(2, 3), (1, 3)}


def test_a_number_takes_the_factor_in_half_precision() -> None:
    half = ops.Cast(HIDDEN, to=10)
    mean = ops.ReduceMean(ops.Mul(half, half), ints(-1))
    root = ops.Sqrt(ops.Add(ops.Cast(mean, to=1), const(0.5)))
    y = read(ops.Mul(ops.Div(ops.Cast(half, to=1), root), SCALE))
    assert Coupling(of(y)).is_pinned((HIDDEN, 1)) is False


LEFT = {
    "a mean that is given out": of(read(NORMED), mean=MEAN),
    "a norm that is given out": of(read(ops.Div(HIDDEN, ROOT)), normed=ROOT),
    "a number that flows": of(
        read(ops.Mul(ops.Div(HIDDEN, ops.Sqrt(ops.Add(MEAN, ops.ReduceMax(X)))), SCALE))
    ),
    "a bent mean": of(read(ops.Mul(ops.Div(HIDDEN, ops.Exp(MEAN)), SCALE))),
    "a mean that is subtracted": of(read(ops.Sub(HIDDEN, ops.ReduceMean(HIDDEN, ints(-1))))),
    "a mean of all axes": of(
        read(ops.Mul(ops.Div(HIDDEN, ops.ReduceMean(ops.Abs(HIDDEN))), SCALE))
    ),
    "a sum with what has no mean": of(read(ops.Add(ops.Div(HIDDEN, ROOT), HIDDEN))),
    "weights that flow": of(ops.MatMul(ops.Div(HIDDEN, ROOT), ops.Transpose(HIDDEN, perm=(1, 0)))),
    "a scale that flows": of(read(ops.RMSNormalization(HIDDEN, ops.ReduceMax(HIDDEN, ints(0))))),
    "two axes in one norm": of(read(ops.RMSNormalization(HIDDEN, const(np.ones((3, 5))), axis=0))),
}


@pytest.mark.parametrize("graph", LEFT.values(), ids=LEFT)
def test_left_alone(graph: Graph) -> None:
    assert EliminateDeadChannels()(graph) is graph


def test_a_constant_that_others_read_stays_for_them() -> None:
    half = const(0.5)
    root = ops.Sqrt(ops.Add(MEAN, half))
    graph = of(ops.Add(read(ops.Mul(ops.Div(HIDDEN, root), SCALE)), half))
    assert check_on(EliminateDeadChannels(), graph) is not graph


def test_powers_that_cancel_need_no_constant() -> None:
    ratio = ops.Div(MEAN, ops.ReduceMax(X, ints(-1)))
    y = ops.Div(ops.MatMul(HIDDEN, const(np.ones((5, 1)))), ops.Add(ops.Div(ratio, MEAN), const(1)))
    assert check_on(EliminateDeadChannels(), of(y)) is not of(y)


def test_a_scale_of_two_terms_takes_no_factor() -> None:
    """It multiplies the mean that a BatchNormalization subtracts too."""
    mean = ops.ReduceMean(HIDDEN, ints(-1))
    row = [const([number]) for number in (2, 1, 3, 1)]
    normed = ops.BatchNormalization(mean, *row)
    assert check_on(EliminateDeadChannels(), read_out := of(normed)) is read_out
    scaled = of(ops.Mul(normed, const(2)))
    assert check_on(EliminateDeadChannels(), scaled) is not scaled
