"""uneven-depthwise: what it leaves alone, planted ranks, the conformance kit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redir import ops
from redir.cost.forms import Form, improved
from redir.errors import BadPipeline, Broken
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, Tensor, TensorType
from redir.layers.linear import Linear
from redir.layers.products import by_channel
from redir.passes import uneven_depthwise
from redir.passes.uneven_depthwise import UnevenDepthwise, basis
from redir.passes.uneven_depthwise import forms as separable
from redir.passes.uneven_depthwise.basis import separated, slice_ranks
from redir.passes.uneven_depthwise.forms import Branch, separations
from redir.passes.uneven_depthwise.weight_error import layer_errors
from redir.pipeline import Pipeline
from redir.testing import check_on, check_pass
from tests.helpers import const, placeholder

MIXES = ("copies", "multiples", "whole", "real")


def of(x: Value, y: Value, **more: Value) -> Graph:
    return Graph({"x": x, **more}, {"y": y})


def planted(rng: np.random.Generator, rank: Any, out: int, places: int, mix: str = "real") -> Array:
    """Kernels (out, places) that ``rank`` kernels make."""
    if mix == "real":
        return rng.normal(size=(out, rank)) @ rng.normal(size=(rank, places))
    kernels = rng.integers(-2, 3, (rank, places))
    if mix == "whole":
        return rng.integers(-2, 3, (out, rank)) @ kernels
    routes = np.eye(rank + 1)[rng.integers(0, rank + 1, out), :-1]
    return (routes * (rng.integers(-2, 4, (out, 1)) if mix == "multiples" else 1)) @ kernels


def weights(
    counts: Any, out: int, *size: int, mix: str = "real", seed: int = 0, dtype: str = "float32"
) -> Array:
    """Those of a convolution of channels that have as many kernels: (out, channels, *size)."""
    rng = np.random.default_rng(seed)
    slices = [planted(rng, r, out, int(np.prod(size)), mix) for r in counts]
    return np.stack(slices, 1).reshape(out, len(slices), *size).astype(dtype)


def slices_of(weights: Array, groups: int = 1) -> Array:
    return by_channel(weights, groups).astype(np.float64)


def ranks(weights: Array, groups: int = 1) -> list[int]:
    found: list[int] = slice_ranks(slices_of(weights, groups), weights.dtype).tolist()
    return found


# Planted ranks


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 999))
def test_planted_ranks_come_back(counts: list[int], seed: int) -> None:
    array = weights(counts, 24, 3, 3, seed=seed)
    assert ranks(array) == counts
    parts = separated(slices_of(array), "rank", array.dtype)
    assert np.bincount(parts.channels, minlength=len(counts)).tolist() == counts


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_planted_ranks_come_back_in_any_precision(dtype: str) -> None:
    assert ranks(weights([3, 1, 0, 2], 16, 3, 3, dtype=dtype)) == [3, 1, 0, 2]


@given(st.sampled_from(["copies", "multiples"]), st.integers(0, 999))
def test_planted_kernels_come_back_in_their_basis(mix: str, seed: int) -> None:
    array = weights([4, 2, 1, 0], 16, 3, 3, mix=mix, seed=seed)
    basis: Any = "distinct" if mix == "copies" else "multiples"
    parts = separated(slices_of(array), basis, array.dtype)
    assert np.all(np.bincount(parts.channels, minlength=4) <= [4, 2, 1, 0])


@given(st.sampled_from(MIXES), st.integers(0, 999))
def test_a_rank_is_never_more_than_other_bases(mix: str, seed: int) -> None:
    array = weights([4, 2, 1, 0], 8, 3, 2, mix=mix, seed=seed)
    counts = [
        separated(slices_of(array), basis, array.dtype).channels.size
        for basis in ("rank", "multiples", "distinct")
    ]
    assert counts == sorted(counts)


def test_multiples_by_any_number_are_found() -> None:
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(2, 9))[rng.integers(0, 2, 40)] * rng.normal(size=(40, 1))
    array = kernels.reshape(40, 1, 3, 3).astype(np.float32)
    assert separated(slices_of(array), "multiples", array.dtype).channels.size == 2


def test_ranks_are_those_of_each_group() -> None:
    array = np.concatenate([weights([1, 2], 16, 3, 3), weights([3, 0], 16, 3, 3)])
    assert ranks(array, groups=2) == [1, 2, 3, 0]


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
@pytest.mark.parametrize("basis", ["multiples", "rank"])
def test_ranks_do_not_depend_on_the_scale(scale: float, basis: Any) -> None:
    rows = np.outer(np.random.default_rng(0).normal(size=16), [1, 2, 0, 0.3]) * scale
    assert ranks(rows.reshape(16, 1, 4)) == [1]
    parts = separated(rows[None], basis, rows.dtype)
    np.testing.assert_allclose(parts.factors @ parts.kernels, rows, rtol=1e-12, atol=0)


# Drawn layers


BATCH: st.SearchStrategy[int | str] = st.sampled_from([1, "n"])


@st.composite
def layers(draw: st.DrawFn, *mixes: str) -> Graph:
    """One or two convolutions of any kind, whose kernels are planted, behind each other."""
    rng = np.random.default_rng(draw(st.integers(0, 99_999)))
    mix = draw(st.sampled_from(mixes or MIXES))
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    sides = (6 - rank,) * rank
    x = value = placeholder(draw(BATCH), groups * int(rng.integers(1, 4)), *sides)
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        value = ops.Relu(drawn_layer(draw, rng, value, groups, mix))
    return of(x, value)


def drawn_layer(
    draw: st.DrawFn, rng: np.random.Generator, x: Value, groups: int, mix: str
) -> Value:
    channels, sides = x.type.size(1) or 1, (x.type.shape or ())[2:]
    rank, out, groups = len(sides), int(rng.integers(2, 6)), groups if channels % groups == 0 else 1
    most = [min(3, side) if isinstance(side, int) else 2 for side in sides]
    size = [int(rng.integers(1, n + 1)) for n in most]
    counts = rng.integers(0, 4, channels)
    slices = np.stack([planted(rng, r, out, int(np.prod(size)), mix) for r in counts])
    bias = [const(rng.integers(-3, 4, groups * out))] if draw(st.booleans()) else []
    attrs: dict[str, Any] = {"strides": tuple(map(int, rng.integers(1, 3, rank)))}
    attrs |= draw_padding(draw, rng, x, size)
    if draw(st.booleans()):
        flat = slices.reshape(channels, out, *size)
        return ops.ConvTranspose(x, const(flat), *bias, **attrs, group=groups)
    apart = slices.reshape(groups, -1, out, *size).swapaxes(1, 2)
    return ops.Conv(x, const(apart.reshape(groups * out, -1, *size)), *bias, **attrs)


def draw_padding(
    draw: st.DrawFn, rng: np.random.Generator, x: Value, size: list[int]
) -> dict[str, Any]:
    """Pads and dilations by which a kernel still fits."""
    how = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if how != "NOTSET":
        return {"auto_pad": how}
    sides = (x.type.shape or ())[2:]
    most = [
        int(side) // n if isinstance(side, int) else 1 for side, n in zip(sides, size, strict=True)
    ]
    pads = tuple(map(int, rng.integers(0, 2, 2 * len(size))))
    return {"pads": pads, "dilations": tuple(int(rng.integers(1, min(n, 2) + 1)) for n in most)}


@dataclass(frozen=True)
class Anything:
    """Takes every form for an improvement, so that each is put to the test."""

    by_parts: bool = True
    zeros_free: bool = True
    measured: bool = False

    def ratio(self, before: Graph, after: Graph) -> float:
        return 0.5 if len(before.nodes) != len(after.nodes) else 1.0


def only(form: int) -> Callable[[Linear, Any], list[Form]]:
    """The forms, but for all others than one."""
    return lambda layer, parts: [(found := separations(layer, parts))[form % len(found)]]


def some() -> int:
    """As many examples as fit into a few seconds, and more at night."""
    return settings().max_examples // 5


@pytest.mark.parametrize("basis", ["distinct", "multiples", "rank"])
def test_keeps_its_promises(basis: Any) -> None:
    check_pass(UnevenDepthwise(basis), layers(), some())


@pytest.mark.parametrize("cost", ["bytes", "multiplications"])
def test_keeps_its_promises_at_other_costs(cost: str) -> None:
    check_pass(UnevenDepthwise(cost=cost), layers(), some())


@pytest.mark.parametrize("form", range(5))
@pytest.mark.parametrize("error", [0.0, 0.2])
def test_keeps_its_promises_in_every_form(
    form: int, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uneven_depthwise, "separations", only(form))
    check_pass(UnevenDepthwise(error=error, cost=Anything()), layers(), some())


@pytest.mark.parametrize("error", [0.01, 0.5, 0.9])
def test_keeps_within_its_error(error: float) -> None:
    check_pass(UnevenDepthwise(error=error), layers(), some())


def test_keeps_its_promises_among_other_operators() -> None:
    check_pass(UnevenDepthwise(), None, 2 * settings().max_examples)


@given(layers(), st.sampled_from([0.0, 0.3]))
def test_runs_once(graph: Graph, error: float) -> None:
    step = UnevenDepthwise(error=error, cost=Anything())
    after = step(graph)
    assert step(after) is after


# What is left alone

X = placeholder(1, 2, 4, 4)
W = weights([1, 1], 8, 3, 3)
LOW = const(W)
WEIGHT = placeholder(8, 2, 3, 3)
DEPTHWISE = ops.Conv(X, const(weights([1], 8, 3, 3)))
OPEN = placeholder(1, "channels", 4, 4)
UNRANKED = Value(TensorType(np.dtype(np.float32)))


def spoilt(number: float) -> Value:
    array = W.copy()
    array[0, 0, 0, 0] = number
    return const(array)


LEFT_ALONE: dict[str, tuple[str, Graph]] = {
    "weights come from outside": (
        "its weights are not a constant",
        of(X, ops.Conv(X, WEIGHT), weight=WEIGHT),
    ),
    "weights may be overridden": (
        "its weights are not a constant",
        Graph({"x": X, "w": WEIGHT}, {"y": ops.Conv(X, WEIGHT)}, defaults={"w": Tensor(W)}),
    ),
    "open channels": (
        "the number of its channels is not known",
        of(OPEN, ops.Conv(OPEN, LOW)),
    ),
    "unknown rank": (
        "the number of its channels is not known",
        of(UNRANKED, ops.Conv(UNRANKED, LOW)),
    ),
    "pointwise": (
        "its kernels have one place: it is pointwise",
        of(X, ops.Conv(X, const(np.ones((8, 2, 1, 1))))),
    ),
    "infinite weights": ("its weights are not finite", of(X, ops.Conv(X, spoilt(np.inf)))),
    "weights that are not numbers": (
        "its weights are not finite",
        of(X, ops.Conv(X, spoilt(np.nan))),
    ),
    "zeros": ("its weights are all zero", of(X, ops.Conv(X, const(0 * W)))),
    "separated before": (
        "it is depthwise, with a pointwise convolution behind it",
        of(X, ops.Conv(ops.Conv(X, const(np.ones((8, 1, 3, 3)))), const(np.ones((3, 8, 1, 1))))),
    ),
    "independent kernels": (
        "no channel has fewer kernels than it has outputs or places",
        of(X, ops.Conv(X, const(weights([9, 9], 16, 3, 3)))),
    ),
    "too many kernels": (
        "its cheapest form has 1.06 of its macs",
        of(X, ops.Conv(X, const(weights([4, 5], 8, 3, 3)))),
    ),
}


def test_the_layer_that_the_cases_below_spoil_is_separated() -> None:
    after = check_on(UnevenDepthwise(), of(X, ops.Conv(X, LOW)))
    assert [n.op.name for n in after.nodes if n.inputs] == ["Conv", "Conv"]
    assert list(UnevenDepthwise().explain(of(X, ops.Conv(X, LOW)))) == []


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_left_alone(case: str) -> None:
    why, graph = LEFT_ALONE[case]
    assert UnevenDepthwise()(graph) is graph
    assert f"Conv: {why}" in list(UnevenDepthwise().explain(graph))


def test_every_kernel_is_distinct() -> None:
    graph = of(X, ops.Conv(X, const(weights([2, 2], 8, 3, 3))))
    assert UnevenDepthwise("distinct")(graph) is graph
    assert UnevenDepthwise("multiples")(graph) is graph
    (why,) = UnevenDepthwise("distinct").explain(graph)
    assert why == "Conv: no channel has fewer kernels than it has outputs or places"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("basis=svd", "basis='svd' is not"),
        ("error=1", "at least 0 and below 1, not 1.0"),
        ("error=-0.1", "at least 0 and below 1, not -0.1"),
        ("error=nan", "at least 0 and below 1, not nan"),
        ("error=0.1,basis=distinct", "error is for basis=rank, not distinct"),
        ("cost=joules", "no cost model is called 'joules'"),
    ],
)
def test_wrong_options(options: str, why: str) -> None:
    with pytest.raises(BadPipeline, match=why):
        Pipeline.parse(f"uneven-depthwise{{{options}}}")


def test_a_basis_that_is_none() -> None:
    with pytest.raises(BadPipeline, match="'svd' is none of distinct, multiples, rank"):
        UnevenDepthwise("svd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "step",
    [
        UnevenDepthwise(),
        UnevenDepthwise("distinct", cost="bytes"),
        UnevenDepthwise(error=0.25, cost="latency"),
    ],
)
def test_reads_back_from_its_text(step: UnevenDepthwise) -> None:
    assert Pipeline.parse(str(step)).passes == (step,)


# Types, and what is exact


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("mix", ["whole", "copies", "multiples"])
def test_whole_numbers_stay_exact_in_any_type(dtype: str, mix: str) -> None:
    conv = ops.lookup("Conv", 22)
    assert conv is not None
    x = placeholder(1, 3, 4, 4, dtype=dtype)
    kernels = const(weights([1, 0, 2], 16, 3, 3, mix=mix), dtype)
    after = check_on(UnevenDepthwise(), Graph({"x": x}, {"y": conv(x, kernels)}, opset={"": 22}))
    assert after.outputs["y"].type == conv(x, kernels).type
    assert len([n for n in after.nodes if n.op == ops.Conv]) == 2


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounded_numbers_are_made_up_to_rounding(dtype: str) -> None:
    x, kernels = placeholder(1, 3, 4, 4, dtype=dtype), weights([1, 0, 2], 16, 3, 3, dtype=dtype)
    after = check_on(UnevenDepthwise(), of(x, ops.Conv(x, const(kernels, dtype))))
    assert len([n for n in after.nodes if n.op == ops.Conv]) == 2


def test_kernels_of_bfloat16_are_made_exactly_or_not_at_all() -> None:
    conv = ops.lookup("Conv", 22)
    assert conv is not None
    x = placeholder(1, 1, 4, 4, dtype="bfloat16")
    graph = of(x, conv(x, const(weights([2], 16, 3, 3), "bfloat16")))
    assert UnevenDepthwise()(graph) is graph


def test_a_rank_that_takes_thirds_is_not_taken_of_whole_kernels() -> None:
    rows = np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2], [1, 1, 1]]) * 3
    rows[3] = rows[:3].sum(0) // 4
    parts = separated(rows[None].astype(float) @ np.eye(3, 9), "rank", np.dtype(np.float32))
    made = parts.factors @ parts.kernels
    assert np.array_equal(made, rows @ np.eye(3, 9))


def test_the_first_convolution_of_an_old_model_is_saved_in_its_operator_set() -> None:
    conv = ops.lookup("Conv", 7)
    assert conv is not None
    after = UnevenDepthwise()(Graph({"x": X}, {"y": conv(X, LOW)}, opset={"": 7}))
    assert {n.op.version for n in after.nodes if n.op == ops.Conv} == {conv.version}


def test_a_bias_that_is_no_constant_goes_to_the_pointwise() -> None:
    bias = placeholder(8)
    check_on(UnevenDepthwise(), of(X, ops.Conv(X, LOW, bias), bias=bias))


# What the guarantees refute


def test_the_error_of_a_layer_is_that_of_its_weights() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(2, 4, 2, 3, 3))
    before, after = (of(X, ops.Conv(X, const(w), pads=(1, 1, 1, 1))) for w in (old, new))
    ((node, error),) = layer_errors(before, after)
    assert node is before.outputs["y"].node
    assert error == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-5)


@given(layers("real"))
def test_layers_without_an_error_have_none(graph: Graph) -> None:
    after = UnevenDepthwise(cost=Anything())(graph)
    assert max((error for _, error in layer_errors(graph, after)), default=0) < 1e-5


padded, depthwise, truncate = separable._padded, separable._depthwise, basis.truncated
levels, pointwise = separable._levels, separable._pointwise


def turned(layer: Linear, parts: Any, branch: Branch) -> Array:
    factors = padded(parts.factors, 1)[:, branch.places].reshape(len(parts.factors), -1)
    flat = np.tile(factors, (layer.groups, 1))[:, : factors.shape[1] // layer.groups]
    return flat.reshape(*flat.shape, *[1] * len(layer.kernel))


def in_order(layer: Linear, parts: Any, branch: Branch, x: Value) -> Value:
    channels = np.sort(branch.channels % layer.channels)
    return depthwise(layer, parts, Branch(channels, branch.places), x)


def biased_twice(layer: Linear, applied: Any, factors: Any, bias: tuple[Value, ...]) -> Value:
    each = [pointwise(layer, x, f, bias) for x, f in zip(applied, factors, strict=True)]
    return ops.Sum(*each)


def without_strides(layer: Linear, parts: Any, branch: Branch, x: Value) -> Value:
    node = depthwise(layer, parts, branch, x).node
    assert node is not None
    left = {k: a for k, a in node.attrs.items() if k not in {"strides", "auto_pad"}}
    return Node(node.op, node.inputs, left).outputs[0]


def turned_kernels(layer: Linear, parts: Any, branch: Branch, x: Value) -> Value:
    flipped = basis.Separation(parts.channels, parts.kernels[:, ::-1], parts.factors)
    return depthwise(layer, flipped, branch, x)


def fewer(slices: Array, *_: Any) -> Array:
    return np.minimum(slice_ranks(slices, np.dtype(np.float32)), 1)


WHOLE, RUNS, LEVELS_ADDED = 0, 1, -1
SLOWLY = "mixes up channels"
WRONG: dict[str, tuple[object, str, object, int]] = {
    "leaves groups uneven": (Branch, "even", lambda branch, _: branch, WHOLE),
    "takes factors of the wrong group": (separable, "_factors", turned, WHOLE),
    SLOWLY: (separable, "_depthwise", in_order, RUNS),
    "adds the bias with each part": (separable, "_added", biased_twice, LEVELS_ADDED),
    "forgets strides": (separable, "_depthwise", without_strides, WHOLE),
    "turns kernels round": (separable, "_depthwise", turned_kernels, WHOLE),
    "drops the last level": (
        separable,
        "_levels",
        lambda p: levels(p)[:-1] or levels(p),
        LEVELS_ADDED,
    ),
    "rounds whole numbers": (basis, "_is_whole", lambda _: False, WHOLE),
}


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize(
    "wrong", [pytest.param(w, marks=[pytest.mark.nightly] * (w == SLOWLY)) for w in WRONG]
)
def test_a_wrong_pass_that(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, part, form = WRONG[wrong]
    monkeypatch.setattr(place, name, part)
    monkeypatch.setattr(uneven_depthwise, "separations", only(form))
    with pytest.raises(Broken, match=r"differs|IllTyped|was float32|ValueError|IndexError"):
        check_pass(UnevenDepthwise(cost=Anything()), layers(), 600)


@pytest.mark.usefixtures("unshrunk")
def test_a_wrong_pass_that_accepts_too_low_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis, "slice_ranks", fewer)
    monkeypatch.setattr(basis, "_makes", lambda *_: True)
    with pytest.raises(Broken, match="differs"):
        check_pass(UnevenDepthwise(cost=Anything()), layers(), 600)


@pytest.mark.usefixtures("unshrunk")
def test_a_wrong_pass_that_spends_its_error_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lambda slices, error, dtype: truncate(slices, 2 * error, dtype)  # noqa: E731
    monkeypatch.setattr(uneven_depthwise, "truncated", wrong)
    with pytest.raises(Broken, match=r"the weights of Conv\S* are off by"):
        check_pass(UnevenDepthwise(error=0.3), layers("real"), 600)


@pytest.mark.usefixtures("unshrunk")
def test_a_wrong_pass_that_looks_at_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lambda graph, offers, _: improved(graph, offers, Anything())  # noqa: E731
    monkeypatch.setattr(uneven_depthwise, "improved", wrong)
    with pytest.raises(Broken, match="no more macs"):
        check_pass(UnevenDepthwise(), layers("real"), 600)
