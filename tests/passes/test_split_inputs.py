"""split-inputs: what it leaves alone, planted repetitions, mutants, real models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st

import redir
from redir import ops
from redir.check.guarantees import SAME_OUTPUTS
from redir.check.outputs import verify
from redir.cost import forms as choice
from redir.cost import macs, multiplications, nbytes, products, total
from redir.cost.models import MACS, MULTIPLICATIONS, Count
from redir.errors import BadPipeline, Broken
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, Tensor, TensorType
from redir.layers import products as sharing
from redir.layers.linear import Linear
from redir.layers.products import Products, by_channel, shared
from redir.ops import tensor_of
from redir.passes import split_inputs
from redir.passes.split_inputs import SplitInputs
from redir.passes.split_inputs import forms as splitting
from redir.pipeline import Pipeline
from redir.pipeline.renaming import renamed
from redir.runtime.onnxruntime import installed
from redir.testing import check_on, check_pass, graphs
from redir.text import parse
from tests.helpers import const, operators, placeholder
from tests.passes.test_golden import FOLDER, given

FLOAT = np.dtype(np.float32)
COSTS = ("macs", "multiplications", "bytes")
Edges = tuple[int, ...]


def of(y: Value, *inputs: Value, **more: object) -> Graph:
    """The graph of ``y`` from what it reads, x0 on."""
    named = {f"x{i}": x for i, x in enumerate(inputs)}
    return Graph(named, {"y": y}, **more)  # type: ignore[arg-type]


def constants(graph: Graph) -> list[Array]:
    return [t.array for n in graph.nodes if (t := tensor_of(n.outputs[0])) is not None]


X = placeholder(1, 2, 5, 5)
KERNELS = np.arange(1, 10).reshape(1, 1, 3, 3) ** np.array([1, 2]).reshape(2, 1, 1, 1)
SPLIT = KERNELS[np.array([[0, 1]] * 12)][:, :, 0]
"""Twelve outputs that read either of two inputs with one kernel (12, 2, 3, 3)."""


# What it leaves alone


def test_what_the_cases_below_spoil_is_split() -> None:
    assert operators(check_on(SplitInputs(), of(ops.Conv(X, const(SPLIT)), X))) == ["Conv", "Conv"]
    assert operators(check_on(PAPER, of(ops.MatMul(FLAT, const(ROWS)), FLAT))) == [
        "Gather",
        "Mul",
        "MatMul",
    ]


PAPER = SplitInputs("multiplications")
FLAT = placeholder("n", 4)
ROWS = np.array([[2, 3, 2, 3, 2], [3, 5, 5, 3, 5], [7, 7, 7, 7, 7], [2, 2, 3, 3, 3]])

Y, WHOLE, OPEN, OPEN_KERNEL = (
    placeholder(4, 3),
    placeholder("n", 4, dtype=np.int64),
    placeholder(1, "c", 5, 5),
    placeholder(1, 2, 5, 5),
)
UNRANKED = Value(TensorType(FLOAT))

LEFT_ALONE = {
    "its weights are not a constant": lambda: of(ops.MatMul(FLAT, Y), FLAT, Y),
    "it does not depend on the inputs": lambda: of(
        ops.Add(FLAT, ops.MatMul(const([[1, 2, 3, 4]]), const(ROWS[:, :4]))), FLAT
    ),
    "its weights are int64, not floating-point numbers": lambda: of(
        ops.MatMul(WHOLE, const(ROWS, np.int64)), WHOLE
    ),
    "a weight is infinite or not a number": lambda: of(
        ops.MatMul(FLAT, const(np.where(ROWS == 5, np.inf, ROWS))), FLAT
    ),
    "its weights are all zero": lambda: of(ops.MatMul(FLAT, const(0 * ROWS)), FLAT),
    "the number of its input channels is not known": lambda: of(ops.Conv(OPEN, const(SPLIT)), OPEN),
    "its groups or its kernel are not those of its weights": lambda: of(
        ops.Conv(OPEN_KERNEL, const(SPLIT), kernel_shape=(3, 4)), OPEN_KERNEL
    ),
    "its weights have 3 axes, not 2": lambda: of(ops.MatMul(FLAT, const([ROWS])), FLAT),
    "the number of axes of its input is not known": lambda: of(
        ops.MatMul(UNRANKED, const(ROWS)), UNRANKED
    ),
    "before operator set 7 a Mul does not broadcast": lambda: of(
        ops.MatMul(FLAT, const(ROWS)), FLAT, opset={"": 6}
    ),
    "too few products are the same": lambda: of(
        ops.MatMul(FLAT, const(np.arange(2, 22).reshape(4, 5))), FLAT
    ),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_left_alone(why: str) -> None:
    graph = LEFT_ALONE[why]()
    assert PAPER(graph) is graph
    assert [line.partition(": ")[2] for line in PAPER.explain(graph)] == [why]


def test_a_weight_that_may_be_overridden_is_left_alone() -> None:
    w = placeholder(4, 5)
    graph = of(ops.MatMul(FLAT, w), FLAT, w, defaults={"x1": Tensor(ROWS.astype(FLOAT))})
    assert PAPER(graph) is graph


def test_a_form_that_does_not_pay_is_explained() -> None:
    graph = of(ops.Conv(X, const(SPLIT), dilations=(2, 2)), X)
    dear = replace(MACS, of=lambda g: macs(g) + 1000 * len(g.nodes))
    (line,) = SplitInputs(dear).explain(graph)
    assert line.startswith("Conv: split, it would cost ")
    assert SplitInputs(dear)(graph) is graph


def test_a_routing_that_is_too_large_to_store_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = of(ops.MatMul(FLAT, const(ROWS)), FLAT)
    width = shared(by_channel(ROWS.T.astype(FLOAT)), largest=1).width
    monkeypatch.setattr(splitting, "_LARGEST", 5 * width * 4)
    assert PAPER(graph) is not graph
    monkeypatch.setattr(splitting, "_LARGEST", 5 * width * 4 - 1)
    assert PAPER(graph) is graph


# Forms


def first(graph: Graph, op: str) -> Node:
    return next(n for n in graph.nodes if n.op.name == op)


def test_distinct_kernels_are_gathered_computed_and_routed() -> None:
    bias = const(np.arange(12))
    weights = np.repeat(SPLIT[:1], 12, 0)
    weights[3, 1] = KERNELS[0]
    y = ops.Conv(X, const(weights), bias, strides=(2, 1), pads=(1, 0, 0, 2), dilations=(1, 2))
    after = check_on(SplitInputs(), of(y, X))
    gather, depthwise, pointwise = (n for n in after.nodes if n.inputs)
    assert tensor_of(gather.inputs[1]) == Tensor(np.array([0, 1, 1]))
    assert depthwise.attrs == y.node.attrs  # type: ignore[union-attr]
    assert (pointwise.attrs, pointwise.inputs[2]) == ({}, bias)


def test_multiples_share_a_product() -> None:
    x, factors = placeholder(1, 1, 5, 5), np.array([1, 3, -2, 0.5, 0, 1])
    y = ops.Conv(x, const(KERNELS[:1] * factors.reshape(6, 1, 1, 1)))
    after = check_on(SplitInputs(), of(y, x))
    kernel, routing = constants(after)
    assert np.array_equal(kernel, KERNELS[:1] / 2)
    assert np.array_equal(routing.ravel(), factors * 2)


def test_groups_stay_and_are_filled_up_to_one_size() -> None:
    x = placeholder(1, 4, 5, 5)
    groups = [np.repeat(SPLIT[:1], 12, 0) for _ in range(2)]
    groups[1][3, 1] = KERNELS[0]
    after = check_on(SplitInputs(), of(ops.Conv(x, const(np.concatenate(groups))), x))
    index, kernels, routing = constants(after)
    assert index.tolist() == [0, 1, 0, 2, 3, 3]
    assert (kernels.shape, routing.shape) == ((6, 1, 3, 3), (24, 3, 1, 1))
    assert not kernels[2].any()


def test_numbers_come_before_a_conv_that_routes() -> None:
    weights = np.random.default_rng(0).integers(0, 2, (4, 2, 3, 3)) * 3
    y = ops.Conv(X, const(weights), strides=(2, 2), auto_pad="VALID")
    after = check_on(PAPER, of(y, X))
    scale, routing = (n for n in after.nodes if n.inputs)
    assert (scale.attrs, routing.attrs) == ({}, y.node.attrs)  # type: ignore[union-attr]
    assert set(np.unique(constants(after)[1])) == {0, 1}


def test_a_pointwise_conv_is_scaled_where_its_stride_leaves_numbers() -> None:
    x = placeholder(1, 2, 5, 5)
    y = ops.Conv(x, const([[[[2]], [[3]]], [[[2]], [[5]]], [[[-2]], [[3]]]]), strides=(2, 2))
    after = check_on(PAPER, of(y, x))
    assert products(after) == 9 * 3
    assert first(after, "Conv").attrs == y.node.attrs  # type: ignore[union-attr]


def test_each_matrix_is_split_the_way_it_lies() -> None:
    """The constant on either side, each of them as it is or transposed."""
    x = placeholder(4, 4)
    for side in (0, 1):
        for attrs in ({}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1, "alpha": 0.5}):
            w = const(np.kron(np.array([[2, 3], [5, 7]]), np.ones((2, 2))) + np.eye(4))
            c = const([1, 2, 3, 4])
            y = ops.Gemm(*(x, w)[:: 1 if side else -1], c, **attrs)
            after = check_on(PAPER, of(y, x))
            assert products(after) < products(of(y, x))
            assert first(after, "Gemm").attrs == y.node.attrs  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), ("a", "b", 4)], ids=str)
def test_a_matrix_on_the_right_of_any_batch(shape: tuple[int | str, ...]) -> None:
    x = placeholder(*shape)
    before = of(ops.MatMul(x, const(ROWS)), x)
    assert products(check_on(PAPER, before)) < products(before)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 4, 3), ("a", 4, "b")], ids=str)
def test_a_matrix_on_the_left_of_any_batch(shape: tuple[int | str, ...]) -> None:
    x = placeholder(*shape)
    before = of(ops.MatMul(const(ROWS.T), x), x)
    assert products(check_on(PAPER, before)) < products(before)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float64"], ids=str)
def test_other_floating_types(dtype: Any) -> None:
    x = placeholder(1, 2, 5, 5, dtype=dtype)
    conv = lookup("Conv", 22)
    before = of(conv(x, const(SPLIT, dtype), const(np.arange(12), dtype)), x, opset={"": 22})
    after = check_on(SplitInputs(), before)
    assert operators(after) == ["Conv", "Conv"]
    assert {a.dtype for a in constants(after)} == {np.dtype(dtype)}


def lookup(name: str, opset: int) -> Any:
    found = ops.lookup(name, opset)
    assert found is not None
    return found


@pytest.mark.parametrize("opset", [1, 7, 11, 21])
def test_a_conv_is_split_in_its_own_version(opset: int) -> None:
    before = of(lookup("Conv", opset)(X, const(SPLIT)), X, opset={"": opset})
    after = check_on(SplitInputs(), before)
    assert {n.op.version for n in after.nodes if n.op.name == "Conv"} == {1 if opset < 11 else 11}


def test_under_bytes_a_conv_repeats_channels_without_a_gather() -> None:
    weights = np.concatenate([SPLIT, SPLIT + KERNELS[0] ** 3])
    before = of(ops.Conv(X, const(weights)), X)
    assert operators(check_on(SplitInputs("bytes"), before)) == ["Conv", "Conv"]
    assert operators(check_on(SplitInputs(), before)) == ["Gather", "Conv", "Conv"]


def test_each_cost_takes_what_pays_in_it() -> None:
    rng = np.random.default_rng(0)
    weights = rng.choice([0.25, 0.5, 0.75, 1.25], (8, 2, 3, 3))
    weights[2:] = weights[rng.integers(0, 2, 6)]
    before = of(ops.Conv(X, const(weights)), X)
    after = {cost: check_on(SplitInputs(cost), before) for cost in COSTS}
    for count, cost in ((macs, "macs"), (products, "multiplications"), (nbytes, "bytes")):
        least = min((count(g), name != cost) for name, g in after.items())
        assert least == (count(after[cost]), False)
        assert count(after[cost]) < count(before)


def test_the_papers_count_is_reached() -> None:
    weights = np.random.default_rng(0).choice([0, 1, 2, 3, 5, 7], (8, 2, 3, 3))
    x = placeholder("n", 2, 6, 6)
    before = of(ops.Conv(x, const(weights), pads=(1, 1, 1, 1)), x)
    assert products(PAPER(before)) == total(before).multiplications == 2 * 36 * 4


# Shared weights


WIDE_X = placeholder(1, 12, 5, 5)
WIDE = np.concatenate([SPLIT] * 6, 1)


def test_a_weight_that_two_layers_read_is_split_once() -> None:
    w = const(WIDE)
    before = of(ops.Conv(ops.Conv(WIDE_X, w, pads=(1,) * 4), w), WIDE_X)
    after = check_on(SplitInputs("bytes"), before)
    assert operators(after) == ["Conv"] * 4
    assert len(constants(after)) == 2


def test_a_weight_that_is_also_returned_is_not_split_for_bytes() -> None:
    w, other = const(WIDE), const(WIDE)
    y = ops.Conv(ops.Conv(WIDE_X, w, pads=(1,) * 4), other)
    before = Graph({"x": WIDE_X}, {"y": y, "w": ops.Add(w, w)})
    assert operators(check_on(SplitInputs("bytes"), before)) == [*["Conv"] * 3, "Add"]
    assert operators(check_on(SplitInputs(), before)) == [*["Conv"] * 4, "Add"]


# Names


def test_the_result_keeps_its_name_and_the_weight_is_gone() -> None:
    before = parse(given(FOLDER / "split-inputs" / "kernels-macs.txt")[1])
    after = SplitInputs()(before)
    entries = {name: entry["name"] for name, entry in renamed(before, after).items()}
    assert entries == {"w": None, "b": "b"}
    assert [n.name for n in after.nodes if n.inputs] == ["", "", "y"]


# Drawn layers


def planted(rng: np.random.Generator, outputs: int, inputs: int, *kernel: int) -> Array:
    """Weights of which many kernels are equal, or multiples, and some are zero."""
    kernels = rng.integers(-3, 4, (2, inputs, *kernel))
    which = kernels[rng.integers(0, 2, (outputs, inputs)), np.arange(inputs)]
    factor = rng.choice([-2, -1, 0, 1, 1, 1, 2, 3], (outputs, inputs))
    found: Array = which * factor.reshape(outputs, inputs, *(1,) * len(kernel))
    return found


BATCH: st.SearchStrategy[int | str] = st.sampled_from([1, 2, "n"])


@st.composite
def convs(draw: st.DrawFn, weights: Callable[..., Array] = planted) -> Graph:
    """A Conv of one to three spatial axes, with any groups, strides, dilations and pads."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    per = int(rng.integers(1, 3))

    def each(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.integers(low, high + 1, count))

    kernel, outputs = each(1, 3), groups * int(rng.integers(1, 9))
    attrs: dict[str, Any] = {"strides": each(1, 2)}
    if draw(st.booleans()):
        attrs |= {"pads": each(0, 2, 2 * rank), "dilations": each(1, 2)}
    else:
        attrs |= {"auto_pad": draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))}
    x = placeholder(draw(BATCH), groups * per, *each(5, 7))
    bias = [const(rng.integers(-3, 4, outputs))] * draw(st.integers(0, 1))
    y = ops.Conv(x, const(weights(rng, outputs, per, *kernel)), *bias, **attrs)
    return of(ops.Relu(y), x)


