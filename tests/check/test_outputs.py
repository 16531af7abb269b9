"""The verdict on two models: pass, fail, vacuous or skipped."""

from __future__ import annotations

import json
import math
import weakref
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from redir import ops
from redir.check import observed, outputs
from redir.check.observed import Observed
from redir.check.outputs import Verdict, verify
from redir.errors import BadInput
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, TensorType
from redir.runtime import float64
from tests.helpers import const, placeholder

FLOAT = np.dtype(np.float32)


def floats(*rows: ArrayLike) -> Array:
    return np.array(rows, np.float32)


W = floats([1, 2, 3], [-4, 5, 0.1])


def linear(*factors: ArrayLike) -> Graph:
    """x (n, 2) times each of ``factors`` in turn."""
    x = y = placeholder("n", 2)
    for factor in factors:
        y = ops.MatMul(y, const(factor))
    return Graph({"x": x}, {"y": y})


def plus(array: ArrayLike, dtype: str = "float32") -> Graph:
    """x plus ``array``, of one axis of any length."""
    x = placeholder("n", dtype=dtype)
    return Graph({"x": x}, {"y": ops.Add(x, const(array, dtype))})


def zeros(count: int, dtype: str = "float32") -> list[dict[str, Array]]:
    return [{"x": np.zeros(count, dtype)}]


def compared(a: ArrayLike, b: ArrayLike, dtype: str = "float32", **bounds: Any) -> Verdict:
    """The verdict on two models that give ``a`` and ``b``."""
    feeds = zeros(np.asarray(a).size, dtype)
    return verify(plus(a, dtype), plus(b, dtype), feeds, **bounds)


def test_a_model_passes_against_itself() -> None:
    found = verify(linear(W), linear(W))
    assert (found.verdict, found.reason, found.deviation) == ("pass", "", 0)
    assert [f.output for f in found.outputs] == ["y"]


def test_another_order_of_sums_passes() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, 500), (500, 3)))
    found = verify(linear(a, b), linear(a[:, ::-1], b[::-1]))
    assert found.verdict == "pass"
    assert 0 < found.deviation < 1e-5


@pytest.mark.parametrize(("change", "verdict"), [(1e-7, "pass"), (1e-4, "fail"), (1, "fail")])
def test_what_is_tolerated_is_of_the_size_of_rounding(change: float, verdict: str) -> None:
    assert verify(linear(W), linear(W * np.float32(1 + change))).verdict == verdict


def test_the_figures_say_what_was_found_and_tolerated() -> None:
    (figures,) = compared([1, 8], [1.5, 8]).outputs
    assert (figures.output, figures.difference, figures.scale) == ("y", 0.5, 8)
    assert figures.own == 0
    assert figures.allowed == pytest.approx(64 * 2**-23 * 8)


def test_the_deviation_is_a_share_of_the_magnitude() -> None:
    assert compared([1, 8], [1.5, 8]).deviation == 0.5 / 8


def test_the_worst_of_all_samples_counts() -> None:
    feeds: list[dict[str, Array]] = [{"x": floats([0, 0])}, {"x": floats([0, 1])}]
    other = W + floats([0, 0, 0], [0, 0, 1])
    assert verify(linear(W), linear(other), feeds[:1]).outputs[0].difference == 0
    assert verify(linear(W), linear(other), feeds).verdict == "fail"


