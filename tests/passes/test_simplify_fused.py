"""simplify: activations and norms become one node where the operator set has it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from redir import ops
from redir.errors import Broken
from redir.ir import Graph, Value
from redir.ir.tensor import TensorType
from redir.passes import simplify
from redir.passes.simplify import RULES, Simplify, fused, norms
from redir.testing import check_on
from tests.helpers import const, ints, operators, placeholder, sources

X, OTHER = placeholder("n", 4, 6), placeholder("n", 4, 6)
RNG = np.random.default_rng(0)
SCALE, BIAS = (const(RNG.uniform(0.5, 2, 6), "float32") for _ in range(2))


def number(value: float) -> Value:
    return const(value, "float32")


def erf(x: Value, by: Value, op: Callable[..., Value] = ops.Div) -> Value:
    return ops.Add(ops.Erf(op(x, by)), number(1))


def hard(x: Value, shift: float = 3, high: float = 6) -> Value:
    return ops.Clip(ops.Add(x, number(shift)), number(0), number(high))


def double(value: float) -> Value:
    return const(value, "float64")


EPSILON = number(1e-5)


def normed(
    x: Value, *, axis: int = -1, keepdims: int = 1, pow_: bool = True, epsilon: Value = EPSILON
) -> Value:
    centred = ops.Sub(x, ops.ReduceMean(x, ints(axis), keepdims=keepdims))
    square = ops.Pow(centred, number(2)) if pow_ else ops.Mul(centred, centred)
    variance = ops.Add(ops.ReduceMean(square, ints(axis), keepdims=keepdims), epsilon)
    return ops.Div(centred, ops.Sqrt(variance))


def by_tanh(x: Value, cubic: Value, by: float = (2 / np.pi) ** 0.5) -> Value:
    gate = ops.Add(ops.Tanh(ops.Mul(cubic, number(by))), number(1))
    return ops.Mul(ops.Mul(x, number(0.5)), gate)


def cubic(x: Value, times: float = 0.044715) -> Value:
    return ops.Add(x, ops.Mul(ops.Pow(x, number(3)), number(times)))


def cubic_in_front(x: Value) -> Value:
    square = ops.Mul(ops.Mul(x, number(0.044715)), x)
    return ops.Mul(x, ops.Add(number(1), square))


def root_of_square(x: Value, *, axis: int = -1, pow_: bool = True) -> Value:
    square = ops.Pow(x, number(2)) if pow_ else ops.Mul(x, x)
    return ops.Sqrt(ops.Add(EPSILON, ops.ReduceMean(square, ints(axis))))


ROOT, HALF = number(2**0.5), number(0.5)
BECOMES: dict[str, tuple[Value, str]] = {
    "half of x, times": (ops.Mul(ops.Mul(X, HALF), erf(X, ROOT)), "Gelu"),
    "x times, half of it": (ops.Mul(HALF, ops.Mul(X, erf(X, ROOT))), "Gelu"),
    "times half of the gate": (
        ops.Mul(ops.Mul(erf(X, number(0.5**0.5), ops.Mul), HALF), X),
        "Gelu",
    ),
    "divided by two": (ops.Div(ops.Mul(X, erf(X, ROOT)), number(2)), "Gelu"),
    "a HardSigmoid": (ops.Mul(X, ops.HardSigmoid(X, alpha=1 / 6)), "HardSwish"),
    "a Clip, divided": (ops.Div(ops.Mul(X, hard(X)), number(6)), "HardSwish"),
    "a Clip that is divided": (ops.Mul(X, ops.Div(hard(X), number(6))), "HardSwish"),
    "a Clip by a sixth": (ops.Mul(ops.Mul(hard(X), number(1 / 6)), X), "HardSwish"),
    "a Tanh of a Softplus": (ops.Mul(ops.Tanh(ops.Softplus(X)), X), "Mish"),
    "a Tanh of a cubic": (by_tanh(X, cubic(X)), "Gelu"),
    "a Tanh of a cubic by products": (
        by_tanh(X, ops.Add(ops.Mul(ops.Mul(ops.Mul(X, X), X), number(0.044715)), X)),
        "Gelu",
    ),
    "a Tanh of a cubic with x in front": (by_tanh(X, cubic_in_front(X)), "Gelu"),
    "divided by a root": (
        ops.Mul(ops.Div(X, root_of_square(X)), SCALE),
        "RMSNormalization",
    ),
    "times the reciprocal of a root": (
        ops.Mul(SCALE, ops.Mul(X, ops.Reciprocal(root_of_square(X, pow_=False)))),
        "RMSNormalization",
    ),
    "times 1 by a root": (
        ops.Mul(SCALE, ops.Mul(ops.Div(number(1), root_of_square(X)), X)),
        "RMSNormalization",
    ),
    "a norm": (ops.Add(ops.Mul(normed(X), SCALE), BIAS), "LayerNormalization"),
    "a norm by a product": (
        ops.Add(BIAS, ops.Mul(SCALE, normed(X, pow_=False, axis=2))),
        "LayerNormalization",
    ),
}


def of(y: Value, opset: int = 23) -> Graph:
    inputs = {f"x{i}": x for i, x in enumerate(sources(y))}
    return Graph(inputs, {"y": y}, opset={"": opset})


@pytest.mark.parametrize("what", BECOMES)
def test_it_becomes_one(what: str) -> None:
    y, name = BECOMES[what]
    assert operators(check_on(Simplify(), of(y))) == [name]


FIRST = {"Gelu": 20, "HardSwish": 14, "Mish": 18, "LayerNormalization": 17, "RMSNormalization": 23}


@pytest.mark.parametrize("name", FIRST)
def test_it_stays_where_the_operator_set_has_no_such_thing(name: str) -> None:
    y = next(y for y, made in BECOMES.values() if made == name)
    graph = of(y, FIRST[name] - 1)
    assert Simplify()(graph) is graph
    assert any(f"the operator set has no {name}" in line for line in Simplify().explain(graph))


GATE, DOUBLES = erf(X, ROOT), placeholder(3, 5, dtype=np.float64)
ANY = Value(TensorType(np.dtype(np.float32)))
LEFT_ALONE: dict[str, Value] = {
    "another factor": ops.Mul(ops.Mul(X, erf(X, ROOT)), number(0.6)),
    "another root": ops.Mul(ops.Mul(X, HALF), erf(X, number(1.5))),
    "another one": ops.Mul(ops.Mul(X, HALF), ops.Add(ops.Erf(ops.Div(X, ROOT)), number(2))),
    "the gate of another": ops.Mul(ops.Mul(OTHER, HALF), erf(X, ROOT)),
    "a gate that others read": ops.Concat(ops.Mul(ops.Mul(X, HALF), GATE), GATE, axis=0),
    "divided by the gate": ops.Div(ops.Mul(X, HALF), erf(X, ROOT)),
    "another shift": ops.Mul(X, ops.Div(hard(X, shift=2), number(6))),
    "another bound": ops.Mul(X, ops.Div(hard(X, high=5), number(6))),
    "another slope": ops.Mul(X, ops.HardSigmoid(X)),
    "a Mish of which the half is a part": ops.Mul(ops.Mul(ops.Tanh(ops.Softplus(X)), HALF), X),
    "a Tanh of another": ops.Mul(ops.Tanh(ops.Softplus(OTHER)), X),
    "another cubic": by_tanh(X, cubic(X, 0.05)),
    "another factor of a cubic": by_tanh(X, cubic(X), 0.8),
    "a square for a cube": by_tanh(X, ops.Add(X, ops.Mul(ops.Pow(X, number(2)), number(0.044715)))),
    "a cube for a square": by_tanh(
        X,
        ops.Mul(X, ops.Add(number(1), ops.Mul(ops.Pow(X, number(3)), number(0.044715)))),
    ),
    "the cube of another": by_tanh(
        X, ops.Add(X, ops.Mul(ops.Pow(OTHER, number(3)), number(0.044715)))
    ),
    "a cubic of another": by_tanh(X, cubic(OTHER)),
    "a root of other squares": ops.Mul(ops.Div(X, root_of_square(OTHER)), SCALE),
    "a root along another axis": ops.Mul(ops.Div(X, root_of_square(X, axis=1)), SCALE),
    "a root that is scaled in whole": ops.Mul(ops.Div(X, root_of_square(X)), number(2)),
    "2 by a root": ops.Mul(ops.Mul(ops.Div(number(2), root_of_square(X)), X), SCALE),
    "a root that others read": ops.Mul(ops.Mul(ops.Div(X, r := root_of_square(X)), SCALE), r),
    "a norm along another axis": ops.Add(ops.Mul(normed(X, axis=1), SCALE), BIAS),
    "a norm of doubles": ops.Add(
        ops.Mul(
            ops.Div(
                e := ops.Sub(Y := placeholder(2, 6, dtype=np.float64), ops.ReduceMean(Y, ints(-1))),
                ops.Sqrt(ops.Add(ops.ReduceMean(ops.Mul(e, e), ints(-1)), const(1, "float64"))),
            ),
            const(np.ones(6), "float64"),
        ),
        const(np.ones(6), "float64"),
    ),
    "a norm of fewer axes than its result": ops.Add(
        ops.Mul(normed(X, epsilon=const(np.full((1, 1, 1, 1), 1e-5))), SCALE), BIAS
    ),
    "a gate of doubles": ops.Mul(
        DOUBLES,
        ops.Div(
            ops.Clip(ops.Add(DOUBLES, double(3)), double(0), double(6)),
            double(6),
        ),
    ),
    "a value of any rank": ops.Mul(
        ops.Mul(ANY, const([[0.5]])), ops.Add(ops.Erf(ops.Div(ANY, ROOT)), number(1))
    ),
    "a norm that is scaled in whole": ops.Add(ops.Mul(normed(X), number(2)), BIAS),
    "the cube in a norm": ops.Add(
        ops.Mul(
            ops.Div(
                d := ops.Sub(X, ops.ReduceMean(X, ints(-1))),
                ops.Sqrt(ops.Add(ops.ReduceMean(ops.Pow(d, number(4)), ints(-1)), HALF)),
            ),
            SCALE,
        ),
        BIAS,
    ),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_it_stays(why: str) -> None:
    graph = of(LEFT_ALONE[why])
    assert check_on(Simplify(), graph) is graph


def test_a_norm_of_which_others_read_the_middle_keeps_that() -> None:
    y = ops.Add(
        ops.Mul(
            ops.Div(
                c := ops.Sub(X, ops.ReduceMean(X, ints(-1))),
                ops.Sqrt(ops.Add(ops.ReduceMean(ops.Pow(c, number(2)), ints(-1)), HALF)),
            ),
            SCALE,
        ),
        c,
    )
    left = operators(check_on(Simplify(), of(y)))
    assert left == ["ReduceMean", "Sub", "RMSNormalization", "Add"]


RIGHT = {rule.name: rule for rule in RULES}
ACTIVATION, NORM, ROOTED = (rule.name for rule in (*fused.RULES, *norms.RULES))
WRONG: dict[str, tuple[str, ModuleType, str, object, Value]] = {
    "takes any factor": (ACTIVATION, fused, "_is", lambda *_: True, LEFT_ALONE["another factor"]),
    "takes any gate": (
        *(ACTIVATION, fused, "_named", lambda *_: ("Mish", {})),
        LEFT_ALONE["another slope"],
    ),
    "takes any cubic": (
        *(ACTIVATION, fused, "_is_cubic", lambda *_: True),
        LEFT_ALONE["a square for a cube"],
    ),
    "takes any Gelu for one by Tanh": (
        *(ACTIVATION, fused, "_gelu", lambda *_: ("Gelu", {"approximate": "tanh"})),
        BECOMES["half of x, times"][0],
    ),
    "takes any axis": (
        *(NORM, norms, "_mean", lambda value, _: value.node.inputs[0]),
        ops.Add(ops.Mul(normed(placeholder(6, 6), axis=0), SCALE), BIAS),
    ),
    "takes any power": (NORM, norms, "_squares", lambda *_: 1, LEFT_ALONE["the cube in a norm"]),
    "takes any root": (
        *(ROOTED, norms, "_squares", lambda *_: 1),
        ops.Mul(ops.Div(X, root_of_square(ops.Abs(OTHER))), SCALE),
    ),
    "takes any number for 1": (
        *(ROOTED, norms, "_turned", lambda value, _: value.node.inputs[-1]),
        LEFT_ALONE["2 by a root"],
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_rule_is_refuted(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, module, part, wrong, y = WRONG[how]
    monkeypatch.setattr(simplify, "RULES", [RIGHT[rule]])
    monkeypatch.setattr(module, part, wrong)
    with pytest.raises(Broken):
        check_on(Simplify(), of(y))
