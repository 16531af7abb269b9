"""Remove the channels that matter least by a criterion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.removal import silenced, spared, without
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE
from redir.errors import BadPipeline
from redir.importance import Criterion, Evidence, criterion, families, scored
from redir.ir import Graph
from redir.pipeline import Pass


@dataclass(frozen=True)
class Prune(Pass):
    """Structured pruning: of each family of channels the share ``channel_ratio`` goes.

    The channels of a family are ranked by a ``criterion``: one of redir's, such as ``l2``, the
    squares of the weights that make and that read them, or one of another package. What is random
    is drawn by ``seed``. With
    ``compact=false`` the channels only become zero, for comparison: the outputs are the same.
    Pinned groups stay, and so does one channel of each axis. This loses accuracy.
    """

    channel_ratio: float = 0.5
    criterion: str | Criterion = "l2"
    compact: bool = True
    seed: int = 0
    guarantees = (SAME_INTERFACE, NO_GROWTH, NO_MORE_PARAMETERS)

    def __post_init__(self) -> None:
        """Refuse a ratio that is no share of the channels, and a criterion that there is not."""
        if not 0 <= self.channel_ratio < 1:
            raise BadPipeline(
                f"prune: channel_ratio must be at least 0 and below 1, not {self.channel_ratio}"
            )
        criterion(self.criterion)
        if self.seed < 0:
            raise BadPipeline(f"prune: seed must be 0 or more, not {self.seed}")

    def run(self, graph: Graph) -> Graph:
        """Rank, choose, and remove or silence."""
        coupling = Coupling(graph)
        chosen = self._chosen(coupling)
        if self.compact:
            return without(coupling, chosen)
        return silenced(coupling, spared(coupling, chosen))

    def _chosen(self, coupling: Coupling) -> set[int]:
        evidence, chosen = Evidence(coupling.graph, seed=self.seed), set[int]()
        for family in families(coupling):
            scores = scored(criterion(self.criterion), family, evidence)
            known = np.flatnonzero(~np.isnan(scores))
            ranked = known[np.argsort(scores[known], kind="stable")]
            gone = ranked[: int(self.channel_ratio * len(scores))]
            chosen.update(family.channels[gone].tolist())
        return chosen
