"""Queries and keys of fewer channels, so that scores are sums of fewer products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redir.channels.coupling import Coupling
from redir.ir import Port
from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.passes.factorize.factors import Single
from redir.passes.factorize.forms import PARAMETERS, Factoring, Flow
from redir.passes.factorize.heads import Heads
from redir.passes.factorize.narrower import Narrower, readers, saved_by_one
from redir.passes.factorize.saved import Savings
from redir.passes.factorize.tables import stored_again
from redir.statistics.moments import Moments


@dataclass(frozen=True, eq=False)
class Silent(Single):
    """A layer some results of which are zero with all that is added: ``silent`` (outputs,)."""

    silent: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores(Narrower):
    """Queries lose channels that add least to the scores, and keys lose those that they meet.

    ``units`` (size of a head, heads) are the channels of queries, turned so that keys have the same
    energy: what a channel adds to the scores is the square of it. Of a head ``each`` so many
    channels, side by side, go together, and what they add is the square of their sum. ``bias``
    (outputs,) is what is added to queries, by the layer or behind it. Tables of ``tables`` numbers
    are stored again where any channel goes.
    """

    bias: Array
    each: int = 1
    tables: int = 0

    @property
    def port(self) -> Port:
        """The axis whose channels go: of the results."""
        return self.layer.y_port

    def cost(self, rank: int, price: str) -> int:
        """What the layer costs, less what goes with channels wherever they were."""
        again = self.tables if price == PARAMETERS and rank < self.full else 0
        return super().cost(rank, price) + again

    def errors(self, moments: Moments) -> Array:
        """The energy of scores that is lost, over that which noise as large as queries would have.

        That is so for each rank from 0 on.
        """
        energy, spread = self.energies(moments)
        lost = np.sort(np.square(energy).sum(1))
        total = float(np.sum(energy * spread)) or 1.0
        return np.clip(np.concatenate([np.cumsum(lost)[::-1], [0.0]]) / total, 0, 1)

    def fitted(
        self, rank: int, new: Moments, old: Moments, flow: Flow | None = None, mix: float = 0.2
    ) -> Silent:
        """The queries without what counts least in the original."""
        del new, flow, mix
        return self.rough(rank, old)

    def rough(self, rank: int, moments: Moments) -> Silent:
        """The queries without what counts least."""
        energy, _ = self.energies(moments)
        order = np.argsort(-np.square(energy).sum(1), kind="stable")
        silent = np.isin(np.arange(self.layer.outputs), self.units[order[rank:]])
        own = self.layer.bias
        assert own is not None
        weights = np.where(silent[:, None], 0.0, self.layer.weight[0][:, :, 0]).T
        bias = np.where(silent, own - self.bias, own)
        return Silent(self.layer, (), np.eye(self.layer.channels), weights[:, None], bias, silent)

    guess = rough

    def energies(self, moments: Moments) -> tuple[Array, Array]:
        """The energy of queries, and of that what is about their mean: (units, heads) both."""
        weights = self.layer.weight[0][:, :, 0].astype(np.float64)
        spread = np.einsum("oi,ij,oj->o", weights, moments.gram, weights, optimize=True)
        energy = spread + np.square(weights @ moments.mean + self.bias)
        parts = self.units.reshape(len(self.units), -1, self.each)
        return energy[parts].sum(2), spread[parts].sum(2)


def scores(coupling: Coupling, form: Factoring, heads: Heads, savings: Savings) -> Scores | str:
    """The queries of another form with fewer channels, or why they cannot have fewer."""
    why = kept(coupling, heads)
    if why is not None:
        return why
    groups = coupling.group(heads.first.y_port)[heads.left[0, :: heads.each]]
    found = set(groups.tolist())
    saved, tables = saved_by_one(coupling, int(groups[0]), savings), stored_again(coupling, found)
    saved = {**saved, PARAMETERS: saved[PARAMETERS] + tables}
    assert heads.first.bias is not None
    parts = heads.left.reshape(len(heads.left), -1, heads.each)
    units, bias = parts.swapaxes(0, 1).reshape(parts.shape[1], -1), heads.first.bias
    ends = form.layer, frozenset[int](), form.metric, form.ends
    return Scores(
        *ends, saved, units, "heads", bias=bias, each=heads.each, tables=tables, also=form.also
    )


def kept(coupling: Coupling, heads: Heads) -> str | None:
    """Why heads cannot have fewer channels of queries and keys; None if they can."""
    of_left, of_right = (_groups(coupling, e) for e in (heads.first, heads.second))
    if of_left is None or of_right is None:
        return "the number of their channels is not known"
    tied = np.concatenate([of_left[heads.left], of_right[heads.right]])
    groups = tied[0, :: heads.each]
    if not (tied == np.repeat(groups, heads.each)).all():
        return "the channels of heads go with unlike others"
    found = set(groups.tolist())
    one = heads.first.node is heads.second.node
    meeting = np.unique([*heads.left.flat, *heads.right.flat] if one else heads.left)
    if len(found) < len(groups) or np.isin(of_left, groups).sum() > meeting.size:
        return "channels of a head go with others"
    if found & coupling.pinned:
        return "their channels are pinned"
    if not {heads.node, *(each.node for each in heads.also)}.issuperset(readers(coupling, found)):
        shared = ", or share large tables of what turns them with them" if heads.aside else ""
        return f"others read their channels{shared}"
    return None


def _groups(coupling: Coupling, layer: Linear) -> Array | None:
    """The groups of the results of a layer."""
    return coupling.group(layer.y_port) if layer.y_port in coupling.starts else None
