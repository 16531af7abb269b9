"""simplify: each rule fires where it may, holds back where it must, and changes no output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.backends.onnx import to_proto
from redir.errors import Broken, Unsupported
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Tensor
from redir.passes import simplify
from redir.passes.simplify import RULES, Simplify, affine, branches, fused, norms, rows
from redir.passes.simplify.rules import Around, Found
from redir.pipeline import Pipeline
from redir.testing import check_on, check_pass, graphs
from tests.helpers import const, ints, one_of_three, operators, placeholder, sources
from tests.steps import STEPS

RNG = np.random.default_rng(0)
X = placeholder(1, 3, 6, 6)
OPEN = placeholder("n", 3, "h", "w")
ROWS = placeholder("n", 6)
KERNEL = const(RNG.normal(size=(4, 3, 3, 3)))
MATRIX, BIAS = const(RNG.normal(size=(6, 4))), const(RNG.normal(size=4))


ONE = Tensor(np.ones(1, np.float32))


def of(*values: Value) -> Graph:
    """A graph of some results, which reads all that they need."""
    read = dict.fromkeys(x for value in values for x in sources(value))
    outputs = {f"y{i}": value for i, value in enumerate(values)}
    return Graph({f"x{i}": x for i, x in enumerate(read)}, outputs)


def cut(x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
    return ops.Slice(x, ints(start), ints(end), ints(axis), ints(step))


def pad(x: Value, *pads: int, **attrs: Any) -> Value:
    return ops.Pad(x, ints(0, 0, *pads[:2], 0, 0, *pads[2:]), **attrs)


def pool(x: Value, **attrs: Any) -> Value:
    return ops.AveragePool(x, kernel_shape=(3, 3), **attrs)


def split(x: Value, *sizes: int) -> tuple[Value, ...]:
    """The parts of these sizes along the third axis, or so many parts."""
    if len(sizes) > 1:
        return Node(ops.Split, (x, ints(*sizes)), {"axis": 2}, arity=len(sizes)).outputs
    return Node(ops.Split, (x,), {"axis": 2, "num_outputs": sizes[0]}, arity=sizes[0]).outputs


def number(value: float) -> Value:
    return const(value, "float32")


FLOAT, BYTE, INT, LONG, FLAG, HALF, DOUBLE, FLOAT8 = (
    1,
    2,
    6,
    7,
    9,
    10,
    11,
    19,
)  # as a Cast names types
BYTES = placeholder(4, dtype=np.uint8)
FIRES: dict[str, tuple[Value, list[str]]] = {
    "Slices of two axes": (cut(cut(OPEN, 2, 1, 9), 3, -5, -1), ["Slice"]),
    "Slices of one axis": (cut(cut(X, 2, 1, 6, 2), 2, 1, 3), ["Slice"]),
    "Squeezes": (ops.Squeeze(ops.Squeeze(ops.Unsqueeze(X, ints(0, 3)), ints(3)), ints(0)), []),
    "Unsqueezes": (ops.Unsqueeze(ops.Unsqueeze(X, ints(0)), ints(3)), ["Unsqueeze"]),
    "there and back": (ops.Squeeze(ops.Unsqueeze(OPEN, ints(2)), ints(-3)), []),
    "Transposes": (
        ops.Transpose(ops.Transpose(X, perm=(0, 2, 3, 1)), perm=(3, 0, 1, 2)),
        ["Transpose"],
    ),
    "Transposes that undo each other": (ops.Transpose(ops.Transpose(X)), []),
    "Reshapes": (ops.Reshape(ops.Reshape(OPEN, ints(-1, 2)), ints(3, -1)), ["Reshape"]),
    "Reshape of a Flatten": (ops.Reshape(ops.Flatten(OPEN), ints(3, -1)), ["Reshape"]),
    "Reshape of what moved an axis of size 1": (
        ops.Reshape(ops.Transpose(X, perm=(1, 2, 0, 3)), ints(18, 6)),
        ["Reshape"],
    ),
    "a Reshape that copies a size": (
        ops.Reshape(ops.Reshape(X, ints(18, 6)), ints(0, 3, 2)),
        ["Reshape"],
    ),
    "a Reshape of a Squeeze to what was": (
        ops.Reshape(ops.Squeeze(X, ints(0)), ints(1, 0, 0, -1)),
        ["Reshape"],
    ),
    "a Transpose of an Unsqueeze to what was": (
        ops.Transpose(ops.Unsqueeze(ops.Squeeze(X, ints(0)), ints(1)), perm=(1, 0, 2, 3)),
        [],
    ),
    "a Squeeze, then an Unsqueeze": (
        ops.Unsqueeze(ops.Squeeze(placeholder(1, 2, 1, "n"), ints(0)), ints(3)),
        ["Reshape"],
    ),
    "a Transpose of a Reshape": (
        ops.Transpose(ops.Reshape(X, ints(18, 6, 1)), perm=(2, 0, 1)),
        ["Reshape"],
    ),
    "a Flatten of what moved an axis of size 1": (
        ops.Flatten(ops.Transpose(X, perm=(1, 2, 0, 3)), axis=2),
        ["Reshape"],
    ),
    "Neg twice": (ops.Neg(ops.Neg(X)), []),
    "Relu twice": (ops.Relu(ops.Relu(X)), ["Relu"]),
    "a Cast there and back": (ops.Cast(ops.Cast(X, to=DOUBLE), to=FLOAT), []),
    "a Cast by way of more": (ops.Cast(ops.Cast(BYTES, to=FLOAT), to=DOUBLE), ["Cast"]),
    "whole numbers by way of more": (ops.Cast(ops.Cast(BYTES, to=LONG), to=INT), ["Cast"]),
    "a flag by way of numbers": (ops.Cast(ops.Cast(X, to=DOUBLE), to=FLAG), ["Cast"]),
    "Relu, then Clip": (ops.Clip(ops.Relu(X), number(0), number(6)), ["Clip"]),
    "Clip, then Relu": (ops.Relu(ops.Clip(X, number(0), number(6))), ["Clip"]),
    "Clip, then a wider one": (ops.Clip(ops.Clip(X, number(0), number(6)), number(-1)), ["Clip"]),
    "Clip, then a narrower one": (
        ops.Clip(ops.Clip(X, number(-3)), number(0), number(1)),
        ["Clip"],
    ),
    "a Concat of a Concat": (
        ops.Concat(ops.Concat(X, ops.Relu(X), axis=-1), X, axis=3),
        ["Concat", "Relu"],
    ),
    "a Split that is rejoined": (ops.Concat(*split(OPEN, 3), axis=-2), []),
    "a Split that is rejoined beside others": (
        ops.Concat(ops.Relu(OPEN), *split(OPEN, 3), axis=2),
        ["Concat", "Relu"],
    ),
    "Slices side by side": (ops.Concat(cut(X, 2, 0, 2), cut(X, 2, -4, 5), axis=2), ["Slice"]),
    "Slices of an open axis": (
        ops.Concat(cut(OPEN, 2, 1, 3), cut(OPEN, 2, 3, 2**31), cut(OPEN, 2, 0, 1), axis=2),
        ["Slice", "Slice", "Concat"],
    ),
    "a Slice of a part": (cut(ops.Concat(X, ops.Relu(X), axis=2), 2, 7, 10), ["Relu", "Slice"]),
    "a Slice of a part from behind": (
        ops.Slice(
            ops.Concat(X, ops.Relu(X), axis=3), ints(-7, 1), ints(-13, 3), ints(3, 2), ints(-2, 1)
        ),
        ["Slice"],
    ),
    "Pad before a Conv": (ops.Conv(pad(OPEN, 1, 0, 2, 1), KERNEL), ["Conv"]),
    "Pad before a Conv that pads": (
        ops.Conv(pad(OPEN, 1, 0, 2, 1), KERNEL, pads=(1, 1, 1, 1)),
        ["Conv"],
    ),
    "Pad before an AveragePool": (pool(pad(X, 1, 1, 1, 1)), ["AveragePool"]),
    "Pad before an AveragePool that counts": (
        pool(pad(X, 1, 0, 1, 0), pads=(0, 1, 1, 0), count_include_pad=1),
        ["AveragePool"],
    ),
    "Expand to the other operand": (
        ops.Mul(ops.Expand(ops.GlobalMaxPool(X), ints(1, 3, 6, 6)), X),
        ["GlobalMaxPool", "Mul"],
    ),
    "Expand to the shape of an open operand": (
        ops.Sub(OPEN, ops.Expand(ops.ReduceMax(OPEN, ints(1, 2, 3)), ops.Shape(OPEN))),
        ["ReduceMax", "Sub"],
    ),
    "times a map of ones": (ops.Mul(ops.ConstantOfShape(ops.Shape(OPEN), value=ONE), OPEN), []),
    "plus a map of zeros": (ops.Add(OPEN, ops.ConstantOfShape(ops.Shape(OPEN))), []),
    "divided by a map of ones": (
        ops.Div(X, ops.ConstantOfShape(ints(1, 3, 6, 6), value=ONE)),
        [],
    ),
    "MatMul and Add": (ops.Add(ops.MatMul(ROWS, MATRIX), BIAS), ["Gemm"]),
    "Add and MatMul": (ops.Add(BIAS, ops.MatMul(ROWS, MATRIX)), ["Gemm"]),
}


@pytest.mark.parametrize("what", FIRES)
def test_it_becomes_less(what: str) -> None:
    y, left = FIRES[what]
    before = of(ops.Identity(y))
    after = check_on(Simplify(), before)
    assert sorted(operators(after)) == sorted([*left, "Identity"])


READ_TWICE: dict[str, tuple[Value, Callable[[Value], Value]]] = {
    "a Slice": (cut(X, 2, 1, 5), lambda v: cut(v, 3, 1, 5)),
    "an Unsqueeze": (ops.Unsqueeze(X, ints(0)), lambda v: ops.Unsqueeze(v, ints(0))),
    "a Pad": (pad(X, 1, 1, 1, 1), lambda v: ops.Conv(v, KERNEL)),
    "a product": (ops.MatMul(ROWS, MATRIX), lambda v: ops.Add(v, BIAS)),
    "a Clip": (ops.Relu(X), lambda v: ops.Clip(v, number(0), number(6))),
    "a Concat": (ops.Concat(X, X, axis=2), lambda v: ops.Concat(v, X, axis=2)),
    "a part": (cut(X, 2, 0, 2), lambda v: ops.Concat(v, cut(X, 2, 2, 4), axis=2)),
    "a Squeeze": (
        ops.Squeeze(placeholder(1, 2, 3), ints(0)),
        lambda v: ops.Unsqueeze(v, ints(2)),
    ),
    "a Transpose": (
        ops.Transpose(X, perm=(0, 2, 3, 1)),
        lambda v: ops.Transpose(v, perm=(3, 0, 1, 2)),
    ),
}


@pytest.mark.parametrize("what", READ_TWICE)
def test_what_others_read_too_stays(what: str) -> None:
    between, behind = READ_TWICE[what]
    for other in (between, ops.Sigmoid(between)):
        graph = of(behind(between), other)
        assert check_on(Simplify(), graph) is graph


SQUARE_OF_ONE = placeholder(2, 3, 1)
STARTS, TARGET = placeholder(1, dtype=np.int64), placeholder(2, dtype=np.int64)
LEFT_ALONE: dict[str, Value] = {
    "a Slice of a part of an open size": cut(cut(OPEN, 2, -5, -1), 2, 1, 3),
    "a Slice from where a value says": ops.Slice(cut(OPEN, 2, 1, 5), STARTS, ints(4), ints(3)),
    "a Reshape that copies an open size": ops.Reshape(
        ops.Reshape(OPEN, ints(0, 0, -1)), ints(0, 3, 1, -1)
    ),
    "a Reshape to nothing": ops.Reshape(ops.Flatten(placeholder(0, 3)), ints(3, 0), allowzero=1),
    "moves to two open sizes": ops.Unsqueeze(
        ops.Squeeze(placeholder("n", 1, "h"), ints(1)), ints(0)
    ),
    "a move that turns": ops.Squeeze(ops.Transpose(SQUARE_OF_ONE, perm=(1, 0, 2)), ints(2)),
    "a move behind one that turns": ops.Unsqueeze(ops.Transpose(SQUARE_OF_ONE), ints(0)),
    "a Reshape to what a value says": ops.Reshape(ops.Flatten(X), TARGET),
    "a Reshape of what was turned": ops.Reshape(ops.Transpose(X), ints(18, 6)),
    "a Reshape of what may have been turned": ops.Reshape(
        ops.Transpose(OPEN, perm=(0, 1, 3, 2)), ints(-1)
    ),
    "a Squeeze of other axes": ops.Squeeze(
        ops.Unsqueeze(placeholder("n", 1, "h"), ints(0)), ints(2)
    ),
    "a Pad that mirrors": ops.Conv(pad(X, 1, 1, 1, 1, mode="reflect"), KERNEL),
    "a Pad by ones": ops.Conv(
        ops.Pad(X, ints(0, 0, 1, 1, 0, 0, 1, 1), const(1.0, "float32")), KERNEL
    ),
    "a Pad that cuts": ops.Conv(pad(X, 1, -1, 1, 1), KERNEL),
    "a Pad of channels": ops.Conv(
        ops.Pad(X, ints(0, 1, 0, 0, 0, 0, 0, 0)), const(np.ones((4, 4, 3, 3)))
    ),
    "a Pad along named axes": ops.Conv(
        ops.Pad(X, ints(1, 1), const(0.0, "float32"), ints(2)), KERNEL
    ),
    "a Conv whose pads follow sizes": ops.Conv(pad(X, 1, 1, 1, 1), KERNEL, auto_pad="SAME_UPPER"),
    "an AveragePool that pads uncounted": pool(pad(X, 1, 1, 1, 1), pads=(1, 1, 1, 1)),
    "an AveragePool that rounds up": pool(pad(X, 1, 1, 1, 1), ceil_mode=1),
    "a Pad as wide as a kernel": pool(pad(X, 3, 1, 1, 1)),
    "a MaxPool, for which zeros are numbers": ops.MaxPool(pad(X, 1, 1, 1, 1), kernel_shape=(3, 3)),
    "a product of stacks": ops.Add(ops.MatMul(X, const(np.ones((6, 4)))), BIAS),
    "a product of two that flow": ops.Add(ops.MatMul(ROWS, ops.Transpose(ROWS)), const([1.0])),
    "an Add of more axes": ops.Add(ops.MatMul(ROWS, MATRIX), const(np.ones((2, 1, 4)))),
    "an Add of a number for each row": ops.Add(
        ops.MatMul(placeholder(4, 6), MATRIX), const(np.ones((4, 1)))
    ),
    "an Expand to more": ops.Add(ops.Expand(X, ints(2, 3, 6, 6)), X),
    "an Expand to a part of the shape": ops.Mul(
        ops.Expand(ROWS, ops.Shape(OPEN, start=3)), placeholder("n", 6)
    ),
    "an Expand of what may be larger": ops.Mul(ops.Expand(OPEN, ops.Shape(X)), X),
    "an Expand to the shape of another": ops.Mul(
        ops.Expand(ops.ReduceMax(OPEN), ops.Shape(ops.MaxPool(OPEN, kernel_shape=(2, 2)))), OPEN
    ),
    "a map of ones as large as a value says": ops.Mul(
        ops.ConstantOfShape(TARGET, value=ONE), placeholder("a", "b")
    ),
    "plus a map of ones": ops.Add(OPEN, ops.ConstantOfShape(ops.Shape(OPEN), value=ONE)),
    "a map of ones over it": ops.Div(ops.ConstantOfShape(ops.Shape(OPEN), value=ONE), OPEN),
    "a larger map of zeros": ops.Add(X, ops.ConstantOfShape(ints(2, 3, 6, 6))),
    "a Cast by way of a byte": ops.Cast(ops.Cast(X, to=FLOAT8), to=FLOAT),
    "a Cast by way of less": ops.Cast(ops.Cast(X, to=HALF), to=FLOAT),
    "whole numbers that are rounded": ops.Cast(
        ops.Cast(placeholder(4, dtype=np.int64), to=DOUBLE), to=LONG
    ),
    "numbers that may be too large": ops.Cast(ops.Cast(X, to=DOUBLE), to=BYTE),
    "whole numbers that may be too large": ops.Cast(
        ops.Cast(placeholder(4, dtype=np.int16), to=FLOAT), to=BYTE
    ),
    "bounds of which none holds both": ops.Clip(ops.Relu(X), number(-1), number(6)),
    "bounds that flow": ops.Clip(ops.Relu(X), placeholder()),
    "bounds that cross": ops.Clip(ops.Relu(X), number(2), number(1)),
    "a Concat along another axis": ops.Concat(
        ops.Concat(X, X, axis=2), placeholder(1, 3, 12, 2), axis=3
    ),
    "parts of a Split in another order": ops.Concat(*split(X, 2)[::-1], axis=2),
    "some parts of a Split": ops.Concat(*split(X, 3)[:2], axis=2),
    "parts of a Split along another axis": ops.Concat(*split(X, 2), axis=3),
    "Slices with a gap": ops.Concat(cut(X, 2, 0, 2), cut(X, 2, 3, 5), axis=2),
    "Slices of two values": ops.Concat(cut(X, 2, 0, 2), cut(ops.Relu(X), 2, 2, 4), axis=2),
    "a Slice beside a constant": ops.Concat(cut(X, 2, 0, 3), const(np.ones((1, 3, 1, 6))), axis=2),
    "Slices along another axis": ops.Concat(cut(X, 2, 0, 3), cut(X, 2, 3, 6), axis=3),
    "Slices in steps": ops.Concat(cut(X, 2, 0, 3, 2), cut(X, 2, 3, 6, 2), axis=2),
    "Slices to an end that may come before": ops.Concat(
        cut(OPEN, 2, 2, -1), cut(OPEN, 2, -1, 9), axis=2
    ),
    "a Slice of two parts": cut(ops.Concat(X, ops.Relu(X), axis=2), 2, 5, 7),
    "a Slice of open parts": cut(ops.Concat(OPEN, ops.Relu(OPEN), axis=2), 2, 0, 1),
    "a Slice along another axis": cut(ops.Concat(X, ops.Relu(X), axis=2), 3, 0, 1),
    "a Neg of another operator": ops.Neg(ops.Abs(X)),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_it_stays(why: str) -> None:
    graph = of(LEFT_ALONE[why])
    assert check_on(Simplify(), graph) is graph


def test_explain_names_what_is_in_the_way() -> None:
    y = LEFT_ALONE["an AveragePool that rounds up"]
    (line,) = Simplify().explain(of(y))
    assert "Pad before a layer: it does not count what it pads" in line


MOVES: tuple[Callable[[Value, np.random.Generator], Value], ...] = (
    lambda x, rng: ops.Transpose(x, perm=tuple(map(int, rng.permutation(x.rank or 0)))),
    lambda x, rng: ops.Unsqueeze(x, ints(int(rng.integers(0, (x.rank or 0) + 1)))),
    lambda x, _: ops.Squeeze(x, ints(*ones(x))) if ones(x) else ops.Neg(x),
    lambda x, _: ops.Reshape(x, ints(-1, 2)),
    lambda x, _: ops.Reshape(x, ints(2, -1, 1)),
    lambda x, rng: cut(x, int(rng.integers(0, x.rank or 1)), 0, int(rng.integers(1, 9))),
    lambda x, rng: cut(x, int(rng.integers(0, x.rank or 1)), -1, -9, -1),
    lambda x, _: ops.Relu(x),
    lambda x, _: ops.Neg(x),
    lambda x, _: ops.Flatten(x),
)


def ones(x: Value) -> list[int]:
    return [axis for axis in range(x.rank or 0) if x.type.size(axis) == 1]


@given(st.lists(st.integers(0, len(MOVES) - 1), min_size=2, max_size=6), st.integers(0, 2**16))
def test_moves_in_any_order_come_to_the_same(places: list[int], seed: int) -> None:
    rng, y = np.random.default_rng(seed), placeholder(2, 1, 4)
    x, seen = y, [y]
    for place in places:
        size = int(np.prod(y.type.static or (0,)))
        made = MOVES[place](y, rng) if size % 2 == 0 and size else ops.Neg(y)
        y = made
        seen.append(y)
    outputs = {"y": y} | ({"z": seen[seed % len(seen)]} if seed % 2 else {})
    check_on(Simplify(), Graph({"x": x}, outputs))


DRAWN = {
    "Slice of a Slice": ("cut", "slice"),
    "Concat of a Concat": ("parts",),
    "parts that are joined again": ("parts",),
    "Slice of a Concat": ("parts",),
    "axes in a row": ("axes",),
    "there and back": ("moves",),
    "Transpose of a Transpose": ("transpose",),
    "Reshape of what is in the same order": ("attention",),
    "moves that keep the order": ("moves",),
    "undone": ("twice",),
    "done already": ("twice",),
    "Cast of a Cast": ("bounds",),
    "bounded again": ("bounds",),
    "Expand to the other operand": ("as_large",),
    "as many 0 or 1 as the other operand has": ("as_large",),
    "Pad before a layer": ("channel_pad", "conv"),
    "MatMul and Add": ("flatten", "matmul"),
    "numbers in a row": ("scale",),
    "factors of a Gemm": ("gemm",),
    "numbers behind a layer": ("conv", "scale"),
    "numbers before a layer": ("scale", "conv"),
    "branches that are added": ("branches",),
    "layers in a row": ("two_layers",),
    "activation from its parts": ("parts_of_activations",),
    "LayerNormalization from its parts": ("parts_of_norms",),
    "RMSNormalization from its parts": ("parts_of_norms",),
}


@pytest.mark.parametrize("rule", one_of_three(DRAWN))
def test_a_rule_fires_on_drawn_graphs(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplify, "RULES", [RIGHT[rule]])
    newer = graphs(*DRAWN[rule]).map(lambda graph: replace(graph, opset={"": 23}))
    check_pass(Simplify(), newer)


def test_every_rule_fires_on_drawn_graphs() -> None:
    assert DRAWN.keys() == RIGHT.keys()


@pytest.mark.parametrize("always", STEPS["simplify"], ids=", ".join)
def test_keeps_its_promises_on(always: tuple[str, ...]) -> None:
    check_pass(Simplify(), graphs(*always))


def older(graph: Graph, opset: int) -> Graph:
    """The same graph in an older operator set, or as it is where that has no such nodes."""
    try:
        return from_proto(to_proto(replace(graph, opset={"": opset})))
    except Unsupported:
        return graph


@pytest.mark.parametrize("opset", [9, pytest.param(12, marks=pytest.mark.nightly)])
def test_keeps_its_promises_in_an_older_operator_set(opset: int) -> None:
    drawn = graphs("gemm", "matmul", "flatten", "conv", "scale", "batchnorm", "activation", steps=5)
    check_pass(Simplify(), drawn.map(lambda graph: older(graph, opset)), max_examples=50)


def test_no_two_rules_have_one_name() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_is_found_by_name() -> None:
    assert Pipeline.parse("simplify").passes == (Simplify(),)


# Wrong versions


def before(node: Node) -> Node:
    """What makes the first operand."""
    inner = node.inputs[0].node
    assert inner is not None
    return inner


def only_the_outer(node: Node, _: Around) -> Found:
    return node.on((before(node).inputs[0], *node.inputs[1:])).outputs[0]


def the_wrong_way_round(node: Node, _: Around) -> Found:
    first, second = before(node).attrs["perm"], node.attrs["perm"]
    perm = tuple(second[axis] for axis in first)
    return node.on(before(node).inputs, perm=perm).outputs[0]


def without_own_pads(node: Node, around: Around) -> Found:
    return RIGHT["Pad before a layer"].rewrite(node.on(node.inputs, pads=(0, 0, 0, 0)), around)


def uncounted(node: Node, around: Around) -> Found:
    found = RIGHT["Pad before a layer"].rewrite(node, around)
    assert isinstance(found, Value)
    assert found.node is not None
    return found.node.on(found.node.inputs, count_include_pad=0).outputs[0]


def no_bias(node: Node, _: Around) -> Found:
    return ops.Gemm(*before(node).inputs)


def operand(node: Node, _: Around) -> Found:
    return before(node).inputs[0]


def always_small(node: Node, _: Around) -> Found:
    return node.on((before(node).inputs[0], *node.inputs[1:])).outputs[0]


def once(node: Node, _: Around) -> Found:
    inner = node.inputs[0].node
    return node.inputs[0] if inner is not None and inner.op == node.op else None


RIGHT = {rule.name: rule for rule in RULES}
SQUARE = placeholder(2, 2, 2)
WRONG: dict[str, tuple[str, Callable[[Node, Around], Found], Value]] = {
    "forgets the first Slice": ("Slice of a Slice", only_the_outer, cut(cut(X, 2, 1, 6), 2, 1, 3)),
    "does not shift axes": (
        "axes in a row",
        only_the_outer,
        ops.Squeeze(ops.Squeeze(placeholder(1, 1, 3), ints(0)), ints(0)),
    ),
    "drops what comes back elsewhere": (
        "there and back",
        operand,
        ops.Squeeze(ops.Unsqueeze(placeholder(1, 2), ints(2)), ints(0)),
    ),
    "turns the wrong way round": (
        "Transpose of a Transpose",
        the_wrong_way_round,
        ops.Transpose(ops.Transpose(SQUARE, perm=(1, 0, 2)), perm=(1, 2, 0)),
    ),
    "takes order for granted": (
        "Reshape of what is in the same order",
        only_the_outer,
        ops.Reshape(ops.Transpose(SQUARE), ints(-1)),
    ),
    "takes the order of any move for kept": (
        "moves that keep the order",
        lambda node, _: ops.Reshape(before(node).inputs[0], ints(1, 3, 2)),
        ops.Unsqueeze(ops.Transpose(placeholder(2, 3)), ints(0)),
    ),
    "forgets its own pads": (
        "Pad before a layer",
        without_own_pads,
        FIRES["Pad before a Conv that pads"][0],
    ),
    "counts no pads": ("Pad before a layer", uncounted, FIRES["Pad before an AveragePool"][0]),
    "takes any shape for the other's": (
        "Expand to the other operand",
        always_small,
        ops.Add(ops.Expand(X, ints(2, 3, 6, 6)), X),
    ),
    "adds nothing where it adds ones": (
        "as many 0 or 1 as the other operand has",
        lambda node, _: node.inputs[0],
        ops.Add(X, ops.ConstantOfShape(ints(1, 3, 6, 6), value=ONE)),
    ),
    "forgets what is added": ("MatMul and Add", no_bias, FIRES["MatMul and Add"][0]),
    "takes what is not whole": (
        "Cast of a Cast",
        operand,
        ops.Cast(ops.Cast(placeholder(4), to=LONG), to=FLOAT),
    ),
    "forgets the narrower bounds": (
        "bounded again",
        only_the_outer,
        ops.Clip(ops.Clip(X, number(0), number(1)), number(-1)),
    ),
    "takes any axis for the same": (
        "Concat of a Concat",
        lambda node, _: node.on((*before(node).inputs, node.inputs[1])).outputs[0],
        ops.Concat(ops.Concat(SQUARE, SQUARE, axis=0), placeholder(4, 2, 2), axis=1),
    ),
    "takes any order for the same": (
        "parts that are joined again",
        operand,
        ops.Concat(*split(X, 2)[::-1], axis=2),
    ),
    "takes from the start of a part": (
        "Slice of a Concat",
        lambda node, _: node.on((before(node).inputs[1], *node.inputs[1:])).outputs[0],
        cut(ops.Concat(X, ops.Relu(X), axis=2), 2, 7, 10),
    ),
    "undoes what is not undone": ("done already", operand, ops.Relu(ops.Relu(X))),
    "does once what is undone": ("undone", once, ops.Neg(ops.Neg(X))),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_rule_is_refuted(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, rewrite, y = WRONG[how]
    rules = [replace(RIGHT[name], rewrite=rewrite)]
    monkeypatch.setattr(simplify, "RULES", rules)
    with pytest.raises(Broken):
        check_on(Simplify(), of(y))


def test_every_rule_has_a_wrong_version() -> None:
    others = (*affine.RULES, *branches.RULES, *rows.RULES, *fused.RULES, *norms.RULES)
    elsewhere = {rule.name for rule in others}  # test_simplify_affine.py, _layers.py, _fused.py
    assert {name for name, *_ in WRONG.values()} == RIGHT.keys() - elsewhere
