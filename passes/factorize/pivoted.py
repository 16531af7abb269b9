"""A product of two matrices, of which some outputs are made first, and the others of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from redir import ops
from redir.ir import Value
from redir.ir.tensor import Array
from redir.layers.linear import CONVS
from redir.passes.factorize.factors import Factors, versioned
from redir.passes.factorize.forms import MULTIPLY_ADDS, Factoring

_MOST = 2.0  # that an output counts in another: by more, rounding grows
_SWAPS = 100  # of outputs, at most


@dataclass(frozen=True, eq=False)
class Pivots(Factors):
    """Outputs as many as the rank, by weights of their own, and the others as sums of these.

    They lie in another order then, which a Gather undoes.
    """

    def on(self, x: Value) -> Value:
        """Two layers, what both give side by side, and a Gather."""
        rank, (order, told) = len(self.first), pivots(self.second[:, 0])
        own, others = order[:rank], order[rank:]
        first = self._layer(x, self.second[:, 0, own].T @ self.first, self.bias[own], self.mine)
        if not others.size:
            return first
        rest = [not mine for mine in self.mine]
        bias = self.bias[others] - self.bias[own] @ told
        second = self._layer(first, told.T, bias, rest)
        node, axis = self.layer.node, self.layer.y_axis % (self.layer.y.rank or 1)
        both = versioned("Concat", node, 4)(first, second, axis=axis)
        if np.array_equal(order, np.arange(len(order))):
            return both
        back = self._once(ops.constant(np.argsort(order).astype(np.int32)))
        return versioned("Gather", node)(both, back, axis=axis)

    def _layer(self, x: Value, weights: Array, bias: Array, mine: Sequence[bool]) -> Value:
        if self.layer.node.op not in CONVS:
            return self._matrix(x, weights, bias)
        kernel = weights.reshape(*weights.shape, *self.layer.kernel)
        return self.layer.node.op(x, self._const(kernel), self._const(bias), **self._attrs(mine))


class Pivoted(Factoring):
    """The product of two of which as many rows as the rank are stored, and how to add them up.

    That is as many numbers less than ``low-rank`` as the square of the rank (PIFA, ICML 2025).
    """

    made = Pivots

    @property
    def name(self) -> str:
        """What the form is called."""
        return "pivoted"

    def cost(self, rank: int, price: str) -> int:
        """What the two layers cost at ``rank``: ``macs`` of one example, or ``parameters``."""
        outputs = self.layer.outputs
        numbers = rank * (self.layer.channels + outputs - rank)
        return self._places[1] * numbers if price == MULTIPLY_ADDS else numbers + outputs


def pivots(weights: Array) -> tuple[Array, Array]:
    """The columns of a matrix, first those that make the others, and how.

    ``weights`` (rank, outputs) have as many of these as rows. The second result (rank, others) is
    what each counts, hardly more than 2: a column that counts more is swapped in, which makes
    the volume larger (Gu and Eisenstat, 1996).
    """
    rank, outputs = weights.shape
    if rank == outputs:
        return np.arange(outputs), np.zeros((rank, 0))
    order: Array = linalg.qr(weights, mode="r", pivoting=True)[-1]
    for _ in range(_SWAPS):
        order = np.concatenate([np.sort(order[:rank]), np.sort(order[rank:])])
        told: Array = linalg.lstsq(weights[:, order[:rank]], weights[:, order[rank:]])[0]
        row, column = np.unravel_index(np.abs(told).argmax(), told.shape)
        if abs(told[row, column]) <= _MOST:
            break
        order[[row, rank + column]] = order[[rank + column, row]]
    return order, told
