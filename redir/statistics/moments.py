"""Second moments of what a linear layer reads, and of that with what it should make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redir.ir.tensor import Array
from redir.layers.linear import CONVS, Linear

_ALL = 1 - 1e-6  # of correlations, so that they can be told from what is left of them


@dataclass(frozen=True, eq=False)
class Moments:
    """Means of products about the mean, of features (the taps that an output reads) and targets.

    ``gram`` (features, features), ``cross`` (features, outputs); ``mean`` (features,) and
    ``target`` (outputs,) are what was taken off; ``energy`` is that of the targets. A feature is
    a tap of an input: inputs first, then the kernel in order. ``chance`` is the share of the
    correlations that was left out: see ``of``. Of moments of features ``alone`` there is no
    ``cross``, until it is ``told``.
    """

    gram: Array
    cross: Array
    mean: Array
    target: Array
    energy: float
    chance: float = 0.0

    @classmethod
    def of(
        cls,
        features: Array,
        targets: Array,
        weights: Array | None = None,
        counts: Array | None = None,
    ) -> Moments:
        """The moments of rows of features and of targets, each of which counts as ``counts`` says.

        Where few rows are many features, correlations are chance: with the ``weights`` of the
        layer, so much of them is left out as is (Schafer and Strimmer, 2005).
        """
        (mean, a), (target, y) = (_centred(rows, counts) for rows in (features, targets))
        count = max(len(a), 1)
        gram, cross = ((a.T @ b / count).astype(np.float64) for b in (a, y))
        energy = float(np.square(y, dtype=np.float64).sum()) / count
        if weights is None:
            return cls(gram, cross, mean, target, energy)
        chance = _chance(a, gram)
        less = chance * (np.diag(np.diag(gram)) - gram)
        unseen = less @ weights
        energy += float(np.sum(weights * unseen))
        return cls(gram + less, cross + unseen, mean, target, energy, chance)

    @classmethod
    def alone(
        cls, features: Array, counts: Array | None = None, *, left_out: bool = True
    ) -> Moments:
        """The moments of rows of features, each of which counts as ``counts`` says.

        Of correlations that are chance, as much may be ``left_out`` as by ``of``.
        """
        mean, a = _centred(features, counts)
        gram = (a.T @ a / max(len(a), 1)).astype(np.float64)
        chance = _chance(a, gram) if left_out else 0.0
        less = chance * (np.diag(np.diag(gram)) - gram)
        return cls(gram + less, np.zeros((len(mean), 0)), mean, np.zeros(0), 0.0, chance)

    def towards(self, targets: Array, counts: Array | None = None) -> Moments:
        """These moments, with the mean of rows of targets."""
        return replace(self, target=_mean(targets, counts))

    def told(self, weights: Array) -> Moments:
        """These moments where targets are what ``weights`` (features, outputs) make of features."""
        cross = self.gram @ weights
        return replace(self, cross=cross, energy=float(np.sum(weights * cross)))

    def unseen(self, weights: Array) -> Array:
        """What ``cross`` holds beyond what was seen, by the ``weights`` of the layer."""
        apart = np.diag(np.diag(self.gram)) - self.gram
        found: Array = self.chance / (1 - self.chance) * (apart @ weights)
        return found

    def mixed(self, other: Moments, share: float) -> Moments:
        """These moments with a ``share`` of ``other``; the means stay these."""
        parts = ((getattr(self, n), getattr(other, n)) for n in ("gram", "cross", "energy"))
        gram, cross, energy = ((1 - share) * a + share * b for a, b in parts)
        return replace(self, gram=gram, cross=cross, energy=energy)

    def error(self, weights: Array) -> float:
        """The share of the targets' energy that ``weights`` (features, outputs) miss."""
        missed = self.energy - 2 * np.sum(weights * self.cross)
        missed += np.sum((self.gram @ weights) * weights)
        return max(float(missed), 0.0) / (self.energy or 1.0)


