"""hash: what moves how far, the density, the conformance kit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import gaussian_kde

from redir import ops
from redir.errors import BadPipeline, Broken
from redir.ir import Graph, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import Array
from redir.layers.density import RULES, Cells, bandwidth_of, density, expected_distinct
from redir.layers.linear import Linear, linear
from redir.layers.output_error import (
    error_bound,
    measured_error,
    relative_error,
    second_moments,
)
from redir.ops import tensor_of
from redir.passes import hash as hashing
from redir.passes.hash import Hash
from redir.passes.hash.cells import Widest, cells_of, hashed, widest
from redir.passes.hash.cells import moved as moved_by
from redir.pipeline import Pipeline
from redir.testing import check_pass, graphs
from tests.helpers import const, one_of_three, placeholder

X = placeholder(1, 4)
RNG = np.random.default_rng(0)
DTYPES = ("float16", "float32", "float64", "bfloat16")
FEW = st.integers(-50, 50).map(lambda n: n / 16)
WEIGHTS = npst.arrays(np.float64, st.integers(1, 60), elements=FEW)
BANDWIDTHS = st.sampled_from([0.05, 0.1, 0.5, 1.0, *RULES])


def bell(*shape: int) -> Array:
    return RNG.normal(size=shape).round(2).astype(np.float32)


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


@given(WEIGHTS, BANDWIDTHS, st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from(DTYPES))
def test_a_weight_moves_no_further_than_the_borders_of_its_cell(
    weights: Array, bandwidth: float | str, contrast: float, dtype: str
) -> None:
    some = weights[weights != 0].astype(np.dtype(dtype))
    found = cells_of(some, bandwidth, contrast)
    assume(found is not None)
    assert found is not None
    wide = some.astype(np.float64)
    moves = abs(hashed(some, bandwidth, contrast).astype(np.float64) - wide)
    assert (moves <= found.reach[found.index(wide)]).all()


@given(WEIGHTS, BANDWIDTHS)
def test_hashing_again_with_the_same_cells_changes_nothing(
    weights: Array, bandwidth: float | str
) -> None:
    found = cells_of(weights, bandwidth)
    assume(found is not None)
    assert found is not None
    some = hashed(weights, bandwidth)
    some = some[some != 0]
    assert np.array_equal(found.centres[found.index(some)], some)


def test_a_weight_on_a_border_belongs_to_the_cell_above() -> None:
    weights = RNG.normal(size=500)
    found = cells_of(weights, 0.1)
    assert found is not None
    inner = found.borders[1:-1]
    assert found.index(inner).tolist() == list(range(1, inner.size + 1))
    assert found.index(np.nextafter(inner, -9)).tolist() == list(range(inner.size))


CLOSE = np.array([1.0, 1.0 + 2**-10, 1.0 + 2**-9, 1.0 + 3 * 2**-10])  # neighbours in float16


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
@pytest.mark.parametrize("bandwidth", [0.01, 0.05, 0.2, 1.0])
def test_values_are_rounded_to_the_type_within_their_cells(
    dtype: str, scale: float, bandwidth: float
) -> None:
    weights = (scale * np.append(RNG.normal(size=300), CLOSE)).astype(np.dtype(dtype))
    weights[::5] = 0
    found = cells_of(weights, bandwidth)
    assert found is not None
    moved = hashed(weights, bandwidth)
    assert not moved[weights == 0].any()
    held = np.unique(found.index(weights[weights != 0].astype(np.float64)))
    values = found.centres[held]
    assert (np.diff(values) > 0).all()
    assert np.array_equal(values, values.astype(weights.dtype).astype(np.float64))
    assert np.unique(moved[weights != 0]).size == values.size


def test_the_largest_float16_stays_finite() -> None:
    weights = np.array([65504, 65504, 65472, -65504, 1], np.float16)
    assert np.isfinite(hashed(weights, 0.05)).all()


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


IMAGE = placeholder(1, 4, 3, 3)


def test_the_density_of_many_weights_is_the_same_in_order_and_out_of_it() -> None:
    rng = np.random.default_rng(0)
    sample = np.concatenate([rng.standard_normal(50_000), np.full(100, 0.5), [4.0, -4.0]])
    curves = [density(found, 0.05) for found in (sample, np.sort(sample))]
    assert curves[0] is not None
    assert curves[1] is not None
    assert curves[0].values.size < sample.size
    np.testing.assert_allclose(curves[1].values, curves[0].values, 1e-9, 1e-12)


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
    x = placeholder(1, 4, dtype=ml_dtypes.bfloat16)
    assert moved(ops.MatMul(x, const(bell(4, 20), "bfloat16")), x) == 1


@st.composite
def skewed(draw: st.DrawFn) -> Graph:
    """A layer whose weights lie in cells of many widths."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    weights = rng.gamma(draw(st.sampled_from([0.5, 1.0, 3.0])), size=(8, 12)) - 0.2
    weights[rng.random(weights.shape) < 0.1] = 0
    x = placeholder(2, 8)
    return Graph({"x": x}, {"y": ops.MatMul(x, const(weights))})


