"""Train digits towards half of the channels, prune them, and train what is left a little more.

The rate of the penalty that puts channels to sleep is set after each epoch by
``redir.training.DynamicSparsity``, the sparsity control of dependency-aware pruning (Zhao et al.,
2020). With ``--constant`` the rate is that number throughout, for comparison; with ``--plot`` the
shares of channels asleep are drawn. It needs torch and scikit-learn, and takes about a minute::

    python docs/examples/dynamic_sparsity.py --plot sparsity.svg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import redir
from redir.figures import empty
from redir.passes import Prune
from redir.training import DynamicSparsity, Epoch

WANTED = 0.5
EPOCHS, AFTER = 40, 5
RATE, STEP = 0.05, 7e-4
TRAINED = 1200  # images, of 1797


def digits() -> tuple[Tensor, Tensor]:
    """All images, in an order of their own, and their labels."""
    held = load_digits()
    images = torch.tensor(held.images[:, None] / 16, dtype=torch.float32)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], torch.tensor(held.target)[order]


def network() -> nn.Sequential:
    """Three convolutions, each with a norm."""
    layers = list[nn.Module]()
    for inputs, outputs, stride in ((1, 32, 1), (32, 32, 2), (32, 64, 2)):
        conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def trained(
    module: nn.Module, images: Tensor, labels: Tensor, epochs: int, control: DynamicSparsity | None
) -> None:
    """Train, and let ``control`` put channels to sleep."""
    steps = torch.optim.SGD(module.parameters(), lr=RATE, momentum=0.9)
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


def accuracy(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images that are told right, in per cent."""
    with torch.no_grad():
        return 100 * float((module.eval()(images).argmax(1) == labels).float().mean())


def drawn(history: Sequence[Epoch], path: str) -> None:
    """Draw the shares and the rates of all epochs."""
    figure = empty(6, 3)
    axes = figure.add_subplot()
    axes.plot([100 * epoch.share for epoch in history], color="C0")
    axes.axhline(100 * WANTED, color="C0", linestyle=":")
    axes.set_xlabel("epoch")
    axes.set_ylabel("channels asleep, %", color="C0")
    rates = axes.twinx()
    rates.plot([epoch.rate for epoch in history], color="C1")
    rates.set_ylabel("rate of the penalty", color="C1")
    figure.savefig(path)


def main(given: Sequence[str]) -> None:
    """Train, prune, train again, and say what it came to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plot", default="")
    parser.add_argument("--constant", type=float, default=0.0)
    options = parser.parse_args(given)
    torch.manual_seed(0)
    images, labels = digits()
    seen, new = (images[:TRAINED], labels[:TRAINED]), (images[TRAINED:], labels[TRAINED:])
    module, step = network(), 0.0 if options.constant else STEP
    control = DynamicSparsity(module, (images[:2],), sparsity=WANTED, epochs=EPOCHS, step=step)
    control.rate = options.constant
    trained(module, *seen, EPOCHS, control)
    asleep, before = control.history[-1].share, accuracy(module, *new)
    prune = Prune(WANTED, criterion="dafp", scope="global", min_channels=2)
    smaller, _ = redir.compress(module.eval(), (images[:2],), pipeline=[prune])
    pruned = accuracy(smaller, *new)
    trained(smaller, *seen, AFTER, None)
    sys.stdout.write(
        f"asleep {100 * asleep:.1f} %, accuracy {before:.1f}, pruned {pruned:.1f}, "
        f"trained again {accuracy(smaller, *new):.1f}\n"
    )
    if options.plot:
        drawn(control.history, options.plot)


if __name__ == "__main__":
    main(sys.argv[1:])
