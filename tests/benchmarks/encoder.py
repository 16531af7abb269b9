"""A transformer encoder that reads digits, and training for it and for others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from redir.ir.tensor import Array

Examples = tuple[Array, Array]
"""What a network reads, and the labels."""

HEADS = 4
_TRAINED = 1200  # digits, of 1797


class Encoder(nn.Module):  # type: ignore[misc]
    """An encoder whose tokens are the rows of an image."""

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.rows = nn.Linear(8, width)
        self.places = nn.Parameter(torch.randn(1, 8, width) / 10)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.rows(images) + self.places)
        return self.classes(self.norm(x).mean(1))

    def heads(self) -> dict[nn.Module, int]:
        """How many each layer has that makes some, as Torch-Pruning asks."""
        return {layer: HEADS for block in self.blocks for layer in (block.q, block.k, block.v)}


class Block(nn.Module):  # type: ignore[misc]
    """Attention of several heads, and a layer of hidden units."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.before(x)
        q, k, v = (self.apart(part(y)) for part in (self.q, self.k, self.v))
        seen = torch.softmax(q @ k.transpose(2, 3) / 4, -1) @ v
        x = x + self.o(seen.transpose(1, 2).flatten(2))
        return x + self.fc2(torch.relu(self.fc1(self.between(x))))

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        """The heads, each with its share of the channels."""
        return x.unflatten(2, (HEADS, x.shape[2] // HEADS)).transpose(1, 2)


def digits() -> tuple[Examples, Examples]:
    """Those to train on, and others."""
    held = load_digits()
    order = np.random.default_rng(0).permutation(len(held.target))
    images, labels = (held.images[order] / 16).astype(np.float32), held.target[order]
    return (images[:_TRAINED], labels[:_TRAINED]), (images[_TRAINED:], labels[_TRAINED:])


def fit(network: Any, seen: Examples, epochs: int) -> None:
    """Train a network, by Adam with a rate that falls to nothing."""
    torch.manual_seed(0)
    images, labels = torch.from_numpy(seen[0]), torch.from_numpy(seen[1]).long()
    steps = torch.optim.Adam(network.parameters(), 1e-3)
    falls = torch.optim.lr_scheduler.CosineAnnealingLR(steps, epochs)
    network.train()
    for _ in range(epochs):
        for some in torch.randperm(len(labels)).split(50):
            steps.zero_grad()
            nn.functional.cross_entropy(network(images[some]), labels[some]).backward()
            steps.step()
        falls.step()
    network.eval()
