"""Trained classifiers with labelled images, as the benchmarks measure accuracy on them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from PIL import Image
from scipy import ndimage

from redir.evaluation import accuracy
from redir.io.models import load
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.runtime.onnxruntime import Run

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

    def parted(self, count: int) -> tuple[Array, Classifier]:
        """A few of the images, drawn always alike, and the classifier with the others."""
        order = np.random.default_rng(0).permutation(len(self.images))
        few, rest = order[:count], order[count:]
        return self.images[few], replace(self, images=self.images[rest], labels=self.labels[rest])

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


CIFAR = "cifar10-eval.npz"
IMAGENET, PHOTOGRAPHS = "imagenet-sample-160.npz", "imagenet-sample-224.zip"
# model: images, how they are prepared, what is added to their labels
MODELS: dict[str, tuple[str, Callable[[Array], Array], int]] = {
    "cifar10-resnet20-bn": (CIFAR, normalised, 0),
    "cifar10-resnet32-bn": (CIFAR, normalised, 0),
    "cls-cifar10-resnet8-mlperftiny": (CIFAR, lambda images: images, 0),
    "cls-cifar10-resnet-large-mlperftiny": (CIFAR, lambda images: images, 0),
    "cls-imagenet-mobilenetv1-0.25-128-deq": (IMAGENET, centred(128), 1),
    "cls-imagenet-mobilenetv1-0.5-160-deq": (IMAGENET, centred(160), 1),
    "trained/cls-imagenet-mobilenetv2-bn": (PHOTOGRAPHS, normalised, 0),
}


def classifier(name: str) -> Classifier:
    """The model of ``MODELS`` that has this name."""
    data, prepare, first = MODELS[name]
    images, labels = (zipped if data.endswith(".zip") else stored)(SHARED / "data" / data)
    ready = np.ascontiguousarray(prepare(images).transpose(0, 3, 1, 2), np.float32)
    return Classifier(name, load(SHARED / f"models/{name}.onnx"), ready, labels + first)


def stored(path: Path) -> tuple[Array, Array]:
    """The images (examples, height, width, channels) of an .npz file as floats, and labels."""
    with np.load(path) as held:
        return held["images"].astype(np.float32), held["labels"]


def zipped(path: Path) -> tuple[Array, Array]:
    """The same of an archive of images whose names are their labels."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())
        images = [np.asarray(Image.open(archive.open(name)).convert("RGB")) for name in names]
    labels = [int(PurePath(name).stem) for name in names]
    return np.stack(images).astype(np.float32), np.array(labels)


def classifiers() -> Iterator[Classifier]:
    """All of ``MODELS``, one after the other."""
    yield from map(classifier, MODELS)
