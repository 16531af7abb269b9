"""Moments: what a layer reads at some places, and what weights miss of what it should make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.ir import Value
from redir.ir.interpreter import compute
from redir.layers.linear import Linear, linear
from redir.statistics.moments import Moments, drawn_places, features, targets, together
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)


def layer_of(y: Value) -> Linear:
    assert y.node is not None
    found = linear(y.node)
    assert isinstance(found, Linear)
    return found


@given(st.tuples(*[st.integers(1, 2)] * 2), st.tuples(*[st.integers(1, 2)] * 2), st.integers(0, 2))
def test_what_a_convolution_reads_times_its_weights_is_what_it_makes(
    strides: tuple[int, int], dilations: tuple[int, int], pad: int
) -> None:
    x = RNG.integers(-3, 4, (2, 3, 7, 6)).astype(np.float32)
    weight = RNG.integers(-3, 4, (4, 3, 3, 2)).astype(np.float32)
    y = ops.Conv(
        placeholder(*x.shape),
        const(weight),
        strides=strides,
        dilations=dilations,
        pads=(pad, 0, 1, pad),
    )
    layer = layer_of(y)
    (made,) = compute(layer.node, [x, weight])
    places = drawn_places(np.random.default_rng(1), layer, made, 30)
    read = features(layer, x, places)
    assert np.array_equal(read @ layer.weight[0].reshape(4, -1).T, targets(layer, made, places))


@pytest.mark.parametrize("attrs", [{}, {"transB": 1}])
def test_what_a_product_reads_times_its_weights_is_what_it_makes(attrs: dict[str, int]) -> None:
    x = RNG.integers(-3, 4, (5, 3)).astype(np.float32)
    weight = RNG.integers(-3, 4, (4, 3) if attrs else (3, 4)).astype(np.float32)
    layer = layer_of(ops.Gemm(placeholder(5, 3), const(weight), **attrs))
    (made,) = compute(layer.node, [x, weight])
    places = drawn_places(np.random.default_rng(1), layer, made, 3)
    assert np.array_equal(
        features(layer, x, places) @ layer.weight[0, :, :, 0].T, targets(layer, made, places)
    )


def test_the_error_of_weights_is_the_share_of_the_energy_that_they_miss() -> None:
    read, weights = RNG.normal(size=(500, 6)), RNG.normal(size=(6, 3))
    wanted = read @ weights + 5
    moments = Moments.of(read, wanted)
    assert moments.error(weights) == pytest.approx(0, abs=1e-9)
    assert moments.error(0 * weights) == pytest.approx(1)
    off = weights + 0.1 * RNG.normal(size=weights.shape)
    missed = np.var((read @ off - wanted), axis=0).sum() / np.var(wanted, axis=0).sum()
    assert moments.error(off) == pytest.approx(missed)


def test_moments_are_mixed_by_shares() -> None:
    a, b = (Moments.of(RNG.normal(size=(50, 2)), RNG.normal(size=(50, 1))) for _ in "ab")
    assert np.allclose(a.mixed(b, 0.25).gram, 0.75 * a.gram + 0.25 * b.gram)
    assert a.mixed(b, 0.25).mean is a.mean


def test_of_few_rows_correlations_are_chance() -> None:
    read, weights = RNG.normal(size=(40, 60)), RNG.normal(size=(60, 3))
    few, more = (Moments.of(r, r @ weights, weights) for r in (read, RNG.normal(size=(8000, 60))))
    other = RNG.normal(size=(5000, 60))
    told = [np.linalg.solve(m.gram + 1e-9 * np.eye(60), m.cross) for m in (few, more)]
    assert np.allclose(told[0], weights)
    assert np.allclose(told[1], weights)
    seen = Moments.of(read, read @ weights).gram
    true = other.T @ other / len(other)
    assert np.square(few.gram - true).sum() < 0.5 * np.square(seen - true).sum()


def test_of_many_rows_correlations_stay() -> None:
    read, weights = RNG.normal(size=(20000, 5)) @ RNG.normal(size=(5, 8)), RNG.normal(size=(8, 2))
    plain, less = Moments.of(read, read @ weights), Moments.of(read, read @ weights, weights)
    assert np.allclose(plain.gram, less.gram, rtol=1e-2, atol=1e-2)


def test_samples_that_count_twice_are_as_if_they_were_there_twice() -> None:
    read, wanted = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 2))
    counts = RNG.integers(1, 3, 50)
    found = Moments.of(read, wanted, counts=counts)
    twice = Moments.of(np.repeat(read, counts, 0), np.repeat(wanted, counts, 0))
    for name in ("gram", "cross", "mean", "target", "energy"):
        assert np.allclose(getattr(found, name), getattr(twice, name)), name


def test_what_was_left_out_as_chance_is_known_again() -> None:
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(12, 8)), rng.normal(size=(8, 3))
    seen, kept = (Moments.of(features, features @ weights, w) for w in (None, weights))
    assert 0 < kept.chance < 1
    np.testing.assert_allclose(kept.cross - kept.unseen(weights), seen.cross, atol=1e-9)


def test_moments_of_parts_are_together_those_of_all() -> None:
    parts = [RNG.normal(size=(n, 4)) + n for n in (50, 10, 200)]
    targets = [part[:, :2] ** 2 for part in parts]
    pairs = zip(parts, targets, strict=True)
    alone = [Moments.alone(rows, left_out=False).towards(y) for rows, y in pairs]
    found = together(alone, np.array([len(part) for part in parts]))
    whole = Moments.alone(np.concatenate(parts), left_out=False).towards(np.concatenate(targets))
    for name in ("gram", "mean", "target"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name))
