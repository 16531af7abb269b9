"""Steps that a last bit tips: a tie is no difference, and everything else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.check.outputs import Verdict, verify
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, TensorType
from redir.ops import Absent
from tests.helpers import const

FLOAT = np.dtype(np.float32)
BIT = np.float32(2**-23)


def floats(numbers: Any) -> Array:
    return np.asarray(numbers, np.float32)


def bytes_of(numbers: Any) -> Array:
    return np.asarray(numbers, np.uint8)


def several(op: Any, arity: int, *inputs: Value, **attrs: Any) -> tuple[Value, ...]:
    return Node(op, inputs, attrs, arity=arity).outputs


def behind(step: Callable[[Value], Any], shape: tuple[int, ...], factor: Any = 1.0) -> Graph:
    """x times ``factor``, and ``step`` of that."""
    x = Value(TensorType(FLOAT, shape))
    product = ops.Mul(x, const(factor))
    found = step(product)
    values = (product, *(found if isinstance(found, tuple) else (found,)))
    return Graph({"x": x}, {f"y{i}": v for i, v in enumerate(values)}, opset={"": 21})


def compared(step: Any, x: Any, factor: Any = 1 + BIT, other: Any = None) -> Verdict:
    """A step of ``x``, and the same (or another) step of ``x`` times ``factor``."""
    array = np.asarray(x, np.float32)
    first, second = behind(step, array.shape), behind(other or step, array.shape, factor)
    return verify(first, second, [{"x": array}])


def quantised(x: Value) -> Value:
    return ops.QuantizeLinear(x, const(1.0), const(3, np.uint8))


def summed(step: Callable[[Value], Value]) -> Callable[[Value], Value]:
    """A step in the middle: what follows it is added up."""
    return lambda x: ops.ReduceSum(ops.Cast(step(x), to=1), const([0], np.int64), keepdims=0)


TIES: dict[str, tuple[Callable[[Value], Any], Any, Any]] = {
    "Greater": (lambda x: ops.Greater(x, const(1.0)), [1, 2, 0.5], 1 + BIT),
    "Less": (lambda x: ops.Less(const(1.0), x), [1, 2, 0.5], 1 + BIT),
    "GreaterOrEqual": (lambda x: ops.GreaterOrEqual(x, const(1.0)), [1, 2, 0.5], 1 - BIT),
    "Equal": (lambda x: ops.Equal(x, const(1.0)), [1, 2, 0.5], 1 + BIT),
    "Round": (ops.Round, [0.5, 2.25, -7.75], 1 + BIT),
    "Floor": (ops.Floor, [1, 2.25, -7.75], 1 - BIT),
    "Ceil": (ops.Ceil, [1, 2.25, -7.75], 1 + BIT),
    "Mod": (lambda x: ops.Mod(x, const(1.0), fmod=1), [1, 2.25, 7.75], 1 - BIT),
    "Shrink": (lambda x: ops.Shrink(x, lambd=1.0), [1, 2.25, -7.75], 1 + BIT),
    "ThresholdedRelu": (ops.ThresholdedRelu, [1, 2.25, -7.75], 1 + BIT),
    "to a byte": (lambda x: ops.Cast(x, to=2), [1, 2.25, 7.75], 1 - BIT),
    "QuantizeLinear": (quantised, [0.5, 2.25, 7.75], 1 + BIT),
    "ArgMax": (lambda x: ops.ArgMax(x, axis=0), [1, 1, 0.5], [1, 1 + BIT, 1]),
    "ArgMin": (lambda x: ops.ArgMin(x, axis=0, keepdims=0), [1, 1, 2.5], [1, 1 - BIT, 1]),
    "Hardmax": (lambda x: ops.Hardmax(x, axis=0), [1, 1, 0.5], [1, 1 + BIT, 1]),
    "TopK": (
        lambda x: several(ops.TopK, 2, x, const([2], np.int64), axis=0),
        [3, 1, 1, 0.5],
        [1, 1, 1 + BIT, 1],
    ),
    "MaxPool": (
        lambda x: several(
            ops.MaxPool, 2, ops.Reshape(x, const([1, 1, 4], np.int64)), kernel_shape=(2,)
        ),
        [1, 1, 3, 0.5],
        [1, 1 + BIT, 1, 1],
    ),
    "DynamicQuantizeLinear": (
        lambda x: several(ops.DynamicQuantizeLinear, 3, x),
        [0, 255, 8.5, 3.25],
        [1, 1, 1 + BIT, 1],
    ),
    "in the middle": (summed(lambda x: ops.Greater(x, const(1.0))), [1, 2, 0.5], 1 + BIT),
}


@pytest.mark.parametrize("what", TIES)
def test_what_falls_the_other_way_at_a_tie_is_no_difference(what: str) -> None:
    step, x, factor = TIES[what]
    found = compared(step, x, factor)
    assert (found.verdict, found.reason) == ("pass", "")
    assert 0 < found.ties <= 1
    assert compared(step, x, 1.0).ties == 0


WRONG: dict[str, tuple[Callable[[Value], Any], Callable[[Value], Any], Any]] = {
    "another threshold": (
        lambda x: ops.Greater(x, const(1.0)),
        lambda x: ops.Greater(x, const(1.001)),
        [1.0005, 2, 0.5],
    ),
    "another comparison": (
        lambda x: ops.Greater(x, const(1.0)),
        lambda x: ops.Less(x, const(1.0)),
        [1, 2, 0.5],
    ),
    "another number to be equal to": (
        lambda x: ops.Equal(x, const(1.0)),
        lambda x: ops.Equal(x, const(2.0)),
        [1, 2, 0.5],
    ),
    "another rounding": (ops.Floor, ops.Ceil, [1.5, 2.5, 3]),
    "another scale": (
        quantised,
        lambda x: ops.QuantizeLinear(x, const(1.01), const(3, np.uint8)),
        [0.5, 200.25, 7.75],
    ),
    "another zero point": (
        quantised,
        lambda x: ops.QuantizeLinear(x, const(1.0), const(4, np.uint8)),
        [0.5, 20.25, 7.75],
    ),
    "another axis": (
        lambda x: ops.ArgMax(x, axis=0, keepdims=0),
        lambda x: ops.ArgMax(x, axis=1, keepdims=0),
        [[1, 2], [4, 3]],
    ),
    "the least for the largest": (
        lambda x: ops.ArgMax(x, axis=0),
        lambda x: ops.ArgMin(x, axis=0),
        [1, 2, 3],
    ),
    "the least k": (
        lambda x: several(ops.TopK, 2, x, const([1], np.int64)),
        lambda x: several(ops.TopK, 2, x, const([1], np.int64), largest=0),
        [1, 2, 3],
    ),
    "channels in another order": (
        lambda x: ops.Greater(x, const([1.0, 1.0])),
        lambda x: ops.Greater(ops.Gather(x, const([1, 0], np.int64), axis=1), const([1.0, 1.0])),
        [[1, 0.5], [2, 1]],
    ),
    "something else behind the step": (
        summed(lambda x: ops.Greater(x, const(1.0))),
        lambda x: ops.Mul(summed(lambda x: ops.Greater(x, const(1.0)))(x), const(1.01)),
        [1, 2, 0.5],
    ),
    "something else before the step": (
        lambda x: ops.Greater(x, const(1.0)),
        lambda x: ops.Greater(ops.Mul(x, const(1.001)), const(1.0)),
        [0.9995, 2, 0.5],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_elsewhere_than_at_a_tie_fails(what: str) -> None:
    step, other, x = WRONG[what]
    assert compared(step, x, 1 + BIT, other).verdict == "fail"


def test_the_share_of_ties_is_that_of_the_results() -> None:
    assert compared(ops.Round, [0.5, 2.25, -7.75, 9], 1 + BIT).ties == 1 / 4
    assert compared(lambda x: ops.Shrink(x, lambd=1.0), [1, 2.25, -7, 9], 1 + BIT).ties == 1 / 4


def test_a_step_that_the_reference_tips_does_not_excuse_others() -> None:
    """A Round of 0.5 may be 0 or 1; that of 7.25 may not be 8."""
    third = np.float32(1 / 3)

    def step(by: float) -> Callable[[Value], Value]:
        return lambda x: ops.Round(ops.Add(ops.Mul(x, const([third * 1.5, 1])), const([0, by])))

    assert compared(step(0), [1, 7.25], 1.0, step(1)).verdict == "fail"


def test_the_reason_names_the_step() -> None:
    step, other, x = WRONG["another threshold"]
    assert "Greater gives something else where its operand is not at a tie" in (
        compared(step, x, 1 + BIT, other).reason
    )


def test_steps_that_are_not_the_same_are_compared_as_they_are() -> None:
    step = TIES["Greater"][0]
    found = compared(step, [1, 2, 0.5], 1 + BIT, lambda x: ops.Less(const(1.0), x))
    assert (found.verdict, found.ties) == ("fail", 0)


def test_steps_on_sizes_and_constants_count_for_nothing() -> None:
    def step(x: Value) -> Value:
        size = ops.Floor(ops.Div(ops.Cast(ops.Shape(const([1.0, 2.0])), to=1), const(2.0)))
        return ops.Mul(x, size)

    assert compared(step, [1, 2, 3]).verdict == "pass"


# The rules by themselves: what may not be the result of a step


def rule(node: Node, arrays: list[Any], results: list[Any], slack: float = 0.01) -> bool:
    found = node.op.step(node)
    slacks = [slack if np.asarray(a).dtype.kind == "f" and np.ndim(a) else 0.0 for a in arrays]
    given = [None if a is None else np.asarray(a) for a in arrays]
    assert found is not None
    return found(node, given, slacks, [np.asarray(r) for r in results])


def node_of(op: Any, *shapes: Any, arity: int = 1, **attrs: Any) -> Node:
    inputs = [s if isinstance(s, Value) else Value(TensorType(FLOAT, s)) for s in shapes]
    return Node(op, tuple(inputs), attrs, arity=arity)


X = floats([3, 1, 1.001, 0.5])
TOP = node_of(ops.TopK, (4,), const([2], np.int64), arity=2)


@pytest.mark.parametrize(
    ("values", "places", "fine"),
    [
        ([3, 1.001], [0, 2], True),
        ([3, 1], [0, 1], True),
        ([3, 1], [0, 3], False),  # not among the largest
        ([3, 2], [0, 1], False),  # not what is there
        ([1, 3], [1, 0], False),  # not in order
        ([3, 3], [0, 0], False),  # one twice
        ([3, 1], [0, 9], False),  # no such place
        ([3], [0], False),  # too few
    ],
)
def test_the_largest_in_order(values: list[float], places: list[int], *, fine: bool) -> None:
    assert rule(TOP, [X, [2]], [floats(values), places]) is fine


@pytest.mark.parametrize(("place", "fine"), [(1, True), (2, True), (0, False), (7, False)])
def test_the_largest(place: int, *, fine: bool) -> None:
    node = node_of(ops.ArgMax, (4,), axis=0)
    assert rule(node, [floats([0, 1, 1.001, 0.5])], [[place]]) is fine


@pytest.mark.parametrize(
    ("ones", "fine"),
    [([0, 1, 0], True), ([1, 0, 0], False), ([0, 1, 1], False), ([0, 2, 0], False)],
)
def test_a_one_at_the_largest(ones: list[float], *, fine: bool) -> None:
    node = node_of(ops.Hardmax, (3,), axis=0)
    assert rule(node, [floats([0, 1, 1.001])], [floats(ones)]) is fine


@pytest.mark.parametrize(
    ("x", "result", "fine"),
    [(0.5, 0, True), (0.5, 1, True), (0.6, 1, True), (0.6, 0, False), (0.5, 2, False)],
)
def test_a_rounding(x: float, result: float, *, fine: bool) -> None:
    assert rule(node_of(ops.Round, (1,)), [floats([x])], [floats([result])]) is fine


@pytest.mark.parametrize(("x", "result", "fine"), [(0.0, True, True), (0.5, False, False)])
def test_whether_a_number_is_zero(x: float, *, result: bool, fine: bool) -> None:
    node = node_of(ops.Cast, (1,), to=9)
    assert rule(node, [floats([x])], [[result]]) is fine


def test_a_result_of_another_shape_is_none_of_a_step() -> None:
    assert not rule(node_of(ops.Round, (1,)), [floats([0.5])], [floats([0, 0])])


def test_a_cast_between_floats_is_no_step() -> None:
    node = node_of(ops.Cast, (1,), to=10)
    assert node.op.step(node) is None


BOXES = floats([[[0, 0, 2, 2], [0, 0, 2, 2.1], [5, 5, 6, 6], [0, 0, 2, 1]]])
SCORES = floats([[[0.9, 0.901, 0.5, 0.3]]])


def suppressed(*chosen: int, most: int = 3, least: float = 0.2) -> bool:
    node = node_of(
        ops.NonMaxSuppression, (1, 4, 4), (1, 1, 4), const(most, np.int64), const(0.5), const(0.2)
    )
    rows = np.array([(0, 0, i) for i in chosen], np.int64).reshape(-1, 3)
    return rule(node, [BOXES, SCORES, most, np.float32(0.5), floats(least)], [rows])


@pytest.mark.parametrize(
    ("chosen", "fine"),
    [
        ((1, 2), True),
        ((0, 2), True),  # as good as the best
        ((1, 2, 3), True),  # within the reach of the threshold: they share 0.48 to 0.5
        ((0, 1, 2), False),  # they overlap
        ((2, 1), False),  # not in order
        ((1, 1), False),  # one twice
        ((1,), False),  # nothing overlaps the third
        ((2,), False),  # the best is left out
        ((1, 9), False),  # no such box
    ],
)
def test_boxes_that_overlap(chosen: tuple[int, ...], *, fine: bool) -> None:
    assert suppressed(*chosen) is fine


def test_boxes_are_left_out_for_their_number_and_their_score() -> None:
    assert suppressed(1, most=1)
    assert not suppressed(1, 2, most=1)
    assert suppressed(1, least=0.505)
    assert not suppressed(1, least=0.4)
    assert not suppressed(1, 2, least=0.6)


@pytest.mark.parametrize(
    ("found", "scale", "zero", "fine"),
    [
        ([0, 255, 8], 1.0, 0, True),
        ([0, 255, 7], 1.0, 0, True),
        ([0, 255, 9], 1.0, 0, False),
        ([0, 128, 4], 2.0, 0, False),
        ([1, 255, 9], 1.0, 1, False),
    ],
)
def test_a_scale_that_follows(found: list[int], scale: float, zero: int, *, fine: bool) -> None:
    node = node_of(ops.DynamicQuantizeLinear, (3,), arity=3)
    results = [bytes_of(found), floats(scale), bytes_of(zero)]
    assert rule(node, [floats([0, 255, 7.5])], results) is fine


# Whole models of the kind that a last bit tips


def detector(factor: Array) -> Graph:
    """Boxes and scores, of which those that overlap less are picked, and then gathered."""
    boxes, scores = (Value(TensorType(FLOAT, s)) for s in ((1, 4, 4), (1, 1, 4)))
    scaled = ops.Mul(scores, const(factor))
    picked = ops.NonMaxSuppression(boxes, scaled, const(2, np.int64), const(0.5), const(0.2))
    places = ops.Squeeze(
        ops.Slice(picked, *(const([n], np.int64) for n in (2, 3, 1))), const([1], np.int64)
    )
    rows = ops.Gather(ops.Squeeze(boxes, const([0], np.int64)), places, axis=0)
    return Graph({"b": boxes, "s": scores}, {"y": rows, "scores": scaled}, opset={"": 21})


def test_the_tail_of_a_detector() -> None:
    pytest.importorskip("onnxruntime", reason="the interpreter does not run it")
    feeds = [{"b": BOXES, "s": floats([[[0.9, 0.9, 0.5, 0.3]]])}]
    first = detector(np.ones(4))
    tipped = verify(first, detector(floats([1, 1 + BIT, 1, 1])), feeds)
    assert (tipped.verdict, tipped.ties > 0) == ("pass", True)
    assert verify(first, detector(floats([1, 1, 2, 1])), feeds).verdict == "fail"


def test_an_absent_operand_is_nothing_to_compare() -> None:
    def step(x: Value) -> Value:
        return ops.Floor(ops.Clip(x, Absent(), const(9.0)))

    assert compared(step, [1, 2.25, 7.75], 1 - BIT).verdict == "pass"