@st.composite
def matrices(draw: st.DrawFn) -> Graph:
    """A Gemm or MatMul by a constant on either side."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    side, rows, inputs, outputs = draw(st.integers(0, 1)), 2, 3, int(rng.integers(1, 9))
    w = planted(rng, outputs, inputs)
    if draw(st.booleans()):
        batch = draw(st.sampled_from([(), (2,), ("n", 2)]))
        x = placeholder(*batch, *((rows, inputs) if side else (inputs, rows)))
        return of(ops.MatMul(x, const(w.T)) if side else ops.MatMul(const(w), x), x)
    flags = {"transA": draw(st.integers(0, 1)), "transB": draw(st.integers(0, 1))}
    across = [bool(flags[key]) for key in ("transA", "transB")]
    x = placeholder(*((rows, inputs) if (side == 1) != across[1 - side] else (inputs, rows)))
    held = const(w.T if (side == 1) != across[side] else w)
    c = [const(rng.integers(-3, 4, draw(st.sampled_from([(), (1,), (1, 1)]))))] * draw(
        st.integers(0, 1)
    )
    y = ops.Gemm(*((x, held) if side else (held, x)), *c, **flags, alpha=2.0, beta=0.5)
    return of(y, x)


@pytest.mark.parametrize("cost", COSTS)
def test_keeps_its_promises_on_a_conv(cost: str) -> None:
    check_pass(SplitInputs(cost), convs())


def test_keeps_its_promises_on_a_matrix() -> None:
    check_pass(PAPER, matrices())


def test_keeps_its_promises_on_whole_graphs() -> None:
    check_pass(PAPER, graphs("conv", "grouped", "depthwise", "gemm", "matmul", "shared_weight"))


def fractions(rng: np.random.Generator, outputs: int, inputs: int, *kernel: int) -> Array:
    """Weights that are multiples of others but for rounding."""
    factors = rng.choice([1, 1, 3, 0.3, -1.7], (outputs, inputs, *(1,) * len(kernel)))
    found: Array = rng.normal(size=(inputs, *kernel)).astype(FLOAT) * factors
    return found


def test_multiples_that_are_rounded_keep_the_promises() -> None:
    check_pass(SplitInputs(), convs(fractions))


# Wrong versions


def no_bias(layer: Linear, parts: Any, inputs: tuple[Value, ...]) -> Value:
    return RIGHT["_kernels_first"](layer, parts, inputs[:2])  # type: ignore[no-any-return]


def other_pads(layer: Linear, parts: Any, inputs: tuple[Value, ...]) -> Value:
    ends = layer.node.attrs.get("pads", ())[::-1]
    turned = replace(
        layer, node=layer.node.on(layer.node.inputs, **({"pads": ends} if ends else {}))
    )
    return RIGHT["_kernels_first"](turned, parts, inputs)  # type: ignore[no-any-return]


def strides_twice(layer: Linear, parts: Any, inputs: tuple[Value, ...]) -> Value:
    y, node = RIGHT["_kernels_first"](layer, parts, inputs), layer.node
    return node.op(*y.node.inputs, strides=node.attrs["strides"])


def attributes_early(layer: Linear, parts: Any, inputs: tuple[Value, ...]) -> Value:
    """The strides and pads on the scales, not on what routes."""
    y, node = RIGHT["_numbers_first"](layer, parts, inputs), layer.node
    x, kernels = y.node.inputs[0].node.inputs
    return node.op(node.op(x, kernels, **node.attrs), *y.node.inputs[1:])


RIGHT: dict[str, Any] = {
    **{name: getattr(splitting, name) for name in ("_kernels_first", "_numbers_first")},
    **{name: getattr(sharing, name) for name in ("_times", "_first_equal")},
    "routing": Products.routing,
    "improved": choice.improved,
}

WRONG: dict[str, tuple[Any, str, Any]] = {
    "forgets the bias": (splitting, "_kernels_first", no_bias),
    "reverses the pads": (splitting, "_kernels_first", other_pads),
    "strides twice": (splitting, "_kernels_first", strides_twice),
    "strides the scales": (splitting, "_numbers_first", attributes_early),
    "forgets signs": (Products, "routing", lambda p: abs(RIGHT["routing"](p))),
    "forgets factors": (Products, "routing", lambda p: np.sign(RIGHT["routing"](p))),
    "routes in reverse": (Products, "routing", lambda p: RIGHT["routing"](p)[..., ::-1]),
    "routes to the next kernel": (
        Products,
        "routing",
        lambda p: np.roll(RIGHT["routing"](p), 1, axis=1),
    ),
    "confuses groups": (Products, "routing", lambda p: RIGHT["routing"](p)[::-1]),
    "takes what is nearly a multiple": (
        sharing,
        "_times",
        lambda _, lead, first, *_more: (lead / np.take_along_axis(lead, first, 1), lead != 0),
    ),
    "looks at the first number only": (
        sharing,
        "_first_equal",
        lambda rows, rank=None: RIGHT["_first_equal"](rows[..., :1], rank),
    ),
    "forgets the channel": (
        splitting,
        "_gathered",
        lambda parts, x, axis: ops.Gather(
            x, const(0 * parts.products.channels, np.int64), axis=axis
        ),
    ),
    "takes what costs most": (
        split_inputs,
        "improved",
        lambda graph, offers, cost: RIGHT["improved"](graph, offers, Contrary(cost)),
    ),
}


@dataclass(frozen=True)
class Contrary:
    """What costs more costs less."""

    cost: Count
    by_parts: bool = True
    zeros_free: bool = True
    measured: bool = False

    def ratio(self, before: Graph, after: Graph) -> float:
        return self.cost.ratio(after, before)


def nearly(rng: np.random.Generator, outputs: int, inputs: int, *kernel: int) -> Array:
    """Weights that are multiples but for more than rounding."""
    found: Array = 1 + 1e-5 * rng.normal(size=(outputs, inputs, *kernel))
    return found


LONG = "takes what costs most"  # its forms are large, and few of the drawn layers tell


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize(
    "why", [*(w for w in WRONG if w != LONG), pytest.param(LONG, marks=pytest.mark.nightly)]
)
def test_a_wrong_version_is_refuted(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*WRONG[why])
    step = PAPER if why in {"strides the scales", LONG} else SplitInputs()
    with pytest.raises(Broken):
        check_pass(step, convs(nearly if "nearly" in why else planted))


# Real models


@pytest.mark.parametrize("cost", COSTS)
def test_the_demo_model(cost: str) -> None:
    model = Path(redir.__file__).parent / "demo" / "digits.onnx"
    before = Pipeline.parse("fold-constants,fold-batchnorm,hash{bandwidth=0.3}").run(
        redir.load(model)
    )
    after = SplitInputs(cost)(before)
    assert verify(before, after).verdict == "pass"
    assert (after is before) == (cost != "multiplications")


@pytest.mark.parametrize(
    "name", [pytest.param("cifar10-resnet20-bn", marks=pytest.mark.nightly), "cls-mnist-cntk-op7"]
)
def test_a_real_model_makes_the_papers_multiplications(name: str, shared: Path) -> None:
    """But for strided convolutions, in which not every number meets every weight."""
    graph = redir.load(shared / "models" / f"{name}.onnx", overridable_initializers="constant")
    spec = "fold-constants,fold-batchnorm,hash{bandwidth=0.3}"
    before = Pipeline.parse(spec).run(graph)
    after = PAPER(before)
    assert verify(before, after, samples=1).verdict == "pass"
    assert products(after) < 1.1 * sum(multiplications(before)) < products(before)


@pytest.mark.nightly
@pytest.mark.skipif(not installed(), reason="onnxruntime is not installed")
def test_latency(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIR_CACHE", str(tmp_path))
    x = placeholder(1, 128, 16, 16)
    kernels = np.random.default_rng(0).normal(size=(1, 128, 3, 3)) * np.ones((128, 1, 1, 1))
    before = of(ops.Conv(x, const(kernels), pads=(1, 1, 1, 1)), x)
    after = SplitInputs("latency")(before)
    assert operators(after) == ["Conv", "Conv"]
    assert verify(before, after).verdict == "pass"


def test_it_can_be_taken_to_pytorch_and_back() -> None:
    torch = pytest.importorskip("torch")
    x = placeholder(2, 2, 5, 5)
    after = SplitInputs()(of(ops.Conv(x, const(SPLIT[:, ::-1])), x))
    batch = torch.randn(2, 2, 5, 5)
    assert redir.to_torch(after)(batch).shape == (2, 12, 3, 3)


# Text


@pytest.mark.parametrize("step", [SplitInputs(), PAPER, SplitInputs("latency")], ids=str)
def test_reads_back_from_its_text(step: SplitInputs) -> None:
    assert Pipeline.parse(str(step)).passes == (step,)


def test_a_cost_model_may_be_given_itself() -> None:
    graph = of(ops.Conv(X, const(SPLIT)), X)
    assert str(SplitInputs(MULTIPLICATIONS)(graph)) == str(PAPER(graph))


def test_refuses_other_costs() -> None:
    with pytest.raises(BadPipeline, match="no cost model is called 'watts'"):
        Pipeline.parse("split-inputs{cost=watts}")


@pytest.mark.parametrize("cost", COSTS)
def test_only_a_cost_that_is_a_sum_is_promised(cost: str) -> None:
    assert [g.name for g in SplitInputs(cost).guarantees][2:] == [f"no more {cost}"]
    assert SAME_OUTPUTS in SplitInputs("latency").guarantees
    assert len(SplitInputs("latency").guarantees) == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_second_run_finds_nothing_left(seed: int) -> None:
    rng, x = np.random.default_rng(seed), placeholder(1, 2, 5, 5)
    before = of(ops.Conv(x, const(planted(rng, 12, 2, 3, 3)), strides=(2, 1)), x)
    after = SplitInputs()(before)
    assert SplitInputs()(after) is after
