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

from tests.benchmarks.open_networks import NETWORKS
from tests.real.open_maps import apart, exported, share

EXPORTERS = ("torchscript", "dynamo")


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


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("network | exporter | fixed | open | apart", "--- | --- | ---: | ---: | ---:", sep="\n")
    for row in measured(sys.argv[1:] or list(NETWORKS)):
        print(row, flush=True)
