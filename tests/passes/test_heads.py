"""heads: channels of attention go where they count least, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from redir import ops
from redir.cost import Sizes, macs, parameters
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.layers.linear import linear
from redir.passes import Factorize, Heads
from redir.passes.factorize.forms import sizes_within
from redir.passes.factorize.heads import Heads as Met
from redir.passes.factorize.heads import heads
from redir.passes.factorize.narrower import Narrower
from redir.passes.factorize.study import study
from redir.passes.factorize.turning import turned
from redir.passes.factorize.ways import all_factorings
from redir.runtime.onnxruntime import runner
from redir.statistics import source
from redir.testing import check_pass
from tests.helpers import check_backends, const, ints, placeholder

RNG = np.random.default_rng(0)
WIDTH, EACH, PLACES = 12, 6, 5
FEW: Mapping[str, Any] = {"statistics": "drawn", "examples": 64}


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def layer(x: Value, weights: Array | tuple[int, int]) -> Value:
    """A layer with a bias, of given or drawn weights."""
    held = const(weights) if isinstance(weights, np.ndarray) else normal(*weights)
    return ops.Add(ops.MatMul(x, held), normal(held.type.size(1) or 0))


def apart(x: Value, count: int, perm: tuple[int, ...] = (0, 2, 1, 3)) -> Value:
    """Heads of EACH channels."""
    return ops.Transpose(ops.Reshape(x, ints(0, 0, count, EACH)), perm=perm)


def repeated(x: Value, count: int, times: int) -> Value:
    """Each head some times over."""
    wide = ops.Expand(ops.Unsqueeze(x, ints(2)), ints(1, 1, times, 1, 1))
    return ops.Reshape(wide, ints(0, count * times, -1, EACH))


Between = Callable[[Value], Value]


def attention(
    x: Value,
    count: int = 3,
    shared: int = 1,
    low: int = EACH,
    between: Between = lambda v: v,
    weighed: Between = lambda v: v,
) -> Value:
    """An attention of which ``shared`` heads have one of keys and values.

    Queries and keys, and values and what reads them, are of rank ``low`` together. What is
    ``between`` stands behind queries, and what is ``weighed`` behind the values.
    """
    few = count // shared
    tops = [RNG.normal(size=(WIDTH, few, low)) for _ in range(2)]
    keys, values = (np.einsum("ihr,hrd->ihd", t, RNG.normal(size=(few, low, EACH))) for t in tops)
    q = between(apart(layer(x, (WIDTH, count * EACH)), count))
    k = apart(layer(x, keys.reshape(WIDTH, -1)), few)
    v = apart(layer(x, values.reshape(WIDTH, -1)), few)
    if shared > 1:
        k, v = (repeated(each, few, shared) for each in (k, v))
    scores = ops.Div(ops.MatMul(q, ops.Transpose(k, perm=(0, 1, 3, 2))), const(EACH**0.5))
    mixed = weighed(ops.MatMul(ops.Softmax(scores), v))
    flat = ops.Reshape(ops.Transpose(mixed, perm=(0, 2, 1, 3)), ints(0, 0, count * EACH))
    return layer(flat, (count * EACH, WIDTH))


def graph_of(make: Callable[[Value], Value], opset: int = 17) -> Graph:
    x = placeholder("n", PLACES, WIDTH)
    return Graph({"x": x}, {"y": make(x)}, opset={"": opset})


def joined(x: Value) -> Value:
    """One layer makes queries, keys and values, which are split behind it."""
    all_three = layer(x, (WIDTH, 3 * WIDTH))
    split = ops.lookup("Split", 17)
    assert split is not None
    parts = Node(split, (all_three, ints(*[WIDTH] * 3)), {"axis": 2}, arity=3).outputs
    q, k, v = (apart(part, 2) for part in parts)
    weights = ops.Softmax(ops.MatMul(q, ops.Transpose(k, perm=(0, 1, 3, 2))))
    mixed = ops.Transpose(ops.MatMul(weights, v), perm=(0, 2, 1, 3))
    return layer(ops.Reshape(mixed, ints(0, 0, WIDTH)), (WIDTH, WIDTH))


def operator(x: Value) -> Value:
    """An Attention, which is one node."""
    op = ops.lookup("Attention", 23)
    assert op is not None
    parts = [apart(layer(x, (WIDTH, 3 * EACH)), 3) for _ in range(3)]
    flat = ops.Transpose(Node(op, tuple(parts)).outputs[0], perm=(0, 2, 1, 3))
    return layer(ops.Reshape(flat, ints(0, 0, 3 * EACH)), (3 * EACH, WIDTH))


def images(x: Value) -> Value:
    """Attention of one head between the places of an image, of 1 x 1 convolutions."""
    made = [ops.Conv(x, normal(6, 4, 1, 1), normal(6)) for _ in range(3)]
    q, k, v = (ops.Reshape(each, ints(0, 6, -1)) for each in made)
    scores = ops.Softmax(ops.MatMul(ops.Transpose(q, perm=(0, 2, 1)), k))
    mixed = ops.MatMul(v, ops.Transpose(scores, perm=(0, 2, 1)))
    return ops.Conv(ops.Reshape(mixed, ints(0, 6, 3, 3)), normal(4, 6, 1, 1), normal(4))


IMAGE = placeholder("n", 4, 3, 3)
GRAPHS: Mapping[str, Graph] = {
    "plain": graph_of(attention),
    "grouped": graph_of(partial(attention, count=4, shared=2)),
    "one layer": graph_of(joined),
    "one node": graph_of(operator, 23),
    "scaled": graph_of(partial(attention, between=lambda q: ops.Mul(q, const(0.5)))),
    "images": Graph({"x": IMAGE}, {"y": images(IMAGE)}, opset={"": 17}),
}
every_graph = pytest.mark.parametrize("kind", GRAPHS)


def met(graph: Graph) -> list[Met]:
    layers = (linear(n) for n in graph.nodes if n.has("layer"))
    return heads(Sizes.of(graph), [found for found in layers if not isinstance(found, str)])


def drawn(graph: Graph, count: int = 64) -> dict[str, Array]:
    shape = [count, *(sizes_within(graph.inputs["x"].type))]
    return {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def off(before: Graph, after: Graph) -> float:
    feeds = drawn(before)
    old, new = (runner(g)(feeds)["y"] for g in (before, after))
    return float(np.abs(old - new).max() / np.abs(old).max())


@every_graph
def test_queries_meet_keys_and_values_what_reads_them(kind: str) -> None:
    found = met(GRAPHS[kind])
    assert sorted(each.reads for each in found) == [False, True]
    assert all(each.left.shape == each.right.shape for each in found)


@every_graph
def test_queries_and_values_may_lose_channels(kind: str) -> None:
    graph = GRAPHS[kind]
    scores, values = (next(e for e in met(graph) if e.reads is reads) for reads in (False, True))
    forms = {form.layer.node: form for form in thinner(graph)}
    assert set(forms) == {scores.first.node, values.second.node}
    assert {len(form.units) for form in forms.values()} == {EACH}


def test_heads_that_share_keys_name_the_same_channels() -> None:
    scores, values = met(GRAPHS["grouped"])
    for each in (scores.right, values.left):
        assert each.tolist() == [[*range(6)]] * 2 + [[*range(6, 12)]] * 2
    for each in (scores.left, values.right):
        assert each.reshape(-1).tolist() == list(range(24))


def test_parts_of_one_layer_are_told_apart() -> None:
    scores, values = met(GRAPHS["one layer"])
    assert scores.first.node is scores.second.node is values.first.node
    starts = [each[0, 0] for each in (scores.left, scores.right, values.left)]
    assert starts == [0, WIDTH, 2 * WIDTH]


@every_graph
def test_turned_heads_give_the_same(kind: str) -> None:
    graph = GRAPHS[kind]
    after = turned(graph, [drawn(graph)], met(graph))
    changed = [n for n in after.nodes if n not in set(graph.nodes) and not n.inputs]
    assert len(changed) >= 3
    assert off(graph, after) < 1e-4


def test_turned_channels_of_scores_have_energies_that_fall() -> None:
    graph = GRAPHS["plain"]
    after = turned(graph, [drawn(graph)], met(graph))
    scores = next(each for each in met(after) if not each.reads)
    made = Graph(after.inputs, {"q": scores.first.y, "k": scores.second.y})
    q, k = (array.reshape(-1, 3 * EACH) for array in runner(made)(drawn(graph)).values())
    energy = np.square(q).mean(0)
    np.testing.assert_allclose(energy, np.var(k, 0), rtol=0.02)
    assert all(np.all(np.diff(energy[each]) < 0) for each in scores.left)


@pytest.mark.parametrize("shared", [1, 2])
def test_what_heads_have_too_much_of_goes_without_loss(shared: int) -> None:
    graph = graph_of(partial(attention, count=4, shared=shared, low=2))
    after = Heads(rank=2, **FEW)(graph)
    assert parameters(after) < 0.6 * parameters(graph)
    sizes = [v.type.shape for n in after.nodes if n.op == ops.Softmax for v in n.inputs]
    assert sizes == [v.type.shape for n in graph.nodes if n.op == ops.Softmax for v in n.inputs]
    assert off(graph, after) < 1e-3


@every_graph
def test_the_error_is_about_what_was_estimated(kind: str) -> None:
    graph = GRAPHS[kind]
    for share in (0.5, 0.75):
        count = int(share * max(len(form.units) for form in thinner(graph)))
        after = Heads(rank=count, **FEW)(graph)
        assert macs(after) < macs(graph)
        assert 0 < off(graph, after) < 1


def thinner(graph: Graph) -> list[Narrower]:
    found = all_factorings(Sizes.of(graph)).values()
    thin = [form for forms in found for form in forms if isinstance(form, Narrower)]
    return [form for form in thin if form.name == "heads"]


def normed(x: Value) -> Value:
    mean = ops.ReduceMean(ops.Mul(x, x), ints(-1))
    return ops.Div(x, ops.Sqrt(mean))


def moved_on(x: Value) -> Value:
    """Channels of which each is multiplied by another number."""
    return ops.Mul(x, normal(EACH))


STAY: Mapping[str, Callable[[Value], Value]] = {
    "queries are normed": partial(attention, between=normed),
    "something is added": partial(attention, between=lambda q: ops.Add(q, normal(EACH))),
    "of queries there are more": partial(attention, between=lambda q: ops.Add(q, q)),
}


@pytest.mark.parametrize("why", STAY)
def test_queries_that_are_not_only_multiplied_stay(why: str) -> None:
    graph = graph_of(STAY[why])
    assert [each.reads for each in met(graph)] == [True]
    after = Heads(rank=2, **FEW)(graph)
    assert parameters(after) < parameters(graph)
    assert after.nodes


WEIGHED: Mapping[str, Callable[[Value], Value]] = {
    "an activation": partial(attention, weighed=ops.Relu),
    "each channel is scaled by its own": partial(attention, weighed=moved_on),
    "two read them": partial(attention, weighed=lambda v: ops.Add(v, ops.Relu(v))),
}


@pytest.mark.parametrize("why", WEIGHED)
def test_values_that_are_not_only_weighed_are_not_turned(why: str) -> None:
    assert [each.reads for each in met(graph_of(WEIGHED[why]))] == [False]


def test_values_that_turn_with_their_place_are_not_turned_by_us() -> None:
    op = ops.lookup("RotaryEmbedding", 23)
    assert op is not None

    def rotated(v: Value) -> Value:
        return op(v, *(const(f(RNG.normal(size=(1, PLACES, EACH // 2)))) for f in (np.cos, np.sin)))

    one = placeholder(1, PLACES, WIDTH)
    graph = Graph({"x": one}, {"y": attention(one, weighed=rotated)}, opset={"": 23})
    assert [each.reads for each in met(graph)] == [False]


def test_what_an_output_gives_is_not_turned() -> None:
    plain = GRAPHS["plain"]
    keys = next(each for each in met(plain) if not each.reads).second.y
    both = Graph(plain.inputs, {**plain.outputs, "k": keys}, opset=plain.opset)
    assert [each.reads for each in met(both)] == [True]


def test_ignored_layers_are_not_turned() -> None:
    graph = GRAPHS["plain"]
    assert Heads(rank=2, ignore="*", **FEW)(graph) is graph


def test_where_heads_stay_as_they_are_none_is_turned() -> None:
    graph = GRAPHS["plain"]
    pairs = [study(graph, source("drawn"), 4, 0, "", (), (n,)) for n in ("low-rank", "heads")]
    assert [found is not None and found.original is graph for found in pairs] == [True, False]


def test_a_target_is_met_with_heads_and_nothing_else() -> None:
    graph = GRAPHS["grouped"]
    after = Factorize(macs=0.7, forms="heads", **FEW)(graph)
    assert 0.5 * macs(graph) < macs(after) <= 0.7 * macs(graph)


def test_keeps_its_promises() -> None:
    kinds = st.builds(
        lambda count, shared: graph_of(partial(attention, count=count * shared, shared=shared)),
        st.integers(1, 3),
        st.integers(1, 2),
    )
    check_pass(Heads(rank=3, **FEW), kinds, max_examples=5)


@every_graph
def test_goes_through_both_backends(kind: str) -> None:
    after, feeds = Heads(rank=2, **FEW)(GRAPHS[kind]), drawn(GRAPHS[kind])
    check_backends(after, feeds, atol=1e-3)
