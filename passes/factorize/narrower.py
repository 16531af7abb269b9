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
from redir.ir import Node, Port
from redir.ir.tensor import Array
from redir.passes.factorize.eliminating import eliminated
from redir.passes.factorize.factors import Factors, Single
from redir.passes.factorize.forms import Factoring
from redir.passes.factorize.saved import Saved, Savings
from redir.statistics.moments import Moments

_STEPS_OF = 16  # ranks of channels that go together, about


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
    1992). Some may go together only: ``units`` (units, channels of each) are those, and the rank
    counts them. ``saved`` is what the whole graph costs less for each unit, by price.
    """

    saved: Mapping[str, int]
    units: Array
    name: str = "narrower"
    made: ClassVar[type[Factors]] = Narrowed
    rounds: ClassVar[int] = 0
    picks: ClassVar[bool] = True

    @property
    def full(self) -> int:
        """All channels, or what goes of them together."""
        return len(self.units)

    @property
    def port(self) -> Port:
        """The axis whose channels go."""
        return self.layer.x_port

    @property
    def step(self) -> int:
        """Of what ranks are multiples unless it is said: less of what goes together."""
        return super().step if self.units.shape[1] == 1 else max(self.full // _STEPS_OF, 1)

    def cost(self, rank: int, price: str) -> int:
        """What the layer costs, less what goes with channels wherever they were."""
        return self.dense(price) - (self.full - rank) * self.saved[price]

    def _values(self, moments: Moments) -> Array:
        """How much each direction matters."""
        return self._directions(moments)[1]

    def _directions(self, moments: Moments) -> tuple[Array, Array]:
        """Rows for each unit, first what stays longest, and the root of what it counts."""
        order, errors = _ranked(self, moments)
        return np.eye(self.layer.channels)[self.units[order[::-1]]], np.sqrt(errors[::-1])

    def _rows(self, rank: int, moments: Moments, *, once: bool = False) -> Array:
        """Rows for the units that stay; what is asked ``once`` need not say how long they would."""
        if not once:
            rows = self._directions(moments)[0][:rank]
            return rows.reshape(-1, rows.shape[-1])
        order, _ = eliminated(moments.gram, self.weights, self.units, rank)
        found: Array = np.eye(self.layer.channels)[self.units[order[::-1][:rank]].reshape(-1)]
        return found


@lru_cache(maxsize=64)  # a plan is made of the same moments again and again
def _ranked(form: Narrower, moments: Moments) -> tuple[Array, Array]:
    return eliminated(moments.gram, form.weights, form.units)


def narrower(
    coupling: Coupling, form: Factoring, savings: Savings, name: str = "narrower"
) -> Narrower | str:
    """The layer of another form with fewer channels, or why it cannot have fewer."""
    layer = form.layer
    if prod(layer.kernel) > 1:
        return "it has a kernel"
    port = layer.x_port
    if port not in coupling.starts:
        return "the number of its channels is not known"
    channels = coupling.group(port)
    groups, sizes = np.unique(channels, return_counts=True)
    if len(set(sizes.tolist())) > 1:
        return "of its channels some go together, and not as many as of others"
    if not coupling.pinned.isdisjoint(groups.tolist()):
        return "its channels are pinned"
    alike = [each.layer for each in form.alike]
    if not {each.node for each in alike}.issuperset(readers(coupling, set(groups.tolist()))):
        return "others read its channels too"
    if any(not np.array_equal(coupling.group(each.x_port), channels) for each in alike):
        return "its channels are others where its weights are read elsewhere"
    units = np.argsort(channels, kind="stable").reshape(len(groups), -1)
    saved = saved_by_one(coupling, int(channels[0]), savings)
    ends = layer, frozenset[int](), form.metric, form.ends
    return Narrower(*ends, saved, units, name, also=form.also)


def saved_by_one(coupling: Coupling, group: int, savings: Savings) -> Saved:
    """What is saved, by price, where a group of channels goes."""
    held = {port for port in coupling.ports if group in coupling.group(port)}
    values = {value for value, _ in held}
    nodes = [n for n in coupling.graph.nodes if not values.isdisjoint((*n.inputs, *n.outputs))]
    return savings.of(nodes, lambda: without(coupling, [group]), held)


def readers(coupling: Coupling, groups: set[int]) -> Iterator[Node]:
    """What adds up over channels of some groups."""
    sums = ((node, link.a) for node, link in coupling.links if link.kind == "summed")
    return (n for n, port in sums if not groups.isdisjoint(coupling.group(port).tolist()))
