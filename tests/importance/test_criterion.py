"""Criteria: those of redir, and those that people write."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from redir import ops
from redir.channels.coupling import Coupling
from redir.check.guarantees import constants
from redir.errors import BadPipeline
from redir.importance import Criterion, Evidence, Family, criterion, families, scored
from redir.importance.criterion import normalized
from redir.importance.norms import FPGM, L1, L2, LAMP, RANDOM
from redir.io.plugins import plugins
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.passes.prune import Prune
from redir.testing import check_pass, graphs
from tests.helpers import const, one_of_three, placeholder
from tests.importance.networks import rounded, scores

X = placeholder("n", 1)
HIDDEN = ops.Relu(ops.MatMul(X, const([[1, 4, 2, 3]])))
NET = Graph({"x": X}, {"y": ops.MatMul(HIDDEN, const(np.ones((4, 1))))})
WITHOUT_DATA = ["bn_scale", "dafp", "energy", "fpgm", "l1", "l2", "lamp", "random", "rectified"]


class Last:
    """What comes last goes first."""

    def scores(self, family: Family, evidence: Evidence) -> Array:
        del evidence
        return -family.channels


class Made:
    """Says what it is made with."""

    def __init__(self, said: object) -> None:
        self.said = said

    def scores(self, family: Family, evidence: Evidence) -> Array:
        del family, evidence
        return np.array(self.said, np.float64)


def of_hidden(given: Criterion) -> list[float]:
    """The scores of the hidden channels of the network."""
    return scores(given, NET, HIDDEN, "sum")


def test_norms_add_up_what_makes_a_channel_and_what_reads_it() -> None:
    assert of_hidden(L1) == [2, 5, 3, 4]
    assert of_hidden(L2) == [2, 17, 5, 10]


def test_what_is_near_all_others_can_be_replaced_by_them() -> None:
    assert of_hidden(FPGM) == [1 + 2 + 3, 1 + 2 + 3, 1 + 1 + 2, 1 + 1 + 2]


def test_lamp_is_the_share_of_what_is_no_less() -> None:
    assert rounded(of_hidden(LAMP)) == rounded([2 / 34, 1, 5 / 32, 10 / 27])


def test_at_random_each_channel_has_its_own_score() -> None:
    assert len(set(of_hidden(RANDOM))) == 4


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_criteria_have_names(name: str) -> None:
    assert str(criterion(name)) == name
    assert criterion(criterion(name)) is criterion(name)
    assert name in plugins("redir.criteria")


def test_a_criterion_of_ones_own_ranks() -> None:
    assert isinstance(Last(), Criterion)
    kept = constants(Prune(criterion=Last())(NET))[0].array
    assert kept.tolist() == [[1, 4]]


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("sum", [4.0, 1.0]), ("mean", [2.0, 1.0]), ("max", [3.0, 1.0])],
)
def test_the_scores_of_members_are_one(reduction: str, expected: list[float]) -> None:
    family = Family(Coupling(NET), [], np.arange(2))
    rows = Made([[1, np.nan], [3, 1]])
    found = scored(rows, family, Evidence(NET), reduction, "none")  # type: ignore[arg-type]
    assert found.tolist() == expected


@pytest.mark.parametrize("reduction", ["sum", "mean", "max"])
def test_where_no_member_says_anything_nothing_is_said(reduction: str) -> None:
    family = Family(Coupling(NET), [], np.arange(2))
    found = scored(Made([np.nan, 1]), family, Evidence(NET), reduction)  # type: ignore[arg-type]
    assert np.isnan(found).tolist() == [True, False]


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        ("none", [1.0, 3.0]),
        ("mean", [0.5, 1.5]),
        ("max", [1 / 3, 1.0]),
        ("sum", [0.25, 0.75]),
        ("standard", [-1.0, 1.0]),
    ],
)
def test_scores_of_families_become_comparable(normalizer: str, expected: list[float]) -> None:
    assert normalized(np.array([1.0, 3.0]), normalizer).tolist() == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("normalizer", ["mean", "max", "sum", "standard"])
def test_scores_that_are_all_zero_stay(normalizer: str) -> None:
    assert normalized(np.zeros(2), normalizer).tolist() == [0, 0]  # type: ignore[arg-type]


def test_a_criterion_says_how_its_scores_compare() -> None:
    assert str(scored(LAMP, families(Coupling(NET))[0], Evidence(NET)).max()) == "1.0"
    assert scored(L1, families(Coupling(NET))[0], Evidence(NET)).mean() == 1.0


@pytest.mark.parametrize("said", [1.0, [1.0, 2.0], [[[1.0] * 4]]], ids=str)
def test_a_criterion_that_says_less_is_refused(said: object) -> None:
    with pytest.raises(BadPipeline, match="scores, not 4"):
        Prune(criterion=Made(said))(NET)


@pytest.mark.parametrize("said", [[], [np.nan] * 4], ids=str)
def test_channels_of_which_nothing_is_said_stay(said: Sequence[float]) -> None:
    assert Prune(criterion=Made(said))(NET) is NET


@pytest.mark.parametrize("name", one_of_three(["energy", "fpgm", "lamp", "dafp"]))
def test_keeps_the_promises_of_pruning(name: str) -> None:
    step = Prune(criterion=name, statistics="drawn", examples=4)
    check_pass(step, graphs("conv", "residual"), 20)
