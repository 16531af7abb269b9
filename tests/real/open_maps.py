"""Networks of maps with open height and width, exported and pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import redir
from redir.check.guarantees import stored
from redir.ir import Graph
from redir.passes import FoldConstants, Prune
from redir.runtime.onnxruntime import runner

Axes = Mapping[int, str]

IMAGES: Axes = {0: "batch", 2: "height", 3: "width"}
SIZES = ((1, 64), (3, 80), (2, 96))


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.SiLU())


class UNet(nn.Module):  # type: ignore[misc]
    """Two steps down and up; maps are padded or resized to the size of those beside them."""

    def __init__(self, *, resized: bool) -> None:
        super().__init__()
        self.resized = resized
        sizes = (16, 32, 64)
        self.stem = _conv(3, sizes[0])
        self.down = nn.ModuleList(_conv(a, b) for a, b in pairwise(sizes))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, a // 2, 2, stride=2) for a in reversed(sizes[1:])
        )
        self.narrow = nn.ModuleList(nn.Conv2d(a, a // 2, 1) for a in reversed(sizes[1:]))
        self.join = nn.ModuleList(_conv(a, a // 2) for a in reversed(sizes[1:]))
        self.head = nn.Conv2d(sizes[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A map of two classes."""
        maps = [self.stem(x)]
        for down in self.down:
            maps.append(down(functional.max_pool2d(maps[-1], 2)))
        x = maps.pop()
        for up, narrow, join in zip(self.up, self.narrow, self.join, strict=True):
            beside = maps.pop()
            x = self._resized(narrow(x), beside) if self.resized else self._padded(up(x), beside)
            x = join(torch.cat([beside, x], 1))
        return self.head(x)

    def _resized(self, x: Tensor, beside: Tensor) -> Tensor:
        return functional.interpolate(
            x, size=beside.shape[2:], mode="bilinear", align_corners=False
        )

    def _padded(self, x: Tensor, beside: Tensor) -> Tensor:
        rows, columns = (beside.size(a) - x.size(a) for a in (2, 3))
        return functional.pad(
            x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
        )


class _Bottlenecks(nn.Module):  # type: ignore[misc]
    """A part of the channels goes on, and through bottlenecks; all parts are joined."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.first = _conv(inputs, outputs, 1)
        self.inner = nn.Sequential(_conv(half, half), _conv(half, half))
        self.last = _conv(3 * half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Channels of the same number at the same places."""
        a, b = self.first(x).chunk(2, 1)
        return self.last(torch.cat([a, b, b + self.inner(b)], 1))


class Yolo(nn.Module):  # type: ignore[misc]
    """Two scales, a pyramid of pools, and boxes that are decoded from distances to a grid."""

    bins, classes = 8, 5

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 16, stride=2), _conv(16, 32, stride=2))
        self.fine = _Bottlenecks(32, 32)
        self.coarse = nn.Sequential(_conv(32, 64, stride=2), _Bottlenecks(64, 64))
        self.pooled = _conv(64, 32, 1)
        self.spread = _conv(128, 64, 1)
        self.mixed = _Bottlenecks(96, 32)
        outputs = 4 * self.bins + self.classes
        self.heads = nn.ModuleList(
            nn.Sequential(_conv(c, 32), nn.Conv2d(32, outputs, 1)) for c in (32, 64)
        )
        self.register_buffer("steps", torch.arange(self.bins, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Boxes and scores, of both scales behind each other."""
        fine = self.fine(self.stem(x))
        pools = [self.pooled(self.coarse(fine))]
        for _ in range(3):
            pools.append(functional.max_pool2d(pools[-1], 5, 1, 2))
        coarse = self.spread(torch.cat(pools, 1))
        wide = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        maps = self.mixed(torch.cat([wide, fine], 1)), coarse
        scales = (4.0, 8.0)
        found = [
            self._boxes(head(x), scale)
            for head, x, scale in zip(self.heads, maps, scales, strict=True)
        ]
        return torch.cat(found, 2)

    def _boxes(self, x: Tensor, scale: float) -> Tensor:
        batch, _, height, width = x.shape
        distances, scores = x.split([4 * self.bins, self.classes], 1)
        spread = distances.view(batch, 4, self.bins, height * width).softmax(2)
        sides = (spread * self.steps.view(1, 1, -1, 1)).sum(2)
        grid = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
        middle = torch.stack(grid).float().view(1, 2, -1) + 0.5
        corners = middle - sides[:, :2], middle + sides[:, 2:]
        return torch.cat([*(c * scale for c in corners), scores.flatten(2).sigmoid()], 1)


@dataclass(frozen=True)
class Network:
    """A network, and which axes of each of its inputs are open."""

    make: Callable[[], nn.Module]
    axes: Axes
    inputs: Callable[[int, int], tuple[Tensor, ...]]


def images(batch: int, size: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 3, size, size + 32),)


MAPS = {
    "U-Net, padded": Network(lambda: UNet(resized=False), IMAGES, images),
    "U-Net, resized": Network(lambda: UNet(resized=True), IMAGES, images),
    "YOLO": Network(Yolo, IMAGES, images),
}


def draw(module: nn.Module) -> None:
    """Random numbers in all that starts as one number."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() and torch.all(tensor == tensor.flatten()[0]):
            tensor.data.copy_(torch.rand(tensor.shape) + 0.5)


def exported(network: Network, exporter: str, *, opened: bool) -> Graph | None:
    """The network as an exporter writes it, with its axes open or fixed."""
    torch.manual_seed(0)
    module, inputs = network.make().eval(), network.inputs(2, 64)
    draw(module)
    names = [f"x{place}" for place in range(len(inputs))]
    how: dict[str, Any] = {"dynamo": False, "opset_version": 17}
    how |= {"dynamic_axes": {name: dict(network.axes) for name in names}} if opened else {}
    if exporter == "dynamo":
        any_ = dict.fromkeys(network.axes, torch.export.Dim.DYNAMIC)
        how = {"dynamo": True, "verbose": False, "external_data": False}
        how |= {"dynamic_shapes": tuple(any_ for _ in inputs)} if opened else {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(module, inputs, path, input_names=names, **how)
        except torch.onnx.OnnxExporterError:
            return None
        return redir.load(path)


def pruned(graph: Graph, *, compact: bool = True) -> Graph:
    """``graph`` without half of the channels that may go, or with zeros for them."""
    return Prune(0.5, compact=compact)(FoldConstants()(graph))


def share(graph: Graph) -> float:
    """The share of the numbers stored that is kept."""
    return stored(pruned(graph)) / stored(graph)


def apart(network: Network, graph: Graph) -> float:
    """How far the pruned graph is from the one with zeros, as a share of the largest output."""
    less, zeros = (runner(pruned(graph, compact=compact)) for compact in (True, False))
    found = []
    for batch, size in SIZES:
        arrays = [x.numpy() for x in network.inputs(batch, size)]
        given = dict(zip(graph.inputs, arrays, strict=True))
        for a, b in zip(less(given).values(), zeros(given).values(), strict=True):
            found.append(float(np.abs(a - b).max() / np.abs(b).max()))
    return max(found)
