"""Cost models: what a rewrite has to pay in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from redir.cost.counts import macs, nbytes, products
from redir.cost.latency_cache import Timings
from redir.errors import Unsupported
from redir.io.plugins import plugin
from redir.ir import Graph
from redir.runtime.inputs import runnable
from redir.runtime.onnxruntime import pair_ratio, session

__all__ = [
    "BYTES",
    "LATENCY",
    "MACS",
    "MULTIPLICATIONS",
    "CostModel",
    "Count",
    "Latency",
    "cost_model",
]


@runtime_checkable
class CostModel(Protocol):
    """What people may write for themselves: how a rewritten model compares with what it was.

    Hand one to a pass as its ``cost``, or register an instance in the entry-point group
    ``redir.costs`` and give its name.
    """

    @property
    def by_parts(self) -> bool:
        """Whether the cost of a model is the sum of the costs of its layers.

        If so, each layer is judged alone; if not, every choice is tried in the whole model.
        """

    @property
    def zeros_free(self) -> bool:
        """Whether a product with a stored zero costs nothing, so that a sparse form may pay."""

    @property
    def measured(self) -> bool:
        """Whether models are run for it: then forms of more multiply-adds are not tried.

        Parts of a model are then compared with the whole, too, which read other inputs.
        """

    def ratio(self, before: Graph, after: Graph) -> float:
        """The cost of ``after`` as a multiple of that of ``before``: below 1 it pays."""


@dataclass(frozen=True)
class Count:
    """A cost that is counted: ``of(graph)``, for one example."""

    name: str
    of: Callable[[Graph], int] = field(repr=False)
    by_parts: bool = True
    zeros_free: bool = False
    measured: bool = False

    def ratio(self, before: Graph, after: Graph) -> float:
        """The one count over the other."""
        old, new = self.of(before), self.of(after)
        if old == new:
            return 1.0
        return new / old if old else np.inf

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Latency:
    """The time of onnxruntime on this machine, for one example: measured once, then remembered.

    ``threads``: how many it may use. ``margin``: how much faster than before a model must be to
    be taken for faster. The two models run in turn for some ``seconds``, ``pairs`` of runs at
    least, and the median of the ratios counts. Without onnxruntime, or where it cannot run a
    model, nothing is faster.
    """

    threads: int = 1
    margin: float = 0.02
    seconds: float = 1.0
    pairs: int = 15
    by_parts: bool = False
    zeros_free: bool = False
    measured: bool = True

    def ratio(self, before: Graph, after: Graph) -> float:
        """The median ratio of the times of pairs of runs, more by the margin."""
        timings = Timings.of_this_machine()
        key = timings.key(before, after, self.threads, self.seconds, self.pairs)
        known = timings.read(key)
        if known is None:
            known = self._measured(before, after)
            timings.write(key, known)
        return known * (1 + self.margin)

    def _measured(self, before: Graph, after: Graph) -> float:
        try:
            old, new = (session(graph, self.threads, exact=False) for graph in (before, after))
            feeds = next(runnable(before, old, 1))
            part = before.inputs.keys() != after.inputs.keys()
            others = next(runnable(after, new, 1)) if part else None
            return pair_ratio(old, new, feeds, others, seconds=self.seconds, least=self.pairs)
        except Unsupported:
            return 1.0

    def __str__(self) -> str:
        return "latency"


MACS = Count("macs", macs)
MULTIPLICATIONS = Count("multiplications", products, zeros_free=True)
BYTES = Count("bytes", nbytes)
LATENCY = Latency()
BRIEF = Latency(seconds=0.25, pairs=1)
"""For many short chains, of which none has to be known well."""


def cost_model(cost: str | CostModel) -> CostModel:
    """The cost model of that name, installed by redir or by another package.

    Raises:
        BadPipeline: there is none.
    """
    if not isinstance(cost, str):
        return cost
    found: CostModel = plugin("redir.costs", cost, "cost model")
    return found
