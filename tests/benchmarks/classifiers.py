"""Trained classifiers with labelled images, as the benchmarks measure accuracy on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from redir.io.models import load
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.runtime.onnxruntime import Run, accuracy

SHARED = Path(__file__).parents[3] / "shared"
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model, ``images`` (examples, channels, height, width) as it reads them, and labels."""

    name: str
    graph: Graph
    images: Array
    labels: Array

    def accuracy(self, run: Run) -> float:
        """Of what ``run`` computes, in per cent."""
        return 100 * accuracy(run, {next(iter(self.graph.inputs)): self.images}, self.labels)

    def batch(self, size: int) -> dict[str, Array]:
        """The first so many images, by the name of the input."""
        return {next(iter(self.graph.inputs)): np.ascontiguousarray(self.images[:size])}


def normalised(images: Array) -> Array:
    """As the CIFAR ResNets read them."""
    return (images / 255 - MEAN) / STD


def centred(size: int) -> Callable[[Array], Array]:
    """As the MobileNets read them, scaled to a ``size``."""

    def prepared(images: Array) -> Array:
        scale = size / images.shape[1]
        return ndimage.zoom((images - 128) / 128, (1, scale, scale, 1), order=1)

    return prepared


CIFAR, IMAGENET = "cifar10-eval", "imagenet-sample-160"
# model: images, how they are prepared, what is added to their labels
MODELS: dict[str, tuple[str, Callable[[Array], Array], int]] = {
    "cifar10-resnet20-bn": (CIFAR, normalised, 0),
    "cifar10-resnet32-bn": (CIFAR, normalised, 0),
    "cls-cifar10-resnet8-mlperftiny": (CIFAR, lambda images: images, 0),
    "cls-cifar10-resnet-large-mlperftiny": (CIFAR, lambda images: images, 0),
    "cls-imagenet-mobilenetv1-0.25-128-deq": (IMAGENET, centred(128), 1),
    "cls-imagenet-mobilenetv1-0.5-160-deq": (IMAGENET, centred(160), 1),
}


def classifier(name: str) -> Classifier:
    """The model of ``MODELS`` that has this name."""
    data, prepare, first = MODELS[name]
    with np.load(SHARED / f"data/{data}.npz") as held:
        images, labels = held["images"].astype(np.float32), held["labels"] + first
    ready = np.ascontiguousarray(prepare(images).transpose(0, 3, 1, 2), np.float32)
    return Classifier(name, load(SHARED / f"models/{name}.onnx"), ready, labels)


def classifiers() -> Iterator[Classifier]:
    """All of ``MODELS``, one after the other."""
    yield from map(classifier, MODELS)
