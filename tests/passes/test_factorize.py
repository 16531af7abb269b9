"""factorize: forms that are exact at full rank, a target that is met, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import redir
from redir import ops
from redir.check.guarantees import constants
from redir.cost import Sizes, macs
from redir.errors import BadPipeline, Unchanged, Unsupported
from redir.ir import Graph, Value, evaluate
from redir.ir.tensor import Array
from redir.passes.factorize import Factorize
from redir.passes.factorize.forms import Factoring, Flow
from redir.passes.factorize.ways import factorings
from redir.pipeline import Pipeline
from redir.runtime.onnxruntime import runner
from redir.statistics.moments import Moments, drawn_places, features, targets
from redir.testing import check_pass, graphs
from tests.helpers import const, ints, operators, placeholder

RNG = np.random.default_rng(0)
DEMO = Path(redir.__file__).parent / "demo"
QUICK = Factorize(statistics="drawn", examples=16, align=1)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def conv(x: Value, outputs: int, size: tuple[int, ...], bias: bool = True, **attrs: Any) -> Value:  # noqa: FBT001, FBT002
    inputs = x.type.size(1) or 0
    return ops.Conv(x, normal(outputs, inputs, *size), *[normal(outputs)] * bias, **attrs)


IMAGE, ROWS = placeholder("n", 3, 8, 7), placeholder("n", 6)
LAYERS = {
    "square": conv(IMAGE, 5, (3, 3), pads=(1, 1, 1, 1)),
    "strides": conv(IMAGE, 5, (3, 3), strides=(2, 1), pads=(0, 1, 1, 0)),
    "dilated": conv(IMAGE, 4, (3, 2), dilations=(1, 2), bias=False),
    "pointwise": conv(IMAGE, 5, (1, 1), strides=(2, 2)),
    "a row": conv(IMAGE, 4, (1, 3), strides=(2, 1)),
    "one axis": conv(placeholder("n", 4, 9), 5, (3,), pads=(1, 1)),
    "matmul": ops.MatMul(ROWS, normal(6, 4)),
    "gemm": ops.Gemm(ROWS, normal(4, 6), normal(4), transB=1),
    "tokens": ops.MatMul(placeholder("n", 5, 6), normal(6, 4)),
}


def of(y: Value, x: Value) -> Graph:
    return Graph({"x": x}, {"y": y})


def forms(y: Value) -> list[Factoring]:
    assert y.node is not None
    found = factorings(Sizes.of(of(y, y.node.inputs[0])), y.node)
    assert not isinstance(found, str), found
    return list(found)


def seen(form: Factoring, count: int = 400) -> tuple[Array, Moments, Array]:
    """Inputs of a layer, the moments on them, and its results."""
    x, y = form.layer.x, form.layer.y
    held = RNG.normal(size=(16, *(x.type.size(a) or 1 for a in range(1, x.rank or 0))))
    made = evaluate(of(y, x), {"x": held.astype(np.float32)})["y"]
    places = drawn_places(RNG, form.layer, made, count)
    read = features(form.layer, held, places)
    return held.astype(np.float32), Moments.of(read, targets(form.layer, made, places)), made


@pytest.mark.parametrize("kind", LAYERS)
def test_at_full_rank_nothing_changes(kind: str) -> None:
    for form in forms(LAYERS[kind]):
        held, moments, made = seen(form)
        factors = form.fitted(form.full, moments, moments)
        after = evaluate(of(factors.on(form.layer.x), form.layer.x), {"x": held})["y"]
        np.testing.assert_allclose(after, made, atol=1e-3 * float(np.abs(made).max()))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_error_falls_as_the_rank_grows(kind: str) -> None:
    for form in forms(LAYERS[kind]):
        errors = form.errors(seen(form)[1])
        assert errors[0] == 1
        assert errors[form.full] == pytest.approx(0, abs=1e-6)
        assert all(a >= b for a, b in pairwise(errors))


@pytest.mark.parametrize("kind", LAYERS)
def test_multiply_adds_are_those_that_are_counted(kind: str) -> None:
    for form in forms(LAYERS[kind]):
        moments = seen(form)[1]
        made = of(form.fitted(1, moments, moments).on(form.layer.x), form.layer.x)
        assert macs(made) == form.cost(1, "macs")
        assert macs(of(form.layer.y, form.layer.x)) == form.dense("macs")


def always(aim: Array) -> Callable[[Array], Array]:
    return lambda _: aim


@pytest.mark.parametrize("kind", LAYERS)
def test_targets_that_flow_are_met_as_others_are(kind: str) -> None:
    for form in forms(LAYERS[kind]):
        held, moments, made = seen(form, 30)
        places = drawn_places(RNG, form.layer, made, 30)
        read, wanted = features(form.layer, held, places), targets(form.layer, made, places)
        fewer = Moments.of(read, wanted, form.flat)
        plain = form.fitted(2, fewer, moments)
        moved = form.fitted(2, fewer, moments, Flow(read, always(wanted + 1)))
        np.testing.assert_allclose(moved.second, plain.second, atol=1e-6)
        np.testing.assert_allclose(moved.bias, plain.bias + 1, atol=1e-6)


def test_a_kernel_is_cut_in_three_ways() -> None:
    assert [form.name for form in forms(LAYERS["square"])] == [
        "reduce",
        "spatial",
        "expand",
        "uneven-depthwise",
    ]
    assert [form.name for form in forms(LAYERS["matmul"])] == ["low-rank", "pivoted"]


def two_of(outputs: int = 12) -> Graph:
    y = conv(ops.Relu(conv(IMAGE, outputs, (3, 3), pads=(1, 1, 1, 1))), 8, (3, 3))
    return of(y, IMAGE)


@settings(max_examples=4)
@given(st.floats(0.4, 1))
def test_the_target_is_met(share: float) -> None:
    graph = two_of()
    after = Factorize(macs=share, statistics="drawn", examples=16, align=1)(graph)
    assert macs(after) <= share * macs(graph)


def test_what_may_cost_all_that_it_does_stays() -> None:
    graph = two_of()
    assert Factorize(macs=1.0)(graph) is graph


def test_ranks_are_multiples() -> None:
    after = Factorize(macs=0.7, statistics="drawn", examples=16, align=4)(two_of())
    assert operators(after).count("Conv") > 2
    assert all(t.array.shape[0] % 4 == 0 for t in constants(after) if t.array.ndim == 4)


def test_the_seed_decides() -> None:
    graph = two_of()
    assert str(QUICK(graph)) == str(QUICK(graph))


def test_a_target_that_falls_loses_more() -> None:
    graph = two_of()
    feeds = {"x": RNG.normal(size=(8, 3, 8, 7)).astype(np.float32)}
    made = runner(graph)(feeds)["y"]
    steps = (Factorize(macs=m, statistics="drawn", examples=64, align=1) for m in (0.9, 0.6, 0.4))
    off = [float(np.square(runner(step(graph))(feeds)["y"] - made).mean()) for step in steps]
    assert off == sorted(off)


def test_what_a_norm_makes_small_counts_less() -> None:
    y = conv(IMAGE, 16, (1, 1), bias=False)
    gamma = const([1000.0, 1000.0, *[1e-3] * 14])
    norm = ops.BatchNormalization(y, gamma, normal(16), normal(16), const(np.ones(16)))
    graph = of(norm, IMAGE)
    after = Factorize(macs=0.8, statistics="drawn", examples=64, align=1)(graph)
    feeds = {"x": RNG.normal(size=(4, 3, 8, 7)).astype(np.float32)}
    old, new = (runner(g)(feeds)["y"][:, :2] for g in (graph, after))
    assert operators(after).count("Conv") == 2
    np.testing.assert_allclose(new, old, rtol=1e-2, atol=1e-2 * float(np.abs(old).max()))


SHARED = normal(5, 3, 3, 3)
LEFT_ALONE = {
    "groups": ops.Conv(IMAGE, normal(6, 1, 3, 3)),
    "weights that are computed": ops.Conv(IMAGE, ops.Relu(SHARED)),
    "weights of another type": ops.Conv(
        placeholder("n", 3, 8, 7, dtype=np.float64), const(np.ones((5, 3, 3, 3)), np.float64)
    ),
    "pads by size": conv(IMAGE, 5, (3, 3), auto_pad="SAME_UPPER"),
    "weights on the left": ops.MatMul(normal(4, 6), placeholder(6, 5)),
    "a factor": ops.Gemm(ROWS, normal(6, 4), normal(4), alpha=2.0),
    "a bias that flows": ops.Gemm(ROWS, normal(6, 4), placeholder(4)),
    "moments that take gigabytes": ops.MatMul(placeholder("n", 10_001), normal(10_001, 2)),
    "a layer that is none": ops.Relu(IMAGE),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_left_alone(why: str) -> None:
    node = LEFT_ALONE[why].node
    assert node is not None
    inputs = {f"x{i}": v for i, v in enumerate(node.inputs) if v.node is None}
    assert isinstance(factorings(Sizes.of(Graph(inputs, {"y": LEFT_ALONE[why]})), node), str)


def test_weights_that_are_read_elsewhere_stay() -> None:
    graph = of(ops.Add(ops.Conv(IMAGE, SHARED), ops.ReduceMean(SHARED)), IMAGE)
    assert QUICK(graph) is graph
    assert "read elsewhere" in next(iter(QUICK.explain(graph)))


def test_a_graph_that_cannot_be_run_stays() -> None:
    y = ops.opaque("Mystery", "custom", 1, [LAYERS["square"].type])(LAYERS["square"])
    graph = of(y, IMAGE)
    with pytest.warns(Unchanged, match="it cannot be run"):
        assert QUICK(graph) is graph


def test_keeps_its_promises() -> None:
    check_pass(QUICK, graphs("conv", "gemm"), settings().max_examples // 2)


def test_goes_through_both_backends() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    after = QUICK(two_of())
    x = RNG.normal(size=(2, 3, 8, 7)).astype(np.float32)
    wanted = evaluate(after, {"x": x})["y"]
    np.testing.assert_allclose(runner(after)({"x": x})["y"], wanted, atol=1e-4)
    found = redir.to_torch(after)(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_what_was_factored_can_be_compressed_again() -> None:
    once = QUICK(two_of())
    assert macs(Pipeline.parse("prune{channel_ratio=0.3}")(once)) < macs(once)
    assert macs(QUICK(once)) < 0.7 * macs(once)


@pytest.mark.parametrize("spec", ["macs=-1", "macs=1.1", "align=-1", "examples=-1", "seed=-1"])
def test_refuses(spec: str) -> None:
    with pytest.raises(BadPipeline, match="factorize"):
        Pipeline.parse(f"factorize{{{spec}}}")


def test_refuses_statistics_that_there_are_not() -> None:
    with pytest.raises(BadPipeline, match="no source of statistics is called"):
        Pipeline.parse("factorize{statistics=dreams}")


@dataclass(frozen=True, eq=False)
class Asked:
    """Notes how many inputs are asked for, and has none."""

    asked: list[int] = field(default_factory=list)

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        self.asked.append(count)
        raise Unsupported(f"{graph} with {seed}")


@pytest.mark.parametrize(
    ("y", "count"),
    [
        (LAYERS["square"], 256),
        (ops.MatMul(placeholder("n", 100), normal(100, 4)), 400),
        (ops.MatMul(placeholder("n", 400), normal(400, 4)), 1024),
        (conv(placeholder("n", 4, 1000, 1000), 600, (4, 4)), 6),
        (conv(placeholder("n", 4, 4000, 4000), 600, (6, 6)), 2),
        (conv(placeholder("n", 3, 4000, 4000), 2, (1, 1)), 2),
    ],
)
def test_as_many_examples_are_taken_as_layers_need(y: Value, count: int) -> None:
    assert y.node is not None
    source = Asked()
    with pytest.warns(Unchanged, match="it cannot be run"):
        Factorize(statistics=source)(of(y, y.node.inputs[0]))
    assert source.asked == [count]


@pytest.mark.parametrize(("kernel", "count"), [(2, 1024), (5, 256)])
def test_what_a_layer_needs_counts_if_it_matters(kernel: int, count: int) -> None:
    x, source = placeholder("n", 3, 7 + kernel, 7 + kernel), Asked()
    flat = ops.Reshape(conv(x, 4, (kernel, kernel)), ints(-1, 256))
    with pytest.warns(Unchanged, match="it cannot be run"):
        Factorize(statistics=source)(of(ops.MatMul(flat, normal(256, 1)), x))
    assert source.asked == [count]


def test_a_reshape_between_is_walked_too() -> None:
    flat = ops.Reshape(LAYERS["square"], ints(-1, 280))
    graph = of(ops.MatMul(flat, normal(280, 10)), IMAGE)
    assert macs(QUICK(graph)) <= 0.5 * macs(graph)
