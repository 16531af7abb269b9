"""Drawn images: what is like a photograph in them, and that they are drawn by the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from redir.ir.tensor import Array
from redir.statistics.images import natural, pink


def drawn(*shape: int, seed: int = 0) -> Array:
    return natural(np.random.default_rng(seed), shape)


IMAGES = drawn(64, 3, 32, 32)


def test_they_have_variance_one_and_neighbours_that_are_alike() -> None:
    assert IMAGES.std() == pytest.approx(1)
    along = np.corrcoef(IMAGES[..., 1:].ravel(), IMAGES[..., :-1].ravel())[0, 1]
    assert 0.8 < along < 0.99


def test_channels_share_most_of_what_they_show() -> None:
    red, green = IMAGES[:, 0].ravel(), IMAGES[:, 1].ravel()
    assert 0.7 < np.corrcoef(red, green)[0, 1] < 0.99


def test_steps_are_rarely_large_as_at_the_edges_of_things() -> None:
    steps = np.diff(IMAGES[:, 0], axis=2).ravel()
    kurtosis = np.mean((steps - steps.mean()) ** 4) / steps.var() ** 2
    assert kurtosis > 6  # 3 in noise


def test_channels_may_come_last() -> None:
    last = drawn(4, 16, 12, 3)
    assert np.array_equal(np.moveaxis(last, 3, 1), drawn(4, 3, 16, 12))


def test_what_is_no_image_is_noise() -> None:
    assert np.array_equal(drawn(4, 7), np.random.default_rng(0).standard_normal((4, 7)))


def test_the_seed_decides() -> None:
    assert np.array_equal(drawn(2, 1, 8, 8), drawn(2, 1, 8, 8))
    assert not np.array_equal(drawn(2, 1, 8, 8), drawn(2, 1, 8, 8, seed=1))


def test_an_image_of_one_place_is_finite() -> None:
    assert np.isfinite(drawn(2, 3, 1, 1)).all()


def test_pink_noise_is_smooth() -> None:
    noise = pink(np.random.default_rng(0), (8, 1, 32, 32))
    assert np.diff(noise, axis=3).std() < noise.std()  # 1.4 times in white noise
