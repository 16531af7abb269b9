"""What each preset leaves of trained classifiers, in every count, in accuracy and in time."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from redir.cost import multiplications, products, total
from redir.io.models import save
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.pipeline.compress import chosen
from redir.pipeline.presets import PRESETS
from redir.runtime.onnxruntime import Run, pair_ratio, session, time_pairs
from tests.benchmarks.classifiers import MODELS, Classifier, classifier


def _coarser(step: str) -> str:
    """The preset with a wider bandwidth, the default of the pass."""
    return re.sub(r"hash\{[^}]*\}", step, PRESETS["red++"])


# what a row is called: the pipeline, and its cost
SETTINGS: dict[str, tuple[str, str]] = {
    "`exact`": (PRESETS["exact"], "macs"),
    "`red`": (PRESETS["red"], "macs"),
    "`red --cost multiplications`": (PRESETS["red"], "multiplications"),
    "`red++`": (PRESETS["red++"], "macs"),
    "`red++ --cost latency`": (PRESETS["red++"], "latency"),
    "`red++ --cost multiplications`": (PRESETS["red++"], "multiplications"),
    "`red++` with `hash{bandwidth=0.05}`": (_coarser("hash"), "macs"),
    "the same, `--cost multiplications`": (_coarser("hash"), "multiplications"),
    "`red++`, `palettize{error=0.04}`": (f"{PRESETS['red++']},palettize{{error=0.04}}", "macs"),
}
HEAD = (
    "",
    "shared",
    "written",
    "MACs",
    "parameters",
    "bytes",
    "accuracy, %",
    "time, 1",
    "time, 32",
)
_SLOW = 3  # times the time: what computes the same is compared on fewer images
_FEW = 100


def row(setting: str, before: Classifier) -> list[str]:
    """What is left, as shares of the model as it came."""
    after = compressed(setting, before)
    old, new = total(before.graph), total(after)
    counts = [
        (sum(multiplications(after)), sum(multiplications(before.graph))),
        (products(after), products(before.graph)),
        (new.macs, old.macs),
        (new.parameters, old.parameters),
        (written(after), written(before.graph)),
    ]
    runs = session(before.graph), session(after)
    times = [ratio_of_times(*runs, before.batch(size)) for size in (1, 32)]
    slow = times[0] > _SLOW
    right = accuracy_of_the_same(setting, before, runs[1]) if slow else before.accuracy(runs[1])
    return [
        setting,
        *(f"{new / old:.3f}" for new, old in counts),
        f"{right:.2f}",
        *(f"{ratio:.2f}" for ratio in times),
    ]


def ratio_of_times(old: Run, new: Run, feeds: Mapping[str, Array]) -> float:
    """The median over pairs: over three where one takes long, and is far from the other anyway."""
    times = time_pairs(old, new, feeds, pairs=3)
    if times.after > _SLOW * times.before:
        return times.after / times.before
    return pair_ratio(old, new, feeds, seconds=3)


def compressed(setting: str, model: Classifier) -> Graph:
    """The model as a setting leaves it."""
    pipeline, cost = SETTINGS[setting]
    return chosen(None, pipeline, cost).run(model.graph)


def accuracy_of_the_same(setting: str, model: Classifier, run: Run) -> float:
    """That of the pipeline under another cost, if it gives the same on a few images."""
    other = session(chosen(None, SETTINGS[setting][0]).run(model.graph))
    few = model.batch(_FEW)
    mine, theirs = (next(iter(r(few).values())) for r in (run, other))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    return model.accuracy(other)


@cache
def written(graph: Graph) -> int:
    """The bytes of the ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        save(graph, Path(folder) / "model.onnx")
        return (Path(folder) / "model.onnx").stat().st_size


def main(names: Sequence[str]) -> None:
    """Print a table in Markdown for each of these models, or for all."""
    for name in names or MODELS:
        model = classifier(name)
        cost = total(model.graph)
        print(
            f"\n{name}: {cost.macs:,} multiply-adds, {cost.parameters:,} parameters, "
            f"{written(model.graph):,} bytes, {model.accuracy(session(model.graph)):.2f} %\n"
        )
        print("|", " | ".join(HEAD), "|")
        print("|---" + "|--:" * (len(HEAD) - 1) + "|")
        for setting in SETTINGS:
            print("|", " | ".join(row(setting, model)), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
