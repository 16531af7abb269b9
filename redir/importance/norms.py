"""Criteria that look at weights alone, or at nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from redir.channels.coupling import Coupling
from redir.ir import Port
from redir.ir.builtin import tensor_of
from redir.ir.tensor import Array


@dataclass(frozen=True)
class Norm:
    """The sum of ``of`` each weight that makes a channel or reads it, in float64."""

    name: str
    of: Callable[[Array], Array] = field(repr=False)

    def scores(
        self, coupling: Coupling, family: Sequence[Port], rng: np.random.Generator
    ) -> Mapping[int, float]:
        """The sums of each group."""
        del rng
        scores: dict[int, float] = defaultdict(float)
        for value, axis in family:
            tensor, groups = tensor_of(value), coupling.group((value, axis))
            sizes = np.zeros(groups.size)
            if tensor is not None and tensor.array.ndim > 1:
                others = tuple(a for a in range(tensor.array.ndim) if a != axis)
                sizes = self.of(tensor.array.astype(np.float64)).sum(others)
            for group, size in zip(groups.tolist(), sizes.tolist(), strict=True):
                scores[group] += size
        return scores

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Random:
    """Scores drawn at random, as a baseline for the others."""

    def scores(
        self, coupling: Coupling, family: Sequence[Port], rng: np.random.Generator
    ) -> Mapping[int, float]:
        """A number between 0 and 1 for each group that is not pinned."""
        groups = {g for port in family for g in coupling.group(port).tolist()}
        free = sorted(groups - coupling.pinned)
        return dict(zip(free, rng.random(len(free)).tolist(), strict=True))

    def __str__(self) -> str:
        return "random"


L1 = Norm("l1", np.abs)
L2 = Norm("l2", np.square)
RANDOM = Random()
