"""What the package promises; ``pytest`` runs it where redir is installed with the extra ``dev``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import strategies as st
from redir_shifts.costs import additions
from redir_shifts.digits import digits, rounded
from redir_shifts.shift_weights import ShiftWeights

import redir
from redir import Graph
from redir.cost.models import CostModel, cost_model
from redir.errors import BadPipeline
from redir.importance import Criterion, criterion
from redir.ir import evaluate, map_constants
from redir.ir.tensor import Tensor
from redir.testing import graphs
from redir.text import parse

WEIGHTS = st.lists(st.integers(-99, 99), min_size=6, max_size=6)


def layer(weights: Sequence[float]) -> Graph:
    """A graph of one layer with six weights."""
    return parse(f"""
def main(x: float32[1, 2]):
    w: float32[2, 3] = Const(value=Tensor(float32[2, 3], [{weights[:3]}, {weights[3:]}]))
    y: float32[1, 3] = MatMul(x, w)
    return {{'y': y}}
""")


MODEL = layer([7.0, 0.5, 0.0, -3.0, 11.0, 0.7])


def least(number: int) -> int:
    """The least count of powers of two that add up to a number, by trying them all."""
    if number & (number - 1) == 0:
        return int(number > 0)
    power = 1 << (number.bit_length() - 1)
    return 1 + min(least(number - power), least(2 * power - number))


def test_the_digits_of_a_number_are_as_few_as_can_be() -> None:
    numbers = np.arange(1024)
    assert digits(numbers / 64).tolist() == [least(n) for n in range(1024)]


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_no_number_gets_more_terms_than_asked_for_and_none_moves_that_needs_no_more(
    terms: int,
) -> None:
    numbers = np.arange(1024, dtype=np.float32)
    found = rounded(numbers, terms, 15)
    few = digits(numbers) <= terms
    assert digits(found).max() == terms
    assert np.array_equal(found[few], numbers[few])
    assert np.all(np.abs(found - numbers) <= numbers / 3**terms)


def test_what_the_hardware_does_not_shift_so_far_is_left_out() -> None:
    numbers = np.array([1.0, 0.125, 0.06, 0.0], np.float32)
    assert rounded(numbers, 2, 3).tolist() == [1.0, 0.125, 0.0, 0.0]


def test_the_largest_half_precision_number_stays_finite() -> None:
    assert np.isfinite(rounded(np.array([65504.0], np.float16), 2, 15)).all()


@pytest.mark.parametrize("terms", [1, 2])
def test_the_pass_holds_to_every_law(check_pass: Callable[..., None], terms: int) -> None:
    drawn = st.one_of(graphs(), WEIGHTS.map(layer))
    check_pass(ShiftWeights(terms), drawn, 30)


def test_a_weight_that_has_few_terms_stays() -> None:
    once = ShiftWeights()(MODEL, check=True)
    assert once is not MODEL
    assert ShiftWeights()(once) is once


def test_a_constant_that_is_no_weight_stays() -> None:
    graph = parse("""
def main(x: float32[2]):
    c: float32[2] = Const(value=Tensor(float32[2], [0.3, 0.7]))
    y: float32[2] = Add(x, c)
    return {'y': y}
""")
    assert ShiftWeights()(graph) is graph


def test_weights_that_are_not_finite_stay_and_are_told() -> None:
    graph = map_constants(MODEL, lambda _, tensor: Tensor(np.full_like(tensor.array, np.inf)))
    assert ShiftWeights()(graph) is graph
    assert list(ShiftWeights().explain(graph)) == [
        "MatMul 'y': its weights are float32, or not all finite"
    ]


@pytest.mark.parametrize("options", ["terms=0", "shifts=-1"])
def test_options_that_make_no_sense_are_refused(options: str) -> None:
    with pytest.raises(BadPipeline, match="shift-weights: "):
        redir.Pipeline.parse(f"shift-weights{{{options}}}")


def test_the_cost_counts_each_power_of_two_of_each_weight() -> None:
    assert additions(layer([7.0, 0.5, 0.0, -3.0, 11.0, 1.0])) == 2 + 1 + 0 + 2 + 3 + 1


def test_the_cost_of_fewer_terms_is_less() -> None:
    model = cost_model("additions")
    assert isinstance(model, CostModel)
    assert model.ratio(MODEL, ShiftWeights(1)(MODEL)) < 1
    assert model.ratio(MODEL, MODEL) == 1


def left(graph: Graph) -> float:
    """What a graph makes of 1."""
    return float(evaluate(graph, {"x": np.ones((1, 1), np.float32)})["b"].item())


def test_the_criterion_keeps_the_rounder_of_two_channels_of_one_size() -> None:
    assert isinstance(criterion("per_addition"), Criterion)
    graph = parse("""
def main(x: float32[1, 1]):
    w: float32[1, 2] = Const(value=Tensor(float32[1, 2], [1.0, 1.04]))
    a: float32[1, 2] = MatMul(x, w)
    r: float32[1, 2] = Relu(a)
    v: float32[2, 1] = Const(value=Tensor(float32[2, 1], [[1.0], [1.0]]))
    b: float32[1, 1] = MatMul(r, v)
    return {'b': b}
""")
    pipeline = "prune{channel_ratio=0.5,criterion=%s},eliminate-dead-channels"
    larger = redir.Pipeline.parse(pipeline % "l2").run(graph)
    rounder = redir.Pipeline.parse(pipeline % "per_addition").run(graph)
    assert left(larger) == pytest.approx(1.04)
    assert left(rounder) == 1
