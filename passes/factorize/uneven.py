"""A convolution as basis kernels, more for some inputs than for others, and sums of them."""

from __future__ import annotations

from math import prod

import numpy as np

from redir.ir.tensor import Array
from redir.passes.factorize.factors import Depthwise
from redir.passes.factorize.forms import MULTIPLY_ADDS, Factoring
from redir.passes.factorize.rows import Blocks
from redir.statistics.least_squares import root
from redir.statistics.moments import Moments


class Uneven(Factoring):
    """Basis kernels of single inputs, as many of each as pay, then a pointwise convolution.

    This is uneven depthwise separation (Yvinec et al., RED, NeurIPS 2021). The rank is the number
    of kernels.
    """

    made = Depthwise
    picks = True

    @property
    def name(self) -> str:
        """What the form is called."""
        return "uneven-depthwise"

    @property
    def full(self) -> int:
        """The number of kernels that can do all that the layer does."""
        return self.layer.channels * min(prod(self.layer.kernel), self.layer.outputs)

    def cost(self, rank: int, price: str) -> int:
        """What the two layers cost at ``rank``: ``macs`` of one example, or ``parameters``."""
        places = self._places[1] if price == MULTIPLY_ADDS else 1
        return int(places * rank * (prod(self.layer.kernel) + self.layer.outputs))

    def _values(self, moments: Moments) -> Array:
        """How much each direction matters."""
        return self._directions(moments)[1]

    def _directions(self, moments: Moments) -> tuple[Array, Array]:
        """The kernels of each input in the metric of what it reads, first what matters most."""
        channels, taps = self.layer.channels, prod(self.layer.kernel)
        each = np.arange(channels)
        blocks = moments.gram.reshape(channels, taps, channels, taps)[each, :, each]
        weights = self.weights.reshape(channels, taps, -1)
        rows, values = [], []
        for channel in range(channels):
            whole, inverse = root(blocks[channel])
            left, found, _ = np.linalg.svd(whole @ weights[channel], full_matrices=False)
            placed = np.zeros((len(found), channels, taps))
            placed[:, channel] = left.T @ inverse
            rows.append(placed.reshape(len(found), -1))
            values.append(found)
        flat = np.concatenate(values)
        order = np.argsort(-flat, kind="stable")
        return np.concatenate(rows)[order], flat[order]

    def _free(self, first: Array) -> Blocks:
        """A row stays with its input."""
        taps = prod(self.layer.kernel)
        held = np.abs(first.reshape(len(first), -1, taps)).sum(2) > 0
        found = enumerate(map(np.flatnonzero, held.T))
        return [(rows, slice(c * taps, (c + 1) * taps)) for c, rows in found if len(rows)]
