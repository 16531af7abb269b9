"""fold-constants: what it leaves alone, the conformance kit."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.check.guarantees import stored
from redir.errors import BadPipeline
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Tensor, TensorType
from redir.passes.fold_constants import FoldConstants, storage
from redir.pipeline import Pipeline
from redir.testing import check_on, check_pass, graphs
from redir.text import parse
from tests.helpers import const, ints, operators, placeholder, sources
from tests.steps import STEPS

X = placeholder("n", 3)
WIDE = placeholder("n", "m", 2)
NO_RANK = Value(TensorType(np.dtype(np.float32)))


def of(y: Value, x: Value = X) -> Graph:
    return Graph({"x": x}, {"y": y})


def sizes(x: Value, *axes: int) -> Value:
    return ops.Gather(ops.Shape(x), ints(*axes))


def of_any_size(x: Value) -> Value:
    """A value of which redir does not know that it is as large as ``x``."""
    return ops.Expand(x, ops.Abs(ops.Shape(x)))


LEFT_ALONE = {
    "depends on an input": of(ops.Add(X, const([1, 2, 3], "float32"))),
    "larger than the limit": of(ops.Expand(const(1, "float32"), ints(600, 600))),
    "random operator": of(ops.RandomNormalLike(const([1], "float32"))),
    "random operator without operands": of(ops.RandomNormal(shape=(2,))),
    "unknown operator": of(ops.opaque("Mix", "custom", 1, [X.type])(const([1], "float32"))),
    "open shape": of(ops.Shape(X)),
    "open size": of(sizes(X, 0)),
    "shape of unknown rank": of(ops.Shape(NO_RANK), NO_RANK),
    "index out of range": of(sizes(X, 5)),
    "Reshape to sizes in other places": of(ops.Reshape(WIDE, sizes(WIDE, 1, 0, 2)), WIDE),
    "Reshape to two sizes of another value": of(
        ops.Reshape(WIDE, ops.Concat(sizes(of_any_size(WIDE), 0, 1), ints(2), axis=0)), WIDE
    ),
    "Reshape in which 0 is a size": of(ops.Reshape(WIDE, sizes(WIDE, 0, 2, 1), allowzero=1), WIDE),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_left_alone(why: str) -> None:
    assert FoldConstants()(LEFT_ALONE[why]) is LEFT_ALONE[why]


def test_a_result_as_large_as_its_operands_is_folded_whatever_the_limit() -> None:
    y = ops.Add(X, ops.Neg(const([1, 2, 3], "float32")))
    assert [n.op.name for n in FoldConstants(limit=0)(of(y)).nodes] == ["Const", "Add"]


ROW, FOUR = const([1, 2, 3], "float32"), placeholder("n", 4)
OTHER = const([4, 5, 6], "float32")
RANGE = ops.Range(const(0, "int64"), const(4, "int64"), const(1, "int64"))

GROWING = {
    "a vector of one number": of(ops.Add(X, ops.Expand(const([1], "float32"), ints(3)))),
    "a vector of zeros": of(ops.Add(X, ops.ConstantOfShape(ints(3)))),
    "a range": of(ops.Add(FOUR, ops.Cast(RANGE, to=1)), FOUR),
    "a copy of what stays": of(ops.Add(ops.Mul(X, ROW), ops.Neg(ROW))),
}


@pytest.mark.parametrize("why", GROWING)
def test_what_would_store_more_numbers_is_left_to_be_computed(why: str) -> None:
    assert check_on(FoldConstants(), GROWING[why]) is GROWING[why]


def test_where_not_all_can_be_stored_sizes_are_stored_first() -> None:
    saving, growing = ops.Add(ROW, OTHER), ops.Expand(const([1], "float32"), ints(9, 1, 1))
    y = ops.Add(ops.Reshape(ops.Relu(X), ops.Shape(X)), saving)
    after = check_on(FoldConstants(), of(ops.Mul(y, growing)))
    names = {n.op.name for n in after.nodes}
    assert names == {"Const", "Relu", "Reshape", "Add", "Expand", "Mul"}


def test_equal_sizes_are_stored_once() -> None:
    flat = [ops.Reshape(x, ops.Shape(X)) for x in (ops.Relu(X), ops.Neg(X))]
    y = ops.Mul(ops.Sub(*flat), ops.Add(ROW, OTHER))
    goal, _ = (n.attrs["value"] for n in check_on(FoldConstants(), of(y)).nodes if not n.inputs)
    assert goal == Tensor(np.array([0, 3]))


def branching(*, condition: bool = True) -> Value:
    """An If that takes a Relu, or else a Neg."""
    taken = Graph({"x": (v := placeholder(2))}, {"a": ops.Relu(v)})
    other = Graph({"x": (w := placeholder(2))}, {"b": ops.Neg(w)})
    attrs = {"then_branch": taken, "else_branch": other, "captures": ("x",)}
    return Node(ops.If, (const(condition, "bool"), placeholder(2)), attrs).outputs[0]


@pytest.mark.parametrize(("condition", "left"), [(True, "Relu"), (False, "Neg")])
def test_a_branch_that_is_always_taken_comes_out(condition: bool, left: str) -> None:  # noqa: FBT001
    y = branching(condition=condition)
    assert y.node is not None
    after = check_on(FoldConstants(), Graph({"x": y.node.inputs[1]}, {"y": y}))
    assert operators(after) == [left]


def test_what_is_known_of_a_branch_folds_with_it() -> None:
    flat = (v := placeholder("n", 3, 2))
    size = ops.Concat(sizes(v, 0), ints(-1), axis=0)
    taken = Graph({"x": v}, {"a": ops.Reshape(flat, size)})
    other = Graph({"x": (w := placeholder("n", 3, 2))}, {"b": ops.Neg(w)})
    attrs = {"then_branch": taken, "else_branch": other, "captures": ("x",)}
    wide = placeholder("n", 3, 2)
    same = ops.Equal(ops.Gather(ops.Shape(wide), ints(1)), ints(3))
    y = Node(ops.If, (ops.Squeeze(same), wide), attrs).outputs[0]
    after = check_on(FoldConstants(), Graph({"x": wide}, {"y": y}))
    assert operators(after) == ["Reshape"]
    assert after.outputs["y"].type.shape == ("n", 6)


def test_sizes_that_are_split_are_folded_where_all_are_known() -> None:
    wide = placeholder("batch", 3, 4)
    op = ops.lookup("Split", 13)
    assert op is not None
    first, others = Node(op, (ops.Shape(wide), ints(1, 2)), {"axis": 0}, arity=2).outputs
    sizes = Node(op, (others, ints(1, 1)), {"axis": 0}, arity=2).outputs
    graph = of(ops.Reshape(wide, ops.Concat(first, *reversed(sizes), axis=0)), wide)
    after = check_on(FoldConstants(), graph)
    assert operators(after) == ["Reshape"]


def looping(trips: Value, going: Value, *, emits: bool = False) -> Value:
    """A Loop that adds what it captures, and the number of the pass, to what it carries."""
    count, go, v, w = (
        *(placeholder(dtype=np.int64), placeholder(dtype=bool)),
        *(placeholder(2) for _ in range(2)),
    )
    after = ops.Add(ops.Add(v, w), ops.Cast(count, to=1))
    outputs = {"go": ops.Identity(go), "a": after} | ({"s": after} if emits else {})
    body = Graph({"i": count, "c": go, "v": v, "w": w}, outputs)
    inputs = trips, going, X2, ops.Neg(X2)
    attrs = {"body": body, "captures": ("w",)}
    return Node(ops.Loop, inputs, attrs, arity=1 + emits).outputs[0]


X2, NONE = placeholder(2), ops.Absent()
TRUE, FALSE = (const(flag, "bool") for flag in (True, False))
ONE_PASS, NO_PASS, TWO = (const(n, "int64") for n in (1, 0, 2))
LOOPS = {
    "one pass": (looping(ONE_PASS, NONE), ["Neg", "Add", "Add"]),
    "one pass, which begins": (looping(ONE_PASS, TRUE), ["Neg", "Add", "Add"]),
    "none": (looping(NO_PASS, placeholder(dtype=bool)), []),
    "none, as it does not begin": (looping(placeholder(dtype=np.int64), FALSE), []),
}


@pytest.mark.parametrize("what", LOOPS)
def test_a_loop_of_one_pass_or_none_comes_out(what: str) -> None:
    y, left = LOOPS[what]
    before = Graph({f"x{i}": x for i, x in enumerate(sources(y))}, {"y": ops.Identity(y)})
    assert operators(check_on(FoldConstants(), before)) == [*left, "Identity"]


STAYING = {
    "two passes": looping(TWO, NONE),
    "as many as a value says": looping(placeholder(dtype=np.int64), TRUE),
    "one pass, if it begins": looping(ONE_PASS, placeholder(dtype=bool)),
    "until it stops": looping(NONE, TRUE),
    "what stacks": looping(ONE_PASS, TRUE, emits=True),
}


@pytest.mark.parametrize("what", STAYING)
def test_other_loops_stay(what: str) -> None:
    y = STAYING[what]
    before = Graph({f"x{i}": x for i, x in enumerate(sources(y))}, {"y": y})
    assert FoldConstants()(before) is before


def test_a_branch_that_may_be_taken_stays() -> None:
    node = branching().node
    assert node is not None
    condition = placeholder(dtype=bool)
    y = node.on((condition, node.inputs[1])).outputs[0]
    graph = Graph({"c": condition, "x": node.inputs[1]}, {"y": y})
    assert check_on(FoldConstants(), graph) is graph


HELD = const([1, 2, 3], "float32")
SHARED = {
    "each name is read": ops.Add(ops.Mul(X, ops.Identity(HELD)), HELD),
    "one name is not read": ops.Add(ops.Mul(X, ops.Identity(HELD)), ops.Neg(HELD)),
    "what is made of it is smaller": ops.Add(ops.Mul(X, ops.ReduceSum(HELD)), HELD),
    "what is made of it is larger": ops.Add(ops.Mul(X, ops.Expand(HELD, ints(2, 3))), HELD),
}


@pytest.mark.parametrize("what", SHARED)
def test_the_least_to_store_is_known_at_once(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    after = check_on(FoldConstants(), of(SHARED[what]))
    monkeypatch.setattr(storage, "_is_least", lambda *_: False)
    assert str(FoldConstants()(of(SHARED[what]))) == str(after)


def test_sizes_cost_nothing() -> None:
    y = ops.Add(ops.Reshape(ops.Relu(X), ops.Shape(X)), ops.Reshape(ops.Neg(X), ops.Shape(X)))
    after = check_on(FoldConstants(), of(y))
    assert "Shape" not in operators(after)


def test_a_size_that_is_computed_with_costs_what_it_is() -> None:
    graph = of(ops.Add(X, ops.Cast(ops.Shape(X, start=1), to=1)))
    assert check_on(FoldConstants(), graph) is graph


def test_sizes_that_come_out_of_a_model_cost_what_they_are() -> None:
    x = placeholder(2, 3)
    graph = of(ops.Shape(ops.Relu(x)), x)
    assert check_on(FoldConstants(), graph) is graph


def test_a_size_is_known_through_nests_of_shape_arithmetic() -> None:
    size = ops.Cast(ops.Squeeze(ops.Slice(ops.Shape(X), ints(1), ints(2))), to=6)
    (node,) = check_on(FoldConstants(), of(ops.Identity(ops.Unsqueeze(size, ints(0))))).nodes
    assert node.attrs["value"] == Tensor(np.array([3], np.int32))


def test_open_sizes_in_their_own_places_are_copied() -> None:
    target = ops.Concat(sizes(WIDE, 0, 1), ints(2, 1), axis=0)
    after = check_on(FoldConstants(), of(ops.Reshape(WIDE, target), WIDE))
    assert after.nodes[0].attrs["value"] == Tensor(np.array([0, 0, 2, 1]))


def test_open_sizes_of_the_same_name_are_copied() -> None:
    target = ops.Concat(sizes(ops.Relu(WIDE), 0, 1), ints(2, 1), axis=0)
    after = check_on(FoldConstants(), of(ops.Reshape(WIDE, target), WIDE))
    assert after.nodes[0].attrs["value"] == Tensor(np.array([0, 0, 2, 1]))


def test_one_open_size_is_what_is_left() -> None:
    target = ops.Concat(sizes(of_any_size(X), 0), ints(1, 3), axis=0)
    after = check_on(FoldConstants(), of(ops.Reshape(X, target)))
    assert after.nodes[0].attrs["value"] == Tensor(np.array([-1, 1, 3]))


def test_a_folded_constant_keeps_its_name() -> None:
    one = "    one: int64[1] = Const(value=Tensor(int64[1], [1]))\n    y: int64[1] = Neg(one)\n"
    before = parse(f"def main(x: int64[2]):\n{one}    return {{'y': y}}\n")
    (node,) = FoldConstants()(before).nodes
    assert (node.op, node.inputs) == (ops.Const, ())
    assert node.source is not None
    assert node.source.outputs == ("y",)


@pytest.mark.parametrize("always", STEPS["fold-constants"], ids=", ".join)
def test_keeps_its_promises_on(always: tuple[str, ...]) -> None:
    check_pass(FoldConstants(), graphs(*always))


@pytest.mark.parametrize("limit", [0, 7, 1 << 20])
def test_reads_back_from_its_text(limit: int) -> None:
    assert Pipeline.parse(str(FoldConstants(limit))).passes == (FoldConstants(limit),)


@pytest.mark.parametrize("options", ["limit=much", "limit=1.5", "limit=", "limit", "bytes=3"])
def test_refuses_other_options(options: str) -> None:
    with pytest.raises(BadPipeline, match="fold-constants"):
        Pipeline.parse(f"fold-constants{{{options}}}")


def test_refuses_a_negative_limit() -> None:
    with pytest.raises(BadPipeline, match="limit"):
        Pipeline.parse("fold-constants{limit=-1}")


def test_sizes_that_are_concatenated_as_columns_are_in_row_order() -> None:
    column = ops.Unsqueeze(ops.Shape(X), ints(1))
    flat = ops.Reshape(ops.Concat(column, column, axis=1), ints(-1))
    check_on(FoldConstants(), of(ops.Gather(flat, ints(1))))


def test_a_sequence_of_constants_is_left_alone() -> None:
    some = ops.SequenceConstruct(ints(1, 2), ints(1, 2, 3))
    before = of(ops.SequenceAt(some, const(0, "int64")))
    assert FoldConstants()(before) is before


def test_a_pooling_that_pads_one_side_keeps_its_shape() -> None:
    image = const(np.ones((1, 1, 2, 2)), "float32")
    check_on(FoldConstants(), of(ops.MaxPool(image, kernel_shape=(2, 2), pads=(1, 1, 0, 0))))


UNFOLDED: dict[str, Value] = {
    "more than 4096 bytes": ops.Expand(const([1.0]), ints(2000)),
    "runtimes may give": ops.RandomUniformLike(const([1.0])),
    "runtimes differ": ops.Div(ints(1), ints(0)),
}


@pytest.mark.parametrize("why", UNFOLDED)
def test_explain_says_why_something_is_not_folded(why: str) -> None:
    (line,) = FoldConstants().explain(Graph({}, {"y": UNFOLDED[why]}))
    assert why in line


def test_a_number_that_is_stored_already_is_not_stored_again() -> None:
    x, one = placeholder(2), const(1)
    graph = Graph({"x": x}, {"y": ops.Sub(ops.Mul(x, ops.Div(one, one)), one)})
    after = FoldConstants()(graph)
    assert operators(after) == ["Mul", "Sub"]
    assert stored(after) == stored(graph) == 1


def test_a_number_of_another_shape_is_another() -> None:
    x = placeholder(2)
    graph = Graph({"x": x}, {"y": ops.Add(ops.Add(x, ops.Neg(const(-1))), const([1]))})
    assert operators(FoldConstants()(graph)) == ["Add", "Add"]
