"""Scales and readings on blocks of which the scores can be told by hand."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.importance.dependency import BN_SCALE, DAFP, ENERGY, RECTIFIED, rectified
from redir.ir import Graph
from tests.importance.networks import X, conv, family_of, norm, of, rounded, scores

ONES = [[1], [1]]


def test_a_channel_counts_as_its_norm_and_its_reader_make_it() -> None:
    y = norm(conv(X, ONES), [2, -3])
    graph = of(conv(ops.Relu(y), [[1, 4], [-3, 0]]))
    assert scores(DAFP, graph, y) == [2 * 2, 3 * 2]
    assert scores(BN_SCALE, graph, y) == [2, 3]


def test_a_residual_block_counts_all_that_read_the_stream() -> None:
    stem = norm(conv(X, ONES), [1, 2])
    inner = norm(conv(stem, [[2, 4], [0, 6]]), [3, 5])
    last = norm(conv(ops.Relu(inner), [[1, 1], [3, 5]]), [7, 9])
    graph = of(conv(ops.Add(stem, last), [[8, 2]]))
    assert scores(DAFP, graph, inner) == [3 * 2, 5 * 3]
    reading = np.array(
        [(2 + 0 + 8) / 3, (4 + 6 + 2) / 3]
    )  # by the block's first layer and the head
    ended = np.array([8, 2])  # the block's own norm is read by the head alone
    expected = (np.array([1, 2]) * reading + np.array([7, 9]) * ended) / 2
    assert rounded(scores(DAFP, graph, stem)) == rounded(expected)


def test_a_bottleneck_counts_each_of_its_widths() -> None:
    wide = norm(conv(X, [[1], [1], [1]]), [1, 2, 4])
    narrow = norm(conv(ops.Relu(wide), [[1, 2, 3], [3, 0, 3]]), [5, 6])
    again = norm(conv(ops.Relu(narrow), [[1, 4], [3, 0], [5, 2]]), [1, 1, 1])
    graph = of(conv(ops.Add(again, wide), [[6, 3, 9]]))
    assert rounded(scores(DAFP, graph, narrow)) == rounded([5 * 3, 6 * 2])
    mine = np.array([1, 2, 4]) * np.array([(1 + 3 + 6) / 3, (2 + 0 + 3) / 3, (3 + 3 + 9) / 3])
    expected = (mine + np.array([6, 3, 9])) / 2
    assert rounded(scores(DAFP, graph, wide)) == rounded(expected)


def test_before_an_activation_a_norm_counts_for_what_is_behind_it_alone() -> None:
    stream = conv(X, ONES)
    first = norm(stream, [2, 3])
    block = conv(ops.Relu(norm(conv(ops.Relu(first), [[1, 2], [3, 4]]), [1, 1])), [[1, 1], [1, 1]])
    last = norm(ops.Add(stream, block), [5, 7])
    graph = of(conv(ops.Relu(last), [[4, 6]]))
    expected = [(2 * (1 + 3) / 2 + 5 * 4) / 2, (3 * (2 + 4) / 2 + 7 * 6) / 2]
    assert scores(DAFP, graph, stream) == expected


def test_a_depthwise_layer_reads_and_makes_its_channel() -> None:
    wide = norm(conv(X, ONES), [2, 3])
    each = norm(conv(ops.Relu(wide), [[4], [5]]), [6, 7])
    graph = of(conv(ops.Relu(each), [[8, 1]]))
    assert scores(DAFP, graph, wide) == [(2 * 4 + 6 * 8) / 2, (3 * 5 + 7 * 1) / 2]


def test_channels_that_are_joined_count_where_they_lie() -> None:
    a, b = norm(conv(X, [[1]]), [2]), norm(conv(X, ONES), [3, 5])
    graph = of(conv(ops.Concat(ops.Relu(a), b, axis=1), [[1, 2, 7], [3, 4, 7]]))
    assert scores(DAFP, graph, a) == [2 * 2]
    assert scores(DAFP, graph, b) == [3 * 3, 5 * 7]


def test_without_a_norm_the_weights_are_the_scale() -> None:
    x = conv(X, [[3], [-4]])
    graph = of(conv(ops.Relu(x), [[2, 5]]))
    assert scores(DAFP, graph, x) == [3 * 2, 4 * 5]


def test_of_a_family_without_norms_scales_say_nothing() -> None:
    x = conv(X, ONES)
    assert np.isnan(scores(BN_SCALE, of(conv(x, [[1, 1]])), x)).all()


@pytest.mark.parametrize("mean", [-2.0, -0.5, 0.0, 1.5])
def test_the_mean_square_of_a_rectified_gaussian(mean: float) -> None:
    drawn = np.maximum(np.random.default_rng(0).normal(mean, 1.5, 400_000), 0)
    assert rectified(np.array(mean), np.array(-1.5)) == pytest.approx(np.square(drawn).mean(), 0.02)


def test_what_is_rectified_counts_by_its_norm() -> None:
    y = norm(conv(X, ONES), [1, 2], [0, -9])
    found = scores(RECTIFIED, of(conv(ops.Relu(y), [[1, 1]])), y)
    assert rounded(found) == [0.5, 0.0]


def test_a_scale_of_zero_leaves_the_shift() -> None:
    found = rectified(np.array([2.0, -2.0]), np.zeros(2))
    assert rounded(found) == [4.0, 0.0]


def test_energy_is_what_flows_times_what_reads_it() -> None:
    hidden = conv(X, [[1], [10]])
    graph = of(conv(hidden, [[3, 3], [4, 4]]))
    low, high = scores(ENERGY, graph, hidden)
    assert high == pytest.approx(100 * low)


def test_energy_of_groups_is_that_of_their_channels() -> None:
    hidden = conv(X, [[1], [1], [2], [2]])
    graph = of(conv(conv(hidden, [[1, 0], [0, 1], [1, 0], [0, 1]]), np.ones((1, 4))))
    family = family_of(graph, hidden)
    assert len(family.channels) == 2
    assert len(set(rounded(scores(ENERGY, graph, hidden)))) == 1


def test_families_know_their_norms_and_who_makes_and_reads_them() -> None:
    y = norm(conv(X, ONES), [1, 2])
    graph: Graph = of(conv(y, [[1, 1]]))
    family = family_of(graph, y)
    assert [len(w.layers) for w in (*family.makers, *family.readers)] == [1, 1]
    assert [n.scale.tolist() for n in family.norms] == [[1, 2]]
