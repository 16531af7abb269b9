"""Criteria that look at what flows: how often a channel is awake, and how much it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redir import ops
from redir.importance.evidence import AtLayer, Evidence, by_channel
from redir.importance.family import Family
from redir.ir.tensor import Array
from redir.layers.linear import CONVS, Linear
from redir.statistics.moments import channels, drawn_places, features, targets

_SAMPLES = 4096  # of a layer, in each batch


@dataclass(frozen=True)
class Awake:
    """The share of places where a channel that is read is not zero (APoZ: Hu et al., 2016)."""

    normalizer, observes = "none", True

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each layer that reads the channels."""
        return read_by(family, evidence, _awake)

    def __str__(self) -> str:
        return "apoz"


def _awake(layer: Linear, read: Sequence[Array], made: Sequence[Array]) -> Array:
    del made
    return by_channel(layer, read, lambda x: (x != 0).astype(np.float64))


@dataclass(frozen=True)
class MutualInformation:
    """How much a channel says of what the layers behind it make, in nats.

    The mean over their outputs of the mutual information of two Gaussian numbers that are as
    correlated: a plain form of what MINT estimates (Ganesh et al., ICPR 2020).
    """

    normalizer, observes = "none", True

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each layer that reads the channels."""
        return read_by(family, evidence, _information)

    def __str__(self) -> str:
        return "mint"


def _information(layer: Linear, read: Sequence[Array], made: Sequence[Array]) -> Array:
    rng = np.random.default_rng(0)
    if layer.node.op == ops.ConvTranspose or layer.node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return np.full(layer.channels, np.nan)
    places = [drawn_places(rng, layer, y, _SAMPLES) for y in made]
    held = channels if layer.node.op in CONVS else features
    x = np.concatenate([held(layer, a, p) for a, p in zip(read, places, strict=True)])
    y = np.concatenate([targets(layer, a, p) for a, p in zip(made, places, strict=True)])
    groups = zip(*(np.split(a, layer.groups, 1) for a in (_standard(x), _standard(y))), strict=True)
    shared = (np.square(a.T @ b / len(a)) for a, b in groups)
    return np.concatenate([-0.5 * np.log1p(-np.minimum(s, 1 - 1e-12)).mean(1) for s in shared])


def _standard(rows: Array) -> Array:
    rows = rows.astype(np.float64)
    rows = rows - rows.mean(0)
    spread = rows.std(0)
    found: Array = rows / np.where(spread > 0, spread, 1)
    return found


def read_by(family: Family, evidence: Evidence, of: AtLayer) -> Array:
    """What is asked of each layer that reads a family, of each of its channels."""
    known, rows = evidence.at_layers(of), list[Array]()
    for layer in (layer for weights in family.readers for layer in weights.layers):
        places = family.places(layer.x_port)
        rows.append(family.mean(places, known[layer.node]))
    return np.array(rows)


APOZ, MINT = Awake(), MutualInformation()
