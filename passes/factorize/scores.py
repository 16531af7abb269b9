"""Queries and keys of fewer channels, so that scores are sums of fewer products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redir.channels.coupling import Coupling
from redir.ir import Port
from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.passes.factorize.factors import Factors, Single
from redir.passes.factorize.forms import Factoring, Flow
from redir.passes.factorize.heads import Heads
from redir.passes.factorize.narrower import Narrower, readers, saved_by_one
from redir.passes.factorize.saved import Savings
from redir.statistics.moments import Moments


@dataclass(frozen=True, eq=False)
class Silent(Single):
    """A layer some results of which are zero with all that is added: ``silent`` (outputs,)."""

    silent: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores(Narrower):
    """Queries lose channels that add least to the scores, and keys lose those that they meet.

    ``units`` (size of a head, heads) are the channels of queries, turned so that keys have the same
    energy: what a channel adds to the scores is the square of it. ``bias`` (outputs,) is
    what is added to queries, by the layer or behind it.
    """

    bias: Array

    @property
    def port(self) -> Port:
        """The axis whose channels go: of the results."""
        return self.layer.y_port

    def errors(self, moments: Moments) -> Array:
        """The energy of scores that is lost, over that which noise as large as queries would have.

        That is so for each rank from 0 on.
        """
        energy, spread = self._energies(moments)
        lost = np.sort(np.square(energy)[self.units].sum(1))
        total = float(np.sum((energy * spread)[self.units])) or 1.0
        return np.clip(np.concatenate([np.cumsum(lost)[::-1], [0.0]]) / total, 0, 1)

    def fitted(
        self, rank: int, new: Moments, old: Moments, flow: Flow | None = None, mix: float = 0.2
    ) -> Factors:
        """The queries without what counts least in the original."""
        del new, flow, mix
        return self.rough(rank, old)

    def rough(self, rank: int, moments: Moments) -> Factors:
        """The queries without what counts least."""
        energy, _ = self._energies(moments)
        order = np.argsort(-np.square(energy)[self.units].sum(1), kind="stable")
        silent = np.isin(np.arange(self.layer.outputs), self.units[order[rank:]])
        own = self.layer.bias
        assert own is not None
        weights = np.where(silent[:, None], 0.0, self.layer.weight[0][:, :, 0]).T
        bias = np.where(silent, own - self.bias, own)
        return Silent(self.layer, (), np.eye(self.layer.channels), weights[:, None], bias, silent)

    guess = rough

    def _energies(self, moments: Moments) -> tuple[Array, Array]:
        """The energy of each query, and of that what is about its mean: (outputs,) both."""
        weights = self.layer.weight[0][:, :, 0].astype(np.float64)
        spread = np.einsum("oi,ij,oj->o", weights, moments.gram, weights, optimize=True)
        return spread + np.square(weights @ moments.mean + self.bias), spread


def scores(coupling: Coupling, form: Factoring, heads: Heads, savings: Savings) -> Scores | str:
    """The queries of another form with fewer channels, or why they cannot have fewer."""
    of_left, of_right = (_groups(coupling, e) for e in (heads.first, heads.second))
    if of_left is None or of_right is None:
        return "the number of their channels is not known"
    groups = of_left[heads.left]
    tied = [*groups, *of_right[heads.right]]
    if not all(np.array_equal(tied[0], each) for each in tied):
        return "the channels of heads go with unlike others"
    found = set(tied[0].tolist())
    one = heads.first.node is heads.second.node
    meeting = np.unique([*heads.left.flat, *heads.right.flat] if one else heads.left)
    if len(found) < len(tied[0]) or np.isin(of_left, tied[0]).sum() > meeting.size:
        return "channels of a head go with others"
    if found & coupling.pinned or len(set(readers(coupling, found))) > 1:
        return "their channels are pinned, or others read them"
    saved = saved_by_one(coupling, int(tied[0][0]), savings)
    assert heads.first.bias is not None
    units, bias = heads.left.T, heads.first.bias
    ends = form.layer, frozenset[int](), form.scale, form.ends
    return Scores(*ends, saved, units, "heads", bias=bias)


def _groups(coupling: Coupling, layer: Linear) -> Array | None:
    """The groups of the results of a layer."""
    return coupling.group(layer.y_port) if layer.y_port in coupling.starts else None
