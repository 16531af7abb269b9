"""What is done to an image before a network reads it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from redir.errors import BadInput, BadPipeline
from redir.ir.tensor import Array

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET, UNIT, SYMMETRIC, BYTES, BGR = "imagenet", "unit", "symmetric", "bytes", "bgr"
_RANGES = {  # what is taken off a byte, and what that is divided by
    IMAGENET: (0.0, 255.0),
    UNIT: (0.0, 255.0),
    SYMMETRIC: (127.5, 127.5),
    BYTES: (0.0, 1.0),
}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_MARGIN = 256 / 224  # of what an image is resized to, over what is cut out of that
_KNOWN = f"{', '.join(_RANGES)}, mean=..., std=... and {BGR}"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes numbers, by words joined by ``+``.

    The first says what the numbers are: ``imagenet``, ``unit`` (0 to 1), ``symmetric`` (-1 to 1) or
    ``bytes`` (0 to 255). ``mean=`` is then taken off, and ``std=`` divides: one number each, or one
    for red, green and blue, with ``:`` between; without a first word they are for ``unit``. ``bgr``
    is the order of the channels. ``imagenet`` is ``unit`` with mean and deviation of ImageNet, and
    leaves a margin.

    Raises:
        BadPipeline: it is something else.
    """

    text: str

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for word in self._words:
            if word not in {*_RANGES, BGR} and word.partition("=")[0] not in {"mean", "std"}:
                raise BadPipeline(f"preprocess {self.text!r}: {word!r} is not one of {_KNOWN}")
        kinds = [word.partition("=")[0] for word in self._words]
        alone = [kind for kind in kinds if kind in _RANGES]
        if len(set(kinds)) < len(kinds) or len(alone) > 1:
            raise BadPipeline(f"preprocess {self.text!r} says two things about one")
        if IMAGENET in alone and {"mean", "std"} & {*kinds}:
            raise BadPipeline(f"preprocess {self.text!r}: imagenet has a mean and a std already")
        if min(self._numbers("std", (1.0,))) <= 0:
            raise BadPipeline(f"preprocess {self.text!r}: std is above 0")
        self._numbers("mean", ())

    @property
    def _words(self) -> Sequence[str]:
        return self.text.split("+")

    @property
    def range(self) -> str:
        """The word that says what the numbers are."""
        return next((word for word in self._words if word in _RANGES), UNIT)

    @property
    def is_whole(self) -> bool:
        """Whether bytes stay as they are."""
        return {BYTES} <= set(self._words) <= {BYTES, BGR}

    def _numbers(self, name: str, usual: Sequence[float]) -> Sequence[float]:
        """The numbers of ``mean=`` or ``std=``."""
        given = [w.partition("=")[2] for w in self._words if w.startswith(f"{name}=")]
        if not given:
            return usual
        with suppress(ValueError):
            found = [float(number) for number in given[0].split(":")]
            if np.isfinite(found).all() and len(found) in {1, 3}:
                return found
        raise BadPipeline(f"preprocess {self.text!r}: {name} is 1 number or 3, as in 0.5:0.4:0.4")

    def pixels(self, image: Image, size: tuple[int, int], channels: int) -> Array:
        """The numbers of an image of that height and width, channels last.

        Raises:
            BadInput: there are three numbers for one channel.
        """
        margin = _MARGIN if self.range == IMAGENET else 1.0
        held = np.asarray(_fitted(image, size, margin), np.float32)
        return self.numbers(held.reshape(*size, channels))

    def numbers(self, held: Array) -> Array:
        """Those of images of numbers from 0 to 255, channels last.

        Raises:
            BadInput: it has three numbers for as many channels as are not three.
        """
        own = (_MEAN, _STD) if self.range == IMAGENET else ((0.0,), (1.0,))
        mean, std = self._numbers("mean", own[0]), self._numbers("std", own[1])
        channels = held.shape[-1]
        if {len(mean), len(std)} - {1, channels}:
            raise BadInput(
                f"preprocess {self.text!r} is for 3 channels, and the model reads {channels}"
            )
        low, span = _RANGES[self.range]
        found: Array = ((held - low) / span - np.array(mean)) / np.array(std)
        return found[..., ::-1] if BGR in self._words else found


def _fitted(image: Image, size: tuple[int, int], margin: float) -> Image:
    """The middle of an image, scaled to a height and width; one that has them is taken as it is."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = margin * max(width / image.width, height / image.height)
    left, top = (image.width - width / scale) / 2, (image.height - height / scale) / 2
    box = (left, top, left + width / scale, top + height / scale)
    return image.resize((width, height), 2, box=box)  # 2 is bilinear
