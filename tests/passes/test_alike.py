"""Layers that read the same weights: they take one form together, and stay as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import redir
from redir import ops
from redir.cost import Sizes, macs, parameters
from redir.ir import Graph, Node, Source, Value
from redir.ir.rewriter import transform
from redir.ir.tensor import Array
from redir.passes import Cse, Factorize
from redir.passes.factorize.chains import savings
from redir.passes.factorize.effects import _ranks
from redir.passes.factorize.forms import Factoring
from redir.passes.factorize.narrower import Narrower
from redir.passes.factorize.solving import Choice
from redir.passes.factorize.study import Study, _shown, counted, study
from redir.passes.factorize.ways import all_factorings, factorings
from redir.runtime.onnxruntime import runner
from redir.statistics import source
from redir.testing import check_pass
from tests.helpers import check_backends, const, ints, placeholder

RNG = np.random.default_rng(0)
WIDTH, EACH, PLACES, BLOCKS = 12, 6, 5, 3
FEW: Mapping[str, Any] = {"statistics": "drawn", "examples": 64}
FORMS = ("low-rank", "pivoted", "narrower", "heads")


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def linear(inputs: int, outputs: int) -> Callable[[Value], Value]:
    """A layer with a bias that may stand at several places."""
    weights, bias = normal(inputs, outputs), normal(outputs)
    return lambda x: ops.Add(ops.MatMul(x, weights), bias)


def block(width: int = WIDTH, hidden: int = 24) -> Callable[[Value], Value]:
    """A block of ALBERT."""
    q, k, v, out = (linear(width, width) for _ in range(4))
    wide, narrow = linear(width, hidden), linear(hidden, width)
    norms = [(normal(width), normal(width)) for _ in range(2)]
    parts, flat, small = ints(0, 0, -1, EACH), ints(0, 0, width), const(0.1)

    def apart(x: Value) -> Value:
        return ops.Transpose(ops.Reshape(x, parts), perm=(0, 2, 1, 3))

    def on(x: Value) -> Value:
        scores = ops.MatMul(apart(q(x)), ops.Transpose(apart(k(x)), perm=(0, 1, 3, 2)))
        mixed = ops.MatMul(ops.Softmax(ops.Mul(scores, small)), apart(v(x)))
        beside = ops.Reshape(ops.Transpose(mixed, perm=(0, 2, 1, 3)), flat)
        x = ops.LayerNormalization(ops.Add(x, out(beside)), *norms[0])
        return ops.LayerNormalization(ops.Add(x, narrow(ops.Tanh(wide(x)))), *norms[1])

    return on


def times(make: Callable[[Value], Value], count: int) -> Graph:
    x = y = placeholder("n", PLACES, WIDTH)
    for _ in range(count):
        y = make(y)
    return Graph({"x": x}, {"y": y}, opset={"": 17})


ALBERT = times(block(), BLOCKS)
ROWS = RNG.normal(size=(16, PLACES, WIDTH)).astype(np.float32)


def studied(graph: Graph) -> Study:
    found = study(graph, source("drawn"), 64, 0, "")
    assert found is not None
    return found


def off(graph: Graph, after: Graph, feeds: Mapping[str, Array]) -> float:
    old, new = (runner(g)(feeds)["y"] for g in (graph, after))
    return float(np.square(old - new).mean() / np.var(old))


def weights(graph: Graph) -> dict[Node, Value]:
    """By layer, what it multiplies by."""
    layers = (n for n in graph.nodes if n.op == ops.MatMul)
    return {n: n.inputs[1] for n in layers if n.inputs[1].node and not n.inputs[1].node.inputs}


@pytest.mark.parametrize("target", ["macs", "params"])
def test_a_target_is_met(target: str) -> None:
    counts: Mapping[str, Callable[[Graph], int]] = {"macs": macs, "params": parameters}
    options: Mapping[str, Any] = {target: 0.8}
    after = redir.compress(ALBERT, statistics="drawn", **options)
    assert 0.75 < counts[target](after) / counts[target](ALBERT) <= 0.8
    assert off(ALBERT, after, {"x": ROWS}) < 0.5


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_stored_once(form: str) -> None:
    after = Factorize(macs=0.8, forms=form, **FEW)(ALBERT)
    assert macs(after) <= 0.8 * macs(ALBERT)
    found = list(weights(after).values())
    assert {found.count(value) for value in found} == {BLOCKS}
    assert parameters(Cse(weights=True)(after)) == parameters(after)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_saved_is_what_is_said(form: str) -> None:
    found = studied(ALBERT)
    for node, forms in found.ways.items():
        for each in (each for each in forms if each.name == form):
            plan = {node: Choice(each, max(each.full // 2, 1))}
            after = found.unsolved(plan)
            assert macs(found.original) - macs(after) == found.saved(plan, "macs")
            saved = parameters(found.original) - parameters(after)
            biases = each.layer.outputs  # which are not counted
            assert saved == pytest.approx(found.saved(plan, "parameters"), abs=biases)


def narrowings(found: Study) -> dict[Node, Narrower]:
    forms = ((n, form) for n, forms in found.ways.items() for form in forms)
    return {n: form for n, form in forms if isinstance(form, Narrower)}


def test_without_channels_it_is_as_with_zeros() -> None:
    found = studied(ALBERT)
    narrow = {n: form for n, form in narrowings(found).items() if form.port == form.layer.x_port}
    plan = {n: Choice(form, form.full // 2) for n, form in narrow.items()}
    made = {
        each.layer.node: c.form.rough(c.rank, found.seen[n].moments)
        for n, c in plan.items()
        for each in c.form.alike
    }
    assert {form.name for form in narrow.values()} == {"narrower", "heads"}
    assert len(made) == BLOCKS * len(plan)
    zeros = transform(found.graph, lambda n, x: made[n].on(x[0]) if n in made else None)
    less = found.solved(plan)
    assert macs(less) < macs(zeros)
    wanted, got = (runner(g)({"x": ROWS})["y"] for g in (zeros, less))
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_heads_are_turned_alike() -> None:
    found = studied(ALBERT)
    assert found.original is not ALBERT
    assert off(ALBERT, found.original, {"x": ROWS}) < 1e-8
    assert parameters(found.original) == parameters(ALBERT)


def test_all_places_are_solved_for() -> None:
    loud, held = 10 * RNG.normal(size=(6, 6)), normal(6, 8)
    x = placeholder("n", 6)
    both = [ops.MatMul(each, held) for each in (x, ops.MatMul(x, const(loud)))]
    graph = Graph({"x": x}, {"y": ops.Concat(*both, axis=1)})
    found = studied(graph)
    (form,) = (forms[0] for n, forms in found.ways.items() if n.inputs[1] is held)
    moments = found.seen[form.layer.node].moments
    seen = found.batches[len(found.judge.batches) :]  # as others are judged on
    rows = np.concatenate([batch["x"] for batch in seen])
    read = np.concatenate([rows, rows @ loud])
    off_mean = read - read.mean(0)
    wanted = off_mean.T @ off_mean / len(read)
    assert np.linalg.norm(moments.gram - wanted) < 0.2 * np.linalg.norm(wanted)
    np.testing.assert_allclose(moments.mean, read.mean(0), atol=1e-4)
    np.testing.assert_allclose(moments.target, read.mean(0) @ form.flat, atol=1e-3)


def test_an_error_counts_at_all_places() -> None:
    x = placeholder("n", 6)
    held, other = normal(6, 200), normal(6, 200)
    made = [ops.MatMul(x, each) for each in (held, held, other)]
    graph = Graph({"x": x}, {f"y{place}": value for place, value in enumerate(made)})
    found = studied(graph)
    shared, alone = (found.effects[value.node] for value in (made[0], made[2]) if value.node)
    assert shared.noise == pytest.approx(2 * alone.noise, rel=0.3)
    assert shared.moved_by(0.1) == pytest.approx(2 * alone.moved_by(0.1), rel=0.3)


def test_errors_in_blocks_one_behind_the_other_add_up_as_they_do() -> None:
    found = studied(ALBERT)
    for node, forms in found.ways.items():
        form = _shown(forms)
        plan = {node: Choice(form, _ranks(found.errors[form])[0])}
        assert found.drift(plan) ** 2 == pytest.approx(found.deviation(plan))


@dataclass(frozen=True)
class Clock:
    """Takes as long as there are multiply-adds."""

    by_parts = zeros_free = False
    measured = True

    def ratio(self, before: Graph, after: Graph) -> float:
        return macs(after) / macs(before)


def test_time_is_saved_at_all_places() -> None:
    found = studied(ALBERT)
    saving, counts = savings(found, ["low-rank"], 1, Clock()), counted("macs", macs(found.graph))
    for forms in found.ways.values():
        assert saving(forms[0], 3) == pytest.approx(counts(forms[0], 3))


def test_sizes_may_differ_from_place_to_place() -> None:
    x, held = placeholder("n", 4, 8, 8), normal(6, 4, 3, 3)
    small = ops.AveragePool(x, kernel_shape=(2, 2), strides=(2, 2))
    made = [ops.Conv(each, held, pads=(1,) * 4) for each in (x, small)]
    graph = Graph({"x": x}, {"a": made[0], "b": made[1]})
    (forms,) = all_factorings(Sizes.of(graph)).values()
    assert forms[0].dense("macs") == macs(graph) - macs(Graph({"x": x}, {"b": small}))
    after = Factorize(macs=0.6, statistics="drawn", examples=16)(graph)
    assert macs(after) <= 0.6 * macs(graph)
    assert parameters(after) < parameters(graph)


@pytest.mark.parametrize("rows", [0, 8])
def test_a_place_that_reads_no_rows_says_nothing(rows: int) -> None:
    x, held = placeholder("n", 16), normal(16, 16)
    ends = (ops.Slice(x, ints(0), ints(end), ints(0)) for end in (0, rows))
    made = [*(ops.MatMul(each, held) for each in ends), ops.MatMul(x, normal(16, 16))]
    graph = Graph({"x": x}, {f"y{place}": value for place, value in enumerate(made)})
    after = Factorize(macs=0.7, **FEW)(graph)
    assert macs(after) <= 0.7 * macs(graph)


ROW, IMAGE, HELD = placeholder("n", 6), placeholder("n", 6, 5, 5), normal(6, 6)
KERNELS = normal(6, 6, 3, 3)


def norm(x: Value) -> Value:
    scale, var = (const(RNG.uniform(0.5, 2, 6)) for _ in range(2))
    return ops.BatchNormalization(x, scale, normal(6), normal(6), var)


UNLIKE: Mapping[str, tuple[Value, ...]] = {
    "what is no layer": (ops.MatMul(ROW, HELD), ops.Relu(HELD)),
    "an output": (ops.MatMul(ROW, HELD), HELD),
    "a layer from the other side": (
        ops.MatMul(ROW, HELD),
        ops.MatMul(HELD, placeholder(6, 6)),
    ),
    "one that turns them": (ops.Gemm(ROW, HELD), ops.Gemm(ROW, HELD, transB=1)),
    "one of another operator": (ops.MatMul(ROW, HELD), ops.Gemm(ROW, HELD)),
    "one of another bias": (ops.Gemm(ROW, HELD, normal(6)), ops.Gemm(ROW, HELD, normal(6))),
    "one of more axes": (ops.MatMul(ROW, HELD), ops.MatMul(placeholder("n", 2, 6), HELD)),
    "one of other steps": (ops.Conv(IMAGE, KERNELS), ops.Conv(IMAGE, KERNELS, strides=(2, 2))),
    "one that is scaled": (ops.Conv(IMAGE, KERNELS), norm(ops.Conv(IMAGE, KERNELS))),
    "itself": (ops.MatMul(HELD, HELD),),
}


def graph_of(made: tuple[Value, ...]) -> Graph:
    read = {v for each in made for v in (each, *(each.node.inputs if each.node else ()))}
    read |= {v for each in read for v in (each.node.inputs if each.node else ())}
    inputs = {f"x{i}": v for i, v in enumerate(v for v in read if v.node is None)}
    return Graph(inputs, {f"y{i}": v for i, v in enumerate(made)}, opset={"": 17})


@pytest.mark.parametrize("reader", UNLIKE)
def test_left_alone_where_weights_are_read_by(reader: str) -> None:
    assert not all_factorings(Sizes.of(graph_of(UNLIKE[reader])))


def test_a_layer_that_is_ignored_keeps_all() -> None:
    made = (ops.MatMul(ROW, HELD), ops.MatMul(ops.Tanh(ROW), HELD))
    nodes = [value.node for value in made if value.node]
    named = (replace(n, source=Source(name)) for n, name in zip(nodes, "ab", strict=True))
    graph = graph_of(tuple(node.outputs[0] for node in named))
    assert len(all_factorings(Sizes.of(graph))) == 1
    assert not all_factorings(Sizes.of(graph), ignore="b")


def test_each_but_the_first_goes_with_that() -> None:
    graph = graph_of((ops.MatMul(ROW, HELD), ops.MatMul(ops.Tanh(ROW), HELD)))
    first, second = weights(graph)
    forms = factorings(Sizes.of(graph), first)
    assert [len(form.alike) for form in forms if isinstance(form, Factoring)] == [2, 2]
    assert "it goes with" in str(factorings(Sizes.of(graph), second))


def test_a_plan_names_the_first() -> None:
    step = Factorize(macs=0.7, **FEW)
    plan = step.planned(ALBERT)
    changed = [line for line in plan.lines if line.form]
    assert changed
    assert len(plan.lines) == 6
    after = Factorize(plan=plan, **FEW)(ALBERT)
    assert macs(after) == plan.after.macs


def test_keeps_its_promises() -> None:
    counts = st.integers(1, 2)
    check_pass(Factorize(macs=0.7, statistics="drawn", examples=8), counts.map(drawn_graph), 3)


def drawn_graph(count: int) -> Graph:
    return times(block(hidden=16), count)


def test_goes_through_both_backends() -> None:
    check_backends(Factorize(macs=0.7, **FEW)(drawn_graph(2)), {"x": ROWS}, 1e-4)


def test_what_passes_behind_store_once_is_not_taken_from_layers() -> None:
    x, array = placeholder("n", 16), RNG.normal(size=(16, 16)).astype(np.float32)
    y = x
    for _ in range(4):
        y = ops.Tanh(ops.MatMul(y, const(array)))
    graph = Graph({"x": x}, {"y": y}, opset={"": 17})
    after = redir.compress(graph, params=0.8, statistics="drawn")
    assert parameters(after) == array.size
    assert macs(after) == macs(graph)
