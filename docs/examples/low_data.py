"""Prune a network by every criterion, scored on a few labelled images, and say what is left.

For each seed ``--examples`` images are drawn from one file; criteria score the channels of the
model on them, and the same share of each family goes, with and without reconstruction. Accuracy
is measured on the images of another file, or on what was not drawn if there is only one. Nothing
is trained, unless ``--finetune`` says for how many epochs, on the same few images. A file is an
``.npz`` with ``images`` (bytes, channels last) and ``labels``, or a ``.zip`` of images that are
named by the numbers of their classes; the model is normalised as those of torch hubs are. What
is found is kept in a file, so that a run goes on where it was stopped; a table is printed::

    python docs/examples/low_data.py resnet20.onnx train.npz test.npz --found resnet20.json

``docs/examples/pictures.py`` draws what is in ``docs/examples/low_data``.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import redir
from redir.evaluation import accuracy
from redir.importance import Criterion, Evidence, Family, Labelled, criterion
from redir.importance.shapley import Shapley, Values
from redir.io.plugins import plugins
from redir.ir import Graph
from redir.passes import Prune
from redir.runtime.onnxruntime import Run, runner

Array = npt.NDArray[Any]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATE, BATCH = 0.01, 20  # of fine-tuning
Found = dict[str, dict[str, dict[str, list[float]]]]
"""Accuracies in per cent, one for each seed, by criterion, share and what was done behind it."""


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


class Sampled:
    """Shapley values that are sampled once for all ``deviations``: those in ``known`` are there."""

    normalizer = "none"

    def __init__(self, by: Shapley, deviations: float, known: dict[int, Values]) -> None:
        """Nothing is asked yet."""
        self.by, self.deviations, self.known = by, deviations, known

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """The values, with deviations."""
        first = int(family.channels[0])
        if first not in self.known:
            self.known[first] = self.by.values(family, evidence)
        return self.known[first].mean + self.deviations * self.known[first].spread


def read(path: str, graph: Graph) -> Labelled:
    """The images of a file as the model reads them."""
    images, labels = zipped(path) if path.endswith(".zip") else stored(path)
    ready = ((images / np.float32(255) - MEAN) / STD).transpose(0, 3, 1, 2)
    ready = np.ascontiguousarray(ready, np.float32)
    return Labelled({next(iter(graph.inputs)): ready}, labels.astype(np.int64))


def stored(path: str) -> tuple[Array, Array]:
    """The images and labels of an .npz file."""
    with np.load(path) as bank:
        return bank["images"], bank["labels"]


def zipped(path: str) -> tuple[Array, Array]:
    """The images of an archive, and their names as numbers."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())
        images = [np.asarray(Image.open(archive.open(name)).convert("RGB")) for name in names]
    return np.stack(images), np.array([int(PurePath(name).stem) for name in names])


def parted(train: Labelled, test: Labelled, count: int, seed: int) -> tuple[Labelled, Labelled]:
    """A few examples, and those to test on: the rest, if all are of one file."""
    order = np.random.default_rng(seed).permutation(len(train.labels))
    few = at(train, order[:count])
    return few, at(train, order[count:]) if test is train else test


def at(given: Labelled, places: Array) -> Labelled:
    """Some of the examples."""
    inputs = {name: array[places] for name, array in given.inputs.items()}
    return Labelled(inputs, given.labels[places])


def finetuned(graph: Graph, few: Labelled, epochs: int, seed: int) -> Run:
    """What runs the network after it was trained on a few examples."""
    import torch  # noqa: PLC0415 - only this needs it

    torch.manual_seed(seed)
    module: Any = redir.to_torch(graph).train()
    (images,), labels = map(torch.tensor, few.inputs.values()), torch.tensor(few.labels)
    steps = torch.optim.SGD(module.parameters(), RATE, momentum=0.9)
    falls = torch.optim.lr_scheduler.CosineAnnealingLR(steps, epochs)
    for _ in range(epochs):
        for some in torch.randperm(len(labels)).split(BATCH):
            steps.zero_grad()
            torch.nn.functional.cross_entropy(module(images[some]), labels[some]).backward()
            steps.step()
        falls.step()
    module.eval()

    def run(feeds: Mapping[str, Array]) -> dict[str, Any]:
        with torch.no_grad():
            return {"y": module(*map(torch.tensor, feeds.values())).numpy()}

    return run


