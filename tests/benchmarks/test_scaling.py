"""What coupling and merge cost on chains of more and more nodes: as much more as there are."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from redir import ops
from redir.app import tables
from redir.channels.coupling import Coupling
from redir.check.guarantees import operations
from redir.ir import Graph
from redir.ir.tensor import Tensor
from redir.passes.merge import Merge
from tests.helpers import placeholder

NODES = (1_000, 5_000, 20_000)
CHANNELS = 16
SLOWER = 1.5  # per node, on the longest chain as on the shortest


def chain(nodes: int) -> Graph:
    """Residual blocks of three nodes one behind the other, each with a pair of equal channels."""
    rng = np.random.default_rng(0)
    x = y = placeholder(1, CHANNELS, 4, 4)
    for _ in range(nodes // 4):
        first = rng.standard_normal((CHANNELS, CHANNELS, 1, 1), np.float32)
        first[1] = first[0]
        second = rng.standard_normal((CHANNELS, CHANNELS, 1, 1), np.float32)
        hidden = ops.Relu(ops.Conv(y, ops.Const(value=Tensor(first))))
        y = ops.Add(y, ops.Conv(hidden, ops.Const(value=Tensor(second))))
    return Graph({"x": x}, {"y": y})


def spent(graph: Graph) -> tuple[float, float]:
    """The seconds that the coupling takes, and those that merge takes."""
    start = time.perf_counter()
    coupling = Coupling(graph)
    assert coupling.pinned
    middle = time.perf_counter()
    assert Merge()(graph) is not graph
    return middle - start, time.perf_counter() - middle


@pytest.mark.bench
def test_cost_grows_with_the_number_of_nodes(tmp_path: Path) -> None:
    graphs = [chain(n) for n in NODES]
    spent(graphs[0])  # imports and caches
    best = [min(spent(graph) for _ in range(3)) for graph in graphs]
    counts = [operations(graph) for graph in graphs]
    rows = [
        (n, f"{c:.2f}", f"{m:.2f}", f"{1e3 * (c + m) / n:.3f}")
        for n, (c, m) in zip(counts, best, strict=True)
    ]
    print()
    tables.write_table(("nodes", "coupling, s", "merge, s", "ms per node"), rows)
    plot = draw(counts, best, tmp_path / "scaling.png")
    print(f"plot: {plot}")
    each = [sum(seconds) / n for n, seconds in zip(counts, best, strict=True)]
    assert each[-1] <= SLOWER * each[0]


def draw(counts: list[int], best: list[tuple[float, float]], path: Path) -> Path:
    """Seconds over nodes, beside the line of equal cost for each node."""
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the plot needs the extra plot")
    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for seconds, label in zip(zip(*best, strict=True), ("coupling", "merge"), strict=True):
        axes.loglog(counts, seconds, marker="o", label=label)
        axes.loglog(counts, [seconds[0] * n / counts[0] for n in counts], "--", color="0.7")
    axes.set(xlabel="nodes", ylabel="seconds")
    axes.legend()
    figure.savefig(path)
    return path
