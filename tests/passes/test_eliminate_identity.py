"""eliminate-identity: what it leaves alone, the conformance kit."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.errors import BadPipeline
from redir.ir import Attr, Graph, Node, Op, Value
from redir.passes.eliminate_identity import EliminateIdentity
from redir.pipeline import Pipeline
from redir.testing import check_on, check_pass, graphs
from tests.helpers import const, ints, placeholder
from tests.steps import STEPS

X = placeholder(2, 3)
ONE = placeholder(1, 3)
OPEN = placeholder("n", "m")
PADS = placeholder(4, dtype=np.int64)
TO = placeholder(1, dtype=np.int64)
RATE = placeholder(dtype=bool)


def old(name: str, version: int, **attrs: Attr) -> Value:
    op = ops.lookup(name, version)
    assert op is not None
    return op(X, **attrs)


def of(y: Value, **more: Value) -> Graph:
    return Graph({"x": X, **more}, {"y": y})


def masked() -> Graph:
    y, mask = Node(ops.Dropout, (X,), arity=2).outputs
    return Graph({"x": X}, {"y": y, "mask": mask})


CUSTOM: Op = ops.opaque("Identity", "custom", 1, [X.type])

IMAGE = placeholder(1, 2, 2, 2)
SAME_SHAPE = {
    "Tile": ops.Tile(IMAGE, ints(1, 1, 1, 1)),
    "CenterCropPad": ops.CenterCropPad(IMAGE, ints(2, 2), axes=(2, 3)),
    "DepthToSpace": ops.DepthToSpace(IMAGE, blocksize=1),
    "SpaceToDepth": ops.SpaceToDepth(IMAGE, blocksize=1),
}


@pytest.mark.parametrize("name", SAME_SHAPE)
def test_what_keeps_the_shape_and_moves_nothing_goes(name: str) -> None:
    after = EliminateIdentity()(Graph({"x": IMAGE}, {"y": SAME_SHAPE[name]}))
    assert after.outputs["y"] is after.inputs["x"]


LEFT_ALONE = {
    "Dropout in training": of(
        ops.Dropout(X, const(0.5, "float32"), const(array=True, dtype="bool"))
    ),
    "Dropout that may be in training": of(ops.Dropout(X, const(0.5, "float32"), RATE), t=RATE),
    "Dropout that trains by default": of(old("Dropout", 6)),
    "Dropout whose mask is read": masked(),
    "Pad by something": of(ops.Pad(X, ints(0, 1, 0, 0))),
    "Pad by the unknown": of(ops.Pad(X, PADS), pads=PADS),
    "Pad that cuts": of(ops.Pad(X, ints(0, -1, 0, 1))),
    "Pad of an older version": of(old("Pad", 2, pads=(0, 1, 0, 0))),
    "Transpose that permutes": of(ops.Transpose(X, perm=(1, 0))),
    "Transpose that reverses": of(ops.Transpose(X)),
    "Reshape to another shape": of(ops.Reshape(X, ints(3, 2))),
    "Reshape of an open shape": Graph({"x": OPEN}, {"y": ops.Reshape(OPEN, ints(-1, 3))}),
    "Flatten at another place": of(ops.Flatten(X, axis=0)),
    "Squeeze of an axis": Graph({"x": ONE}, {"y": ops.Squeeze(ONE, ints(0))}),
    "Unsqueeze": of(ops.Unsqueeze(X, ints(0))),
    "Expand to more": Graph({"x": ONE}, {"y": ops.Expand(ONE, ints(2, 3))}),
    "Cast to another type": of(ops.Cast(X, to=10)),
    "Concat of two": of(ops.Concat(X, X, axis=0)),
    "Split into two": of(Node(ops.Split, (X,), {"num_outputs": 2}, arity=2).outputs[0]),
    "Slice of a part": of(ops.Slice(X, ints(0), ints(2), ints(1))),
    "Slice from behind the start": of(ops.Slice(X, ints(1), ints(9), ints(1))),
    "Slice backwards": of(ops.Slice(X, ints(-1), ints(-9), ints(1), ints(-1))),
    "Slice in steps": of(ops.Slice(X, ints(0), ints(9), ints(1), ints(2))),
    "Slice of an open size": Graph({"x": OPEN}, {"y": ops.Slice(OPEN, ints(0), ints(99), ints(1))}),
    "Slice of a size that is given": of(ops.Slice(X, ints(0), TO, ints(1)), to=TO),
    "an operator of another domain": of(CUSTOM(X)),
    "Relu": of(ops.Relu(X)),
    "Add of ones": of(ops.Add(X, const([1.0, 1, 1], "float32"))),
    "Mul by zeros": of(ops.Mul(X, const([0.0, 0, 0], "float32"))),
    "0 - x": of(ops.Sub(const([0.0], "float32"), X)),
    "1 / x": of(ops.Div(const([1.0], "float32"), X)),
    "1 ^ x": of(ops.Pow(const([1.0], "float32"), X)),
    "x + 0 that broadcasts": of(ops.Add(X, const(np.zeros((4, 2, 3)), "float32"))),
    "x * 1 of more axes": of(ops.Mul(X, const(np.ones((1, 1, 1)), "float32"))),
    "x + 0 of an open size": Graph(
        {"x": OPEN}, {"y": ops.Add(OPEN, const(np.zeros((1, 3)), "float32"))}
    ),
    "Mul by what flows": of(ops.Mul(X, ONE), one=ONE),
    "Clip with a bound": of(ops.Clip(X, const(0.0, "float32"))),
    "Clip of an older version": of(old("Clip", 6, min=0.0)),
    "Max of two": of(ops.Max(X, ONE), one=ONE),
    "Where that picks": of(ops.Where(const([[True], [False]], "bool"), X, ONE), one=ONE),
    "Where that broadcasts": of(ops.Where(const([True], "bool"), ONE, X), one=ONE),
    "Where of what flows": of(ops.Where(RATE, X, X), t=RATE),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_left_alone(why: str) -> None:
    assert EliminateIdentity()(LEFT_ALONE[why]) is LEFT_ALONE[why]


WHY = {
    "Dropout in training": "it is in training mode, or may be",
    "Dropout that may be in training": "it is in training mode, or may be",
    "Dropout that trains by default": "it is in training mode, or may be",
    "Dropout whose mask is read": "another of its results is read",
    "Pad by the unknown": "its pads are not constant",
    "Reshape of an open shape": "it is not known that the result has its operand's shape",
    "x + 0 that broadcasts": "the result may be wider, or of another type",
    "x * 1 of more axes": "the result may be wider, or of another type",
    "x + 0 of an open size": "the result may be wider, or of another type",
    "Where that broadcasts": "the result may be wider than what it takes",
}


@pytest.mark.parametrize("what", WHY)
def test_explain_names_what_is_in_the_way(what: str) -> None:
    (line,) = EliminateIdentity().explain(LEFT_ALONE[what])
    assert line.endswith(f": {WHY[what]}")


@pytest.mark.parametrize("what", sorted(LEFT_ALONE.keys() - WHY.keys()))
def test_explain_says_nothing_of_what_does_something(what: str) -> None:
    assert not list(EliminateIdentity().explain(LEFT_ALONE[what]))


def test_dropout_in_inference_of_an_older_version_goes() -> None:
    assert check_on(EliminateIdentity(), of(old("Dropout", 6, is_test=1))).outputs["y"] is X


def test_pad_by_nothing_of_an_older_version_goes() -> None:
    after = check_on(EliminateIdentity(), of(old("Pad", 2, pads=(0, 0, 0, 0))))
    assert after.outputs["y"] is X


WHOLE = {
    "Split": of(ops.Split(X, ints(3), axis=1)),
    "Slice": of(ops.Slice(X, ints(0), ints(3), ints(1))),
    "Slice of two axes": of(ops.Slice(X, ints(-2, -9), ints(2, 9))),
    "old Slice": of(old("Slice", 1, starts=(0,), ends=(3,), axes=(1,))),
    "Slice of an open size": Graph(
        {"x": OPEN}, {"y": ops.Slice(OPEN, ints(0), ints(2**31 - 1), ints(1))}
    ),
}


@pytest.mark.parametrize("graph", WHOLE.values(), ids=WHOLE)
def test_what_takes_the_whole_goes(graph: Graph) -> None:
    assert check_on(EliminateIdentity(), graph).outputs["y"] is graph.inputs["x"]


FLAT = placeholder(1, 1, 3)


@pytest.mark.parametrize("perm", [(1, 0, 2), (0, 1, 2)])
def test_a_transpose_that_exchanges_axes_of_size_1_goes(perm: tuple[int, ...]) -> None:
    after = check_on(EliminateIdentity(), Graph({"x": FLAT}, {"y": ops.Transpose(FLAT, perm=perm)}))
    assert after.outputs["y"] is FLAT


@pytest.mark.parametrize("shape", [(1, 3, 1), (2, 2), (1, 2, 2), ("n", "n")])
def test_a_transpose_that_moves_something_stays(shape: tuple[int | str, ...]) -> None:
    x = placeholder(*shape)
    graph = Graph({"x": x}, {"y": ops.Transpose(x, perm=(*range(1, len(shape)), 0))})
    assert check_on(EliminateIdentity(), graph) is graph


NOTHING = {
    "x + 0": ops.Add(X, const([0.0], "float32")),
    "0 + x": ops.Add(const(0.0, "float32"), X),
    "x + zeros": ops.Add(X, const(np.zeros((2, 3)), "float32")),
    "x - 0": ops.Sub(X, const([0.0], "float32")),
    "1 x": ops.Mul(const([[1.0]], "float32"), X),
    "x / 1": ops.Div(X, const([1.0, 1, 1], "float32")),
    "x ^ 1": ops.Pow(X, const(1.0, "float32")),
    "Sum of one": ops.Sum(X),
    "Max of one": ops.Max(X),
    "Clip without bounds": ops.Clip(X),
    "Clip without bounds of an older version": old("Clip", 6),
    "Where that takes the first": ops.Where(const([True], "bool"), X, const(0.0, "float32")),
    "Where that takes the second": ops.Where(const(array=False, dtype="bool"), ops.Neg(X), X),
}


@pytest.mark.parametrize("what", NOTHING)
def test_what_computes_nothing_goes(what: str) -> None:
    assert check_on(EliminateIdentity(), of(NOTHING[what])).outputs["y"] is X


@pytest.mark.parametrize("always", STEPS["eliminate-identity"], ids=", ".join)
def test_keeps_its_promises_on(always: tuple[str, ...]) -> None:
    check_pass(EliminateIdentity(), graphs(*always))


def test_reads_back_from_its_text() -> None:
    assert Pipeline.parse(str(EliminateIdentity())).passes == (EliminateIdentity(),)


def test_has_no_options() -> None:
    with pytest.raises(BadPipeline, match="no option 'x'"):
        Pipeline.parse("eliminate-identity{x=1}")
