"""Which channels go, so that a share of the original is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.removal import spared, without
from redir.cost import example_shapes, macs, parameters
from redir.cost.allocation import Option, allocated, settled
from redir.importance import Family
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.runtime.open_sizes import Shapes

COUNTS: Mapping[str, Callable[[Graph, Shapes | None], int]] = {
    "macs": macs,
    "params": lambda graph, _: parameters(graph),
}
_ROUNDS = 12  # of bisection

Gone: TypeAlias = "frozenset[int]"
Chosen: TypeAlias = "Mapping[int, Option[int]]"


@dataclass(frozen=True, eq=False)
class Ranked:
    """A family with the ``scores`` of its channels: NaN for one that stays, -inf if it is gone."""

    family: Family
    scores: Array

    @property
    def order(self) -> Array:
        """The places of the channels that may go, those first that matter least."""
        known = np.flatnonzero(~np.isnan(self.scores))
        found: Array = known[np.argsort(self.scores[known], kind="stable")]
        return found

    def first(self, count: int) -> list[int]:
        """The groups of the first so many of these."""
        found: list[int] = self.family.channels[self.order[:count]].tolist()
        return found


@dataclass(frozen=True, eq=False)
class Ranking:
    """All families of a graph with their scores, and how channels are chosen by them.

    Of each part of a family that lies on the same axes at least ``least`` channels stay, and a
    multiple of ``align``; ``wide`` compares channels of all families with each other.
    """

    coupling: Coupling
    families: Sequence[Ranked]
    least: int
    align: int
    wide: bool

    def share(self, ratio: float) -> Gone:
        """The share of channels that matter least: of all together, or of each family."""
        if not self.wide:
            each = (r.first(int(ratio * len(r.scores))) for r in self.families)
            return self.kept(g for groups in each for g in groups)
        ranked = [
            (float(r.scores[place]), int(r.family.channels[place]))
            for r in self.families
            for place in r.order
        ]
        count = int(ratio * sum(len(r.scores) for r in self.families))
        return self.kept(group for _, group in sorted(ranked, key=lambda s: s[0])[:count])

    def below(self, threshold: float) -> Gone:
        """What scores less than that."""
        each = (r.first(int(np.sum(r.scores < threshold))) for r in self.families)
        return self.kept(g for groups in each for g in groups)

    def counted(self, name: str, most: float, left: Callable[[Gone], float]) -> Gone:
        """What matters least of all that leaves at most ``most`` of a count.

        Families share it by what their channels cost, or each gives the same share of its own.
        ``left`` says what is left.
        """
        if not self.wide:
            return self.least_of(self.share, lambda gone: left(gone) <= most)
        options = self.options(name)
        found = settled(options, lambda chosen: left(self.taken(chosen)), most)
        return self.taken(found)

    def saving(self, ratio: float) -> Gone:
        """What matters least of all that saves about a share of the multiply-adds."""
        if not self.wide:
            return self.share(ratio)
        options = self.options("macs")
        whole = sum(found[0].cost for found in options.values())
        return self.taken(allocated(options, (1 - ratio) * whole))

    def least_of(self, picks: Callable[[float], Gone], good: Callable[[Gone], bool]) -> Gone:
        """The smallest share that is ``good``, by bisection."""
        low, high = 0.0, 1.0
        if good(gone := picks(low)):
            return gone
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            low, high = (low, middle) if good(picks(middle)) else (middle, high)
        return picks(high)

    def options(self, name: str) -> Mapping[int, Sequence[Option[int]]]:
        """For each family how many of its channels may go, what is then left, and what is lost."""
        graph, found = self.coupling.graph, dict[int, Sequence[Option[int]]]()
        shapes = example_shapes(graph)
        whole = COUNTS[name](graph, shapes)
        for number, ranked in enumerate(self.families):
            count = len(ranked.order) - 1
            if count < 1:
                continue
            half = -(-count // 2)
            after = without(self.coupling, ranked.first(half))
            each = (whole - COUNTS[name](after, shapes)) / half
            lost = np.maximum(np.nan_to_num(ranked.scores[ranked.order], neginf=0.0), 0.0)
            errors = np.concatenate([[0.0], np.cumsum(lost)])
            costs = each * np.arange(len(ranked.order), -1, -1)
            rows = zip(costs.tolist(), errors.tolist(), strict=True)
            found[number] = [Option(n, *row) for n, row in enumerate(rows)]
        return found

    def taken(self, chosen: Chosen) -> Gone:
        """The channels that go if so many of each family do."""
        each = (self.families[number].first(option.what) for number, option in chosen.items())
        return self.kept(g for groups in each for g in groups)

    def kept(self, groups: Iterable[int]) -> Gone:
        """Those of some groups that go: as few as leave enough, and a multiple of ``align``."""
        gone = set(groups)
        if self.least > 1 or self.align > 1:
            for ranked in self.families:
                gone.difference_update(self._back(ranked, gone))
        return frozenset(spared(self.coupling, gone))

    def _back(self, ranked: Ranked, gone: set[int]) -> list[int]:
        """The channels that come back, those first that matter most."""
        found = list[int]()
        for part in parts(ranked.family):
            places = np.array([p for p in ranked.order if p in part], int)
            channels = ranked.family.channels[places]
            lost = [int(g) for g in channels if int(g) in gone]
            stay = max(len(part) - len(lost), min(self.least, len(part)))
            stay = min(-(-stay // self.align) * self.align, len(part))
            found += lost[len(part) - stay :]
        return found


def parts(family: Family) -> list[set[int]]:
    """The places of the channels of a family, those together that lie on the same axes."""
    codes = np.zeros(len(family.channels), int)
    for port in family.ports:
        places = family.places(port)
        on = np.zeros(len(codes), int)
        on[places[places >= 0]] = 1
        codes = np.unique(2 * codes + on, return_inverse=True)[1]
    return [set(np.flatnonzero(codes == code).tolist()) for code in range(codes.max() + 1)]
