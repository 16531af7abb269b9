"""hash: golden pairs, what moves how far, the density, the conformance kit."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import gaussian_kde

from redir import ops
from redir.density import RULES, bandwidth_of, cells, density
from redir.errors import BadPipeline
from redir.ir import Graph, Value
from redir.ops import tensor_of
from redir.passes.hash import Hash, hashed
from redir.pipeline import Pipeline
from redir.tensor import Array, Tensor, TensorType
from redir.testing import check_on, check_pass, graphs
from redir.text import parse

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "hash").glob("*.txt"))
X = Value(TensorType(np.dtype(np.float32), (1, 4)))
RNG = np.random.default_rng(0)
DTYPES = ("float16", "float32", "float64", "bfloat16")
FEW = st.integers(-50, 50).map(lambda n: n / 16)
WEIGHTS = npst.arrays(np.float64, st.integers(1, 60), elements=FEW)
BANDWIDTHS = st.sampled_from([0.05, 0.1, 0.5, 1.0, *RULES])


def const(array: object, dtype: str = "float32") -> Value:
    return ops.Const(value=Tensor(np.array(array).astype(dtype)))


def bell(*shape: int) -> Array:
    return RNG.normal(size=shape).round(2).astype(np.float32)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.stem)
def test_golden_pair(case: Path) -> None:
    before, after = case.read_text(encoding="utf-8").split("# after\n")
    assert str(check_on(Hash(bandwidth=0.1), parse(before))) == after


@given(WEIGHTS, BANDWIDTHS)
def test_zeros_stay_zero(weights: Array, bandwidth: float | str) -> None:
    assert not hashed(weights, bandwidth)[weights == 0].any()


@given(WEIGHTS, BANDWIDTHS)
def test_equal_weights_stay_equal(weights: Array, bandwidth: float | str) -> None:
    pairs = set(zip(weights.tolist(), hashed(weights, bandwidth).tolist(), strict=True))
    assert len(pairs) == len({w for w, _ in pairs})


@given(WEIGHTS, BANDWIDTHS)
def test_the_order_of_weights_that_are_not_zero_is_kept(
    weights: Array, bandwidth: float | str
) -> None:
    some = np.sort(weights[weights != 0])
    assert (np.diff(hashed(some, bandwidth)) >= 0).all()


@given(WEIGHTS, BANDWIDTHS, st.sampled_from([0.0, 0.1, 0.5]))
def test_a_weight_moves_no_further_than_the_borders_of_its_cell(
    weights: Array, bandwidth: float | str, contrast: float
) -> None:
    some = weights[weights != 0]
    assume(np.unique(some).size > 1)
    curve = density(some, bandwidth_of(some, bandwidth))
    assert curve is not None
    found = cells(curve, contrast)
    ends = np.concatenate([[some.min()], found.borders, [some.max()]])
    reach = np.maximum(abs(found.centres - ends[:-1]), abs(ends[1:] - found.centres))
    moved = abs(hashed(some, bandwidth, contrast) - some)
    assert (moved <= reach[found.index(some)] + 1e-12).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_keep_their_type_and_get_fewer(dtype: str) -> None:
    weights = RNG.normal(size=(40, 5)).astype(np.dtype(dtype))
    found = hashed(weights, 0.5)
    assert found.dtype == weights.dtype
    assert found.shape == weights.shape
    assert np.unique(found).size < np.unique(weights).size


ALONE = {
    "empty": [],
    "one": [3.0],
    "constant": [0.1] * 10,
    "zeros": [0.0, 0.0],
    "one that is not zero": [0.0, 2.0, 0.0],
    "not a number": [1.0, np.nan, 2.0],
    "too far apart": [1.0, 1.0 + 1e-9, 1.0 + 2e-9, 1.0 + 3e-9, 1e9],
}


@pytest.mark.parametrize("why", ALONE)
def test_weights_left_as_they_are(why: str) -> None:
    weights = np.array(ALONE[why])
    assert np.array_equal(hashed(weights, "median-gap"), weights, equal_nan=True)


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 1, 1, 1)])
def test_the_shape_is_kept(shape: tuple[int, ...]) -> None:
    assert hashed(np.ones(shape)).shape == shape


@pytest.mark.parametrize(("rule", "factor"), [("silverman", (4 / 3) ** 0.2), ("scott", 1.0)])
def test_rules_are_multiples_of_the_spread(rule: str, factor: float) -> None:
    weights = bell(100).astype(np.float64)
    expected = factor * 100**-0.2 * np.std(weights, ddof=1)
    assert bandwidth_of(weights, rule) == pytest.approx(expected)


def test_a_number_is_a_multiple_of_silverman() -> None:
    weights = bell(50)
    assert bandwidth_of(weights, 0.5) == pytest.approx(bandwidth_of(weights, "silverman") / 2)


def test_median_gap_is_between_neighbours() -> None:
    assert bandwidth_of(np.array([0, 0, 1, 3, 8, 8.0]), "median-gap") == 2.0


def test_contrast_drops_low_peaks() -> None:
    weights = np.repeat([0.5, 1.0, 1.5, 5.0], [40, 1, 40, 40])
    fine, coarse = (np.unique(hashed(weights, 0.05, c)).size for c in (0.0, 0.5))
    assert (fine, coarse) == (4, 3)


SAMPLES = {
    "normal": RNG.normal(size=2000),
    "bimodal": np.concatenate([RNG.normal(-3, 1, 900), RNG.normal(4, 0.5, 600)]),
    "heavy-tailed": RNG.standard_t(3, 1500),
    "discrete": RNG.integers(-3, 4, 800) / 8,
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("multiple", [0.05, 0.1, 0.3, 1.0])
def test_density_is_that_of_scipy(name: str, multiple: float) -> None:
    sample = SAMPLES[name]
    width = bandwidth_of(sample, multiple)
    curve = density(sample, width)
    assert curve is not None
    some = slice(None, None, max(1, curve.points.size // 500))
    exact = gaussian_kde(sample, width / np.std(sample, ddof=1))(curve.points[some])
    assert abs(curve.values[some] - exact).max() < 1e-3 * curve.values.max()


def moved(y: Value, x: Value = X) -> int:
    """How many constants the pass moves."""
    before = Graph({"x": x}, {"y": y})
    old, new = (
        [tensor_of(v) for n in g.nodes for v in n.outputs] for g in (before, Hash(1.0)(before))
    )
    return sum(a != b for a, b in zip(old, new, strict=True))


IMAGE = Value(TensorType(np.dtype(np.float32), (1, 4, 3, 3)))


def test_weights_of_linear_operators_move() -> None:
    y = ops.ConvTranspose(ops.Conv(IMAGE, const(bell(5, 4, 1, 1))), const(bell(5, 4, 1, 1)))
    z = ops.MatMul(ops.Gemm(ops.Flatten(y), const(bell(36, 5))), const(bell(5, 6)))
    assert moved(z, IMAGE) == 4


LEFT_ALONE = {
    "bias": lambda: ops.Gemm(X, const(np.ones((4, 9))), const(bell(9))),
    "elementwise": lambda: ops.Mul(X, const(bell(4))),
    "whole numbers": lambda: ops.MatMul(
        ops.Cast(X, to=7), const(np.arange(8).reshape(4, 2), "int64")
    ),
    "constant on the left": lambda: ops.MatMul(const(bell(3, 1)), X),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_left_alone(why: str) -> None:
    assert moved(LEFT_ALONE[why]()) == 0


def test_a_shared_weight_moves_once() -> None:
    shared = const(bell(4, 4))
    graph = Graph({"x": X}, {"y": ops.MatMul(ops.MatMul(X, shared), shared)})
    assert sum(n.op == ops.Const for n in Hash(1.0)(graph).nodes) == 1


def test_bfloat16_weights_of_a_graph_move() -> None:
    x = Value(TensorType(np.dtype(ml_dtypes.bfloat16), (1, 4)))
    assert moved(ops.MatMul(x, const(bell(4, 20), "bfloat16")), x) == 1


@pytest.mark.parametrize("step", [Hash(), Hash(1.0), Hash("scott", 0.2)], ids=str)
def test_keeps_its_promises(step: Hash) -> None:
    check_pass(step, graphs("conv", "gemm", "matmul", "shared_weight"))


@pytest.mark.parametrize("step", [Hash(), Hash(0.25), Hash("median-gap"), Hash(1e-3, 0.5)], ids=str)
def test_reads_back_from_its_text(step: Hash) -> None:
    assert Pipeline.parse(str(step)).passes == (step,)


@pytest.mark.parametrize(
    "options",
    """bandwidth=0 bandwidth=-1 bandwidth=inf bandwidth=nan bandwidth=wide
    contrast=1 contrast=-0.1 contrast=nan contrast=low width=1""".split(),
)
def test_refuses_other_options(options: str) -> None:
    with pytest.raises(BadPipeline, match="hash"):
        Pipeline.parse(f"hash{{{options}}}")


def test_infinite_weights_are_left_as_they_are_in_silence() -> None:
    weights = np.array([1.0, np.inf, 2.0])
    assert np.array_equal(hashed(weights), weights)
