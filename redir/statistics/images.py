"""Images drawn at random that have the statistics of photographs: shapes before shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from redir.ir.tensor import Array

_SHAPES = 30  # in each image
_SIZES = (0.03, 0.6)  # of a shape's radius, as a share of the image's size
_GREY = 0.9  # of the variance of a colour, which all channels share
_TEXTURE = 0.15  # its spread, that of shapes being 1
_BOXES = 0.4  # the share of shapes that have corners
_CHANNELS = 4  # an image has at most
_MIDDLE, _SPREAD = 118.0, 64.0  # of photographs, in numbers from 0 to 255


def natural(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Images of variance 1 where a shape is that of images, channels first or last; else noise.

    Shapes of all sizes lie before one another, small ones more often, each of its own colour and
    shading: the dead-leaves model (Lee, Mumford and Huang, IJCV 2001), from which networks learn
    nearly as from photographs (Baradad et al., NeurIPS 2021).
    """
    if len(shape) != 4:  # noqa: PLR2004 - no images
        return rng.standard_normal(shape)
    if _is_last(shape):
        return np.moveaxis(natural(rng, (shape[0], shape[3], shape[1], shape[2])), 1, 3)
    rows, columns = np.mgrid[: shape[2], : shape[3]].astype(np.float32)
    tilts = rng.standard_normal((2, shape[0], 1, 1, 1))
    image = _colours(rng, shape[:2]) + (tilts[0] * rows + tilts[1] * columns) / max(shape[2:])
    for _ in range(_SHAPES):
        inside, across = _shape(rng, shape[0], rows, columns)
        shading = np.clip(rng.normal(0, 0.5, (shape[0], 1, 1, 1)) * across[:, None], -2, 2)
        image = np.where(inside[:, None], _colours(rng, shape[:2]) + shading, image)
    image = image + _TEXTURE * pink(rng, (shape[0], 1, *shape[2:]))
    image = image + _TEXTURE / 3 * rng.standard_normal(shape)
    found: Array = image / (image.std() or 1.0)
    return found


def photographs(
    numbers: Callable[[Array], Array], rng: np.random.Generator, shape: tuple[int, ...]
) -> Array:
    """Such images as what ``numbers`` makes of photographs from 0 to 255, channels last."""
    drawn = natural(rng, shape)
    if len(shape) != 4:  # noqa: PLR2004 - no images
        return drawn
    axis = 3 if _is_last(shape) else 1
    held = np.clip(_MIDDLE + _SPREAD * np.moveaxis(drawn, axis, 3), 0, 255)
    return np.moveaxis(numbers(held), 3, axis)


def _is_last(shape: tuple[int, ...]) -> bool:
    """Whether the last axis is that of channels."""
    return shape[3] <= _CHANNELS < shape[1]


def pink(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Noise of variance 1 with a spectrum that falls as 1/f along the last two of four axes."""
    rows, columns = (np.fft.fftfreq(size) for size in shape[2:])
    radius = np.hypot(rows[:, None], columns)
    radius[0, 0] = 1 / max(shape[2:])
    found = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) / radius).real
    scaled: Array = found / (found.std() or 1.0)
    return scaled


def _colours(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A colour for each of some images: (images, channels, 1, 1)."""
    grey = np.sqrt(_GREY) * rng.standard_normal((shape[0], 1))
    colours: Array = grey + np.sqrt(1 - _GREY) * rng.standard_normal(shape)
    return colours[:, :, None, None]


def _shape(
    rng: np.random.Generator, count: int, rows: Array, columns: Array
) -> tuple[Array, Array]:
    """For each of some images, where a shape lies, and how far across it each place is."""
    size, one = max(rows.shape), (count, 1, 1)
    low, high = (float(share * size) ** -2 for share in _SIZES)
    radius = (low + (high - low) * rng.random(one)) ** -0.5
    middle = rng.uniform(-0.1, 1.1, (2, *one))
    angle, aspect = rng.uniform(0, np.pi, one), np.exp(rng.normal(0, 0.4, one))
    down, right = rows - middle[0] * rows.shape[0], columns - middle[1] * rows.shape[1]
    across = (np.cos(angle) * right + np.sin(angle) * down) / (radius * aspect)
    along = (np.cos(angle) * down - np.sin(angle) * right) / (radius / aspect)
    boxes = np.maximum(np.abs(across), np.abs(along))
    inside = np.where(rng.random(one) < _BOXES, boxes, np.hypot(across, along)) < 1
    return inside, across
