"""How results grow with an operand, and what they are never below: by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from redir import ops
from redir.ir import Value
from redir.ops.bounds import RULES as BOUNDS
from redir.ops.bounds import least
from redir.ops.powers import RULES as POWERS
from tests.drawn_nodes import Case
from tests.helpers import const, ints, placeholder
from tests.ops.test_traits import cases, operands, run, same

X, WHOLE = placeholder(3, 2), placeholder(3, 2, dtype=np.int64)


def positive(case: Case, place: int, factor: float) -> list[np.ndarray]:
    """The results where all that flows is positive, and one operand as many times larger."""
    arrays = [a if a is None else np.abs(a) + np.asarray(0.5, a.dtype) for a in operands(case)]
    held = [ops.tensor_of(v) for v in case.node.inputs]
    arrays = [a if t is None else t.array for a, t in zip(arrays, held, strict=True)]
    given_ = arrays[place]
    assert given_ is not None
    arrays[place] = given_ * np.asarray(factor, given_.dtype)
    return run(case.node, arrays)


@pytest.mark.parametrize("name", sorted(POWERS))
@given(data=st.data())
def test_results_grow_by_that_power(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name))
    powers = [case.node.op.power(case.node, i) for i in range(len(case.node.inputs))]
    assume(any(p is not None for p in powers))
    for place, power in enumerate(powers):
        if power is not None:
            before, after = positive(case, place, 1), positive(case, place, 4)
            assume(all(np.isfinite(y).all() for y in (*before, *after)))
            assert same(after, [y * 4.0**power for y in before])


NONE = {
    "a quotient of whole numbers": ops.Div(WHOLE, WHOLE),
    "a power that flows": ops.Pow(X, X),
    "powers of several numbers": ops.Pow(X, const([1, 2])),
    "a cast to whole numbers": ops.Cast(X, to=7),
    "what is no product": ops.Exp(X),
}


@pytest.mark.parametrize("y", NONE.values(), ids=NONE)
def test_no_power(y: Value) -> None:
    assert y.node is not None
    assert {y.node.op.power(y.node, i) for i in range(len(y.node.inputs))} == {None}


@pytest.mark.parametrize("name", sorted(BOUNDS))
@given(data=st.data())
def test_no_result_is_below_its_bound(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name))
    (first, *_) = run(case.node, operands(case))
    assume(first.size and np.isfinite(first).all())
    assert np.min(first) >= least(case.node.outputs[0])


MEAN = ops.ReduceMean(ops.Mul(X, X), ints(-1))
BOUND = {
    "a square and a number": (ops.Add(ops.Mul(X, X), const(0.5)), 0.5),
    "its root": (ops.Sqrt(ops.Add(MEAN, const(0.25))), 0.5),
    "an even power": (ops.Pow(X, const(2)), 0),
    "an odd power": (ops.Pow(X, const(3)), -np.inf),
    "an odd power of what is not below 0": (ops.Pow(ops.Abs(X), const(3)), 0),
    "a product": (ops.Mul(X, ops.Abs(X)), -np.inf),
    "a product of what is not below 0": (ops.Mul(ops.Abs(X), ops.Add(ops.Relu(X), const(1))), 0),
    "the larger one": (ops.Max(X, const([1, 2])), 1),
    "an input": (X, -np.inf),
    "a difference": (ops.Sub(MEAN, const(1)), -np.inf),
    "whole numbers, which wrap": (ops.Abs(ops.Add(const([1], np.int64), WHOLE)), -np.inf),
}


@pytest.mark.parametrize(("value", "bound"), BOUND.values(), ids=BOUND)
def test_bounds(value: Value, bound: float) -> None:
    assert least(value) == bound
