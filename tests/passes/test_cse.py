"""cse: what it leaves alone, the conformance kit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.errors import BadPipeline
from redir.ir import Graph, Node, Source, Value
from redir.passes.cse import Cse
from redir.pipeline import Pipeline
from redir.testing import check_on, check_pass, graphs
from tests.helpers import const, placeholder
from tests.steps import STEPS

X = placeholder(2, 4)
Y = placeholder(2, 4)
DRAWN = np.random.default_rng(0).normal(size=(2, 4))
YES, HALF = const(array=True, dtype="bool"), const(0.5)
MIX = ops.opaque("Mix", "custom", 1, [X.type])


def both(a: Value, b: Value) -> Graph:
    return Graph({"x": X, "y": Y}, {"a": a, "b": b})


def branch(x: Value) -> Value:
    body = Value(X.type)
    same = Graph({"x": body}, {"y": ops.Relu(body)})
    return ops.If(YES, x, captures=("x",), then_branch=same, else_branch=same)


def trained(x: Value) -> Value:
    return ops.Dropout(x, HALF, YES)


LEFT_ALONE = {
    "another operator": both(ops.Relu(X), ops.Neg(X)),
    "another operand": both(ops.Relu(X), ops.Relu(Y)),
    "operands exchanged": both(ops.Sub(X, Y), ops.Sub(Y, X)),
    "another attribute": both(ops.LeakyRelu(X, alpha=0.5), ops.LeakyRelu(X, alpha=0.25)),
    "an attribute given once": both(ops.Softmax(X), ops.Softmax(X, axis=0)),
    "an attribute of another type": both(
        ops.Cast(X, to=1, saturate=1), ops.Cast(X, to=1, saturate=True)
    ),
    "a constant of another value": both(ops.Add(X, const(1)), ops.Add(X, const(2))),
    "a constant of another type": both(
        ops.Cast(const(1), to=7), ops.Cast(const(1, "float64"), to=7)
    ),
    "a constant of another shape": both(ops.Add(X, const([1])), ops.Add(X, const([[1]]))),
    "another version of the operator": both(
        ops.Relu(X), Node(ops.lookup("Relu", 6) or MIX, (X,)).outputs[0]
    ),
    "fewer results": both(
        ops.MaxPool(Z := ops.Reshape(X, const([1, 2, 4], "int64")), kernel_shape=(2,)),
        Node(ops.MaxPool, (Z,), {"kernel_shape": (2,)}, arity=2).outputs[1],
    ),
    "random operator": both(ops.RandomNormalLike(X), ops.RandomNormalLike(X)),
    "random operator with a seed": both(
        ops.RandomNormalLike(X, seed=1.0), ops.RandomNormalLike(X, seed=1.0)
    ),
    "dropout in training": both(trained(X), trained(X)),
    "unknown operator": both(MIX(X), MIX(X)),
    "control flow": both(branch(X), branch(X)),
    "constants alone": both(ops.Add(X, const([1])), ops.Mul(X, const([1]))),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_left_alone(why: str) -> None:
    assert Cse()(LEFT_ALONE[why]) is LEFT_ALONE[why]


WHY = {
    "random operator": "it draws, or nobody knows what it does",
    "unknown operator": "it draws, or nobody knows what it does",
    "random operator with a seed": "it draws, or nobody knows what it does",
    "constants alone": "to share it would tie their channels",
}


@pytest.mark.parametrize("what", WHY)
def test_explain_names_what_is_in_the_way(what: str) -> None:
    (line,) = Cse().explain(LEFT_ALONE[what])
    assert line.endswith(f", but {WHY[what]}")


@pytest.mark.parametrize("what", sorted(LEFT_ALONE.keys() - WHY.keys() - {"dropout in training"}))
def test_explain_says_nothing_of_what_differs(what: str) -> None:
    assert not list(Cse().explain(LEFT_ALONE[what]))


def test_explain_names_equal_weights() -> None:
    graph = both(*(ops.MatMul(v, const(DRAWN.T)) for v in (X, Y)))
    (line,) = Cse().explain(graph)
    assert line.endswith("but to share it would tie their channels")


def test_operands_that_become_the_same_make_their_readers_the_same() -> None:
    a, b = ops.Relu(X), ops.Relu(X)
    after = check_on(Cse(), both(ops.Add(a, Y), ops.Add(b, Y)))
    assert after.outputs["a"] is after.outputs["b"]


def test_convolutions_of_equal_weights_become_one() -> None:
    image = placeholder(1, 1, 3, 3)
    a, b = (ops.Conv(image, const(np.ones((2, 1, 1, 1)))) for _ in range(2))
    after = check_on(Cse(), Graph({"x": image}, {"a": a, "b": b}))
    assert [n.op.name for n in after.nodes] == ["Const", "Conv"]


def test_keeps_its_promises() -> None:
    check_pass(Cse())


@pytest.mark.parametrize("weights", [False, True])
def test_zero_points_of_bytes_stay_apart(weights: bool) -> None:  # noqa: FBT001
    layers = [
        ops.DequantizeLinear(const([[n, 2, 3, 4]], "int8"), const(0.5), const(0, "int8"))
        for n in (1, 5)
    ]
    after = check_on(Cse(weights), both(*(ops.Add(X, layer) for layer in layers)))
    zeros = [n for n in after.nodes if not n.inputs and n.outputs[0].type.dtype == np.int8]
    assert [n.outputs[0].rank for n in zeros].count(0) == 2


def test_sizes_and_single_numbers_are_stored_once() -> None:
    a, b = (ops.Reshape(x, const([4, 2], "int64")) for x in (X, Y))
    half = (ops.Mul(v, const(0.5, "float32")) for v in (a, b))
    after = check_on(Cse(), both(*half))
    assert sum(not node.inputs for node in after.nodes) == 2


@pytest.mark.parametrize("held", [[0.0, 0, 0, 0], [[0.0]], [0.0]])
def test_constants_that_have_channels_stay_apart(held: list[float]) -> None:
    graph = both(*(ops.Add(x, const(held, "float32")) for x in (X, Y)))
    assert check_on(Cse(), graph) is graph


def test_places_that_are_picked_stay_apart() -> None:
    graph = both(*(ops.Gather(x, const([0, 1], "int64")) for x in (X, Y)))
    assert check_on(Cse(), graph) is graph


@pytest.mark.parametrize("always", STEPS["cse"], ids=", ".join)
def test_keeps_its_promises_on(always: tuple[str, ...]) -> None:
    check_pass(Cse(), graphs(*always))


def test_reads_back_from_its_text() -> None:
    assert Pipeline.parse(str(Cse())).passes == (Cse(),)


OTHER = np.where(np.arange(8).reshape(2, 4) == 7, 9, DRAWN)


def stored(graph: Graph) -> int:
    return sum(not node.inputs for node in graph.nodes)


@pytest.mark.parametrize(
    ("one", "other", "left"),
    [
        (DRAWN, DRAWN, 1),
        (DRAWN, OTHER, 2),
        (DRAWN * 0, DRAWN * 0, 2),
        (DRAWN, DRAWN.T, 2),
        (DRAWN[:1, :1], DRAWN[:1, :1], 1),
    ],
    ids=["equal", "another number", "zeros", "another shape", "one number"],
)
def test_weights_are_stored_once_if_that_is_asked_for(
    one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], left: int
) -> None:
    x = placeholder(3, one.shape[0]), placeholder(3, other.shape[0])
    y = (ops.MatMul(v, const(a)) for v, a in zip(x, (one, other), strict=True))
    graph = Graph(dict(zip("xy", x, strict=True)), dict(zip("ab", y, strict=True)))
    assert stored(check_on(Cse(weights=True), graph)) == left
    assert stored(check_on(Cse(), graph)) == 2


def test_a_weight_that_is_frozen_is_not_another() -> None:
    held = [const(DRAWN) for _ in range(2)]
    node = held[0].node
    assert node is not None
    frozen = replace(node, source=Source(metadata=(("frozen", "1"),))).outputs[0]
    graph = both(ops.Add(X, frozen), ops.Add(Y, held[1]))
    assert Cse(weights=True)(graph) is graph


def test_quantised_weights_stay_two() -> None:
    x = [placeholder(3, 2, dtype=np.uint8) for _ in range(2)]
    held = np.arange(8).reshape(2, 4)
    y = (ops.MatMulInteger(v, const(held, "int8")) for v in x)
    graph = Graph(dict(zip("xy", x, strict=True)), dict(zip("ab", y, strict=True)))
    assert Cse(weights=True)(graph) is graph


def test_factors_of_sizes_are_stored_once() -> None:
    image, none = placeholder(1, 1, 3, 3), ops.Absent()
    a, b = (
        ops.Resize(v, none, const([1.0, 1, 2, 2]), mode="nearest") for v in (image, ops.Relu(image))
    )
    assert stored(check_on(Cse(), Graph({"x": image}, {"a": a, "b": b}))) == 2


def test_it_has_no_other_options() -> None:
    with pytest.raises(BadPipeline, match="no option 'x'"):
        Pipeline.parse("cse{x=1}")


def test_operands_that_are_not_given_are_the_same() -> None:
    a, b = (ops.Clip(X, ops.Absent(), const(6)) for _ in range(2))
    after = Cse()(both(a, b))
    assert after.outputs["a"] is after.outputs["b"]
