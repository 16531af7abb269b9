"""Criteria that look at how channels are scaled and read on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from redir.importance.evidence import Evidence
from redir.importance.family import Family, Weights
from redir.ir import Node, Value
from redir.ir.tensor import Array
from redir.statistics.norms import is_norm


@dataclass(frozen=True)
class NormScale:
    """The magnitude of the scales of a channel's norms (Network Slimming, Liu et al., 2017)."""

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each norm."""
        del evidence
        return np.array([family.total(n.places, np.abs(n.scale)) for n in family.norms])

    def __str__(self) -> str:
        return "bn_scale"


@dataclass(frozen=True)
class Rectified:
    """The mean square behind a norm and a ReLU, of what is Gaussian before: no data is needed."""

    normalizer = "none"

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each norm."""
        del evidence
        return np.array([family.total(n.places, rectified(n.shift, n.scale)) for n in family.norms])

    def __str__(self) -> str:
        return "rectified"


def rectified(mean: Array, deviation: Array) -> Array:
    """The mean of max(x, 0)^2 for Gaussian numbers x."""
    spread = np.maximum(np.abs(deviation), 1e-30)
    at = mean / spread
    found: Array = (mean**2 + spread**2) * norm.cdf(at) + mean * spread * norm.pdf(at)
    return np.maximum(found, 0)


@dataclass(frozen=True)
class Energy:
    """The mean square of a channel where it is read, times the squares of what reads it.

    So much is lost of the results without it, if channels are independent.
    """

    observes = True

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each layer that reads the channels."""
        found = []
        for layer in (layer for weights in family.readers for layer in weights.layers):
            places = family.places(layer.x_port)
            read = np.square(layer.kernels, dtype=np.float64).sum((1, 2))
            found.append(family.total(places, evidence.energies[layer.node] * read))
        return np.array(found)

    def __str__(self) -> str:
        return "energy"


@dataclass(frozen=True)
class DependencyAware:
    """The scale of a channel's norm, times how strongly the layers behind it read the channel.

    |scale| x the mean magnitude of the weights that read the channel, over all layers that it
    reaches before the next norm, through sums, activations and joins (Zhao et al., 2020). Where no
    norm is between two layers, the Euclidean norm of the weights that make a channel is its scale.
    """

    normalizer = "max"

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each norm, and for each layer that none is behind."""
        del evidence
        found = []
        for value, scale in _scales(family):
            readers = list(_readers(family, value))
            if readers:
                found.append(scale * _strength(family, readers))
        return np.array(found)

    def __str__(self) -> str:
        return "dafp"


def _scales(family: Family) -> Iterator[tuple[Value, Array]]:
    """What each norm, or else each layer, gives, and the scale of each channel there."""
    for each in family.norms:
        yield each.node.outputs[0], family.mean(each.places, np.abs(each.scale))
    for weights in family.makers:
        scale = family.mean(weights.places, np.sqrt(np.square(weights.rows).sum(1)))
        yield from ((layer.node.outputs[0], scale) for layer in weights.layers)


def _readers(family: Family, value: Value) -> Iterator[Weights]:
    """The weights of the layers that read a value, or what becomes of it before a layer or norm."""
    of = {layer.node: w for w in (*family.makers, *family.readers) for layer in w.layers}
    on = {port[0] for port in family.ports}
    seen, todo = set[Node](), [value]
    while todo:
        for node in family.coupling.graph.readers.get(todo.pop(), ()):
            if node in seen or is_norm(node):
                continue
            seen.add(node)
            if node in of:
                yield of[node]
            else:
                todo += [v for v in node.outputs if v in on]


def _strength(family: Family, readers: Sequence[Weights]) -> Array:
    """The mean magnitude of all weights that read each channel; NaN where none does."""
    sums = [family.total(w.places, np.abs(w.rows).sum(1)) for w in readers]
    counts = [family.total(w.places, np.full(len(w.rows), w.rows.shape[1])) for w in readers]
    total = np.nansum(counts, 0)
    found: Array = np.where(total > 0, np.nansum(sums, 0) / np.maximum(total, 1), np.nan)
    return found


BN_SCALE, RECTIFIED, ENERGY, DAFP = NormScale(), Rectified(), Energy(), DependencyAware()
