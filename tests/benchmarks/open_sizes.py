"""How much of a network goes where its sizes are open, and where they are fixed.

Each network is exported both ways by each of torch's exporters, and half of the channels are
pruned that may go. ``python -m tests.benchmarks.open_sizes [NAME ...]`` prints what share of the
parameters is kept, and how far the pruned one of open sizes is from the one with zeros, in
onnxruntime at three sizes.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import redir
from redir.check.guarantees import stored
from redir.ir import Graph
from redir.passes import FoldConstants, Prune
from redir.runtime.onnxruntime import runner
from tests.benchmarks.architectures import randomise
from tests.benchmarks.open_networks import NETWORKS, Network

EXPORTERS = ("torchscript", "dynamo")
SIZES = ((1, 64), (3, 80), (2, 96))


@dataclass(frozen=True)
class Row:
    """The shares of the parameters that are kept, and how far the outputs move."""

    network: str
    exporter: str
    fixed: float
    open: float
    apart: float

    def __str__(self) -> str:
        kept = f"{self.fixed:.3f} | {self.open:.3f} | {self.apart:.1e}"
        return f"{self.network} | {self.exporter} | {kept}"


def measured(names: list[str]) -> Iterator[Row]:
    """A row for each network and exporter; none where that exporter refuses the network."""
    for name, exporter in product(names, EXPORTERS):
        fixed, opened = (exported(NETWORKS[name], exporter, opened=o) for o in (False, True))
        if fixed is not None and opened is not None:
            yield Row(name, exporter, share(fixed), share(opened), apart(NETWORKS[name], opened))


def exported(network: Network, exporter: str, *, opened: bool) -> Graph | None:
    """The network as an exporter writes it, with its axes open or fixed."""
    torch.manual_seed(0)
    module, inputs = network.make().eval(), network.inputs(2, 64)
    randomise(module)
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


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("network | exporter | fixed | open | apart", "--- | --- | ---: | ---: | ---:", sep="\n")
    for row in measured(sys.argv[1:] or list(NETWORKS)):
        print(row, flush=True)
