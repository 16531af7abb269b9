"""Remove the channels that matter least by a criterion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.removal import silenced, spared, without
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE
from redir.errors import BadPipeline
from redir.ir import Graph, Port
from redir.ir.tensor import Array
from redir.ops import tensor_of
from redir.pipeline import Pass

_NORMS: Mapping[str, Callable[[Array], Array]] = {"l1": np.abs, "l2": np.square}


@dataclass(frozen=True)
class Prune(Pass):
    """Structured pruning: of each family of channels the share ``channel_ratio`` goes.

    The groups of a family are ranked by the weights that make and that read them: the sum of
    their magnitudes (``l1``), of their squares (``l2``), or at random with ``seed``. With
    ``compact=false`` the channels only become zero, for comparison: the outputs are the same.
    Pinned groups stay, and so does one channel of each axis. This loses accuracy.
    """

    channel_ratio: float = 0.5
    criterion: Literal["l1", "l2", "random"] = "l2"
    compact: bool = True
    seed: int = 0
    guarantees = (SAME_INTERFACE, NO_GROWTH, NO_MORE_PARAMETERS)

    def __post_init__(self) -> None:
        """Refuse a ratio that is no share of the channels, and a criterion that is none."""
        if not 0 <= self.channel_ratio < 1:
            raise BadPipeline(
                f"prune: channel_ratio must be at least 0 and below 1, not {self.channel_ratio}"
            )
        if self.criterion not in {*_NORMS, "random"}:
            raise BadPipeline(f"prune: criterion {self.criterion!r} is none of l1, l2, random")
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
        rng, chosen = np.random.default_rng(self.seed), set[int]()
        for family in coupling.families():
            scores = _scores(coupling, family, _NORMS.get(self.criterion))
            free = sorted(g for g in scores if g not in coupling.pinned)
            if self.criterion == "random":
                scores = dict(zip(free, rng.random(len(free)), strict=True))
            ranked = sorted(free, key=lambda g: (scores[g], g))
            chosen.update(ranked[: int(self.channel_ratio * len(ranked))])
        return chosen


def _scores(
    coupling: Coupling, family: list[Port], norm: Callable[[Array], Array] | None
) -> dict[int, float]:
    """The weight of each group of a family that is read with weights."""
    scores: dict[int, float] = {}
    if not any(link.kind == "summed" for port in family for _, link in coupling.links_of(port)):
        return scores
    for value, axis in family:
        tensor, groups = tensor_of(value), coupling.group((value, axis))
        sizes = np.zeros(groups.size)
        if tensor is not None and tensor.array.ndim > 1 and norm is not None:
            others = tuple(a for a in range(tensor.array.ndim) if a != axis)
            sizes = norm(tensor.array.astype(np.float64)).sum(others)
        for group, size in zip(groups.tolist(), sizes.tolist(), strict=True):
            scores[group] = scores.get(group, 0.0) + size
    return scores