LAYERS = ("conv", "gemm", "matmul", "shared_weight", "depthwise", "grouped", "conv_transpose")
STEPS = [
    Hash(0.5),
    Hash(1.0),
    Hash("scott", 0.2),
    Hash(error=0.3),
    Hash(1.0, granularity="channel"),
    Hash(error=0.3, granularity="channel"),
]


@pytest.mark.parametrize("step", one_of_three(STEPS), ids=str)
def test_keeps_its_promises(step: Hash) -> None:
    check_pass(step, st.one_of(graphs(*LAYERS), skewed()))


@pytest.mark.parametrize(
    "step", [Hash(), Hash(0.25), Hash("median-gap"), Hash(1e-3, 0.5), STEPS[-1]], ids=str
)
def test_reads_back_from_its_text(step: Hash) -> None:
    assert Pipeline.parse(str(step)).passes == (step,)


@pytest.mark.parametrize(
    "options",
    """bandwidth=0 bandwidth=-1 bandwidth=inf bandwidth=nan bandwidth=wide
    contrast=1 contrast=-0.1 contrast=nan contrast=low width=1 error=0 error=1 error=nan
    error=0.1,bandwidth=0.2 error=low granularity=row""".split(),
)
def test_refuses_other_options(options: str) -> None:
    with pytest.raises(BadPipeline, match="hash"):
        Pipeline.parse(f"hash{{{options}}}")


def test_infinite_weights_are_left_as_they_are_in_silence() -> None:
    weights = np.array([1.0, np.inf, 2.0])
    assert np.array_equal(hashed(weights), weights)


# An error for each layer


