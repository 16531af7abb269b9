"""Compress the demonstration network of redir, and train what is left for an epoch.

Half of the channels are pruned, which costs accuracy; ``redir.to_torch`` gives the smaller network
as a PyTorch module, in which it is trained on the digits that scikit-learn ships. The source of
the trained network is written too if ``--out model.py`` is given.

It needs torch, safetensors, numpy and scikit-learn::

    python docs/examples/finetune_digits.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import redir

DEMO = Path(redir.__file__).parent / "demo"
PIPELINE = "fold-constants,prune{channel_ratio=0.5},eliminate-dead-channels"
BATCH = 32
RATE = 0.02
MAX_PIXEL = 16.0


def held_out() -> tuple[Tensor, Tensor]:
    """Read the images that the network was never trained on.

    Returns:
        The images, and their classes.
    """
    with np.load(DEMO / "digits.npz") as bank:
        return torch.from_numpy(bank["image"]), torch.from_numpy(bank["label"])


def training(held: Tensor) -> tuple[Tensor, Tensor]:
    """Read the images to train on: all that are not held out.

    Args:
        held: The images that are held out.

    Returns:
        The images, and their classes.
    """
    digits = load_digits()
    images = (digits.images[:, None] / MAX_PIXEL).astype(np.float32)
    kept = {image.tobytes() for image in held.numpy()}
    chosen = [k for k, image in enumerate(images) if image.tobytes() not in kept]
    return torch.from_numpy(images[chosen]), torch.from_numpy(digits.target[chosen]).long()


def accuracy(model: nn.Module, image: Tensor, label: Tensor) -> float:
    """Compute the share of images classified correctly.

    Args:
        model: The network.
        image: Images.
        label: Their classes.

    Returns:
        The accuracy, 0 to 1.
    """
    model.eval()
    with torch.no_grad():
        return float((model(image).argmax(1) == label).float().mean().item())


def train(model: nn.Module, image: Tensor, label: Tensor) -> None:
    """Train the network for one epoch, in place.

    Args:
        model: The network.
        image: Images.
        label: Their classes.
    """
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    model.train()
    for rows in torch.randperm(len(label)).split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(image[rows]), label[rows]).backward()
        optimizer.step()


def main() -> None:
    """Compress, train, and print a line for each."""
    parser = argparse.ArgumentParser(description="Train a compressed network for an epoch.")
    parser.add_argument("--out", type=Path, help="where to write the source: a name in .py")
    out: Path | None = parser.parse_args().out
    torch.set_num_threads(1)
    image, label = held_out()
    graph = redir.load(DEMO / "digits.onnx")
    model = redir.to_torch(redir.compress(graph, pipeline=PIPELINE))
    before, now = accuracy(redir.to_torch(graph), image, label), accuracy(model, image, label)
    size = sum(p.numel() for p in model.parameters())
    sys.stdout.write(f"accuracy {before:.4f}, pruned to {size} parameters {now:.4f}\n")
    train(model, *training(image))
    sys.stdout.write(f"after one epoch {accuracy(model, image, label):.4f}\n")
    if out is not None:
        shapes = ({0: torch.export.Dim("batch")},)
        trained = redir.from_torch(model.eval(), (image[:2],), dynamic_shapes=shapes)
        redir.save(trained, out)


if __name__ == "__main__":
    main()
