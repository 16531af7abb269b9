"""In which order channels go, each the one without which the error grows least."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import linalg

from redir.ir.tensor import Array

_STEPS = 512  # in which channels are taken out: one at a time, or a few where there are more
_SMALL = 1e-6  # of the mean energy of a channel, given to each: there may be too few samples
_PENDING = 64  # channels that are gone before matrices are made anew


def eliminated(gram: Array, weights: Array, units: Array, stay: int = 0) -> tuple[Array, Array]:
    """The order in which units of channels go, and by how much each adds to the error.

    ``gram`` (channels, channels) is of what is read, ``weights`` are (channels, outputs), and
    ``units`` (units, channels of each) go as a whole, until so many ``stay``: these come last. With
    the inverse of the gram, what a channel adds is w^2 / inverse, and both follow in a step
    (Hassibi and Stork, Optimal Brain Surgeon, 1992).
    """
    energy = float(np.trace(gram)) / len(gram) or 1.0
    inverse = linalg.inv(gram + _SMALL * energy * np.eye(len(gram)))
    count, each = units.shape
    places = units.reshape(-1)
    inverse, weights = inverse[np.ix_(places, places)], weights[places]
    if each > 1:
        return _together(inverse, weights, each, stay)
    left, few = np.arange(count), max(1, count // _STEPS)
    order, errors = list[int](), list[float]()
    while left.size > stay:
        part = _Part(inverse, weights)
        for _ in range(-(-min(_PENDING, left.size - stay) // few)):
            gone, error = part.step(few)
            order += left[gone].tolist()
            errors += [max(error, 0.0) / gone.size] * gone.size
        inverse, weights, left = *part.kept(), left[part.stays]
    return np.array([*order, *left]), np.array([*errors, *np.zeros(left.size)])


@dataclass(eq=False)
class _Part:
    """Channels of which some go, while matrices stay as they are: what changes is ``pending``.

    The inverse is ``inverse`` - ``right`` ``across``', the weights are ``weights`` - ``across``
    ``told``; of both only what a step needs is made: diagonals, and the rows that go.
    """

    inverse: Array
    weights: Array
    stays: Array = field(init=False)

    def __post_init__(self) -> None:
        count, outputs = self.weights.shape
        self.stays = np.ones(count, bool)
        self._across, self._right = np.zeros((count, 0)), np.zeros((count, 0))
        self._told = np.zeros((0, outputs))
        self._diagonal = self.inverse.diagonal().copy()
        self._squares = np.einsum("io,io->i", self.weights, self.weights)

    def step(self, few: int) -> tuple[Array, float]:
        """The next channels that go, at most so ``few``, and what they add to the error."""
        counts = np.full(len(self.stays), np.inf)
        counts[self.stays] = self._squares[self.stays] / self._diagonal[self.stays]
        gone = np.argsort(counts, kind="stable")[: min(few, int(self.stays.sum()))]
        across = self.inverse[gone].T - self._right @ self._across[gone].T
        going = self.weights[gone] - self._across[gone] @ self._told
        factor = linalg.inv(across[gone])
        told = factor @ going
        both = self.weights @ told.T - self._across @ (self._told @ told.T)
        self._squares += np.einsum("ig,ig->i", across @ (told @ told.T) - 2 * both, across)
        right = across @ factor
        self._diagonal -= np.einsum("ig,ig->i", right, across)
        self._across, self._right = (
            np.hstack([self._across, across]),
            np.hstack([self._right, right]),
        )
        self._told = np.vstack([self._told, told])
        self.stays[gone] = False
        return gone, float(np.sum(going * told))

    def kept(self) -> tuple[Array, Array]:
        """The inverse and the weights of the channels that stay."""
        kept = self.stays
        inverse = self.inverse[np.ix_(kept, kept)] - self._right[kept] @ self._across[kept].T
        return inverse, self.weights[kept] - self._across[kept] @ self._told


def _together(inverse: Array, weights: Array, each: int, stay: int) -> tuple[Array, Array]:
    """The order in which units go of so many channels, which are neighbours, and what each adds."""
    left, order, errors = np.arange(len(weights) // each), list[int](), list[float]()
    while left.size > stay:
        shape = (left.size, each)
        own = inverse.reshape(*shape, *shape)[np.arange(left.size), :, np.arange(left.size)]
        factors = np.linalg.solve(own, weights.reshape(*shape, -1))
        counts = (weights.reshape(*shape, -1) * factors).sum((1, 2))
        gone = int(np.argmin(counts))
        order.append(int(left[gone]))
        errors.append(max(float(counts[gone]), 0.0))
        going = np.arange(gone * each, (gone + 1) * each)
        kept = np.delete(np.arange(len(weights)), going)
        across = inverse[np.ix_(kept, going)]
        weights = weights[kept] - across @ factors[gone]
        inverse = inverse[np.ix_(kept, kept)] - across @ np.linalg.solve(own[gone], across.T)
        left = np.delete(left, gone)
    return np.array([*order, *left]), np.array([*errors, *np.zeros(left.size)])
