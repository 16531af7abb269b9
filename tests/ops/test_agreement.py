"""Arithmetic on constants: folded where onnxruntime computes the same, and never fatal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redir import ops
from redir.errors import Unsupported
from redir.ir import Graph, Value
from redir.ir.tensor import Array
from redir.ops import tensor_of
from redir.passes.fold_constants import FoldConstants
from redir.pipeline import Pipeline, compress
from redir.runtime.onnxruntime import installed, session
from tests.helpers import const, placeholder

LEAST, MOST = -(2**31), 2**31 - 1
needs_ort = pytest.mark.skipif(not installed(), reason="onnxruntime is not installed")


def int32(numbers: list[int]) -> Value:
    return const(numbers, "int32")


def folded(y: Value) -> Array | None:
    """What a graph of constants folds to, None where it is left."""
    (after,) = FoldConstants()(Graph({}, {"y": y}, opset={"": 21})).outputs.values()
    tensor = tensor_of(after)
    return None if tensor is None else tensor.array


LEFT = {
    "division by zero": ops.Div(int32([7, 8]), int32([1, 0])),
    "remainder by zero": ops.Mod(int32([7]), int32([0])),
    "the least by -1": ops.Div(int32([LEAST]), int32([-1])),
    "the remainder of that": ops.Mod(int32([LEAST]), int32([-1])),
    "the least of 64 bits by -1": ops.Div(const([-(2**63)], "int64"), const([-1], "int64")),
    "a power beyond 32 bits": ops.Pow(int32([3]), int32([40])),
    "a power of whole numbers below 1": ops.Pow(int32([2]), int32([-1])),
    "a sum beyond 32 bits": ops.ReduceSum(int32([MOST, MOST])),
    "a mean of such": ops.ReduceMean(int32([MOST, MOST])),
    "squares beyond 32 bits": ops.ReduceSumSquare(int32([MOST, 2])),
    "a product beyond 32 bits": ops.ReduceProd(int32([MOST, MOST, 2])),
    "a sum beyond float16": ops.ReduceSum(const([60000, 60000], "float16")),
    "a product beyond float32": ops.Mul(const([3e38], "float32"), const([10], "float32")),
    "zero times infinity": ops.Mul(const([0.0], "float32"), const([np.inf], "float32")),
    "a number beyond float16": ops.Cast(const([1e5], "float32"), to=10),
    "NaN as a whole number": ops.Cast(const(np.nan, "float32"), to=6),
    "infinity as a whole number": ops.Cast(const([np.inf], "float32"), to=7),
    "a number beyond a byte": ops.Cast(const([300.0], "float32"), to=2),
    "less than nothing as a byte": ops.Cast(const([-1.5], "float32"), to=2),
    "2^63 as a whole number": ops.Cast(const([2.0**63], "float32"), to=7),
    "a shift by the width": ops.BitShift(
        const([1], "uint8"), const([8], "uint8"), direction="LEFT"
    ),
    "the largest of NaN": ops.ReduceMax(const(np.nan, "float32")),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_runtimes_disagree_on_is_left(what: str) -> None:
    assert folded(LEFT[what]) is None


DONE: dict[str, tuple[Value, Any]] = {
    "division": (ops.Div(int32([-7, LEAST]), int32([2, 1])), [-3, LEAST]),
    "remainder": (ops.Mod(int32([-7]), int32([3])), [2]),
    "power": (ops.Pow(int32([-3, 2]), int32([3, 30])), [-27, 2**30]),
    "sum": (ops.ReduceSum(int32([3, 4]), keepdims=0), 7),
    "product": (ops.ReduceProd(int32([3, -4]), keepdims=0), -12),
    "cast": (ops.Cast(const([254.9, -0.5], "float32"), to=2), [254, 0]),
    "wrapped": (ops.Add(int32([MOST]), int32([1])), [LEAST]),
    "a byte of a large number": (ops.Cast(int32([300]), to=2), [44]),
    "shift": (ops.BitShift(const([200], "uint8"), const([7], "uint8"), direction="LEFT"), [0]),
    "infinity": (ops.Neg(const([np.inf], "float32")), [-np.inf]),
}


@pytest.mark.parametrize("what", DONE)
def test_what_runtimes_agree_on_is_folded(what: str) -> None:
    y, wanted = DONE[what]
    np.testing.assert_array_equal(folded(y), wanted)


KINDS = st.sampled_from(["int32", "int64", "float32", "float16"])
ODD = st.sampled_from([0, 1, -1, 2, 3, -7, 40, 300, LEAST, MOST, -(2**63), 2**63 - 1])
TWO = [ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Mod, ops.Pow]
ONE = [ops.ReduceSum, ops.ReduceProd, ops.ReduceMean, ops.ReduceMax, ops.ReduceSumSquare, ops.Abs]


def drawn(draw: st.DrawFn) -> Value:
    """An operator on two or three odd constants of one kind, and a cast."""
    kind = draw(KINDS)
    with np.errstate(all="ignore"):
        a, b = (np.array(draw(st.lists(ODD, min_size=3, max_size=3))).astype(kind) for _ in "ab")
    fmod = {"fmod": 1} if "float" in kind else {}
    made = [op(const(a, kind), const(b, kind), **(fmod if op == ops.Mod else {})) for op in TWO]
    made += [op(const(a, kind)) for op in ONE]
    made += [ops.Cast(const(a, kind), to=to) for to in (1, 2, 3, 6, 7, 10)]
    return draw(st.sampled_from(made))


@needs_ort
@settings(deadline=None, max_examples=60)
@given(st.composite(drawn)())
def test_constants_fold_to_what_onnxruntime_computes(y: Value) -> None:
    """A model is run with its operator, and with what it folds to."""
    x = Value(y.type)
    same = ops.Concat(
        ops.Reshape(y, const([-1], "int64")), ops.Reshape(x, const([-1], "int64")), axis=0
    )
    graph = Graph({"x": x}, {"y": same}, opset={"": 21})
    after = FoldConstants()(graph)
    given_ = {"x": np.zeros(y.type.static or (), y.type.dtype)}
    if after is not graph:
        a, b = (session(g)(given_)["y"] for g in (graph, after))
        np.testing.assert_allclose(a, b, rtol=2e-3 if y.type.dtype == np.float16 else 1e-6)


# What ends the process


def divided(op: Any, x: Value, by: Value) -> Graph:
    inputs = {f"x{i}": v for i, v in enumerate((x, by)) if v.node is None}
    return Graph(inputs, {"y": op(x, by)}, opset={"": 21})


@needs_ort
@pytest.mark.parametrize("op", [ops.Div, ops.Mod])
def test_constants_that_end_onnxruntime_are_not_given_to_it(op: Any) -> None:
    least = ops.Sub(int32([-MOST]), int32([1]))
    with pytest.raises(Unsupported, match="divides the least number of its type by -1"):
        session(divided(op, least, int32([-1])))


@needs_ort
@pytest.mark.parametrize("op", [ops.Div, ops.Mod])
def test_inputs_that_end_onnxruntime_are_not_given_to_it(op: Any) -> None:
    x, by = (placeholder(1, dtype=np.int32) for _ in "ab")
    held = session(divided(op, x, by))
    minus = np.array([-1], np.int32)
    assert held({"x0": np.array([4], np.int32), "x1": minus})["y"].shape == (1,)
    with pytest.raises(Unsupported, match="divides the least number of its type by -1"):
        held({"x0": np.array([LEAST], np.int32), "x1": minus})


def test_a_model_that_would_end_onnxruntime_is_compressed() -> None:
    x = placeholder(1, dtype=np.int32)
    y = ops.Add(ops.Identity(x), ops.Div(int32([LEAST]), int32([-1])))
    done = compress.run(
        Graph({"x": x}, {"y": y}, opset={"": 21}), Pipeline.parse("eliminate-identity")
    )
    assert done.verdict == "pass"
    assert done.steps[0].changed
