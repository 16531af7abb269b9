"""How far the words that a language model tells go by errors of its layers, to second order."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from redir.errors import MissingExtra, Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.passes.factorize.behind import Behind
from redir.progress import progress
from redir.statistics.walk import Batches

_ROWS = 1024  # of logits that are looked at together
_LITTLE = 0.1  # of the way from the logits of one word to those of the next


@dataclass(eq=False)
class Site:
    """A ``layer``, and what its results are ``behind``; ``gram`` (outputs, outputs) is of slopes.

    A norm divides samples by their spread: then the slopes of each are times that, as errors in
    moments are over it. ``counted`` is the sum of what ``samples`` count.
    """

    layer: Linear
    behind: Behind
    gram: Array = field(init=False)
    counted: float = 0.0
    samples: int = 0

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.gram = np.zeros((self.layer.outputs,) * 2, np.float32)

    @property
    def values(self) -> tuple[Value, ...]:
        """The results, and what the norm reads."""
        return (self.layer.y, self.behind.end) if self.behind.normed else (self.layer.y,)

    def add(self, found: Mapping[Value, tuple[Array, Array]]) -> None:
        """Add what was found for some inputs: of each value what it is, and slopes."""
        rows = self._rows(found[self.layer.y][1])
        if self.behind.normed:
            counts = self.behind.counts(self._rows(found[self.behind.end][0]))
            assert counts is not None
            self.counted, self.samples = self.counted + counts.sum(), self.samples + len(counts)
            rows = rows / np.sqrt(counts).astype(rows.dtype)[:, None]
        self.gram += rows.T @ rows

    @property
    def total(self) -> Array:
        """The sum over all samples, as these count in moments: 1 in the mean."""
        return self.gram * np.float32(self.counted / self.samples) if self.samples else self.gram

    def _rows(self, array: Array) -> Array:
        return np.moveaxis(array, self.layer.y_axis, -1).reshape(-1, self.layer.outputs)


def curvatures(
    graph: Graph,
    logits: str,
    batches: Batches,
    layers: Mapping[Node, tuple[Linear, Behind]],
    seed: int,
) -> Mapping[Node, Array]:
    """How far the words that ``logits`` of a graph tell go by an error of each layer.

    An error e of a layer moves them by the mean of e' C e over its samples, in nats for each word,
    where C (outputs, outputs) is what is found: half of the Fisher matrix, as if samples erred
    independently (Martens and Grosse, K-FAC, ICML 2015). Words are drawn by ``seed`` from what the
    model tells. None is found where torch is not installed, or cannot do all that the graph does.
    """
    sites = {node: Site(*each) for node, each in layers.items()}
    try:
        words = _added_up(graph, logits, batches, list(sites.values()), seed)
    except (MissingExtra, Unsupported):
        return {}
    return {node: site.total / np.float32(2 * max(words, 1)) for node, site in sites.items()}


def _added_up(graph: Graph, logits: str, batches: Batches, sites: Sequence[Site], seed: int) -> int:
    """Add what is found for all batches to some sites, and say how many words were told."""
    values = list(dict.fromkeys(value for site in sites for value in site.values))
    module = importlib.import_module("redir.statistics.slopes")  # which imports torch: seconds
    slopes, rng, words = module.Slopes(graph, logits, values), np.random.default_rng(seed), 0
    for batch in progress(batches, "curvature"):
        count, found = slopes.of(batch, rng)
        words += count
        for site in sites:
            site.add(found)
    return words


def share_of_nat(logits: Array) -> float:
    """How far logits (..., words) go, as a share of their variance, where words go by a nat.

    That is so for little steps, each towards the logits at the next place.
    """
    rows = logits.reshape(-1, logits.shape[-1])[:_ROWS].astype(np.float64)
    step = _LITTLE * (np.roll(rows, -1, 0) - rows)
    before, after = (special.log_softmax(each, -1) for each in (rows, rows + step))
    nats = float(np.sum(np.exp(before) * (before - after), -1).mean())
    return float(np.square(step).mean() / (rows.var() or 1.0)) / nats if nats > 0 else 0.0
