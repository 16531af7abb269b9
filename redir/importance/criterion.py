"""Criteria: what makes one channel matter more than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from redir.channels.coupling import Coupling
from redir.io.plugins import plugin
from redir.ir import Port


@runtime_checkable
class Criterion(Protocol):
    """What people may write for themselves: how much the channels of a family matter.

    Hand one to ``prune`` as its ``criterion``, or register an instance in the entry-point group
    ``redir.criteria`` and give its name.
    """

    def scores(
        self, coupling: Coupling, family: Sequence[Port], rng: np.random.Generator
    ) -> Mapping[int, float]:
        """The score of each group of a family, as ``coupling.group(port)`` numbers them.

        The lowest go first. ``family`` holds the coupled axes, those of weights among them; ``rng``
        is for what is drawn.
        """


def criterion(given: str | Criterion) -> Criterion:
    """The criterion of that name, installed by redir or by another package.

    Raises:
        BadPipeline: there is none.
    """
    if not isinstance(given, str):
        return given
    found: Criterion = plugin("redir.criteria", given, "criterion")
    return found
