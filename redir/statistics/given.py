"""Inputs that the user gives: arrays, or images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from redir.errors import BadInput
from redir.io import arrays
from redir.io.image_files import Album
from redir.ir import Graph
from redir.ir.tensor import Array, DType
from redir.progress import progress
from redir.runtime.open_sizes import fitting_shapes
from redir.statistics.preprocessing import BYTES, IMAGENET, UNIT, Preprocessing
from redir.statistics.tokens import by_length

_AXES, _CHANNELS = 3, (1, 3)  # of an image


@dataclass(frozen=True)
class Calibration:
    """Inputs that the user gives: an .npz file with an array for each, examples first.

    Texts lose what stands behind their ends, where the graph takes any length and is told the ends.
    """

    path: str

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """Examples of the file, drawn by ``seed``."""
        held, rng = arrays.examples(self.path, graph), np.random.default_rng(seed)
        total = min(len(array) for array in held.values())
        some = np.sort(rng.permutation(total)[:count])
        drawn = {name: array[some] for name, array in held.items()}
        texts = list(by_length(graph, drawn))
        return [texts[i] for i in rng.permutation(len(texts))] if texts else _cut(drawn, graph)

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Images:
    """Images that the user gives: a folder of them, or a .zip file, and what is done to each.

    ``preprocess`` says that: see ``Preprocessing``. What is usual if it does not: ``imagenet`` for
    three channels, ``unit`` for one, and ``bytes`` for a model that reads those.
    """

    path: str
    preprocess: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no preprocessing."""
        Preprocessing(self.preprocess or UNIT)

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """Images of the folder, drawn by ``seed``.

        Raises:
            BadInput: there is none, or the model reads no images.
            MissingExtra: Pillow is not installed.
            Unsupported: no sizes fit the model.
        """
        frame, how = Frame.of(graph), self.how(graph)
        held, found = np.empty((count, *frame.shape), frame.dtype), 0
        images = Album(self.path).images(count, seed, "L" if frame.channels == 1 else "RGB")
        for image, place in zip(images, progress(range(count), "images"), strict=False):
            made = how.pixels(image, frame.size, frame.channels)
            held[place], found = np.moveaxis(made, 2, frame.axis), place + 1
        return _cut({frame.name: held[:found]}, graph)

    def how(self, graph: Graph) -> Preprocessing:
        """What is done to images for ``graph``.

        Raises:
            BadInput: the model does not read that, or no images.
            Unsupported: no sizes fit the model.
        """
        frame = Frame.of(graph)
        whole = frame.dtype == np.uint8
        usual = BYTES if whole else UNIT if frame.channels == 1 else IMAGENET
        how = Preprocessing(self.preprocess or usual)
        if whole and not how.is_whole:
            raise BadInput(f"the model reads uint8: preprocess is bytes, and not {how.text}")
        return how

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Frame:
    """What a model whose one input is images reads: the ``shape`` of one, and its parts."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    axis: int  # of the channels

    @classmethod
    def of(cls, graph: Graph) -> Frame:
        """That of a graph.

        Raises:
            BadInput: it reads something else.
            Unsupported: no sizes fit the model.
        """
        shapes = next(fitting_shapes(graph))
        name, shape = next(((n, s[1:]) for n, s in shapes.items()), ("", ()))
        found = [a for a in (0, 2) if len(shape) == _AXES and shape[a] in _CHANNELS]
        if len(shapes) != 1 or not found:
            raise BadInput(
                f"the model reads {_read(graph)}: expected images of 1 or 3 channels alone"
            )
        dtype = graph.inputs[name].type.dtype
        if dtype.kind != "f" and dtype != np.uint8:
            raise BadInput(f"input {name!r} is {dtype}: images are floats or uint8")
        return cls(name, dtype, shape, found[0])

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.shape[self.axis]

    @property
    def size(self) -> tuple[int, int]:
        """Its height and width."""
        return self.shape[1 - self.axis // 2], self.shape[2 - self.axis // 2]


def _read(graph: Graph) -> str:
    read = (f"{n!r}: {v.type}" for n, v in graph.inputs.items() if n not in graph.defaults)
    return ", ".join(read) or "nothing"


def _cut(held: Mapping[str, Array], graph: Graph) -> Sequence[Mapping[str, Array]]:
    """All examples at once, or as many at a time as the graph takes.

    Raises:
        BadInput: there are fewer.
    """
    needed = (v for name, v in graph.inputs.items() if name not in graph.defaults)
    size = min((n for v in needed if (n := v.type.size(0))), default=None)
    count = min(len(a) for a in held.values())
    if count < (size or 1):
        raise BadInput(f"{count} examples are too few: the model takes {size or 1} at once")
    if size is None:
        return [held]
    total = count // size
    return [{n: a[i * size : (i + 1) * size] for n, a in held.items()} for i in range(total)]
