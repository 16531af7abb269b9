"""prune: what goes, what stays, and that removing is the same as silencing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.channels.coupling import Coupling
from redir.check.guarantees import constants
from redir.check.outputs import verify
from redir.errors import BadPipeline, Broken
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Tensor
from redir.passes.prune import Prune
from redir.pipeline import Pipeline
from redir.testing import check_on, check_pass, check_removal, graphs
from tests.helpers import const, ints, placeholder

X = placeholder(1, 1, 3, 3)
ROWS, COLUMNS = [[1], [4], [2], [3]], [[4, 1, 1, 4]]


def conv(x: Value, rows: object) -> Value:
    """A 1x1 convolution by a matrix."""
    return ops.Conv(x, const(np.array(rows)[:, :, None, None]))


def of(y: Value) -> Graph:
    return Graph({"x": X}, {"y": y})


NET = of(conv(ops.Relu(conv(X, ROWS)), COLUMNS))


def attention(act: Callable[[Value], Value]) -> Graph:
    """Two heads of four channels over three tokens, of one matrix for queries, keys and values."""
    rng = np.random.default_rng(0)
    x = placeholder(1, 3, 5)
    fused = ops.Add(ops.MatMul(x, const(rng.normal(size=(5, 24)))), const(rng.normal(size=24)))
    each = ops.Transpose(ops.Reshape(fused, ints(1, 3, 3, 2, 4)), perm=(2, 0, 3, 1, 4))
    q, k, v = (ops.Gather(each, ops.Const(value=Tensor(np.array(i)))) for i in range(3))
    scores = ops.MatMul(act(q), ops.Transpose(act(k), perm=(0, 1, 3, 2)))
    mixed = ops.MatMul(ops.Softmax(ops.Mul(scores, const(0.5))), v)
    flat = ops.Reshape(ops.Transpose(mixed, perm=(0, 2, 1, 3)), ints(1, 3, 8))
    return Graph({"x": x}, {"y": ops.MatMul(flat, const(rng.normal(size=(8, 5))))})


def rows(graph: Graph) -> list[float]:
    return [float(n) for n in constants(graph)[0].array.ravel()]


@pytest.mark.parametrize(
    ("criterion", "ratio", "left"),
    [
        ("l1", 0.25, [1, 4, 3]),
        ("l1", 0.5, [4, 3]),
        ("l2", 0.5, [4, 3]),
        ("l2", 0.0, [1, 4, 2, 3]),
        ("l2", 0.99, [3]),
    ],
)
def test_the_least_go(criterion: str, ratio: float, left: list[float]) -> None:
    spec = f"prune{{channel_ratio={ratio},criterion={criterion}}}"
    assert rows(Pipeline.parse(spec).run(NET)) == left


def test_at_random_depends_on_the_seed_alone() -> None:
    left = {tuple(rows(Prune(criterion="random", seed=seed)(NET))) for seed in range(8)}
    assert len(left) > 1
    assert rows(Prune(criterion="random", seed=3)(NET)) == rows(
        Prune(criterion="random", seed=3)(NET)
    )


def test_without_compaction_the_channels_are_zero_and_there() -> None:
    assert rows(Prune(compact=False)(NET)) == [0, 4, 0, 3]


LEFT_ALONE = {
    "graph output": of(conv(X, ROWS)),
    "softmax over channels": of(conv(ops.Softmax(conv(X, ROWS), axis=1), COLUMNS)),
    "one channel": of(conv(conv(X, [[1]]), [[2]])),
}


@pytest.mark.parametrize("graph", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(graph: Graph) -> None:
    assert Prune(0.75)(graph) is graph


@given(graphs("conv", "residual", "grouped", "concat", "attention"), st.integers(0, 9))
def test_removing_is_the_same_as_silencing(graph: Graph, seed: int) -> None:
    check_removal(graph, seed=seed)


def test_the_check_of_removal_removes_and_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(rows(check_removal(NET, 0.9))) < len(ROWS)
    monkeypatch.setattr(Coupling, "pins", {})
    with pytest.raises(Broken, match="removal"):
        check_removal(replace(LEFT_ALONE["softmax over channels"]), 0.9)  # it has its coupling


def test_keeps_its_promises() -> None:
    check_pass(Prune(), graphs("conv", "residual"))


def test_a_part_that_was_empty_from_the_start_stays() -> None:
    split = Node(ops.Split, (conv(X, ROWS), ints(2, 0, 2)), {"axis": 1}, arity=3)
    net = of(conv(ops.Concat(*split.outputs, axis=1), COLUMNS))
    assert rows(check_on(Prune(0.5), net)) == [4, 3]


def test_options_print_and_parse() -> None:
    spec = "prune{channel_ratio=0.25,criterion=l1,compact=false}"
    assert str(Pipeline.parse(spec)) == spec


@pytest.mark.parametrize("spec", ["channel_ratio=1", "channel_ratio=-0.1", "seed=-1", "compact=no"])
def test_refuses(spec: str) -> None:
    with pytest.raises(BadPipeline, match="prune"):
        Pipeline.parse(f"prune{{{spec}}}")


def test_refuses_a_criterion_that_there_is_not() -> None:
    with pytest.raises(BadPipeline, match=r"no criterion is called 'l3'; there are .*bn_scale"):
        Pipeline.parse("prune{criterion=l3}")


def test_the_graph_is_checked_as_it_is_pruned() -> None:
    assert rows(check_on(Prune(), NET)) == [4, 3]


def test_a_channel_that_is_divided_is_silent_too() -> None:
    x = placeholder("n", 3)
    ratio = ops.Div(ops.MatMul(x, const(np.arange(12).reshape(3, 4))), const([4.0, 2.0, 1.0, 8.0]))
    graph = Graph({"x": x}, {"y": ops.MatMul(ratio, const(np.arange(8).reshape(4, 2)))})
    check_removal(graph, 0.5)
    assert verify(Prune(compact=False)(graph), Prune()(graph)).verdict == "pass"


def test_a_custom_operator_that_is_called_div_divides_nothing() -> None:
    x = placeholder(1, 3)
    hidden = ops.MatMul(x, const(np.arange(12).reshape(3, 4)))
    y = ops.MatMul(hidden, const(np.arange(8).reshape(4, 2)))
    other = ops.opaque("Div", "custom", 1, [x.type])(x)
    silent = Prune(compact=False)(Graph({"x": x}, {"y": y, "z": other}))
    assert sum(not row.any() for row in silent.nodes[0].attrs["value"].array.T) == 2


def broken(graph: Graph) -> tuple[object, ...]:
    """The heads and the channels of each, as a Reshape makes them."""
    shapes = [n.outputs[0].type.shape for n in graph.nodes if n.op == ops.Reshape]
    return (shapes[0] or ())[3:]


@pytest.mark.parametrize("act", [ops.Identity, ops.Relu, lambda q: ops.Mul(q, const([2.0] * 4))])
def test_the_channels_of_attention_heads_go_from_all_heads_alike(
    act: Callable[[Value], Value],
) -> None:
    graph = attention(act)
    pruned = Prune()(graph)
    assert broken(pruned) == (2, 2)
    assert verify(Prune(compact=False)(graph), pruned).verdict == "pass"


@pytest.mark.parametrize("act", [ops.Sigmoid, ops.Softmax, lambda q: ops.Add(q, const(1.0))])
def test_heads_go_whole_where_a_product_would_miss_a_channel(act: Callable[[Value], Value]) -> None:
    graph = attention(act)
    pruned = Prune()(graph)
    assert broken(pruned) == (1, 4)
    assert verify(Prune(compact=False)(graph), pruned).verdict == "pass"


@pytest.mark.parametrize("act", [ops.Sigmoid, lambda q: ops.Add(q, const(1.0))])
def test_a_product_that_would_miss_a_channel_pins(act: Callable[[Value], Value]) -> None:
    a, b = (act(ops.MatMul(X, const(np.ones((3, 4))))) for _ in "ab")
    graph = of(ops.MatMul(a, ops.Transpose(b, perm=(0, 1, 3, 2))))
    assert Prune()(graph) is graph
