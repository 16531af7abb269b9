"""Compress a detector in ONNX, and see what becomes of its boxes.

It takes a file whose outputs are called ``boxes`` and ``scores``, (images, places, 4) and (images,
places, classes), as the face detectors of UltraFace have them. Without one it makes a small
detector of random weights, which finds nothing of use, but has what detectors are made of: heads at
two scales, whose results are turned, reshaped and joined::

    python docs/examples/detector.py [--exact] [detector.onnx]
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

import redir
from redir import Graph, ops
from redir.channels.families import families
from redir.cost import total
from redir.ir import Value
from redir.ir.tensor import TensorType
from redir.runtime.onnxruntime import runner

SIZE, CLASSES, ANCHORS = 64, 3, 2
WIDTHS = (3, 16, 32, 64, 64)  # channels behind each halving of the image
BEST = 50  # places that are compared
RNG = np.random.default_rng(0)


def convolved(x: Value, inputs: int, outputs: int, stride: int = 1) -> Value:
    """A convolution of random weights, 3 x 3, that keeps the size of what flows."""
    scale = np.sqrt(2 / (9 * inputs))
    weight = ops.constant(RNG.normal(0, scale, (outputs, inputs, 3, 3)).astype(np.float32))
    bias = ops.constant(RNG.normal(0, 0.1, outputs).astype(np.float32))
    return ops.Conv(x, weight, bias, pads=(1, 1, 1, 1), strides=(stride, stride))


def head(x: Value, inputs: int, numbers: int) -> Value:
    """Some numbers for each anchor at each place: (1, places, numbers)."""
    flat = ops.Transpose(convolved(x, inputs, ANCHORS * numbers), perm=(0, 2, 3, 1))
    return ops.Reshape(flat, ops.constant(np.array([1, -1, numbers])))


def made() -> Graph:
    """The small detector."""
    image = Value(TensorType(np.dtype(np.float32), (1, WIDTHS[0], SIZE, SIZE)))
    scales, x = [], image
    for inputs, outputs in pairwise(WIDTHS):
        x = ops.Relu(convolved(x, inputs, outputs, stride=2))
        scales.append((x, outputs))
    boxes = ops.Concat(*(head(x, width, 4) for x, width in scales[-2:]), axis=1)
    scores = ops.Concat(*(head(x, width, CLASSES) for x, width in scales[-2:]), axis=1)
    return Graph({"image": image}, {"boxes": boxes, "scores": ops.Sigmoid(scores)}, "detector")


def agreement(before: Graph, after: Graph) -> tuple[float, float]:
    """How much two detectors agree on a random image.

    The share of the best places of the one that are among those of the other, and how far their
    boxes are apart, as a share of the size of all numbers of boxes.
    """
    ((name, value),) = before.inputs.items()
    shape = [size if isinstance(size, int) else 1 for size in value.type.shape or ()]
    feeds = {name: RNG.standard_normal(shape, np.float32)}
    one, other = runner(before)(feeds), runner(after)(feeds)
    places, others = best(one["scores"]), best(other["scores"])
    far = np.abs(one["boxes"] - other["boxes"])[0, places].mean() / np.abs(one["boxes"]).mean()
    return len(np.intersect1d(places, others)) / len(places), float(far)


def best(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The places of the highest scores."""
    return np.argsort(-scores[0].max(-1), kind="stable")[:BEST]


def main() -> None:
    """Print what is pinned, then a line for each form of the detector."""
    parser = argparse.ArgumentParser(description="Compress a detector.")
    parser.add_argument("model", nargs="?", help="an .onnx file (default: a small one is made)")
    parser.add_argument("--exact", action="store_true", help="only what keeps every output")
    options = parser.parse_args()
    graph = read(options.model) if options.model else made()
    found = families(redir.Pipeline.parse("fold-constants")(graph))
    causes = {str(family.pins[0].cause) for family in found if family.pins}
    print(f"{len(found)} families; pinned by {', '.join(sorted(causes))}")
    told("exact", graph, redir.compress(graph))
    if not options.exact:
        small = redir.compress(graph, macs=0.7, statistics="drawn")
        told("0.7 of the multiply-adds", graph, small)


def read(path: str) -> Graph:
    """Read a detector. Old files list their weights as inputs, too: these are constants here."""
    return redir.load(path, overridable_initializers="constant")


def told(name: str, before: Graph, after: Graph) -> None:
    """Print how much is left of a detector, and how much it agrees with what it was."""
    share, far = agreement(before, after)
    left = total(after).macs / total(before).macs
    print(f"{name}: {left:.2f} left, {100 * share:.0f}% the same places, boxes off {far:.1e}")


if __name__ == "__main__":
    main()
