"""heads: queries and keys that are turned by their place lose pairs of channels, and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
from hypothesis import strategies as st

from redir import ops
from redir.cost import Sizes, macs, parameters
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, TensorType
from redir.layers.linear import whole
from redir.passes import Heads
from redir.passes.factorize.forms import PARAMETERS
from redir.passes.factorize.heads import Heads as Met
from redir.passes.factorize.scores import Scores
from redir.passes.factorize.solving import Choice
from redir.passes.factorize.study import Study, study
from redir.passes.factorize.turning import turned
from redir.passes.factorize.ways import parted
from redir.runtime.onnxruntime import runner
from redir.statistics import source
from redir.testing import check_pass
from tests.helpers import check_backends, const, ints, placeholder
from tests.passes.test_heads import (
    EACH,
    FEW,
    PLACES,
    WIDTH,
    apart,
    drawn,
    graph_of,
    met,
    normed,
    off,
    repeated,
)

HALF, RNG = EACH // 2, np.random.default_rng(0)
Turn = Callable[[Value, Value, Value], Value]


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def layer(x: Value, shape: tuple[int, int]) -> Value:
    return ops.Add(ops.MatMul(x, normal(*shape)), normal(shape[1]))


def part(x: Value, start: int, end: int, step: int = 1) -> Value:
    return ops.Slice(x, ints(start), ints(end), ints(-1), ints(step))


def halves(x: Value, cos: Value, sin: Value) -> Value:
    """Channels and those half of a head behind them, turned."""
    other = ops.Concat(ops.Neg(part(x, HALF, EACH)), part(x, 0, HALF), axis=-1)
    return ops.Add(ops.Mul(x, cos), ops.Mul(other, sin))


def neighbours(x: Value, cos: Value, sin: Value) -> Value:
    """Channels and their neighbours, turned; tables have a column for each pair."""
    a, b = part(x, 0, EACH, 2), part(x, 1, EACH, 2)
    cos, sin = part(cos, 0, HALF), part(sin, 0, HALF)
    first = ops.Sub(ops.Mul(a, cos), ops.Mul(b, sin))
    second = ops.Add(ops.Mul(a, sin), ops.Mul(b, cos))
    pairs = [ops.Unsqueeze(each, ints(4)) for each in (first, second)]
    return ops.Reshape(ops.Concat(*pairs, axis=4), ints(0, 0, 0, EACH))


def by_node(x: Value, cos: Value, sin: Value) -> Value:
    """An operator that turns; tables have a row for each place."""
    op = ops.lookup("RotaryEmbedding", 1, "com.microsoft")
    assert op is not None
    rows = [ops.Squeeze(part(each, 0, HALF), ints(0)) for each in (cos, sin)]
    return op(x, ints(0), *rows)


Tables = tuple[Value, Value]


def computed(x: Value, count: int = HALF) -> Tables:
    """Cosines and sines of places times frequencies."""
    last = ops.Gather(ops.Shape(x), const(1, np.int64), axis=0)
    places = ops.Cast(ops.Range(const(0, np.int64), last, const(1, np.int64)), to=1)
    angles = ops.Mul(ops.Unsqueeze(places, ints(1)), const(0.3 ** np.arange(count)))
    both = ops.Unsqueeze(ops.Concat(angles, angles, axis=-1), ints(0))
    return ops.Cos(both), ops.Sin(both)


def stored(_: Value) -> Tables:
    """The same as constants."""
    angles = np.outer(np.arange(PLACES), 0.3 ** np.arange(HALF))
    both = np.concatenate([angles, angles], 1)[None]
    return const(np.cos(both)), const(np.sin(both))


def attention(
    x: Value,
    tables: Callable[[Value], Tables] | Tables = computed,
    turn: Turn = halves,
    turn_keys: Turn | None = None,
    shared: int = 1,
    count: int = 4,
) -> Value:
    """An attention of turned queries and keys, ``shared`` heads of which have one of keys."""
    few, angles = count // shared, tables(x) if callable(tables) else tables
    q = turn(heads_of(x, count), *angles)
    k = (turn_keys or turn)(heads_of(x, few), *angles)
    v = heads_of(x, few)
    if shared > 1:
        k, v = (repeated(each, few, shared) for each in (k, v))
    scores = ops.Div(ops.MatMul(q, ops.Transpose(k, perm=(0, 1, 3, 2))), const(EACH**0.5))
    mixed = ops.Transpose(ops.MatMul(ops.Softmax(scores), v), perm=(0, 2, 1, 3))
    return layer(ops.Reshape(mixed, ints(0, 0, count * EACH)), (count * EACH, WIDTH))


def heads_of(x: Value, count: int) -> Value:
    return apart(layer(x, (WIDTH, count * EACH)), count)


def one_layer(x: Value) -> Value:
    """One layer makes queries, keys and values."""
    split = ops.lookup("Split", 17)
    assert split is not None
    every = layer(x, (WIDTH, 6 * EACH)), ints(*[2 * EACH] * 3)
    q, k, v = (apart(p, 2) for p in Node(split, every, {"axis": 2}, arity=3).outputs)
    q, k = (halves(each, *computed(x)) for each in (q, k))
    scores = ops.Softmax(ops.MatMul(q, ops.Transpose(k, perm=(0, 1, 3, 2))))
    mixed = ops.Transpose(ops.MatMul(scores, v), perm=(0, 2, 1, 3))
    return layer(ops.Reshape(mixed, ints(0, 0, 2 * EACH)), (2 * EACH, WIDTH))


def side_by_side(x: Value, interleaved: int = 0) -> Value:
    """Operators of onnxruntime, for which heads lie along one axis."""
    own = [ops.lookup(n, 1, "com.microsoft") for n in ("RotaryEmbedding", "MultiHeadAttention")]
    rotary, attend = (op for op in own if op is not None)
    angles = np.outer(np.arange(PLACES), 0.3 ** np.arange(HALF))
    tables, how = (const(np.cos(angles)), const(np.sin(angles))), {"interleaved": interleaved}
    q, k, v = (layer(x, (WIDTH, 3 * EACH)) for _ in range(3))
    q, k = (Node(rotary, (each, ints(0), *tables), how).outputs[0] for each in (q, k))
    y = Node(attend, (q, k, v), {"num_heads": 3}).outputs[0]
    return layer(y, (3 * EACH, WIDTH))


def twice(x: Value, tables: Callable[[Value], Tables] = computed) -> Value:
    """Two attentions that have their cosines and sines from one place."""
    angles = tables(x)
    return attention(ops.Tanh(attention(x, angles)), angles)


GRAPHS: Mapping[str, Graph] = {
    "halves": graph_of(attention),
    "neighbours": graph_of(partial(attention, turn=neighbours)),
    "constants": graph_of(partial(attention, tables=stored)),
    "grouped": graph_of(partial(attention, shared=2)),
    "one node": graph_of(partial(attention, turn=by_node)),
    "two share tables": graph_of(twice),
    "two share constants": graph_of(partial(twice, tables=stored)),
}
MORE: Mapping[str, Graph] = {
    "one layer": graph_of(one_layer),
    "side by side": graph_of(side_by_side),
    "side by side, neighbours": graph_of(partial(side_by_side, interleaved=1)),
}
every_graph = pytest.mark.parametrize("kind", GRAPHS)
all_graphs = pytest.mark.parametrize("graph", [*GRAPHS.values(), *MORE.values()])


def asked(graph: Graph) -> list[Met]:
    return [each for each in met(graph) if not each.reads]


def of(graph: Graph) -> Study:
    found = study(graph, source("drawn"), 16, 0, "", (), ("heads",))
    assert found is not None
    return found


def forms(found: Study) -> dict[Node, Scores]:
    thin = {n: form for n, each in found.ways.items() for form in each if isinstance(form, Scores)}
    return {node: thin[node] for node in found.ways if node in thin}


@every_graph
def test_channels_of_a_pair_stand_side_by_side(kind: str) -> None:
    found = asked(GRAPHS[kind])
    assert [each.each for each in found] == [2] * len(found or [0])
    for each in found:
        step = 1 if kind == "neighbours" else HALF
        for side in (each.left, each.right):
            assert (np.diff(side.reshape(len(side), -1, 2)) == step).all()


@all_graphs
def test_what_is_made_larger_and_smaller_gives_the_same(graph: Graph) -> None:
    after = turned(graph, [drawn(graph)], met(graph))
    changed = [n for n in after.nodes if n not in set(graph.nodes) and not n.inputs]
    assert len(changed) >= 3
    assert off(graph, after) < 1e-4


@pytest.mark.parametrize("kind", ["halves", "grouped"])
def test_queries_are_as_large_as_what_pairs_add_to_scores(kind: str) -> None:
    found = of(GRAPHS[kind])
    (node,) = forms(found)
    (each,) = (e for e in met(found.original) if not e.reads)
    assert each.operands is not None
    ends = {name: o.value for name, o in zip("qk", each.operands, strict=True)}
    q, k = runner(Graph(found.original.inputs, ends))(drawn(found.original, 512)).values()
    moments = [_moments(q, centred=False), _moments(k.swapaxes(2, 3), centred=True)]
    added = np.sqrt((moments[0] * moments[1]).sum((2, 3))).mean(0)
    energy = np.sqrt(np.square(forms(found)[node].energies(found.seen[node].moments)[0]).mean(1))
    np.testing.assert_allclose(energy / energy.sum(), added / added.sum(), rtol=0.15)


def _moments(x: Array, *, centred: bool) -> Array:
    """Of pairs half a head apart, by head and pair."""
    pairs = np.stack([x[..., :HALF], x[..., HALF:]], -1)
    pairs = pairs - centred * pairs.mean((0, 2), keepdims=True)
    found: Array = np.einsum("nhlpa,nhlpb->hpab", pairs, pairs) / (x.shape[0] * x.shape[2])
    return found


@all_graphs
def test_without_pairs_it_is_as_if_they_were_zero(graph: Graph) -> None:
    found = of(graph)
    small = found.solved({n: Choice(form, 2) for n, form in forms(found).items()})
    masks = {
        whole(found.graph, form.layer).y: form.rough(2, found.seen[node].moments).silent
        for node, form in forms(found).items()
    }

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        y = node.outputs[0]
        if y not in masks:
            return None
        return ops.Mul(node.on(inputs).outputs[0], const(~masks[y]))

    zeroed = transform(found.original, visit)
    assert masks
    assert off(graph, zeroed) > 1e-3
    assert off(zeroed, small) < 1e-5
    assert parameters(small) < parameters(graph)


def test_one_attention_loses_pairs_and_the_other_keeps_the_shared_tables() -> None:
    graph = GRAPHS["two share tables"]
    found = of(graph)
    first, _ = forms(found).items()
    after = found.solved({first[0]: Choice(first[1], 2)})
    widths = {n.outputs[0].type.size(2) for n in after.nodes if n.op == ops.Cos}
    assert widths == {4, EACH}
    assert len([n for n in graph.nodes if n.op == ops.Cos]) == 1


def test_tables_that_all_heads_still_need_are_made_once() -> None:
    found = of(GRAPHS["two share tables"])
    assert len([n for n in found.original.nodes if n.op == ops.Cos]) == 2
    after = found.solved({})
    assert len([n for n in after.nodes if n.op == ops.Cos]) == 1


def test_frequencies_go_where_tables_are_computed() -> None:
    after = Heads(rank=2, **FEW)(GRAPHS["two share tables"])
    types = [n.outputs[0].type for n in after.nodes if not n.inputs]
    sizes = [t.static for t in types if isinstance(t, TensorType) and t.dtype == np.float32]
    assert sizes.count((2,)) == 2
    assert (HALF,) not in sizes


def seen(x: Value) -> Graph:
    """The tables are an output, too."""
    angles = computed(x)
    y = attention(x, angles)
    return Graph({"x": x}, {"y": y, "cos": angles[0]}, opset={"": 17})


def test_tables_that_are_given_out_stay() -> None:
    graph = seen(placeholder("n", PLACES, WIDTH))
    after = Heads(rank=2, **FEW)(graph)
    assert parameters(after) < parameters(graph)
    assert after.outputs["cos"].type == graph.outputs["cos"].type


def some_are_turned(x: Value, cos: Value, sin: Value) -> Value:
    """Only the first four channels of a head."""
    ends = [2, 4]
    a, b = (part(x, end - 2, end) for end in ends)
    c, s = (part(each, 0, 2) for each in (cos, sin))
    first, second = ops.Sub(ops.Mul(a, c), ops.Mul(b, s)), ops.Add(ops.Mul(a, s), ops.Mul(b, c))
    return ops.Concat(first, second, part(x, 4, EACH), axis=-1)


def then(turn: Turn, more: Callable[[Value], Value]) -> Turn:
    return lambda x, cos, sin: more(turn(x, cos, sin))


def first_normed(x: Value, cos: Value, sin: Value) -> Value:
    return halves(normed(x), cos, sin)


def by_themselves(x: Value, cos: Value, sin: Value) -> Value:
    """Each channel by what follows from it."""
    return ops.Mul(halves(x, cos, sin), ops.Sigmoid(x))


STAY: Mapping[str, Graph] = {
    "keys are not turned": graph_of(partial(attention, turn_keys=lambda x, _, __: x)),
    "keys are turned in other pairs": graph_of(partial(attention, turn_keys=neighbours)),
    "some channels are not turned": graph_of(partial(attention, turn=some_are_turned)),
    "they are normed": graph_of(partial(attention, turn=first_normed)),
    "they are multiplied by themselves": graph_of(partial(attention, turn=by_themselves)),
    "something is added": graph_of(
        partial(attention, turn=then(halves, lambda x: ops.Add(x, normal(EACH))))
    ),
    "an activation": graph_of(partial(attention, turn=then(halves, ops.Tanh))),
}


@pytest.mark.parametrize("why", STAY)
def test_queries_that_are_not_only_turned_in_pairs_stay(why: str) -> None:
    assert not asked(STAY[why])
    assert Heads(rank=2, **FEW)(STAY[why]).nodes


@pytest.mark.parametrize("why", sorted(STAY.keys() - {"they are normed"}))  # whose channels part
def test_why_queries_stay_is_explained(why: str) -> None:
    assert any("MatMul: heads: " in line for line in Heads().explain(STAY[why]))


@all_graphs
def test_what_pairs_save_is_what_was_said(graph: Graph) -> None:
    found = of(graph)
    for node, form in forms(found).items():
        for rank in range(1, HALF):
            after = found.solved({node: Choice(form, rank)})
            said = form.dense(PARAMETERS) - form.cost(rank, PARAMETERS)
            assert parameters(graph) - parameters(after) == pytest.approx(said, abs=8)


def test_large_tables_that_are_shared_are_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redir.passes.factorize.tables._FEW", 10)
    graph = graph_of(partial(twice, tables=stored))
    assert len(asked(graph)) == 2
    wide = Sizes.of(graph)
    assert parted(wide).graph is graph
    assert not forms(of(graph))
    assert any("share large tables" in line for line in Heads().explain(graph))


def test_nothing_is_explained_where_pairs_may_go() -> None:
    assert not [why for why in Heads().explain(GRAPHS["two share tables"]) if "heads" in why]


def scaled(x: Value, cos: Value, sin: Value) -> Value:
    del cos, sin
    return ops.Mul(x, normal(EACH))


def test_channels_with_factors_of_their_own_go_one_by_one() -> None:
    graph = graph_of(partial(attention, turn=scaled))
    assert [each.each for each in asked(graph)] == [1]
    after = turned(graph, [drawn(graph)], met(graph))
    assert off(graph, after) < 1e-5
    assert macs(Heads(rank=4, **FEW)(graph)) < macs(graph)


def test_keeps_its_promises() -> None:
    kinds = st.builds(
        lambda turn, shared, tables: graph_of(
            partial(attention, turn=turn, shared=shared, tables=tables)
        ),
        st.sampled_from([halves, neighbours, by_node]),
        st.integers(1, 2),
        st.sampled_from([computed, stored]),
    )
    check_pass(Heads(rank=2, **FEW), kinds, max_examples=5)


@every_graph
def test_goes_through_both_backends(kind: str) -> None:
    after, feeds = Heads(rank=2, **FEW)(GRAPHS[kind]), drawn(GRAPHS[kind])
    check_backends(after, feeds, atol=1e-3)
