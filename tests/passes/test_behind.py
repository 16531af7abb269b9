"""What factorize finds behind a layer, and what its results should be for that."""

from __future__ import annotations

import numpy as np

from redir import ops
from redir.ir import Graph, Value
from redir.layers.linear import Linear, linear
from redir.passes.factorize.behind import Behind, behind
from tests.helpers import const, ints, placeholder

RNG = np.random.default_rng(0)
BIAS = RNG.normal(size=4)
X = placeholder("n", 7, 4)
PRODUCT = ops.MatMul(X, const(RNG.normal(size=(4, 4))))


def found(y: Value) -> Behind:
    assert PRODUCT.node is not None
    layer = linear(PRODUCT.node)
    assert isinstance(layer, Linear)
    return behind(Graph({"x": X}, {"y": y}), layer)


def test_a_bias_that_a_node_adds_shifts_the_result() -> None:
    biased = ops.Add(PRODUCT, const(BIAS))
    flows = found(ops.Relu(biased))
    assert np.allclose(flows.shift, BIAS)
    assert (flows.low, flows.other) == (0, None)


def test_the_sum_behind_a_bias_is_seen() -> None:
    flows = found(ops.Add(X, ops.Add(PRODUCT, const(BIAS))))
    assert flows.other is X
    assert np.allclose(flows.shift, BIAS)
    assert not flows.normed
    assert flows.counts(np.ones((3, 4))) is None


def test_a_sum_of_a_value_with_itself_is_none() -> None:
    biased = ops.Add(PRODUCT, const(BIAS))
    assert found(ops.Add(biased, biased)).other is None


def test_errors_of_what_a_norm_divides_by_much_count_less() -> None:
    total, ones = ops.Add(X, PRODUCT), const(np.ones(4))
    square = ops.ReduceMean(ops.Mul(total, total), ints(2), keepdims=1)
    normed = [
        ops.LayerNormalization(total, ones, axis=-1),
        ops.RMSNormalization(total, ones, axis=-1),
        ops.Div(total, ops.Sqrt(square)),
    ]
    rows = RNG.normal(size=(5, 4))
    for y in normed:
        counts = found(y).counts(np.concatenate([rows, 10 * rows]))
        assert counts is not None
        assert np.allclose(counts[:5], 100 * counts[5:])
    assert found(ops.Relu(total)).counts(rows) is None


def test_a_mean_along_another_axis_is_no_norm_over_channels() -> None:
    total = ops.Add(X, PRODUCT)
    pooled = ops.ReduceMean(ops.Relu(total), ints(1), keepdims=1)
    for y in (pooled, ops.Mul(total, pooled), ops.ReduceMean(total, ints(1))):
        assert not found(y).normed


def test_a_sample_without_spread_counts_as_a_finite_number() -> None:
    total = ops.Add(X, PRODUCT)
    flows = found(ops.LayerNormalization(total, const(np.ones(4)), axis=-1))
    for rows in (np.zeros((3, 4)), np.array([[0, 0, 0, 0], [1.0, 2, 3, 4]])):
        counts = flows.counts(rows)
        assert counts is not None
        assert np.isfinite(counts).all()
