"""How much faster encoders of images with drawn weights are once tokens have been merged.

``python -m tests.benchmarks.merging`` prints the table of docs/passes/tokens.md. Each model runs on
one thread of onnxruntime, in turn with the original; the ratio is that of the minima or the median
of the ratios, whichever is less.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import ceil, floor

import numpy as np

from redir import ops
from redir.cost import macs
from redir.ir import Graph, Value
from redir.ir.tensor import Array
from redir.passes import MergeTokens
from redir.runtime.onnxruntime import session
from tests.helpers import const, ints, placeholder

PATCH, BLOCKS, END = 16, 12, 2**31 - 1
CASES = (  # channels, heads, sides of images, tokens merged by block, runs
    (768, 12, 224, (8, 16), 15),
    (384, 6, 384, (16, 32), 12),
    (384, 6, 224, (8, 13, 16), 30),
    (192, 3, 224, (8, 16), 40),
    (96, 3, 224, (8, 16), 60),
    (48, 3, 224, (8, 16), 80),
)


@dataclass
class Vit:
    """A ViT of drawn weights, which gives out its class token behind the last norm."""

    channels: int
    heads: int
    side: int
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def tokens(self) -> int:
        return (self.side // PATCH) ** 2 + 1

    def numbers(self, *shape: int, scale: float = 0.02) -> Value:
        return const(self.rng.standard_normal(shape, np.float32) * scale)

    def linear(self, x: Value, inputs: int, outputs: int) -> Value:
        held = self.numbers(inputs, outputs, scale=inputs**-0.5)
        return ops.Add(ops.MatMul(x, held), self.numbers(outputs))

    def norm(self, x: Value) -> Value:
        scale = const(1 + 0.1 * self.rng.standard_normal(self.channels))
        return ops.LayerNormalization(x, scale, self.numbers(self.channels), epsilon=1e-6)

    def attention(self, x: Value) -> Value:
        width, each = self.channels, self.channels // self.heads
        turned = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        q, k, v = (
            ops.Transpose(
                ops.Reshape(self.linear(x, width, width), ints(0, -1, self.heads, each)), perm=perm
            )
            for perm in turned
        )
        scores = ops.Mul(ops.MatMul(q, k), const(each**-0.5))
        taken = ops.Transpose(ops.MatMul(ops.Softmax(scores, axis=-1), v), perm=(0, 2, 1, 3))
        return self.linear(ops.Reshape(taken, ints(0, -1, width)), width, width)

    def graph(self) -> Graph:
        image, width = placeholder(1, 3, self.side, self.side), self.channels
        patches = ops.Conv(
            image, self.numbers(width, 3, PATCH, PATCH, scale=1 / 28), strides=(PATCH, PATCH)
        )
        parts = ops.Transpose(ops.Reshape(patches, ints(0, width, -1)), perm=(0, 2, 1))
        x = ops.Concat(self.numbers(1, 1, width), parts, axis=1)
        x = ops.Add(x, self.numbers(1, self.tokens, width, scale=0.5))
        for _ in range(BLOCKS):
            x = ops.Add(x, self.attention(self.norm(x)))
            hidden = ops.Gelu(self.linear(self.norm(x), width, 4 * width))
            x = ops.Add(x, self.linear(hidden, 4 * width, width))
        y = ops.Gather(self.norm(x), const(0, np.int64), axis=1)
        return Graph({"x": image}, {"y": y}, opset={"": 20})


def seconds(model: Graph, feeds: dict[str, Array], others: Graph, pairs: int) -> Array:
    """The time of the processor of each run of two models in turn: (runs, 2)."""
    runs, times = [session(each) for each in (model, others)], np.zeros((pairs + 1, 2))
    for row in times:
        for i, run in enumerate(runs):
            start = time.thread_time()
            run(feeds)
            row[i] = time.thread_time() - start
    return times[1:]


def cosine(a: Array, b: Array) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


def faster(times: Array) -> float:
    """The ratio of the minima, or the median of the ratios, whichever is less."""
    least = times.min(0)
    return float(min(least[0] / least[1], np.median(times[:, 0] / times[:, 1])))


def row(vit: Vit, before: Graph, number: int, pairs: int) -> str:
    """A line of the table, with nothing rounded in favour of what is measured."""
    after = MergeTokens(per_block=number)(before)
    shape, rng = (1, 3, vit.side, vit.side), np.random.default_rng(3)
    images = [rng.standard_normal(shape, np.float32) for _ in range(3)]
    found = [[session(g)({"x": x})["y"] for g in (before, after)] for x in images]
    share = ceil(1000 * macs(after) / macs(before)) / 1000
    times = floor(100 * faster(seconds(before, {"x": images[0]}, after, pairs))) / 100
    alike = floor(1000 * min(cosine(*pair) for pair in found)) / 1000
    return f"| {vit.channels} | {vit.tokens} | {number} | {share:.3f} | {times:.2f} | {alike:.3f} |"


def main() -> None:
    print("| channels | tokens | `per_block` | multiply-adds | times as fast | cosine |")
    for channels, heads, side, merged, pairs in CASES:
        vit = Vit(channels, heads, side)
        before = vit.graph()
        for number in merged:
            print(row(vit, before, number, pairs), flush=True)


if __name__ == "__main__":
    main()