def together(parts: Sequence[Moments], counts: Array) -> Moments:
    """The moments of all rows of several ``alone``, each of as many rows as ``counts`` says."""
    shares = counts / counts.sum()
    mean, target, chance = (
        sum(share * getattr(part, name) for share, part in zip(shares, parts, strict=True))
        for name in ("mean", "target", "chance")
    )
    gram = np.zeros_like(parts[0].gram)
    for share, part in zip(shares, parts, strict=True):
        gram += share * (part.gram + np.outer(part.mean - mean, part.mean - mean))
    return replace(parts[0], gram=gram, mean=mean, target=target, chance=chance)


def _centred(rows: Array, counts: Array | None) -> tuple[Array, Array]:
    """The mean of rows, and these about it, each times the root of what it counts."""
    mean = _mean(rows, counts)
    found = rows - mean.astype(rows.dtype)
    if counts is not None and len(rows):
        found *= np.sqrt(counts / counts.mean()).astype(rows.dtype)[:, None]
    return mean, found


def _mean(rows: Array, counts: Array | None) -> Array:
    """The mean of rows, each of which counts as ``counts`` says: 0 where there are none."""
    if counts is None or not len(rows):
        found: Array = rows.sum(0, dtype=np.float64) / max(len(rows), 1)
        return found
    shares: Array = counts / counts.sum()
    return shares @ rows.astype(np.float64)


def _chance(rows: Array, gram: Array) -> float:
    """The share of the correlations of features that as few rows as these give by chance."""
    if not len(rows):
        return 0.0
    squares = np.square(rows, dtype=np.float64)
    pairs = np.square(squares.sum(1)).mean() - np.square(squares).sum(1).mean()
    seen = np.square(gram).sum() - np.square(np.diag(gram)).sum()
    chance = (pairs - seen) / max(len(rows) - 1, 1)
    return float(np.clip(chance / seen, 0, _ALL)) if seen > 0 else 0.0


Places = tuple[Array, ...]
"""Where samples are taken: for each axis of a result but its channels, an index for each sample."""


def drawn_places(rng: np.random.Generator, layer: Linear, y: Array, count: int) -> Places:
    """Places of a result, all or ``count`` of them at random."""
    sizes = np.delete(y.shape, layer.y_axis % y.ndim)
    total = int(np.prod(sizes))
    chosen = rng.choice(total, min(total, count), replace=False)
    return np.unravel_index(np.sort(chosen), sizes)


def targets(layer: Linear, y: Array, places: Places) -> Array:
    """The numbers at some places of a layer's result: (samples, outputs)."""
    found: Array = np.moveaxis(y, layer.y_axis, -1)[places]
    return found


def features(layer: Linear, x: Array, places: Places) -> Array:
    """What a layer of one group reads at some places of its result: (samples, inputs * taps)."""
    if layer.node.op not in CONVS:
        found: Array = np.moveaxis(x, layer.x_axis, -1)[places]
        return found
    strides, dilations, _ = window(layer)
    taps = list(_taps(_padded(layer, x), places, layer.kernel, strides, dilations))
    return np.stack(taps, 2).reshape(len(places[0]), -1)


def channels(layer: Linear, x: Array, places: Places) -> Array:
    """Of what a convolution reads at some places, each input at one tap: (samples, inputs).

    Taps take turns.
    """
    strides, dilations, _ = window(layer)
    taps = np.array(list(np.ndindex(*layer.kernel)))
    turn = taps[np.arange(len(places[0])) % len(taps)].T
    steps = zip(places[1:], strides, turn, dilations, strict=True)
    found: Array = _padded(layer, x)[
        (places[0], slice(None), *(p * s + t * d for p, s, t, d in steps))
    ]
    return found


def _padded(layer: Linear, x: Array) -> Array:
    rank, (_, _, pads) = x.ndim - 2, window(layer)
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])


def window(layer: Linear) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """The strides, dilations and pads of a Conv that states them, or has none."""
    attrs, ones = layer.node.attrs, (1,) * len(layer.kernel)
    return (
        attrs.get("strides", ones),
        attrs.get("dilations", ones),
        attrs.get("pads", (0,) * 2 * len(ones)),
    )


def _taps(
    padded: Array,
    places: Places,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Iterator[Array]:
    for tap in np.ndindex(*kernel):
        steps = zip(places[1:], strides, tap, dilations, strict=True)
        yield padded[(places[0], slice(None), *(p * s + t * d for p, s, t, d in steps))]
