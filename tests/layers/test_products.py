"""Which kernels are the same, or multiples of each other."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.ir import Graph
from redir.ir.tensor import Array, Tensor
from redir.layers.products import MULTIPLES, by_channel, shared, split_ratio
from redir.ops import tensor_of
from redir.passes.split_inputs import SplitInputs
from tests.helpers import placeholder

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64"]
KERNEL = np.array([[1.0, -2.0, 3.0]])


def rows(*kernels: object, dtype: Any = "float32") -> Array:
    """The kernels of one channel."""
    return np.array([kernels]).astype(dtype)


def count(kernels: Array, largest: float = MULTIPLES) -> int:
    """How many products are left of the kernels of one channel."""
    return int(shared(kernels, 1, largest).counts.sum())


def repeated(rng: np.random.Generator, distinct: list[int], outputs: int, *kernel: int) -> Array:
    """Weights (outputs, inputs, ...) with just so many ``distinct`` kernels for each input."""
    columns = []
    for few in distinct:
        order = np.concatenate([np.arange(few), rng.integers(0, few, outputs - few)])
        columns.append(rng.normal(size=(few, *kernel))[rng.permutation(order)])
    return np.stack(columns, 1).astype(np.float32)


@pytest.mark.parametrize("kernel", [(3,), (3, 3), (2, 2, 2)], ids=str)
def test_planted_repetitions_are_found(kernel: tuple[int, ...]) -> None:
    distinct = [1, 4, 2, 16, 3]
    weights = repeated(np.random.default_rng(0), distinct, 16, *kernel)
    assert shared(by_channel(weights)).counts.tolist() == distinct
    assert split_ratio(weights) == sum(distinct) / 80


def test_planted_repetitions_are_what_the_pass_computes() -> None:
    distinct = [1, 4, 2, 5, 3]
    weights = repeated(np.random.default_rng(0), distinct, 16, 3, 3)
    x = placeholder(1, 5, 8, 8)
    before = Graph({"x": x}, {"y": ops.Conv(x, ops.Const(value=Tensor(weights)))})
    gather = next(n for n in SplitInputs()(before).nodes if n.op == ops.Gather)
    places = tensor_of(gather.inputs[1])
    assert places is not None
    assert np.bincount(places.array).tolist() == distinct


def test_planted_multiples_are_found() -> None:
    """Each kernel is there itself, and its multiples are rounded."""
    rng = np.random.default_rng(0)
    weights = repeated(rng, [2, 3, 4], 32, 3, 3)
    scales = rng.choice(np.array([1, -1, 0.5, 4, 3, -0.3, 1.7], np.float32), (32, 3, 1, 1))
    both = np.concatenate([weights, weights * scales])
    assert shared(by_channel(both), largest=MULTIPLES).counts.tolist() == [2, 3, 4]
    assert split_ratio(both, multiples=True) == 9 / 192
    assert split_ratio(both) > 9 / 192


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_floating_type_holds_multiples(dtype: Any) -> None:
    assert count(rows([1, 2], [2, 4], [-0.5, -1], [3, 6], [1, 3], dtype=dtype)) == 2


def test_only_equal_kernels_share_below_a_factor_of_1() -> None:
    kernels = rows([1, 2], [1, 2], [-1, -2], [2, 4])
    assert [count(kernels, largest) for largest in (0, 1, 2)] == [3, 2, 1]


def test_a_large_factor_is_not_taken() -> None:
    assert [count(rows([1, 2], [n, 2 * n])) for n in (16, 17, 32)] == [1, 2, 2]


def test_a_factor_that_is_rounded_is_not_taken_for_whole_numbers() -> None:
    thirds = np.float32(5) / np.float32(3) * np.float32(3)
    assert thirds == 5
    assert count(rows([3, 6], [5, 10])) == count(rows([3, 6], [5, 10], dtype="float64")) == 2


def test_a_factor_that_some_number_does_not_have_is_not_taken() -> None:
    assert count(rows([1, 0.3], [3, 0.9001])) == 2


def test_numbers_that_lose_digits_are_no_multiples() -> None:
    assert count(rows([1e-45, 1], [1e-45, 0.5])) == 2


def test_the_smallest_of_its_kind_makes_the_others() -> None:
    found = shared(rows([4, 8], [6, 12], [0, 0], [-2, -4], [5, 10]), 1, MULTIPLES)
    assert found.kernels.tolist() == [[-2, -4]]
    assert found.factor.tolist() == [[-2, -3, 0, 1, -2.5]]
    assert found.routing().tolist() == [[[-2], [-3], [0], [1], [-2.5]]]


def test_kernels_that_only_look_alike_are_tried_with_others() -> None:
    noise = np.array([0, 1, 2, 0, 1]) / 2**20
    kernels = np.stack([np.ones(5), 1 + noise], 1)[None] * np.array([1, 2, 3, 4, 6])[:, None]
    assert count(kernels.astype(np.float32)) == 3


def test_negative_zero_is_zero() -> None:
    assert count(rows([0.0, 1], [-0.0, 1], [-0.0, -0.0])) == 1


def test_channels_share_nothing() -> None:
    assert shared(np.ones((3, 2, 1), np.float32)).counts.tolist() == [1, 1, 1]


def test_a_group_that_needs_fewer_products_is_filled_up() -> None:
    kernels = np.stack([rows([1, 2], [1, 3])[0], rows([1, 2], [1, 2])[0]])
    found = shared(kernels, groups=2)
    assert found.channels.tolist() == [0, 0, 1, 1]
    assert found.kernels.tolist() == [[1, 2], [1, 3], [1, 2], [0, 0]]
    assert found.routing().tolist() == [[[1, 0], [0, 1]], [[1, 0], [1, 0]]]


@given(st.integers(0, 9999), st.sampled_from([0.0, 1.0, MULTIPLES]))
def test_the_products_make_the_kernels(seed: int, largest: float) -> None:
    rng = np.random.default_rng(seed)
    groups, per, count, numbers = rng.integers(1, 5, 4)
    kernels = rng.integers(-2, 3, (groups * per, count, numbers)).astype(np.float32)
    found = shared(kernels, groups, largest)
    assert found.routes == found.routing().size
    made = np.zeros((groups, per, count, numbers))
    held = found.kernels.reshape(groups, -1, numbers)
    for group, place in np.ndindex(groups, found.width):
        channel = found.channels[group * found.width + place] - group * per
        routes = found.routing()[group, :, place]
        made[group, channel] += routes[:, None] * held[group, place]
    assert np.array_equal(made.reshape(kernels.shape), kernels)


def test_kernels_are_taken_by_input_channel_of_each_group() -> None:
    weights = np.arange(24).reshape(4, 2, 3)  # two groups of two outputs and two inputs
    found = by_channel(weights, 2)
    assert found.shape == (4, 2, 3)
    assert found[:, :, 0].tolist() == [[0, 6], [3, 9], [12, 18], [15, 21]]


def test_single_numbers_share_what_has_one_size() -> None:
    weights = np.array([[2.0, 3.0], [-2.0, 5.0], [4.0, 0.0], [2.0, 3.0]])
    assert split_ratio(weights) == 5 / 8
    assert split_ratio(weights, multiples=True) == 4 / 8


def test_of_nothing_nothing_is_split() -> None:
    assert split_ratio(np.ones((0, 3))) == 0
