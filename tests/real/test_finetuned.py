"""A trained network recovers from pruning when it keeps its norms: docs/recipes/fine-tune.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import redir
from tests.source_files import imported

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytestmark = pytest.mark.nightly  # it trains for a minute

Images: TypeAlias = "tuple[Any, Any]"
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def images(path: Path, count: int) -> Images:
    """The first normalised images of a file, (count, 3, 32, 32), and their labels."""
    with np.load(path) as bank:
        pixels, labels = bank["images"][:count], bank["labels"][:count]
    scaled = (pixels.astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels).long()


def accuracy(network: Any, pixels: Any, labels: Any) -> float:
    network.eval()
    with torch.no_grad():
        guesses = torch.cat([network(part).argmax(1) for part in pixels.split(250)])
    return float((guesses == labels).float().mean())


def train(network: Any, pixels: Any, labels: Any, steps: int = 150) -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    network.train()
    for _ in range(steps):
        rows = torch.randint(0, len(labels), (64,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(pixels[rows]), labels[rows]).backward()
        optimizer.step()


def test_a_pruned_resnet_recovers_with_its_norms(shared: Path) -> None:
    source = imported(shared / "models" / "cifar_resnet.py")
    network = source.load(str(shared / "models" / "cifar10-resnet20.safetensors"))
    pixels, labels = images(shared / "data" / "cifar10-train4k.npz", 4000)
    held_out = images(shared / "data" / "cifar10-eval.npz", 1000)
    smaller, _ = redir.compress(network, (pixels[:2],), pipeline="prune{channel_ratio=0.3}")
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in smaller.modules())
    before = accuracy(smaller, *held_out)
    train(smaller, pixels, labels)
    assert before < 0.6
    assert accuracy(smaller, *held_out) > 0.8
