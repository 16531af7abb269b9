"""What the preset red++ takes of time and memory on a network of ResNet-50's shapes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from redir import ops
from redir.cost import nbytes
from redir.ir import Graph, Value
from redir.ir.tensor import Tensor
from redir.pipeline.presets import preset
from tests.helpers import placeholder

SECONDS = 20
TIMES = 3  # the model's bytes
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width and blocks (He et al., 2015)
RNG = np.random.default_rng(0)


def drawn(*shape: int) -> Value:
    return ops.Const(value=Tensor(RNG.normal(size=shape).astype(np.float32)))


def conv(x: Value, outputs: int, size: int, stride: int = 1) -> Value:
    """A convolution and its norm."""
    weight = drawn(outputs, x.type.size(1) or 0, size, size)
    y = ops.Conv(x, weight, strides=(stride,) * 2, pads=(size // 2,) * 4)
    norm = [ops.Const(value=Tensor(np.ones(outputs, np.float32)))] * 2
    return ops.BatchNormalization(y, *norm, *norm)


def block(x: Value, width: int, stride: int) -> Value:
    """A bottleneck, its shortcut a convolution where sizes change."""
    y = ops.Relu(conv(x, width, 1))
    y = ops.Relu(conv(y, width, 3, stride))
    y = conv(y, 4 * width, 1)
    same = x.type.size(1) == 4 * width
    return ops.Relu(ops.Add(y, x if same else conv(x, 4 * width, 1, stride)))


def resnet50() -> Graph:
    """The network, with random weights."""
    x = images = placeholder(1, 3, 224, 224)
    x = ops.Relu(conv(x, 64, 7, 2))
    x = ops.MaxPool(x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    for stage, (width, blocks) in enumerate(STAGES):
        for place in range(blocks):
            x = block(x, width, 2 if stage and not place else 1)
    x = ops.Flatten(ops.GlobalAveragePool(x))
    return Graph({"images": images}, {"logits": ops.Gemm(x, drawn(2048, 1000), drawn(1000))})


def measured() -> dict[str, float]:
    """The seconds of the preset, and the most memory it took beside what was there before it."""
    graph = resnet50()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    preset("red++").run(graph)
    seconds = time.perf_counter() - start
    more = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {"seconds": seconds, "times": more / nbytes(graph)}


@pytest.mark.bench
def test_resnet50_takes_seconds_and_little_memory() -> None:
    """In a process of its own, whose memory nothing else has used."""
    call = [sys.executable, "-m", "tests.benchmarks.test_resnet50"]
    done = subprocess.run(
        call, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    print("\n", found)
    assert found["seconds"] <= SECONDS
    assert found["times"] <= TIMES


if __name__ == "__main__":
    print(json.dumps(measured()))
