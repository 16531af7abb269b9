"""Criteria: those of redir, and those that people write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from redir import ops
from redir.channels.coupling import Coupling
from redir.check.guarantees import constants
from redir.importance import Criterion, criterion
from redir.importance.norms import L1, L2, RANDOM
from redir.ir import Graph, Port
from redir.passes.prune import Prune
from tests.helpers import const, placeholder

X = placeholder("n", 1)
HIDDEN = ops.Relu(ops.MatMul(X, const([[1, 4, 2, 3]])))
NET = Graph({"x": X}, {"y": ops.MatMul(HIDDEN, const(np.ones((4, 1))))})


class Last:
    """What comes last goes first."""

    def scores(
        self, coupling: Coupling, family: Sequence[Port], rng: np.random.Generator
    ) -> Mapping[int, float]:
        del rng
        return {g: -g for port in family for g in coupling.group(port).tolist()}


def scored(given: Criterion) -> list[float]:
    """The scores of the hidden channels of the network."""
    coupling = Coupling(NET)
    (family,) = (f for f in coupling.families() if (HIDDEN, 1) in f)
    scores = given.scores(coupling, family, np.random.default_rng(0))
    return [scores[g] for g in coupling.group((HIDDEN, 1)).tolist()]


def test_norms_add_up_what_makes_a_channel_and_what_reads_it() -> None:
    assert scored(L1) == [2, 5, 3, 4]
    assert scored(L2) == [2, 17, 5, 10]


def test_at_random_each_channel_has_its_own_score() -> None:
    assert len(set(scored(RANDOM))) == 4


@pytest.mark.parametrize("name", ["l1", "l2", "random"])
def test_criteria_have_names(name: str) -> None:
    assert str(criterion(name)) == name
    assert criterion(criterion(name)) is criterion(name)


def test_a_criterion_of_ones_own_ranks() -> None:
    assert isinstance(Last(), Criterion)
    kept = constants(Prune(criterion=Last())(NET))[0].array
    assert kept.tolist() == [[1, 4]]