@given(st.integers(0, 99), st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_the_widest_bandwidth_keeps_the_error(seed: int, error: float) -> None:
    weights = np.random.default_rng(seed).normal(size=400)
    found = widest(weights, error)
    assert found is not None
    assert relative_error(weights, hashed(weights, found.multiple)) <= error
    wider = found.multiple * 2**0.25
    assert wider > 1 or relative_error(weights, hashed(weights, wider)) > error


@given(st.integers(0, 99), st.sampled_from(["float16", "float32", "float64"]))
def test_the_widest_bandwidth_comes_with_its_cells(seed: int, dtype: str) -> None:
    weights = np.random.default_rng(seed).normal(size=400).astype(dtype)
    found = widest(weights, 0.1)
    assert found is not None
    assert np.array_equal(moved_by(weights, found.cells), hashed(weights, found.multiple))


def test_no_bandwidth_is_narrow_enough() -> None:
    weights = np.array([1.0, 1.0 + 1e-4, 100.0, 1e4])
    assert widest(weights, 1e-12) is None


def test_more_error_leaves_fewer_values() -> None:
    weights = RNG.normal(size=5000)
    counts = [np.unique(Hash(error=e).moved(weights, None)).size for e in (0.01, 0.03, 0.1, 0.3)]
    assert counts == sorted(counts, reverse=True)


# Each channel on its own


CHANNELS: dict[str, tuple[Callable[[], Value], int]] = {
    "conv": (lambda: ops.Conv(IMAGE, const(bell(6, 4, 3, 3))), 0),
    "grouped conv": (lambda: ops.Conv(IMAGE, const(bell(6, 2, 3, 3)), group=2), 0),
    "conv transpose": (lambda: ops.ConvTranspose(IMAGE, const(bell(4, 6, 3, 3))), 1),
    "gemm": (lambda: ops.Gemm(X, const(bell(4, 30))), 1),
    "gemm, turned": (lambda: ops.Gemm(X, const(bell(30, 4)), transB=1), 0),
    "matmul": (lambda: ops.MatMul(X, const(bell(4, 30))), 1),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_each_output_channel_is_hashed_on_its_own(name: str) -> None:
    made, axis = CHANNELS[name]
    y = made()
    assert y.node is not None
    before = Graph({"x": y.node.inputs[0]}, {"y": y})
    after = Hash(1.0, granularity="channel")(before, check=True)
    old, new = (tensor_of(g.nodes[-1].inputs[1]) for g in (before, after))
    assert old is not None
    assert new is not None
    for channel in range(old.array.shape[axis]):
        alone = hashed(old.array.take(channel, axis), 1.0)
        assert np.array_equal(new.array.take(channel, axis), alone)


def test_a_weight_that_layers_read_along_other_axes_is_hashed_whole() -> None:
    shared = const(bell(4, 4))
    y = ops.Gemm(ops.Gemm(X, shared), shared, transB=1)
    after = Hash(1.0, granularity="channel")(Graph({"x": X}, {"y": y}), check=True)
    old, new = tensor_of(shared), tensor_of(after.nodes[-1].inputs[1])
    assert old is not None
    assert new is not None
    assert np.array_equal(new.array, hashed(old.array, 1.0))


# What it does to outputs

NODES: dict[str, Callable[[], Value]] = {
    "conv": lambda: ops.Conv(IMAGE, const(bell(6, 4, 3, 3)), pads=(1, 1, 1, 1)),
    "conv with a stride": lambda: ops.Conv(IMAGE, const(bell(6, 4, 2, 2)), strides=(2, 2)),
    "grouped conv": lambda: ops.Conv(IMAGE, const(bell(6, 2, 3, 1)), dilations=(1, 2)),
    "depthwise conv": lambda: ops.Conv(IMAGE, const(bell(8, 1, 3, 3)), auto_pad="SAME_UPPER"),
    "conv transpose": lambda: ops.ConvTranspose(IMAGE, const(bell(4, 3, 2, 3)), strides=(2, 1)),
    "grouped conv transpose": lambda: ops.ConvTranspose(
        IMAGE, const(bell(4, 3, 3, 3)), group=2, pads=(1, 0, 1, 0)
    ),
    "gemm": lambda: ops.Gemm(X, const(bell(4, 5)), const(bell(5)), alpha=-0.5),
    "gemm, both turned": lambda: ops.Gemm(placeholder(4, 7), const(bell(5, 4)), transA=1, transB=1),
    "matmul": lambda: ops.MatMul(placeholder(2, 3, 4), const(bell(4, 5))),
}


def of_node(name: str) -> tuple[Linear, Array, Array]:
    """The layer, what it reads, and its weights as they are stored, in float64."""
    node = NODES[name]().node
    assert node is not None
    layer = linear(node)
    assert isinstance(layer, Linear)
    shape = layer.x.type.static
    assert shape is not None
    weights = layer.stored(layer.weight).astype(np.float64)
    return layer, RNG.normal(size=shape) + 0.5, weights


@pytest.mark.parametrize("name", NODES)
def test_the_measured_error_is_that_of_the_operator(name: str) -> None:
    layer, x, weights = of_node(name)
    node, moves = layer.node, RNG.normal(size=weights.shape)
    rest = [None if (t := tensor_of(v)) is None else t.array for v in node.inputs[2:]]
    a, b = (compute(node, [x, w, *rest])[0] for w in (weights, weights + moves))
    axis = 1 if "conv" in name else b.ndim - 1
    others = tuple(k for k in range(b.ndim) if k != axis)
    expected = np.sqrt(np.mean((b - a) ** 2, axis=others))
    assert np.allclose(measured_error(layer, x, moves).reshape(-1), expected)


@pytest.mark.parametrize("name", NODES)
def test_the_bound_holds(name: str) -> None:
    layer, x, weights = of_node(name)
    moments = second_moments(layer, x)
    moves = RNG.normal(size=weights.shape)
    bound = error_bound(layer.rows(moves), moments)
    assert (measured_error(layer, x, moves) <= bound).all()


@pytest.mark.parametrize("name", ["conv with a stride", "grouped conv", "gemm", "matmul"])
def test_the_bound_is_reached_where_all_inputs_are_one(name: str) -> None:
    layer, x, weights = of_node(name)
    ones, moves = np.ones_like(x), np.abs(weights)
    bound = error_bound(layer.rows(moves), second_moments(layer, ones))
    assert np.allclose(measured_error(layer, ones, moves), bound)


# How many values are left to each input


def test_expected_distinct_is_that_of_draws() -> None:
    shares = np.array([0.5, 0.3, 0.1, 0.06, 0.04])
    drawn = RNG.choice(5, size=(20_000, 12), p=shares)
    found = np.mean([np.unique(row).size for row in drawn])
    assert expected_distinct(shares, 12) == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize(
    ("shares", "draws", "expected"),
    [([1.0], 5, 1.0), ([0.5, 0.5], 1, 1.0), ([], 9, 0.0), ([0.25], 1, 0.25), ([0.5, 0.5], 2, 1.5)],
)
def test_expected_distinct(shares: list[float], draws: int, expected: float) -> None:
    assert expected_distinct(np.array(shares), draws) == pytest.approx(expected)


# Wrong ones are refuted


def to_nearest(weights: Array, found: Cells | None) -> Array:
    """Wrong: borders halfway between the peaks."""
    if found is None:
        return weights
    halves = (found.centres[1:] + found.centres[:-1]) / 2
    centres = found.centres[np.searchsorted(halves, weights)]
    return np.where(weights == 0, 0, centres).astype(weights.dtype)


def to_the_border(weights: Array, found: Cells | None) -> Array:
    """Wrong: to the lower border, moved down."""
    if found is None:
        return weights
    low = found.borders[found.index(weights.astype(np.float64))] - found.reach.max()
    return np.where(weights == 0, 0, low).astype(weights.dtype)


def to_the_mean(weights: Array, *_: Any) -> Array:
    return np.where(weights == 0, 0, weights.mean()).astype(weights.dtype)


WRONG = {"nearest peak": to_nearest, "border": to_the_border, "mean of all": to_the_mean}


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("wrong", WRONG)
def test_one_that_moves_weights_to_the(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "moved", WRONG[wrong])
    with pytest.raises(Broken, match=r"cell|order"):
        check_pass(Hash(0.3), skewed(), 200)


def refute(step: Hash, name: str, before: Graph, after: Graph) -> str | None:
    (promise,) = (g for g in step.guarantees if name in g.name)
    return promise.refute(before, after)


def test_a_layer_beyond_its_bound_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Graph({"x": X}, {"y": ops.MatMul(X, const(bell(4, 30)))})
    after = Hash(0.05)(before)
    assert refute(Hash(0.05), "bound", before, after) is None
    monkeypatch.setattr(hashing, "moved", to_the_mean)
    assert "more than its bound" in str(refute(Hash(0.05), "bound", before, Hash(0.05)(before)))


@pytest.mark.parametrize("part", ["second_moments", "error_bound"])
def test_a_wrong_bound_is_refuted(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Graph({"x": X}, {"y": ops.MatMul(X, const(bell(4, 30)))})
    right: Callable[..., Array] = getattr(hashing, part)
    monkeypatch.setattr(hashing, part, lambda *args: right(*args) / 100)
    assert refute(Hash(0.5), "bound", before, Hash(0.5)(before)) is not None


def test_a_layer_that_costs_more_than_asked_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "widest", lambda w, *_: Widest(1.0, cells_of(w, 1.0)))
    before = Graph({"x": X}, {"y": ops.MatMul(X, const(bell(4, 30)))})
    with pytest.raises(Broken, match="moved by"):
        Hash(error=0.001)(before, check=True)
