"""What each option that changes outputs costs on a trained network."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from redir.cost import macs
from redir.pipeline import Pipeline
from redir.pipeline.presets import PRESETS
from redir.runtime.onnxruntime import session
from tests.benchmarks.classifiers import classifier

OPTIONS = (
    "merge{tolerance=0.4}",
    "merge{tolerance=0.5}",
    "merge{tolerance=0.6}",
    "merge{tolerance=0.7}",
    "merge{tolerance=0.6,schedule=ascending}",
    "merge{tolerance=0.6,schedule=descending}",
    "merge{tolerance=0.6,schedule=block}",
    "merge{tolerance=0.6,linkage=average}",
    "merge{tolerance=0.6,linkage=single}",
    "uneven-depthwise{error=0.05}",
    "uneven-depthwise{error=0.1}",
    "uneven-depthwise{error=0.2}",
    "uneven-depthwise{error=0.3}",
    "prune{channel_ratio=0.05}",
    "prune{channel_ratio=0.1}",
    "prune{channel_ratio=0.2}",
    "hash{bandwidth=silverman}",
    "hash{bandwidth=scott}",
    "hash{bandwidth=median-gap}",
    "hash{contrast=0.05}",
    "hash{granularity=channel}",
    "palettize{bits=1}",
)


def main(names: Sequence[str]) -> None:
    """Print for each option the multiply-adds left, the accuracy and the deviation of outputs."""
    for name in names or ["cifar10-resnet20-bn"]:
        model = classifier(name)
        clean = Pipeline.parse(PRESETS["exact"]).run(model.graph)
        first, all_of_it = session(clean), macs(clean)
        feeds = model.batch(500)
        wanted = next(iter(first(feeds).values()))
        print(f"\n{name}: {model.accuracy(first):.2f} %\n")
        print("| option | MACs | accuracy, % | deviation |\n|---|--:|--:|--:|")
        for option in OPTIONS:
            after = Pipeline.parse(option).run(clean)
            run = session(after)
            off = np.abs(next(iter(run(feeds).values())) - wanted).max() / np.abs(wanted).max()
            cells = f"{macs(after) / all_of_it:.3f} | {model.accuracy(run):.2f} | {off:.2f}"
            print(f"| `{option}` | {cells} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
