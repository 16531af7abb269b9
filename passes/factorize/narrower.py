"""A layer that reads fewer channels, so that what makes those channels makes fewer too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import ClassVar, TypeAlias

import numpy as np
from scipy import linalg

from redir.channels.coupling import Coupling
from redir.channels.removal import without
from redir.cost import Sizes, macs, parameters
from redir.ir import Graph, Node
from redir.ir.tensor import Array
from redir.passes.factorize.factors import Factors, Single
from redir.passes.factorize.forms import MULTIPLY_ADDS, PARAMETERS, Factoring
from redir.statistics.moments import Moments

_STEPS = 512  # in which channels are taken out: one at a time, or a few where there are more
_SMALL = 1e-6  # of the mean energy of a channel, given to each: there may be too few samples

Counts: TypeAlias = "Callable[[Graph], Mapping[str, int]]"
"""What a graph costs, by price."""


@dataclass(frozen=True, eq=False)
class Narrowed(Single):
    """A layer with weights of zero for the channels that no row of ``first`` reads."""

    @property
    def lost(self) -> Array:
        """Whether each channel is read no more."""
        found: Array = np.abs(self.first).sum(0) == 0
        return found


@dataclass(frozen=True, eq=False)
class Narrower(Factoring):
    """Channels are taken away and said by those that stay, as well as these can.

    The rank is the number that stays. Those go, one after the other, without which the results
    change least where all others take over what they can (Hassibi and Stork, Optimal Brain Surgeon,
    1992). ``saved`` is what the whole graph costs less for each channel, by price.
    """

    saved: Mapping[str, int]
    made: ClassVar[type[Factors]] = Narrowed
    rounds: ClassVar[int] = 0
    picks: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What the form is called."""
        return "narrower"

    @property
    def full(self) -> int:
        """All channels."""
        return self.layer.channels

    def cost(self, rank: int, price: str) -> int:
        """What the layer costs, less what goes with channels wherever they were."""
        return self.dense(price) - (self.full - rank) * self.saved[price]

    def _directions(self, moments: Moments) -> tuple[Array, Array]:
        """A row for each channel, first what stays longest, and the root of what it counts."""
        order, errors = _ranked(self, moments)
        return np.eye(self.full)[order[::-1]], np.sqrt(errors[::-1])


@lru_cache(maxsize=64)  # a plan is made of the same moments again and again
def _ranked(form: Narrower, moments: Moments) -> tuple[Array, Array]:
    return _eliminated(moments.gram, form.weights)


def narrower(coupling: Coupling, form: Factoring, counts: Counts) -> Narrower | str:
    """The layer of another form with fewer channels, or why it cannot have fewer."""
    layer = form.layer
    if prod(layer.kernel) > 1:
        return "it has a kernel"
    port = layer.x, layer.x_axis % (layer.x.rank or 1)
    if port not in coupling.starts:
        return "the number of its channels is not known"
    groups = set(coupling.group(port).tolist())
    if len(groups) < layer.channels:
        return "some of its channels go together"
    if groups & coupling.pinned:
        return "its channels are pinned"
    if any(node is not layer.node for node in _readers(coupling, groups)):
        return "others read its channels too"
    after = counts(without(coupling, coupling.group(port)[:1].tolist()))
    return Narrower(layer, frozenset(), form.scale, form.ends, less(counts(coupling.graph), after))


def _readers(coupling: Coupling, groups: set[int]) -> Iterator[Node]:
    """What adds up over channels of some groups."""
    sums = ((node, link.a) for node, link in coupling.links if link.kind == "summed")
    return (n for n, port in sums if not groups.isdisjoint(coupling.group(port).tolist()))


def counting(sizes: Sizes) -> Counts:
    """What counts what a graph costs, by price, at the shapes of ``sizes``."""

    @lru_cache(maxsize=2)  # one graph is compared with others
    def counted(graph: Graph) -> Mapping[str, int]:
        return {MULTIPLY_ADDS: macs(graph, sizes.shapes), PARAMETERS: parameters(graph)}

    return counted


def less(before: Mapping[str, int], after: Mapping[str, int]) -> Mapping[str, int]:
    """What is saved, by price."""
    return {price: count - after[price] for price, count in before.items()}


def _eliminated(gram: Array, weights: Array) -> tuple[Array, Array]:
    """The order in which channels go, and by how much each adds to the error.

    ``gram`` (channels, channels) is of what is read, ``weights`` are (channels, outputs). With the
    inverse of the gram, what a channel adds is w^2 / inverse, and both follow in a step.
    """
    count = len(gram)
    energy = float(np.trace(gram)) / count or 1.0
    inverse = linalg.inv(gram + _SMALL * energy * np.eye(count))
    left, few = np.arange(count), max(1, count // _STEPS)
    order, errors = list[int](), list[float]()
    while left.size:
        counts = np.square(weights).sum(1) / inverse.diagonal()
        gone = np.argsort(counts, kind="stable")[:few]
        stays = np.delete(np.arange(left.size), gone)
        across = inverse[np.ix_(stays, gone)]
        factor = linalg.inv(inverse[np.ix_(gone, gone)])
        error = float(np.sum(weights[gone] * (factor @ weights[gone])))
        order += left[gone].tolist()
        errors += [max(error, 0.0) / gone.size] * gone.size
        weights = weights[stays] - across @ (factor @ weights[gone])
        inverse = inverse[np.ix_(stays, stays)] - across @ factor @ across.T
        left = left[stays]
    return np.array(order), np.array(errors)
