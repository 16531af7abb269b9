"""Shapley values: those that are sampled are those that are, and keep the axioms."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import factorial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import redir
from redir import ops
from redir.channels.coupling import Coupling
from redir.channels.removal import silenced
from redir.errors import BadInput
from redir.evaluation import accuracy
from redir.importance import Evidence, Family, Labelled, families
from redir.importance.masks import Masked
from redir.importance.shapley import Shapley
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.passes.prune import Prune
from redir.runtime.onnxruntime import runner
from redir.testing import graphs
from tests.helpers import const, placeholder

DIGITS = Path(redir.__file__).parent / "demo" / "digits.npz"
UNITS = 6
X = placeholder("n", 5)


def network(rng: np.random.Generator, units: int = UNITS, **fixed: Array) -> Graph:
    """A layer of so many units between five inputs and three classes."""
    first = fixed.get("first", rng.normal(size=(5, units)))
    last = fixed.get("last", rng.normal(size=(units, 3)))
    hidden = ops.Relu(ops.Add(ops.MatMul(X, const(first)), const(rng.normal(size=units))))
    return Graph({"x": X}, {"y": ops.MatMul(hidden, const(last))})


def examples(rng: np.random.Generator, count: int = 12) -> Labelled:
    inputs = rng.normal(size=(count, 5)).astype(np.float32)
    return Labelled({"x": inputs}, rng.integers(0, 3, count))


def family_of(graph: Graph) -> Family:
    (found,) = families(Coupling(graph))
    return found


def exact(family: Family, given: Labelled) -> Array:
    """The values by their definition: over all sets of the other channels."""
    network, count = Masked(family, given), len(family.channels)
    lost = {}
    for size in range(count + 1):
        for some in combinations(range(count), size):
            mask = np.ones(count)
            mask[list(some)] = 0
            lost[frozenset(some)] = network.losses(mask).mean()
    values = np.zeros(count)
    for gone, before in lost.items():
        for unit in set(range(count)) - gone:
            ways = factorial(len(gone)) * factorial(count - len(gone) - 1) / factorial(count)
            values[unit] += ways * (lost[gone | {unit}] - before)
    return values


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, 2))])
def test_sampled_values_are_the_exact_ones_within_their_error(
    seed: int,
    antithetic: bool,  # noqa: FBT001 - of parametrize
) -> None:
    rng = np.random.default_rng(seed)
    family, given = family_of(graph := network(rng)), examples(rng)
    sampled = Shapley(200, antithetic).values(family, Evidence(graph, seed=seed, given=given))
    off = np.abs(sampled.mean - exact(family, given))
    assert (off <= 4 * sampled.error + 1e-6).all()
    assert sampled.error.max() < 0.2 * np.abs(sampled.mean).max()


@pytest.mark.nightly
def test_permutations_with_their_reverses_err_less() -> None:
    rng = np.random.default_rng(5)
    family, given = family_of(graph := network(rng)), examples(rng)
    right, runs = exact(family, given), range(12)
    off = [
        np.mean(
            [
                np.square(
                    Shapley(10, antithetic)
                    .values(family, Evidence(graph, seed=s, given=given))
                    .mean
                    - right
                ).mean()
                for s in runs
            ]
        )
        for antithetic in (True, False)
    ]
    assert off[0] < 0.8 * off[1]


seeds = st.integers(0, 10_000)


@settings(max_examples=20)
@given(seeds, st.integers(1, 3), st.sampled_from([0.0, 0.3]))
def test_values_add_up_to_what_all_channels_do(seed: int, count: int, truncated: float) -> None:
    rng = np.random.default_rng(seed)
    family, given = family_of(graph := network(rng)), examples(rng)
    shapley = Shapley(count, truncated=truncated)
    found = shapley.values(family, Evidence(graph, seed=seed, given=given))
    network_ = Masked(family, given)
    whole = network_.losses(np.zeros(UNITS)).mean() - network_.losses(np.ones(UNITS)).mean()
    np.testing.assert_allclose(found.mean.sum(), whole, atol=1e-5)


@settings(max_examples=20)
@given(seeds)
def test_a_channel_that_does_nothing_is_worth_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    last = rng.normal(size=(UNITS, 3))
    last[2] = 0
    graph = network(rng, last=last)
    found = Shapley(3).values(family_of(graph), Evidence(graph, given=examples(rng)))
    assert abs(found.mean[2]) < 1e-6


@settings(max_examples=3)
@given(seeds)
def test_channels_that_do_the_same_are_worth_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, last = rng.normal(size=(5, UNITS)), rng.normal(size=(UNITS, 3))
    first[:, 1], last[1] = first[:, 0], last[0]
    hidden = ops.Relu(ops.MatMul(X, const(first)))
    graph = Graph({"x": X}, {"y": ops.MatMul(hidden, const(last))})
    family, given = family_of(graph), examples(rng)
    values = exact(family, given)
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    sampled = Shapley(60).values(family, Evidence(graph, given=given))
    error = np.hypot(*sampled.error[:2])
    assert abs(sampled.mean[0] - sampled.mean[1]) <= 5 * error + 1e-6


@settings(max_examples=25)
@given(graphs("conv", "residual", "concat", "attention", "grouped"), st.integers(0, 99))
def test_a_mask_does_what_silence_does(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = {
        name: rng.integers(-3, 4, (2, *(v.type.size(axis) or 1 for axis in range(1, v.rank or 0))))
        for name, v in graph.inputs.items()
    }
    given = Labelled(
        {name: a.astype(graph.inputs[name].type.dtype) for name, a in inputs.items()},
        np.zeros(2, int),
        lambda outputs, _: outputs,
    )
    for family in families(Coupling(graph)):
        mask = rng.integers(0, 2, len(family.channels)).astype(float)
        masked = Masked(family, given)
        run = runner(silenced(family.coupling, set(family.channels[mask == 0].tolist())))
        name = next(iter(graph.outputs))
        (held, _), *_ = masked._held
        (first, _), *_ = given.parts(graph)
        feeds = {key: masked._lying(port, mask) for key, port in masked._masks.items()}
        found = masked._run({**held, **feeds})
        np.testing.assert_array_equal(found[name], run(first)[name])


def test_a_budget_says_how_often_examples_run() -> None:
    rng = np.random.default_rng(0)
    family, given = family_of(graph := network(rng)), examples(rng)
    evidence = Evidence(graph, given=given)
    assert Shapley(100, budget=20).values(family, evidence).forwards <= 20
    assert Shapley(3).values(family, evidence).forwards == 2 + 3 * (UNITS - 1)


@pytest.mark.nightly
def test_within_a_budget_channels_of_a_wide_family_go_together() -> None:
    rng = np.random.default_rng(0)
    family, given = family_of(graph := network(rng, 64)), examples(rng, 40)
    evidence = Evidence(graph, given=given)
    few, many = (Shapley(n, budget=b).values(family, evidence) for n, b in ((9, 60), (40, 0)))
    assert few.forwards <= 60
    np.testing.assert_allclose(few.mean.sum(), many.mean.sum(), atol=1e-5)
    assert np.corrcoef(few.mean, many.mean)[0, 1] > 0.5


def test_an_order_ends_where_nothing_is_left_to_lose() -> None:
    rng = np.random.default_rng(0)
    family, given = family_of(graph := network(rng, 12)), examples(rng)
    counts = [
        Shapley(4, truncated=share).values(family, Evidence(graph, given=given)).forwards
        for share in (0.0, 0.5)
    ]
    assert counts[1] < counts[0]


def test_what_matters_to_some_alone_counts_by_deviations() -> None:
    rng = np.random.default_rng(0)
    family, given = family_of(graph := network(rng)), examples(rng)
    evidence = [Evidence(graph, given=given) for _ in range(3)]
    values = Shapley().values(family, evidence[0])
    np.testing.assert_array_equal(Shapley().scores(family, evidence[1]), values.mean)
    two = Shapley(deviations=2).scores(family, evidence[2])
    np.testing.assert_allclose(two, values.mean + 2 * values.spread)


def test_one_permutation_has_no_error() -> None:
    rng = np.random.default_rng(0)
    family, given = family_of(graph := network(rng)), examples(rng)
    assert np.isnan(Shapley(1).values(family, Evidence(graph, given=given)).error).all()


def test_what_harms_is_pruned_by_its_sign() -> None:
    rng = np.random.default_rng(3)
    graph, given = network(rng, 40), examples(rng, 60)
    after = Prune(criterion=Shapley(8), threshold=0.0, labelled=given)(graph)
    assert lost(after, given) < lost(graph, given)


@pytest.mark.nightly
def test_an_untrained_network_without_what_harms_tells_digits() -> None:
    """As published for MNIST, where 7 % become 51 % (Ancona et al., 2020)."""
    with np.load(DIGITS) as bank:
        images, labels = bank["image"].reshape(-1, 64), bank["label"]
    few, new = (Labelled({"x": part}, labels[i::2]) for i, part in enumerate(halves(images)))
    graph = untrained(np.random.default_rng(0), 64, 1000, 10)
    after = Prune(criterion=Shapley(1), threshold=0.0, labelled=few)(graph)
    before, now = (accuracy(runner(g), new.inputs, new.labels) for g in (graph, after))
    assert before < 0.15
    assert now > 0.5


def halves(images: Array) -> tuple[Array, Array]:
    """Every other image, all of mean 0 and deviation 1, and the rest."""
    ready = ((images - images.mean()) / images.std()).astype(np.float32)
    return ready[::2], ready[1::2]


def untrained(rng: np.random.Generator, *widths: int) -> Graph:
    """Layers of some widths with a ReLU between them, whose weights are drawn as PyTorch does."""
    x = placeholder("n", widths[0])
    y = x
    for inputs, outputs in pairwise(widths):
        y = y if y is x else ops.Relu(y)
        y = ops.MatMul(y, const(rng.uniform(-1, 1, (inputs, outputs)) / np.sqrt(inputs)))
    return Graph({"x": x}, {"y": y})


def lost(graph: Graph, given: Labelled) -> float:
    return float(given.losses(runner(graph)(given.inputs)["y"], given.labels).mean())


def test_without_examples_it_is_refused() -> None:
    graph = network(np.random.default_rng(0))
    with pytest.raises(BadInput, match="labelled examples"):
        Prune(criterion="shapley")(graph)
