"""Prune a CIFAR-10 network by every criterion, scored on a few images, and say what is left.

For each seed ``--examples`` images are drawn from one file; criteria score the channels of the
model on them, and the same share of each family goes, with and without reconstruction. Accuracy
is measured on the images of another file, with no training in between. Both files are ``.npz``
with ``images`` (bytes, channels last) and ``labels``; the model is normalised as the CIFAR ResNets
of torch hubs are. It writes a table, and a picture with ``--plot``::

    python docs/examples/low_data.py resnet20.onnx train.npz test.npz --keep 0.75 0.5 --seeds 5
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

import redir
from redir.figures import empty
from redir.importance import Criterion, Evidence, Family, Labelled, criterion
from redir.importance.shapley import Shapley
from redir.io.plugins import plugins
from redir.ir import Graph
from redir.passes import Prune
from redir.runtime.onnxruntime import accuracy, runner

Array = npt.NDArray[np.float64]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Found = Mapping[tuple[str, bool, float], Sequence[float]]


class Remembered:
    """A criterion that is asked once for each family, whatever is then done by its scores."""

    def __init__(self, given: Criterion) -> None:
        """Nothing is known yet."""
        self.given, self.known = given, dict[int, Array]()
        self.normalizer = getattr(given, "normalizer", "mean")

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """Those of the first time."""
        first = int(family.channels[0])
        if first not in self.known:
            self.known[first] = self.given.scores(family, evidence)
        return self.known[first]


def read(path: str, graph: Graph) -> Labelled:
    """The images of a file as the model reads them."""
    with np.load(path) as bank:
        images = (bank["images"] / 255 - MEAN) / STD
        ready = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
        return Labelled({next(iter(graph.inputs)): ready}, bank["labels"].astype(np.int64))


def some(given: Labelled, count: int, seed: int) -> Labelled:
    """A few of the examples."""
    chosen = np.random.default_rng(seed).choice(len(given.labels), count, replace=False)
    inputs = {name: array[chosen] for name, array in given.inputs.items()}
    return Labelled(inputs, given.labels[chosen])


def measured(graph: Graph, options: argparse.Namespace) -> Found:
    """The accuracy in per cent for each seed, by criterion, reconstruction and what is kept."""
    train, test = read(options.train, graph), read(options.test, graph).first(options.tested)
    found = defaultdict[tuple[str, bool, float], list[float]](list)
    for name in options.criteria or plugins("redir.criteria"):
        for seed in range(options.seeds):
            few = some(train, options.examples, seed)
            given = Shapley(options.permutations) if name == "shapley" else criterion(name)
            by = Remembered(given)
            for kept in options.keep:
                for solved in (False, True):
                    step = Prune(1 - kept, by, seed=seed, labelled=few, reconstruct=solved)
                    right = 100 * accuracy(runner(step(graph)), test.inputs, test.labels)
                    found[name, solved, kept].append(right)
                    sys.stderr.write(f"{name} {seed} {kept} {solved} {right:.2f}\n")
    return found


def table(found: Found) -> str:
    """A line for each criterion and share, with means and standard errors."""
    rows = ["| criterion | kept | as it is | reconstructed |", "| --- | --: | --: | --: |"]
    for name, solved, kept in found:
        if not solved:
            both = (found[name, way, kept] for way in (False, True))
            cells = [
                f"{np.mean(a):.1f} ± {np.std(a) / max(len(a) - 1, 1) ** 0.5:.1f}" for a in both
            ]
            rows.append(f"| {name} | {kept:g} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows) + "\n"


def drawn(found: Found, path: str) -> None:
    """Draw the means by what is kept, dashed without reconstruction."""
    figure = empty(7, 4)
    axes = figure.add_subplot()
    names = list(dict.fromkeys(name for name, _, _ in found))
    for place, name in enumerate(names):
        for solved, style in ((False, "--"), (True, "-")):
            points = sorted(
                (kept, np.mean(a)) for (n, s, kept), a in found.items() if (n, s) == (name, solved)
            )
            label = name if solved else None
            axes.plot(
                *zip(*points, strict=True), style, color=f"C{place % 10}", label=label, marker="."
            )
    axes.set_xlabel("channels kept")
    axes.set_ylabel("accuracy, %")
    axes.legend(fontsize=7)
    figure.savefig(path)


def main(given: Sequence[str]) -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--criteria", nargs="*")
    parser.add_argument("--keep", type=float, nargs="*", default=[0.75, 0.5, 0.25])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--tested", type=int, default=5000)
    parser.add_argument("--permutations", type=int, default=5)
    parser.add_argument("--plot", default="")
    options = parser.parse_args(given)
    found = measured(redir.load(options.model), options)
    sys.stdout.write(table(found))
    if options.plot:
        drawn(found, options.plot)


if __name__ == "__main__":
    main(sys.argv[1:])