def ways(
    graph: Graph, step: Prune, few: Labelled, epochs: int, done: Container[str]
) -> Iterator[tuple[str, Run]]:
    """What runs the pruned network, by what was done behind it, if that is not ``done``."""
    for name, solved in (("as it is", False), ("reconstructed", True)):
        names = [name, f"{name}, fine-tuned"][: 1 + bool(epochs)]
        wanted = [way for way in names if way not in done]
        pruned = replace(step, reconstruct=solved)(graph) if wanted else graph
        for way in wanted:
            yield way, runner(pruned) if way == name else finetuned(pruned, few, epochs, step.seed)


def measure(graph: Graph, options: argparse.Namespace, found: Found) -> Iterator[None]:
    """Add what is not ``found`` yet, a cell at a time."""
    train = read(options.train, graph)
    same = options.test == options.train
    test = train if same else read(options.test, graph).first(options.tested)
    for seed in range(options.seeds):
        few, tested = parted(train, test, options.examples, seed)
        values = dict[int, Values]()
        for name in options.criteria or plugins("redir.criteria"):
            sampled = {"shapley": 0, "shapley_2sigma": 2}
            by: Criterion = Remembered(criterion(name))
            if name in sampled:
                by = Sampled(
                    Shapley(options.permutations, budget=options.budget), sampled[name], values
                )
            for share in options.keep:
                target: Any = (
                    {"macs": share} if options.of == "macs" else {"channel_ratio": 1 - share}
                )
                step = Prune(**target, criterion=by, seed=seed, labelled=few)
                cell = found.setdefault(name, {}).setdefault(f"{share:g}", {})
                done = {way for way, right in cell.items() if len(right) > seed}
                for way, run in ways(graph, step, few, options.finetune, done):
                    right = 100 * accuracy(run, tested.inputs, tested.labels)
                    cell.setdefault(way, []).append(round(right, 2))
                    sys.stderr.write(f"{name} {seed} {share:g} {way}: {right:.2f}\n")
                    yield


def table(found: Found) -> str:
    """A line for each share and criterion, with means and standard errors, the best first."""
    heads = list(dict.fromkeys(w for at in found.values() for cell in at.values() for w in cell))
    rows = [f"| kept | criterion | {' | '.join(heads)} |", "| --: | ---" + " | --:" * len(heads)]
    rows[1] += " |"
    for share in dict.fromkeys(share for at in found.values() for share in at):
        cells = {name: at[share] for name, at in found.items() if share in at}
        for name in sorted(cells, key=lambda name: -np.mean(cells[name][heads[0]])):
            said = (shown(cells[name].get(way, ())) for way in heads)
            rows.append(f"| {share} | `{name}` | {' | '.join(said)} |")
    return "\n".join(rows) + "\n"


def shown(right: Sequence[float]) -> str:
    """The mean, and its standard error if there are several."""
    if len(right) > 1:
        return f"{np.mean(right):.1f} ± {np.std(right) / (len(right) - 1) ** 0.5:.1f}"
    return f"{right[0]:.1f}" if right else ""


def main(given: Sequence[str]) -> None:
    """Measure, keep what is found, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--criteria", nargs="*")
    parser.add_argument("--keep", type=float, nargs="*", default=[0.75, 0.5, 0.25])
    parser.add_argument("--of", choices=["channels", "macs"], default="channels")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--tested", type=int, default=5000)
    parser.add_argument("--permutations", type=int, default=5)
    parser.add_argument("--budget", type=int, default=0)
    parser.add_argument("--finetune", type=int, default=0)
    parser.add_argument("--found", type=Path)
    options = parser.parse_args(given)
    there = options.found and options.found.exists()
    found: Found = json.loads(options.found.read_text(encoding="utf-8")) if there else {}
    for _ in measure(redir.load(options.model), options, found):
        if options.found:
            options.found.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
