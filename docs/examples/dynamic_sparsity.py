"""Train towards half of the channels, prune them, and train what is left a little more.

The rate of the penalty that puts channels to sleep is set after each epoch by
``redir.training.DynamicSparsity``, the sparsity control of dependency-aware pruning (Zhao et al.,
2020). ``--constant`` compares it with rates that stay as they are; ``--history`` writes what each
epoch came to, which ``docs/examples/pictures.py`` draws. It needs torch, and trains scikit-learn's
digits in about a minute::

    python docs/examples/dynamic_sparsity.py --history sparsity.json

``--images`` are two ``.npz`` files with ``images`` (bytes, channels last) and ``labels`` instead:
what is trained on, and what is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import redir
from redir.passes import Prune
from redir.training import DynamicSparsity, Epoch

WANTED = 0.5
AFTER = 5  # epochs
RATE = 0.05
TRAINED = 1200  # digits, of 1797

Examples = tuple[Tensor, Tensor]


def digits() -> tuple[Examples, Examples]:
    """Images and labels in an order of their own: to train on, and new ones."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - other images do not need it

    held = load_digits()
    images = torch.tensor(held.images[:, None] / 16, dtype=torch.float32)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], torch.tensor(held.target)[order]
    return (images[:TRAINED], labels[:TRAINED]), (images[TRAINED:], labels[TRAINED:])


def stored(path: str) -> Examples:
    """The images and labels of a file."""
    with np.load(path) as bank:
        images = torch.from_numpy(bank["images"]).permute(0, 3, 1, 2).float()
        return (images / 255 - 0.5) / 0.25, torch.from_numpy(bank["labels"]).long()


def network(images: Tensor) -> nn.Sequential:
    """Three convolutions, each with a norm."""
    layers, inputs, size = list[nn.Module](), images.shape[1], images.shape[2]
    for outputs, stride in ((32, 1 + (size > 8)), (32, 2), (64, 2)):  # noqa: PLR2004 - of digits
        conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def trained(
    module: nn.Module, seen: Examples, epochs: int, control: DynamicSparsity | None = None
) -> None:
    """Train, and let ``control`` put channels to sleep."""
    steps = torch.optim.SGD(module.parameters(), lr=RATE, momentum=0.9)
    images, labels = seen
    module.train()
    for _ in range(epochs):
        for some in torch.randperm(len(images)).split(50):
            steps.zero_grad()
            nn.functional.cross_entropy(module(images[some]), labels[some]).backward()
            if control:
                control.penalise()
            steps.step()
        if control:
            control.end_epoch()


def accuracy(module: nn.Module, examples: Examples) -> float:
    """The share of images that are told right, in per cent."""
    images, labels = examples
    with torch.no_grad():
        right = [module.eval()(some).argmax(1) for some in images.split(500)]
    return 100 * float((torch.cat(right) == labels).float().mean())


@dataclass(frozen=True)
class Run:
    """What one way to set the rate came to: accuracies in per cent, and the epochs."""

    before: float
    pruned: float
    after: float
    history: Sequence[Epoch]

    def __str__(self) -> str:
        asleep = 100 * self.history[-1].share
        return (
            f"asleep {asleep:.1f} %, accuracy {self.before:.1f}, pruned {self.pruned:.1f}, "
            f"trained again {self.after:.1f}"
        )


def measured(seen: Examples, new: Examples, epochs: int, step: float, rate: float = 0.0) -> Run:
    """Train, prune and train again; the rate begins with ``rate``, and moves by ``step``."""
    torch.manual_seed(0)
    module, few = network(seen[0]), (seen[0][:2],)
    control = DynamicSparsity(module, few, sparsity=WANTED, epochs=epochs, step=step)
    control.rate = rate
    trained(module, seen, epochs, control)
    before = accuracy(module, new)
    prune = Prune(WANTED, criterion="dafp", scope="global", min_channels=2)
    smaller, _ = redir.compress(module.eval(), few, pipeline=[prune])
    pruned = accuracy(smaller, new)
    trained(smaller, seen, AFTER)
    return Run(before, pruned, accuracy(smaller, new), control.history)


def main(given: Sequence[str]) -> None:
    """Train, prune, train again, and say what it came to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", nargs=2, metavar=("TRAIN.npz", "TEST.npz"))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--step", type=float, default=7e-4)
    parser.add_argument("--constant", type=float, nargs="*", default=[])
    parser.add_argument("--history", type=Path)
    options = parser.parse_args(given)
    seen, new = map(stored, options.images) if options.images else digits()
    found = measured(seen, new, options.epochs, options.step)
    sys.stdout.write(f"the rate follows: {found}\n")
    for rate in options.constant:
        sys.stdout.write(f"rate {rate:g}: {measured(seen, new, options.epochs, 0, rate)}\n")
    if options.history:
        text = json.dumps([asdict(epoch) for epoch in found.history], indent=1) + "\n"
        options.history.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