ODD: dict[str, tuple[list[float], list[float], str]] = {
    "NaN is never a number": ([math.nan, 1], [0, 1], "fail"),
    "a number is never NaN": ([0, 1], [math.nan, 1], "fail"),
    "NaN at the same places is no difference": ([math.nan, 1], [math.nan, 1], "pass"),
    "NaN at other places is one": ([math.nan, 1], [1, math.nan], "fail"),
    "infinity is not its opposite": ([math.inf, 1], [-math.inf, 1], "fail"),
    "infinity is no number": ([math.inf, 1], [3e38, 1], "fail"),
    "a number is not infinity": ([3e38, 1], [math.inf, 1], "fail"),
    "infinity is not NaN": ([math.inf, 1], [math.nan, 1], "fail"),
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("bounds", [{}, {"rtol": 1e9, "atol": 1e9}], ids=["judged", "tolerant"])
def test_odd_numbers(what: str, bounds: dict[str, Any]) -> None:
    a, b, verdict = ODD[what]
    assert compared(a, b, **bounds).verdict == verdict


@pytest.mark.parametrize(("b", "verdict"), [([math.inf, 1], "pass"), ([math.inf, 2], "fail")])
def test_infinity_is_infinity_and_the_numbers_beside_it_count(b: list[float], verdict: str) -> None:
    assert compared([math.inf, 1], b).verdict == verdict


def test_a_reason_names_the_output() -> None:
    assert compared([math.nan], [0]).reason == "y: NaN or infinity became something else"
    assert compared([1], [2]).reason == "y differs by 1 of 1"


@pytest.mark.parametrize(("b", "verdict"), [([1, 2], "pass"), ([1, 3], "fail")])
def test_integers_are_equal_or_not(b: list[int], verdict: str) -> None:
    assert compared([1, 2], b, "int64").verdict == verdict
    assert compared([1, 2], b, "int64", atol=10).verdict == verdict


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ({"atol": 0.2}, "pass"),
        ({"atol": 0.05}, "fail"),
        ({"rtol": 0.11}, "pass"),
        ({"rtol": 0.01}, "fail"),
        ({"rtol": 0.05, "atol": 0.06}, "pass"),
        ({"rtol": 0.0, "atol": 0.0}, "fail"),
    ],
)
def test_tolerances_given_are_those_used(bounds: dict[str, Any], verdict: str) -> None:
    assert compared([1, 2], [1.1, 2.1], **bounds).verdict == verdict


def test_rtol_is_of_each_number_not_of_the_largest() -> None:
    assert compared([1, 1000], [1.5, 1000], rtol=0.01).verdict == "fail"


def test_tolerances_of_zero_pass_what_is_equal() -> None:
    assert compared([1, 2], [1, 2], rtol=0.0, atol=0.0).verdict == "pass"


def test_another_shape_fails() -> None:
    x = placeholder("n", 2)
    b = Graph({"x": x}, {"y": ops.Concat(x, x, axis=1)})
    found = verify(Graph({"x": x}, {"y": ops.Relu(x)}), b)
    assert found.verdict == "fail"
    assert found.reason == "y: float32[2, 2] became float32[2, 4]"
    assert found.deviation == math.inf


def test_another_element_type_fails() -> None:
    x = placeholder(3)
    a = Graph({"x": x}, {"y": ops.Relu(x)})
    b = Graph({"x": x}, {"y": ops.Cast(ops.Relu(x), to=11)})
    assert verify(a, b).reason == "y: float32[3] became float64[3]"


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_other_names_cannot_be_compared(kind: str) -> None:
    a = linear(W)
    names: dict[str, Any] = {"inputs": a.inputs, "outputs": a.outputs}
    names[kind] = {"other": next(iter(names[kind].values()))}
    with pytest.raises(BadInput, match=f"different {kind}: only the first has '.' and only"):
        verify(a, Graph(**names))


def test_the_deviation_is_the_largest_share_whatever_was_allowed() -> None:
    feeds = [{"x": floats([1, 0])}, {"x": floats([0, 1])}]
    a, b = linear(floats([1], [1000])), linear(floats([2], [1010]))
    found = [verify(a, b, feeds, error=e).deviation for e in (None, 0.1, 10.0)]
    assert found == [1.0, 1.0, 1.0]


def test_what_float_error_explains_is_no_deviation() -> None:
    x = Value(TensorType(FLOAT, ("n",)))
    up, down = (ops.Sub(ops.Add(x, const(c)), const(c)) for c in ([1.0], [-1.0]))
    a, b = (Graph({"x": x}, {"y": y}) for y in (up, down))
    found = verify(a, b, [{"x": floats(*[4e-7])}])
    (figures,) = found.outputs
    assert figures.difference > 0.1 * figures.scale
    assert found.verdict == "pass"
    assert found.deviation == pytest.approx(64 * 2**-23)


def test_the_deviation_of_what_is_not_explained_is_whole() -> None:
    assert compared([1, 8], [1, 8 * (1 + 2**-20)]).deviation == 2**-20


def test_the_reference_is_not_asked_where_the_outputs_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observed, "reference", pytest.fail)
    found = verify(linear(W), linear(W))
    assert (found.verdict, found.outputs[0].own) == ("pass", 0)
    assert found.outputs[0].allowed == found.outputs[0].rounding > 0


