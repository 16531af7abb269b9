"""gone: a layer becomes its mean, and what only it needed goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from redir import ops
from redir.cost import Sizes, macs, parameters
from redir.errors import BadInput
from redir.ir import Graph, Node, Source, Value
from redir.ir.rewriter import transform
from redir.ir.tensor import Array
from redir.passes.factorize import Factorize
from redir.passes.factorize.gone import Gone
from redir.passes.factorize.plan import Line, Plan
from redir.passes.factorize.solving import Choice, Seen, observed, rebuilt, solved
from redir.passes.factorize.study import study
from redir.passes.factorize.ways import all_factorings
from redir.pipeline import Pipeline
from redir.runtime.onnxruntime import runner
from redir.statistics import source
from redir.statistics.walk import far, outputs
from redir.testing import check_pass
from tests.helpers import check_backends, const, operators, placeholder

RNG = np.random.default_rng(0)
IMAGE, TOKENS = placeholder("n", 6, 5, 4), placeholder("n", 3, 6)
SHAPES = {"residual": (64, 6, 5, 4), "inverted": (64, 6, 5, 4), "ffn": (64, 3, 6)}
CLEAN = Pipeline.parse("fold-constants,eliminate-identity,fold-batchnorm,cse,merge")


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def conv(x: Value, outputs: int, size: int) -> Value:
    weights = normal(outputs, x.type.size(1) or 0, size, size)
    return ops.Conv(x, weights, pads=(size // 2,) * 4)


def norm(x: Value, scale: float = 1.0) -> Value:
    size = x.type.size(1) or 0
    gamma, var = (RNG.uniform(0.5, 2, size) for _ in range(2))
    return ops.BatchNormalization(x, const(scale * gamma), normal(size), normal(size), const(var))


def residual(x: Value, scale: float = 1.0) -> Value:
    """A block of a ResNet."""
    size = x.type.size(1) or 0
    inner = ops.Relu(norm(conv(x, size, 3)))
    return ops.Relu(ops.Add(norm(conv(inner, size, 3), scale), x))


def inverted(x: Value) -> Value:
    """A block of MobileNetV2."""
    wide = ops.Relu(norm(conv(x, 12, 1)))
    deep = ops.Conv(wide, normal(12, 1, 3, 3), group=12, pads=(1, 1, 1, 1))
    return ops.Add(x, norm(conv(ops.Relu(norm(deep)), 6, 1)))


def perceptron(x: Value) -> Value:
    hidden = ops.Add(ops.MatMul(x, normal(6, 16)), normal(16))
    gelu = ops.Mul(hidden, ops.Sigmoid(hidden))
    return ops.Add(x, ops.Add(ops.MatMul(gelu, normal(16, 6)), normal(6)))


GRAPHS: Mapping[str, Graph] = {
    "residual": Graph({"x": IMAGE}, {"y": residual(ops.Relu(conv(IMAGE, 6, 3)))}),
    "inverted": Graph({"x": IMAGE}, {"y": inverted(IMAGE)}),
    "ffn": Graph({"x": TOKENS}, {"y": perceptron(TOKENS)}),
}
LEFT = {"residual": ["Conv", "Relu", "Add", "Relu"], "inverted": ["Add"], "ffn": ["Add"]}
every = pytest.mark.parametrize("kind", GRAPHS)


def ends(graph: Graph, ignore: str = "") -> dict[Node, Gone]:
    found = all_factorings(Sizes.of(graph), ignore).items()
    return {node: form for node, forms in found for form in forms if isinstance(form, Gone)}


def drawn(kind: str) -> dict[str, Array]:
    return {"x": RNG.normal(size=SHAPES[kind]).astype(np.float32)}


def seen(kind: str, feeds: dict[str, Array]) -> tuple[Node, Gone, Seen]:
    ((node, form),) = ends(GRAPHS[kind]).items()
    return node, form, observed(GRAPHS[kind], [feeds], {node: form}, 0)[node]


def without(kind: str) -> Graph:
    node, form, was = seen(kind, drawn(kind))
    return rebuilt(GRAPHS[kind], {node: form.rough(0, was.moments)})


@every
def test_the_whole_block_goes(kind: str) -> None:
    assert operators(CLEAN(without(kind))) == LEFT[kind]


@every
def test_what_goes_is_what_is_said(kind: str) -> None:
    ((node, form),) = ends(GRAPHS[kind]).items()
    after = without(kind)
    assert form.dense("macs") - form.cost(0, "macs") == macs(GRAPHS[kind]) - macs(after)
    assert form.saved["parameters"] == parameters(GRAPHS[kind]) - parameters(after)
    assert node in form.needed
    assert not form.needed & set(after.nodes)


@every
def test_the_mean_is_that_of_the_results(kind: str) -> None:
    feeds, graph = drawn(kind), GRAPHS[kind]
    node, form, was = seen(kind, feeds)
    made = runner(Graph(graph.inputs, {"y": node.outputs[0]}))(feeds)["y"]
    rows = np.moveaxis(made, form.layer.y_axis, -1).reshape(-1, form.layer.outputs)
    np.testing.assert_allclose(form.rough(0, was.moments).bias, rows.mean(0), atol=1e-3)


@every
def test_what_is_broadcast_is_what_a_layer_without_weights_gives(kind: str) -> None:
    feeds, graph = drawn(kind), GRAPHS[kind]
    node, form, was = seen(kind, feeds)
    made = form.rough(0, was.moments)
    silent = transform(graph, lambda n, x: made.on(x[0]) if n is node else None)
    less = rebuilt(graph, {node: made})
    old, new = (runner(g)(feeds)["y"] for g in (silent, less))
    np.testing.assert_allclose(new, old, atol=1e-4)


@every
def test_no_other_constant_errs_less(kind: str) -> None:
    feeds, graph = drawn(kind), GRAPHS[kind]
    node, form, was = seen(kind, feeds)
    choice = {node: Choice(form, 0)}
    best = solved(graph, [feeds], choice, {node: was})[node]
    plain = outputs(graph, [feeds])
    off, *others = [
        far(plain, outputs(rebuilt(graph, {node: replace(best, bias=best.bias + by)}), [feeds]))
        for by in (0, -1, 1)
    ]
    assert off < 1.001 * min(others)


def test_what_a_relu_cuts_off_need_not_be_met() -> None:
    """Where the sum is cut off half of the time, the mean of the results is not the best."""
    feeds = drawn("residual")
    graph = GRAPHS["residual"]
    node, form, was = seen("residual", feeds)
    choice = {node: Choice(form, 0)}
    made = solved(graph, [feeds], choice, {node: was})[node], form.rough(0, was.moments)
    plain = outputs(graph, [feeds])
    best, mean = (far(plain, outputs(rebuilt(graph, {node: m}), [feeds])) for m in made)
    assert best < mean


BRANCH = norm(conv(IMAGE, 6, 3))
WIDE = placeholder("n", 1, 5, 4)
OLD = ops.lookup("Add", 6)
assert OLD is not None
STAY = {
    "it meets nothing": ops.Relu(BRANCH),
    "it is read twice": ops.Add(ops.Add(IMAGE, BRANCH), ops.Relu(BRANCH)),
    "it is pooled on the way": ops.Add(
        IMAGE, ops.AveragePool(BRANCH, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    ),
    "what it meets is smaller": ops.Add(WIDE, BRANCH),
    "it meets a constant": ops.Add(normal(1, 6, 5, 4), BRANCH),
    "it meets itself": ops.Add(BRANCH, BRANCH),
    "it is added where nothing is broadcast": OLD(IMAGE, BRANCH),
}


def whole(y: Value, **others: Value) -> Graph:
    given = {"x": IMAGE, "z": WIDE}
    return Graph(given, {"y": y, **others})


@pytest.mark.parametrize("why", STAY)
def test_stays(why: str) -> None:
    assert not ends(whole(STAY[why]))


def test_what_is_an_output_stays() -> None:
    assert ends(whole(ops.Add(IMAGE, BRANCH)))
    assert not ends(whole(ops.Add(IMAGE, BRANCH), z=BRANCH))


def test_what_is_ignored_keeps_what_needs_it() -> None:
    inner = ops.Conv(IMAGE, normal(6, 6, 3, 3), pads=(1, 1, 1, 1))
    assert inner.node is not None
    named = replace(inner.node, source=Source("kept"))
    graph = whole(ops.Add(IMAGE, conv(ops.Relu(named.outputs[0]), 6, 3)))
    assert ends(graph)
    assert not ends(graph, "kept")


def test_what_is_random_is_kept() -> None:
    noise = ops.opaque("Mystery", "custom", 1, [IMAGE.type])(IMAGE)
    assert not ends(whole(ops.Add(IMAGE, conv(noise, 6, 3))))


def test_of_two_that_meet_the_one_that_saves_more_may_go() -> None:
    shortcut, branch = conv(IMAGE, 6, 1), conv(ops.Relu(conv(IMAGE, 6, 3)), 6, 3)
    (found,) = ends(whole(ops.Add(shortcut, branch)))
    assert found is branch.node


def test_what_two_need_stays_with_either() -> None:
    shared = ops.Relu(conv(IMAGE, 6, 3))
    graph = whole(ops.Add(ops.Add(IMAGE, conv(shared, 6, 1)), conv(shared, 6, 3)))
    assert [form.needed & {shared.node} for form in ends(graph).values()] == [set(), set()]


def test_a_gate_becomes_a_factor() -> None:
    squeezed = ops.Relu(conv(ops.GlobalAveragePool(IMAGE), 3, 1))
    graph = whole(ops.Mul(IMAGE, ops.Sigmoid(conv(squeezed, 6, 1))))
    ((node, form),) = ends(graph).items()
    feeds = {"x": drawn("residual")["x"], "z": np.ones((64, 1, 5, 4), np.float32)}
    was = observed(graph, [feeds], {node: form}, 0)[node]
    assert operators(CLEAN(rebuilt(graph, {node: form.rough(0, was.moments)}))) == ["Mul"]


def deep(quiet: float) -> Graph:
    """Blocks, of which the second hardly adds anything."""
    x = placeholder("n", 6, 5, 4)
    return Graph({"x": x}, {"y": residual(residual(residual(ops.Relu(conv(x, 6, 3))), quiet))})


QUIET = deep(1e-3)


def quick(**options: Any) -> Factorize:
    return Factorize(statistics="drawn", examples=64, align=1, **options)


def test_a_block_that_adds_nothing_goes_first() -> None:
    plan = quick(macs=0.72).planned(QUIET)
    formed = {line.layer: line for line in plan.lines if line.form is not None}
    assert {name: line.form for name, line in formed.items()} == {"Conv#5": "gone"}
    assert formed["Conv#5"].saved == plan.before.macs - plan.after.macs
    assert formed["Conv#5"].error < 0.1


def test_it_is_a_form_like_others() -> None:
    plan = quick(macs=0.72, forms="spatial+reduce").planned(QUIET)
    assert {line.form for line in plan.lines} <= {None, "spatial", "reduce"}
    assert macs(quick(macs=0.72, forms="gone")(QUIET)) <= 0.72 * macs(QUIET)


def test_a_plan_says_so_and_is_carried_out() -> None:
    made = quick(plan=Plan((Line("Conv#3", "gone", 0), Line("Conv#2", "spatial", 3))))(QUIET)
    assert len([n for n in made.nodes if n.op == ops.Conv]) == 5


def test_there_is_no_other_rank() -> None:
    with pytest.raises(BadInput, match="gone has a rank from 0 to 0, not 1"):
        quick(plan=Plan((Line("Conv#3", "gone", 1),)))(QUIET)


def test_what_is_lost_is_measured() -> None:
    found = study(QUIET, source("drawn"), 64, 0, "")
    assert found is not None
    for node, form in ends(found.graph).items():
        made = form.rough(0, found.seen[node].moments)
        off = sum(found.judge.moved({node: made.on}).values())
        assert found.effects[node].moved_by(1.0) >= 0.99 * off


@every
def test_goes_through_both_backends(kind: str) -> None:
    after, feeds = without(kind), drawn(kind)
    check_backends(after, feeds, atol=1e-3)


@pytest.mark.nightly
def test_what_is_left_can_be_compressed_again() -> None:
    once = quick(macs=0.72, forms="gone")(QUIET)
    assert macs(Pipeline.parse("prune{channel_ratio=0.3}")(once)) < macs(once)
    assert macs(quick(macs=0.5)(once)) <= 0.5 * macs(once)


def drawn_blocks(channels: int, size: int) -> Graph:
    x = placeholder("n", channels, size, size)
    return Graph({"x": x}, {"y": residual(ops.Relu(conv(x, channels, 3)))})


def test_keeps_its_promises() -> None:
    sizes = st.integers(2, 5)
    step = quick(macs=0.5, forms="gone")
    check_pass(step, st.builds(drawn_blocks, sizes, sizes), max_examples=3)
