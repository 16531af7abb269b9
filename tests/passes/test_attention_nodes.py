"""heads: attentions of onnxruntime, which are one node, lose channels and stay one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from redir import ops
from redir.cost import macs, parameters
from redir.ir import Graph, Node, Source, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array
from redir.layers.linear import whole
from redir.ops.contrib_schemas import MICROSOFT
from redir.passes import Factorize, Heads
from redir.passes.factorize.attentions import closed, opened
from redir.passes.factorize.scores import Scores
from redir.passes.factorize.solving import Choice
from redir.passes.factorize.study import study
from redir.runtime.onnxruntime import runner
from redir.statistics import source
from redir.testing import check_pass
from tests.helpers import const, operators, placeholder

RNG = np.random.default_rng(0)
WIDTH, HEADS, EACH, PLACES = 12, 2, 6, 5
WIDE = HEADS * EACH
FEW: Mapping[str, Any] = {"statistics": "drawn", "examples": 64}
NONE = ops.Absent()


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def own(name: str, *inputs: Value, results: int = 1, **attrs: Any) -> Value:
    op = ops.lookup(name, 1, MICROSOFT)
    assert op is not None
    given = Source(f"/{name}")
    return Node(op, inputs, attrs, arity=results, source=given).outputs[0]


def graph_of(make: Callable[[Value], Value], **more: Value) -> Graph:
    x = placeholder("n", PLACES, WIDTH)
    y = ops.Add(ops.MatMul(make(x), normal(WIDE, WIDTH)), normal(WIDTH))
    return Graph({"x": x, **more}, {"y": y}, opset={"": 17, MICROSOFT: 1})


def packed(*more: Value, **attrs: Any) -> Callable[[Value], Value]:
    """An Attention, whose weights make queries, keys and values."""

    def make(x: Value) -> Value:
        held = normal(WIDTH, 3 * WIDE), normal(3 * WIDE)
        return own("Attention", x, *held, *more, num_heads=HEADS, **attrs)

    return make


def apart(*more: Value, **attrs: Any) -> Callable[[Value], Value]:
    """A MultiHeadAttention behind layers."""

    def make(x: Value) -> Value:
        parts = [ops.MatMul(x, normal(WIDTH, WIDE)) for _ in range(3)]
        return own("MultiHeadAttention", *parts, *more, num_heads=HEADS, **attrs)

    return make


def mask(*shape: Any) -> Value:
    return placeholder(*shape, dtype=np.int32)


SEEN, ENDS, STARTS = mask("n", PLACES), mask("n"), mask("twice n")
GRAPHS: Mapping[str, Graph] = {
    "Attention": graph_of(packed()),
    "a scale": graph_of(packed(scale=0.3)),
    "causal": graph_of(packed(unidirectional=1)),
    "a mask": graph_of(packed(SEEN), seen=SEEN),
    "ends": graph_of(packed(ENDS), ends=ENDS),
    "something added": graph_of(packed(NONE, NONE, normal(1, HEADS, PLACES, PLACES))),
    "MultiHeadAttention": graph_of(apart()),
    "with biases": graph_of(apart(normal(3 * WIDE))),
    "with biases, a mask": graph_of(apart(normal(3 * WIDE), SEEN), seen=SEEN),
}
every_graph = pytest.mark.parametrize("kind", GRAPHS)


def drawn(graph: Graph, count: int = 16) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    feeds: dict[str, Array] = {"x": rng.normal(size=(count, PLACES, WIDTH)).astype(np.float32)}
    if "seen" in graph.inputs:
        feeds["seen"] = np.tril(np.ones((PLACES, PLACES), np.int32))[[4, 3, 2, 1] * (count // 4)]
    if "ends" in graph.inputs:
        feeds["ends"] = rng.integers(1, PLACES + 1, count).astype(np.int32)
    return feeds


def off(before: Graph, after: Graph) -> float:
    feeds = drawn(before)
    old, new = (runner(g)(feeds)["y"] for g in (before, after))
    return float(np.abs(old - new).max() / np.abs(old).max())


def attentions(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op.domain == MICROSOFT]


@every_graph
def test_what_is_opened_gives_the_same_and_is_closed_to_what_it_was(kind: str) -> None:
    graph = GRAPHS[kind]
    apart, made = opened(graph)
    assert off(graph, apart) < 1e-5
    again = closed(apart, made)
    assert operators(again) == operators(graph)
    (old,), (new,) = attentions(graph), attentions(again)
    assert (new.attrs, new.source) == (old.attrs, old.source)
    assert [v for v in new.inputs if not ops.is_absent(v)] == [
        v for v in old.inputs if not ops.is_absent(v)
    ]


@every_graph
def test_channels_go_and_one_node_stays(kind: str) -> None:
    graph = GRAPHS[kind]
    after = Heads(rank=4, **FEW)(graph)
    assert operators(after)[:-1] == operators(graph)  # and one Add more, of what was lost
    assert parameters(after) < 0.75 * parameters(graph)
    assert macs(after) < macs(graph)
    (old,), (new,) = attentions(graph), attentions(after)
    assert new.attrs["scale"] == pytest.approx(old.attrs.get("scale", 1 / sqrt(EACH)))
    assert np.isfinite(runner(after)(drawn(graph))["y"]).all()


@every_graph
def test_without_channels_it_is_as_if_they_were_zero(kind: str) -> None:
    found = study(GRAPHS[kind], source("drawn"), 16, 0, "", (), ("heads",))
    assert found is not None
    forms = {n: form for n, each in found.ways.items() for form in each if isinstance(form, Scores)}
    small = found.solved({n: Choice(form, 2) for n, form in forms.items()})
    masks = {
        whole(found.graph, form.layer).y: form.rough(2, found.seen[n].moments).silent
        for n, form in forms.items()
    }

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        y = node.outputs[0]
        return ops.Mul(node.on(inputs).outputs[0], const(~masks[y])) if y in masks else None

    zeroed = transform(found.original, visit)
    assert masks
    assert off(GRAPHS[kind], zeroed) > 1e-3
    assert off(zeroed, small) < 1e-5


def test_queries_and_values_may_be_of_other_sizes() -> None:
    found = study(GRAPHS["Attention"], source("drawn"), 16, 0, "", (), ("heads",))
    assert found is not None
    ranks = {n: 3 if isinstance(each[-1], Scores) else 4 for n, each in found.ways.items()}
    heads = {n: Choice(f[-1], ranks[n]) for n, f in found.ways.items() if f[-1].name == "heads"}
    after = found.solved(heads)
    (node,) = attentions(after)
    assert node.attrs["qkv_hidden_sizes"] == (3 * HEADS, 3 * HEADS, 4 * HEADS)
    assert off(GRAPHS["Attention"], after) > 0


def test_what_one_node_cannot_do_stays_open() -> None:
    after = Factorize(params=0.6, forms="low-rank", **FEW)(GRAPHS["Attention"])
    assert [node.op.name for node in attentions(after)] == ["Attention"]
    after = Factorize(params=0.5, forms="low-rank+heads", **FEW)(GRAPHS["Attention"])
    assert parameters(after) <= 0.5 * parameters(GRAPHS["Attention"])
    assert np.isfinite(runner(after)(drawn(after))["y"]).all()


def test_where_nothing_goes_the_graph_is_the_same() -> None:
    graph = GRAPHS["with biases"]
    assert Heads(rank=EACH + 1, **FEW)(graph) is graph


def cached(x: Value) -> Value:
    op = ops.lookup("Attention", 1, MICROSOFT)
    assert op is not None
    inputs = (x, normal(WIDTH, 3 * WIDE), normal(3 * WIDE))
    return Node(op, inputs, {"num_heads": HEADS}, arity=2).outputs[0]


def grouped(x: Value) -> Value:
    parts = [ops.MatMul(x, normal(WIDTH, WIDE)) for _ in range(3)]
    past, last = const(np.full(1, PLACES - 1), np.int32), const(PLACES, np.int32)
    return own(
        "GroupQueryAttention", *parts, NONE, NONE, past, last, num_heads=HEADS, kv_num_heads=HEADS
    )


def computed(x: Value) -> Value:
    weights = ops.Relu(normal(WIDTH, 3 * WIDE))
    return own("Attention", x, weights, normal(3 * WIDE), num_heads=HEADS)


STAY: Mapping[str, tuple[Graph, str]] = {
    "it has caches": (graph_of(cached), "it has caches"),
    "it says where examples begin": (graph_of(packed(STARTS), starts=STARTS), "begin"),
    "its weights are computed": (graph_of(computed), "not constants"),
    "its heads share keys": (graph_of(grouped), "share one size"),
}


@pytest.mark.parametrize("why", STAY)
def test_what_cannot_be_opened_stays_and_is_explained(why: str) -> None:
    graph, said = STAY[why]
    assert opened(graph)[0] is graph
    assert any(said in line for line in Heads().explain(graph))


def test_ignored_attentions_stay() -> None:
    graph = GRAPHS["Attention"]
    assert opened(graph, "/Att*")[0] is graph


def test_weights_of_halves_stay() -> None:
    graph = GRAPHS["Attention"]
    x = placeholder("n", PLACES, WIDTH, dtype=np.float16)
    weights = const(RNG.normal(size=(WIDTH, 3 * WIDE)), np.float16)
    half = replace(graph, inputs={"x": x}, outputs={"y": own("Attention", x, weights, num_heads=2)})
    assert opened(half)[0] is half


def test_keeps_its_promises() -> None:
    made: Sequence[Callable[[Value], Value]] = [packed(), packed(scale=0.3), apart()]
    check_pass(Heads(rank=3, **FEW), st.sampled_from(made).map(graph_of), max_examples=5)
