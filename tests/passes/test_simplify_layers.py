"""simplify: layers that are added, or that stand in a row, become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.errors import Broken
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.passes import simplify
from redir.passes.simplify import RULES, Simplify, branches, rows
from redir.passes.simplify.rules import Found
from redir.passes.simplify.weights import made
from redir.testing import check_on
from tests.helpers import const, operators, placeholder, sources

RNG = np.random.default_rng(0)
X, OPEN = placeholder(2, 4, 6, 6), placeholder("n", 4, "h", "w")
ROWS, TOKENS = placeholder("n", 6), placeholder("n", 3, 6)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape), "float32")


def conv(x: Value, *kernel: int, out: int = 4, group: int = 1, **attrs: Any) -> Value:
    kernel = kernel or (3, 3)
    pads = {} if "auto_pad" in attrs else {"pads": tuple(k // 2 for k in kernel) * 2}
    weight = normal(out, (x.type.size(1) or 0) // group, *kernel)
    return ops.Conv(x, weight, normal(out), group=group, **pads | attrs)


def bare(x: Value, *kernel: int, out: int = 4, **attrs: Any) -> Value:
    """A Conv without a bias."""
    return ops.Conv(x, normal(out, x.type.size(1) or 0, *kernel), **attrs)


def norm(x: Value) -> Value:
    vectors = (const(RNG.uniform(0.5, 2, x.type.size(1) or 1)) for _ in range(4))
    return ops.BatchNormalization(x, *vectors)


def read_by(y: Value) -> Graph:
    """The graph of a result, with all the inputs that it needs."""
    return Graph({f"x{i}": v for i, v in enumerate(sources(y))}, {"y": y})


STRIDES: dict[str, Any] = {"strides": (2, 2)}
SAME: dict[str, Any] = {"auto_pad": "SAME_UPPER"}
ADDED: dict[str, Value] = {
    "as in RepVGG": ops.Add(ops.Add(conv(OPEN), conv(OPEN, 1, 1)), norm(OPEN)),
    "the norm first": ops.Add(ops.Add(norm(OPEN), conv(OPEN, 1, 1)), conv(OPEN)),
    "as in ACNet": ops.Add(ops.Add(conv(OPEN), conv(OPEN, 1, 3)), conv(OPEN, 3, 1)),
    "lines first": ops.Add(conv(OPEN), ops.Add(conv(OPEN, 1, 3), conv(OPEN, 3, 1))),
    "what is read": ops.Add(OPEN, conv(OPEN, 5, 5)),
    "a multiple of it": ops.Add(conv(OPEN), ops.Mul(OPEN, const(np.ones((4, 1, 1)) * 3))),
    "depthwise": ops.Add(conv(OPEN), conv(OPEN, group=4)),
    "two depthwise": ops.Add(conv(OPEN, group=4), conv(OPEN, 1, 1, group=4)),
    "depthwise and groups": ops.Add(conv(OPEN, 1, 1, group=4), conv(OPEN, group=2)),
    "in steps": ops.Add(conv(OPEN, **STRIDES), conv(OPEN, 1, 1, **STRIDES)),
    "in steps from the edge": ops.Add(
        conv(X, **STRIDES, pads=(0, 0, 1, 1)), conv(X, 1, 1, **STRIDES)
    ),
    "padded by size": ops.Add(conv(OPEN, **SAME), conv(OPEN, 1, 1)),
    "padded by size, in steps": ops.Add(
        conv(X, **SAME, **STRIDES), conv(X, 1, 1, pads=(0, 0, 0, 0), **STRIDES)
    ),
    "both by an open size": ops.Add(conv(OPEN, **SAME, **STRIDES), conv(OPEN, **SAME, **STRIDES)),
    "dilated": ops.Add(
        conv(OPEN, dilations=(2, 2), pads=(2, 2, 2, 2)), conv(OPEN, 1, 1, dilations=(3, 3))
    ),
    "within a larger kernel, aside": ops.Add(
        conv(OPEN, 3, 3, pads=(0, 0, 2, 2)), conv(OPEN, 2, 2, pads=(0, 0, 1, 1))
    ),
    "transposed": ops.Add(
        *(ops.ConvTranspose(OPEN, normal(4, 3, 2, 2), normal(3)) for _ in range(2))
    ),
    "matrices": ops.Add(
        ops.Gemm(ROWS, normal(6, 5), normal(5)), ops.Gemm(ROWS, normal(5, 6), transB=1)
    ),
    "with factors": ops.Add(
        ops.Gemm(ROWS, normal(6, 5), alpha=2.0), ops.Gemm(ROWS, normal(6, 5), normal(5), beta=3.0)
    ),
    "products": ops.Add(ops.MatMul(TOKENS, normal(6, 5)), ops.MatMul(TOKENS, normal(6, 5))),
}


@pytest.mark.parametrize("what", ADDED)
def test_what_is_added_becomes_one(what: str) -> None:
    assert len(operators(check_on(Simplify(), read_by(ops.Relu(ADDED[what]))))) == 2


def test_what_else_is_added_stays() -> None:
    y = ops.Add(ops.Add(conv(OPEN), ops.Relu(OPEN)), conv(OPEN, 1, 1))
    assert sorted(operators(check_on(Simplify(), read_by(y)))) == ["Add", "Conv", "Relu"]


def test_what_is_read_may_be_a_norm() -> None:
    x = norm(OPEN)
    y = ops.Add(conv(x), x)
    assert operators(check_on(Simplify(), read_by(y))) == ["BatchNormalization", "Conv"]


IN_A_ROW: dict[str, tuple[Value, list[str]]] = {
    "two at places": (conv(conv(OPEN, 1, 1, out=6), 1, 1), ["Conv"]),
    "a place, then around": (conv(bare(OPEN, 1, 1)), ["Conv"]),
    "a place, then around within": (conv(conv(OPEN, 1, 1), pads=(0, 0, 0, 0)), ["Conv"]),
    "a place, then around in steps": (conv(bare(OPEN, 1, 1), **STRIDES), ["Conv"]),
    "around, then a place": (conv(conv(OPEN, **STRIDES), 1, 1), ["Conv"]),
    "groups": (conv(conv(OPEN, 1, 1, group=2), 1, 1, group=2), ["Conv"]),
    "depthwise": (conv(conv(OPEN, group=4), 1, 1, group=4), ["Conv"]),
    "transposed, then a place": (
        conv(ops.ConvTranspose(OPEN, normal(4, 4, 2, 2), normal(4)), 1, 1),
        ["ConvTranspose"],
    ),
    "matrices": (
        ops.Gemm(ops.Gemm(ROWS, normal(6, 5), normal(5)), normal(4, 5), normal(4), transB=1),
        ["Gemm"],
    ),
    "a factor of no bias": (
        ops.MatMul(ops.Add(ops.Gemm(ROWS, normal(6, 6), beta=0.5), normal(1)), normal(6, 6)),
        ["Gemm"],
    ),
    "products": (ops.MatMul(ops.MatMul(TOKENS, normal(6, 9)), normal(9, 2)), ["MatMul"]),
    "products with a bias": (
        ops.MatMul(ops.Add(ops.MatMul(TOKENS, normal(6, 9)), normal(9)), normal(9, 2)),
        ["MatMul", "Add"],
    ),
    "three": (conv(conv(conv(OPEN, 1, 1), 1, 1), 1, 1), ["Conv"]),
}


@pytest.mark.parametrize("what", IN_A_ROW)
def test_what_is_in_a_row_becomes_one(what: str) -> None:
    y, left = IN_A_ROW[what]
    assert operators(check_on(Simplify(), read_by(ops.Relu(y)))) == [*left, "Relu"]


def test_a_gemm_that_must_have_a_bias_keeps_one() -> None:
    old = ops.lookup("Gemm", 9)
    assert old is not None
    y = ops.MatMul(old(ROWS, normal(6, 5), normal(5)), normal(5, 2))
    (gemm,) = [n for n in check_on(Simplify(), read_by(y)).nodes if n.inputs]
    assert (gemm.op, gemm.op.version, len(gemm.inputs)) == (ops.Gemm, 9, 3)


SHARED, COLUMN, MATRIX = normal(4, 4, 1, 1), normal(4, 1, 1), normal(6, 6)


def both(between: Value, behind: Callable[[Value], Value]) -> Value:
    """What is behind a value, beside something else that reads it."""
    return ops.Concat(behind(between), ops.Sigmoid(between), axis=0)


LEFT_ALONE: dict[str, Value] = {
    "a branch that others read": both(conv(OPEN), lambda v: ops.Add(v, conv(OPEN, 1, 1))),
    "a small branch that others read": both(conv(OPEN, 1, 1), lambda v: ops.Add(conv(OPEN), v)),
    "a branch without its bias that others read": both(
        bare(OPEN, 3, 3, pads=(1, 1, 1, 1)), lambda v: ops.Add(ops.Add(v, COLUMN), OPEN)
    ),
    "a small branch without its bias that others read": both(
        bare(OPEN, 1, 1), lambda v: ops.Add(conv(OPEN), ops.Add(v, COLUMN))
    ),
    "a Conv and its transpose": ops.Add(
        bare(X, 3, 3, pads=(1, 1, 1, 1)),
        ops.ConvTranspose(X, normal(4, 4, 3, 3), pads=(1, 1, 1, 1)),
    ),
    "weights that others read": ops.Add(
        ops.Conv(OPEN, SHARED), ops.Relu(ops.Conv(ops.Relu(OPEN), SHARED))
    ),
    "branches of two values": ops.Add(conv(OPEN), conv(ops.Relu(OPEN))),
    "what was not read": ops.Add(conv(OPEN), ops.Relu(OPEN)),
    "fewer channels than are read": ops.Add(conv(OPEN, out=1), OPEN),
    "one channel for all": ops.Add(conv(OPEN, out=1), conv(OPEN, out=4)),
    "other steps": ops.Add(conv(placeholder(2, 4, 1, 1)), conv(placeholder(2, 4, 1, 1), **STRIDES)),
    "other dilations": ops.Add(conv(OPEN), conv(OPEN, dilations=(2, 2), pads=(2, 2, 2, 2))),
    "lines that cross": ops.Add(conv(OPEN, 1, 3), conv(OPEN, 3, 1)),
    "between the taps": ops.Add(
        conv(OPEN, dilations=(2, 2), pads=(2, 2, 2, 2)), conv(OPEN, 2, 2, pads=(1, 1, 0, 0))
    ),
    "outside of the kernel": ops.Add(
        conv(OPEN, 2, 2, pads=(0, 0, 1, 1)), conv(OPEN, 2, 2, pads=(1, 1, 0, 0))
    ),
    "a place of which there is one": ops.Add(
        conv(X, pads=(1, 1, 1, 1)), conv(X, 6, 6, pads=(0, 0, 0, 0))
    ),
    "depthwise around, dense at a place": ops.Add(conv(OPEN, group=4), conv(OPEN, 1, 1)),
    "a branch with a factor, of weights that others read": ops.Concat(
        ops.Add(ops.Gemm(ROWS, normal(6, 6)), ops.Gemm(ROWS, MATRIX, alpha=2.0)),
        ops.Gemm(ops.Relu(ROWS), MATRIX),
        axis=0,
    ),
    "one turned": ops.Add(
        *(ops.Gemm(placeholder(6, 6), normal(6, 6), transA=turned) for turned in (0, 1))
    ),
    "a layer that others read": both(conv(OPEN, 1, 1), lambda v: conv(v, 1, 1)),
    "rows of weights that others read": ops.Conv(ops.Conv(OPEN, SHARED), SHARED),
    "a layer without its bias that others read": both(
        ops.MatMul(ROWS, normal(6, 6)), lambda v: ops.MatMul(ops.Add(v, normal(1)), normal(6, 6))
    ),
    "something between": conv(ops.Relu(conv(OPEN, 1, 1)), 1, 1),
    "both look around": conv(conv(OPEN)),
    "steps before looking around": conv(bare(OPEN, 1, 1, **STRIDES)),
    "a bias before a border": conv(conv(OPEN, 1, 1)),
    "a border before a place": conv(bare(bare(OPEN, 1, 1, pads=(1, 1, 1, 1)), 3, 3)),
    "more places than are read": bare(bare(OPEN, 1, 1), 1, 1, pads=(1, 1, 1, 1)),
    "a product that is larger": conv(conv(OPEN, 1, 1, out=1), 1, 1),
    "other groups": conv(conv(OPEN, 1, 1, group=2), 1, 1),
    "what is added up elsewhere": ops.Gemm(
        ops.Gemm(placeholder(6, 6), normal(6, 6)), normal(6, 6), transA=1
    ),
    "a bias that grows": ops.Conv(conv(OPEN, 1, 1), normal(24, 4, 1, 1)),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_it_stays(why: str) -> None:
    before = read_by(LEFT_ALONE[why])
    assert check_on(Simplify(), before) is before


def test_weights_that_a_type_cannot_hold_stay() -> None:
    x = placeholder(1, 2, 3, 3, dtype=np.float16)
    weight = (const(np.full((2, 2, 1, 1), 6e4), np.float16) for _ in range(2))
    before = Graph({"x": x}, {"y": ops.Add(*(ops.Conv(x, w) for w in weight))})
    assert Simplify()(before) is before


RIGHT = {rule.name: rule for rule in RULES}
ADDS, ROW = (rule.name for rule in (*branches.RULES, *rows.RULES))
within, product = branches._within, rows._product


def without_bias(layer: Linear, node: Node, weight: Array, _: Array, room: int) -> Found:
    return made(layer, node, weight, np.zeros(layer.outputs), room)


def in_the_first_group(small: Linear, large: Linear, start: Sequence[int]) -> Array:
    return within(small, large, start)[:, :, ::-1]


WRONG: dict[str, tuple[str, object, str, object, Value]] = {
    "puts small kernels into the corner": (
        *(ADDS, branches, "_place", lambda *_: [0, 0]),
        ADDED["as in RepVGG"],
    ),
    "adds where one is broadcast": (
        *(ADDS, branches, "_place", lambda *_: [0, 0]),
        LEFT_ALONE["a place of which there is one"],
    ),
    "mixes channels": (ADDS, branches, "_within", in_the_first_group, ADDED["what is read"]),
    "forgets a bias": (ADDS, branches, "made", without_bias, ADDED["depthwise"]),
    "multiplies the wrong way round": (
        *(ROW, rows, "_product", lambda second, first: product(first, second)),
        conv(conv(OPEN, 1, 1), 1, 1),
    ),
    "forgets the first bias": (ROW, rows, "made", without_bias, IN_A_ROW["groups"][0]),
    "ignores the border": (
        *(ROW, rows, "has_border", lambda _: False),
        LEFT_ALONE["a bias before a border"],
    ),
    "takes steps for places": (
        *(ROW, rows, "_is_pointwise", lambda layer: set(layer.kernel) == {1}),
        LEFT_ALONE["steps before looking around"],
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_rule_is_refuted(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, module, part, wrong, y = WRONG[how]
    monkeypatch.setattr(simplify, "RULES", [RIGHT[rule]])
    monkeypatch.setattr(module, part, wrong)
    with pytest.raises(Broken):
        check_on(Simplify(), read_by(y))
