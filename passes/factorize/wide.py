"""A convolution that reads too many numbers for moments of all: those of its channels do."""

from __future__ import annotations

from math import prod
from typing import ClassVar

import numpy as np

from redir.ir.tensor import Array
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.forms import AIMS, RIDGE, SAMPLES, Factoring, Flow, aimed
from redir.statistics.least_squares import System
from redir.statistics.moments import Moments, Places, channels, features

FEATURES = 10_000  # that an output reads: moments of more take gigabytes


class Wide(Factoring):
    """1 x 1 to fewer channels, then the kernel; of what is read, moments are those of channels.

    Taps are taken for alike when channels are chosen. The kernel is solved on what the first layer
    gives, of which there must not be more than ``FEATURES``.
    """

    flows: ClassVar[bool] = True

    @property
    def full(self) -> int:
        """The rank up to which what the first layer gives is not too much."""
        return min(super().full, FEATURES // prod(self.layer.kernel))

    @property
    def samples(self) -> int:
        """As of others: where that is fewer than unknowns, weights stay near the original."""
        return SAMPLES

    def read(self, x: Array, places: Places) -> Array:
        """One tap of each input: (samples, inputs)."""
        return channels(self.layer, x, places)

    def alone(self, read: Array, counts: Array | None = None) -> Moments:
        """The moments of channels."""
        return Moments.alone(read, counts, left_out=False)

    def told(self, moments: Moments) -> Moments:
        """Those of channels say nothing of targets."""
        return moments

    def seen(self, read: Array, targets: Array, counts: Array | None = None) -> Moments:
        """The moments of channels; those with targets say nothing."""
        return self.alone(read, counts).towards(targets, counts)

    def fitted(
        self, rank: int, new: Moments, old: Moments, flow: Flow | None = None, mix: float = 0.2
    ) -> Factors:
        """The factors of ``rank``; see ``Factoring.fitted``."""
        both = new.mixed(old, mix)
        return self._solved(self._unit(self._directions(both)[0][:rank], both), new, flow)

    def _first_moments(self, moments: Moments) -> Array:
        return moments.gram

    def _solved(self, first: Array, new: Moments, flow: Flow | None = None) -> Factors:
        found, target = self._told(first, new), new.target
        mean = np.repeat(first @ new.mean, self.order.shape[1])
        if flow is not None:
            between = self._flowing(first, flow)
            mean = between.mean(0, dtype=np.float64)
            between -= mean.astype(between.dtype)
            gram = (between.T @ between / len(between)).astype(np.float64)
            system, told = System(gram, RIDGE), found
            for _ in range(1 + AIMS):
                target, cross = aimed(flow, between, found, target)
                found = system.solved(cross, told)
        return self._second(first, found, target - mean @ found)

    def _flowing(self, first: Array, flow: Flow) -> Array:
        """What the second layer reads where the first is that: (samples, rank and taps)."""
        rows = first.astype(self.layer.array.dtype)
        made = (np.einsum("rc,nc...->nr...", rows, x, optimize=True) for x in flow.operands)
        pairs = zip(made, flow.places, strict=True)
        return np.concatenate([features(self.layer, x, where) for x, where in pairs])
