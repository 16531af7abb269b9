"""A layer that reads fewer channels, so that what makes those channels makes fewer too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import ClassVar

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.removal import without
from redir.ir import Node
from redir.ir.tensor import Array
from redir.passes.factorize.eliminating import eliminated
from redir.passes.factorize.factors import Factors, Single
from redir.passes.factorize.forms import Factoring
from redir.passes.factorize.saved import Savings
from redir.statistics.moments import Moments


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
    return eliminated(moments.gram, form.weights)


def narrower(coupling: Coupling, form: Factoring, savings: Savings) -> Narrower | str:
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
    one = coupling.group(port)[:1].tolist()
    held = {p for p in coupling.ports if one[0] in coupling.group(p)}
    values = {value for value, _ in held}
    nodes = [n for n in coupling.graph.nodes if not values.isdisjoint((*n.inputs, *n.outputs))]
    saved = savings.of(nodes, lambda: without(coupling, one), held)
    return Narrower(layer, frozenset(), form.scale, form.ends, saved)


def _readers(coupling: Coupling, groups: set[int]) -> Iterator[Node]:
    """What adds up over channels of some groups."""
    sums = ((node, link.a) for node, link in coupling.links if link.kind == "summed")
    return (n for n, port in sums if not groups.isdisjoint(coupling.group(port).tolist()))