def test_the_reference_of_a_large_model_is_that_of_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feeds = {"x": floats([1.5, -2])}
    usual = observed.reference(linear(W))(feeds)["y"]
    monkeypatch.setattr(float64, "_LARGE", 0)
    assert np.array_equal(observed.reference(linear(W))(feeds)["y"], usual)
    assert usual.dtype == np.float64


# Vacuous: whatever differs, no output depends on it


def test_a_head_of_zeros_shows_nothing() -> None:
    head = np.zeros((3, 4))
    found = verify(linear(W, head), linear(2 * W, head))
    assert found.verdict == "vacuous"
    assert found.outputs[0].scale == 0


def layer_scaled(w: Array, by: float) -> Graph:
    """x + by * (x w): a residual block with a layer scale."""
    x = placeholder("n", 2)
    block = ops.Mul(ops.MatMul(x, const(w)), const(by))
    return Graph({"x": x}, {"y": ops.Add(x, block)})


@pytest.mark.parametrize("head", [np.zeros((3, 4)), np.eye(3, 4)])
def test_constants_of_a_large_model_are_moved_a_few_at_a_time(
    head: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = W * np.float32(1 + 2**-23)
    pair = linear(W, np.eye(3), head), linear(close, np.eye(3) * np.float32(1 + 2**-23), head)
    usual = verify(*pair)
    monkeypatch.setattr(outputs, "_LARGE", 1)
    assert verify(*pair) == usual
    assert usual.verdict == ("pass" if head.any() else "vacuous")


@pytest.mark.parametrize("large", [2**20, 0])
def test_what_became_of_a_large_model_is_not_held_in_onnxruntime(
    monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(observed, "_LARGE", large)
    a = Observed.of(linear(W))
    b = a.successor(linear(2 * W))
    ran = weakref.ref(b.run)
    outputs.compare(a, b)
    assert (ran() is None) == (large == 0)
    assert b.fast(a.feeds[0])["y"].shape == b.outputs[0]["y"].shape


@pytest.mark.parametrize(("scale", "verdict"), [(1e-9, "vacuous"), (1, "fail")])
def test_a_layer_scale_that_drowns_a_block_shows_nothing(scale: float, verdict: str) -> None:
    w = floats([1, 2], [3, 4])
    assert verify(layer_scaled(w, scale), layer_scaled(3 * w, scale)).verdict == verdict


def test_a_block_behind_a_layer_scale_is_seen_where_it_counts() -> None:
    w = floats([1, 2], [3, 4])
    close = w * np.float32(1 + 2**-23)
    assert verify(layer_scaled(w, 1), layer_scaled(close, 1)).verdict == "pass"


def test_it_is_not_vacuous_if_nothing_differs() -> None:
    head = np.zeros((3, 4))
    assert verify(linear(W, head), linear(W, head)).verdict == "pass"


def test_one_output_that_depends_on_it_is_enough() -> None:
    def two(w: Array) -> Graph:
        x = placeholder("n", 2)
        h = ops.MatMul(x, const(w))
        return Graph({"x": x}, {"y": ops.MatMul(h, const(np.zeros((3, 4)))), "h": h})

    assert verify(two(W), two(W * np.float32(1 + 2**-23))).verdict == "pass"


# Skipped: nothing can be run


def test_an_operator_that_cannot_be_run_is_skipped() -> None:
    x = placeholder("n", 2)
    op = ops.opaque("Magic", "custom", 1, [x.type])
    graph = Graph({"x": x}, {"y": Node(op, (x,)).outputs[0]}, opset={"": 21, "custom": 1})
    found = verify(graph, graph)
    assert (found.verdict, found.outputs) == ("skipped", ())
    assert "Magic" in found.reason


def test_an_input_of_unknown_shape_is_skipped() -> None:
    x = Value(TensorType(FLOAT, None))
    graph = Graph({"x": x}, {"y": ops.Relu(x)})
    found = verify(graph, graph)
    assert (found.verdict, "'x'" in found.reason) == ("skipped", True)
    assert verify(graph, graph, [{"x": floats(1, -1)}]).verdict == "pass"


def test_the_same_seed_gives_the_same_figures() -> None:
    a, b = linear(W), linear(W + np.float32(1e-3))
    assert verify(a, b, seed=3) == verify(a, b, seed=3) != verify(a, b, seed=4)


def test_a_verdict_reads_as_json() -> None:
    found = compared([1, 8], [1.5, 8]).as_dict()
    assert list(found) == ["verdict", "reason", "deviation", "ties", "active", "outputs"]
    (output,) = json.loads(json.dumps(found))["outputs"]
    assert set(output) == {"output", "difference", "own", "allowed", "scale"}


def test_an_infinite_difference_reads_as_json() -> None:
    json.dumps(compared([math.nan], [0]).as_dict(), allow_nan=False)


def test_a_model_that_onnxruntime_no_longer_takes_fails() -> None:
    pytest.importorskip("onnxruntime")
    known = plus([0.0, 0.0], "float64")
    (x,) = known.inputs.values()
    refused = Graph(known.inputs, {"y": ops.Elu(x)})  # there is no kernel for float64
    found = verify(known, refused, zeros(2, "float64"))
    assert found.verdict == "fail"
    assert found.reason.startswith("only the first of the two runs: onnxruntime refuses the model")
    assert (found.outputs, found.deviation) == ((), math.inf)
    assert verify(refused, refused, zeros(2, "float64")).verdict == "pass"


def test_the_reason_is_that_of_the_sample_in_the_table() -> None:
    x = placeholder("n")
    a, b = (Graph({"x": x}, {"y": ops.Mul(x, const([f]))}) for f in (1.0, 1.5))
    feeds = [{"x": floats(*row)} for row in ([1.0], [7.0], [3.0])]
    found = verify(a, b, feeds)
    assert (found.outputs[0].difference, found.reason) == (3.5, "y differs by 3.5 of 7")


# Without a tolerance, and with one that is a share of the magnitude


def test_what_differs_has_not_failed_where_nobody_said_how_much_may() -> None:
    found = compared([1, 8], [1.5, 8]).unjudged()
    assert found.verdict == "differs"
    assert found.reason == (
        "by up to 0.062 of its magnitude (y differs by 0.5 of 8); no tolerance given"
    )


def test_what_cannot_be_measured_fails_whatever_was_asked_for() -> None:
    assert compared([1, 8], [math.nan, 8]).unjudged().verdict == "fail"
    assert compared([1, 8], [1, 8]).unjudged().verdict == "pass"


@pytest.mark.parametrize(("error", "verdict"), [(0.07, "pass"), (0.06, "fail")])
def test_an_error_is_a_share_of_the_largest_number(error: float, verdict: str) -> None:
    assert compared([1, 8], [1.5, 8], error=error).verdict == verdict


def test_tolerances_add_up() -> None:
    assert compared([1, 8], [1.5, 8], error=0.05, atol=0.2).verdict == "pass"
    assert compared([1, 8], [1.5, 8], error=0.05, atol=0.05).verdict == "fail"


# What was awake


def hidden(biases: ArrayLike, scale: float = 1.0) -> Graph:
    """Three channels behind a Relu, of which a low bias puts one to sleep; then their sum."""
    x = placeholder("n", 2)
    y = ops.Relu(ops.Gemm(x, const(W * np.float32(scale)), const(biases)))
    return Graph({"x": x}, {"y": ops.MatMul(y, const([[1.0], [1.0], [1.0]]))})


def test_the_share_of_channels_that_were_awake_is_told() -> None:
    biases = [0.0, 0.0, -1e6]
    assert verify(hidden(biases), hidden(biases, 1 + 1e-7)).active == pytest.approx(2 / 3)


def test_where_no_weight_is_new_nothing_is_told() -> None:
    assert verify(linear(W), linear(W)).active is None


def test_outputs_that_are_all_nan_are_said_to_be() -> None:
    nan = ops.Div(const([0.0]), const([0.0]))
    x = placeholder("n", 2)
    a, b = (
        Graph({"x": x}, {"y": ops.Mul(ops.MatMul(x, const(w)), nan)})
        for w in (W, W * np.float32(1 + 1e-7))
    )
    found = verify(a, b)
    assert found.verdict == "vacuous"
    assert "NaN or infinite on what was drawn" in found.reason


def test_numbers_without_an_infinity_may_be_awake_too() -> None:
    x = placeholder("n", 3)
    a, b = (Graph({"x": x}, {"y": ops.Greater(x, const(W[:1] * s))}) for s in (1, 1 + 1e-7))
    assert verify(a, b, [{"x": np.array([[9, 9, 9], [-9, -9, 9]], np.float32)}]).active is not None
