"""simplify: what is added and multiplied around a layer goes into its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.errors import Broken
from redir.ir import Graph, Node, Value
from redir.passes import simplify
from redir.passes.simplify import RULES, Simplify, affine
from redir.passes.simplify.rules import Around, Found
from redir.testing import check_on
from tests.helpers import const, ints, operators, placeholder, sources

RNG = np.random.default_rng(0)
IMAGE, ROWS, TOKENS = placeholder("n", 4, 5, 5), placeholder("n", 6), placeholder("n", 3, 6)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape), "float32")


LAYERS: dict[str, Callable[[Value], Value]] = {
    "conv": lambda x: ops.Conv(x, normal(6, 4, 3, 3), normal(6)),
    "conv without bias": lambda x: ops.Conv(x, normal(6, 4, 3, 3), strides=(2, 2)),
    "groups": lambda x: ops.Conv(x, normal(6, 2, 3, 3), normal(6), group=2),
    "depthwise": lambda x: ops.Conv(x, normal(4, 1, 3, 3), normal(4), group=4),
    "transposed": lambda x: ops.ConvTranspose(x, normal(4, 6, 2, 2), normal(6)),
    "transposed groups": lambda x: ops.ConvTranspose(x, normal(4, 3, 2, 2), normal(6), group=2),
    "gemm": lambda x: ops.Gemm(x, normal(6, 5), normal(5)),
    "turned gemm": lambda x: ops.Gemm(x, normal(5, 6), normal(5), transB=1),
    "matmul": lambda x: ops.MatMul(x, normal(6, 5)),
    "matmul and add": lambda x: ops.Add(ops.MatMul(x, normal(6, 5)), normal(5)),
}
READ = {"gemm": ROWS, "turned gemm": ROWS, "matmul": TOKENS, "matmul and add": TOKENS}
STEPS: dict[str, Callable[[Value, Value], Value]] = {
    "x + c": ops.Add,
    "c + x": lambda x, c: ops.Add(c, x),
    "x - c": ops.Sub,
    "c - x": lambda x, c: ops.Sub(c, x),
    "c x": lambda x, c: ops.Mul(c, x),
    "x / c": ops.Div,
}


def along(y: Value, axis: int) -> Value:
    """A number for each channel of a value, none of them 0."""
    size = y.type.size(axis) or 1
    shape = (size, *[1] * ((y.rank or 1) - 1 - axis % (y.rank or 1)))
    return const(RNG.uniform(0.5, 2, shape), "float32")


def axis_of(x: Value) -> int:
    return 1 if x is IMAGE or x.rank == 4 else -1


def graph(x: Value, y: Value) -> Graph:
    return Graph({"x": x}, {"y": ops.Relu(y)})


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_behind_a_layer_goes_into_it(kind: str, step: str) -> None:
    x = READ.get(kind, IMAGE)
    y = LAYERS[kind](x)
    before = graph(x, STEPS[step](y, along(y, axis_of(y))))
    after = check_on(Simplify(), before)
    stays = kind == "matmul" and step not in {"c x", "x / c"}
    assert len(operators(after)) == len(operators(before if stays else graph(x, y)))


def norm(x: Value) -> Value:
    """A batch norm of the second axis."""
    return ops.BatchNormalization(x, *(normal_of(x.type.size(1) or 1) for _ in range(4)))


def normal_of(size: int) -> Value:
    return const(RNG.uniform(0.5, 2, size), "float32")


@pytest.mark.parametrize("kind", ["conv", "groups", "depthwise", "gemm", "turned gemm"])
def test_a_norm_before_a_layer_goes_into_it(kind: str) -> None:
    x = READ.get(kind, IMAGE)
    assert len(operators(check_on(Simplify(), graph(x, LAYERS[kind](norm(x)))))) == 2


def test_a_norm_behind_a_product_goes_into_it() -> None:
    y = norm(ops.MatMul(ROWS, normal(6, 5)))
    assert operators(check_on(Simplify(), graph(ROWS, y))) == ["Gemm", "Relu"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["conv", "groups", "depthwise", "gemm", "turned gemm"])
def test_what_is_before_a_layer_goes_into_it(kind: str, step: str) -> None:
    x = READ.get(kind, IMAGE)
    y = LAYERS[kind](STEPS[step](x, along(x, axis_of(x))))
    assert len(operators(check_on(Simplify(), graph(x, y)))) == 2


@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4),
    st.sampled_from(sorted(LAYERS)),
    st.booleans(),
)
def test_chains_of_them_change_nothing(steps: list[str], kind: str, single: bool) -> None:  # noqa: FBT001
    x = READ.get(kind, IMAGE)
    half, y = len(steps) // 2, x
    for place, step in enumerate(steps):
        y = LAYERS[kind](y) if place == half else y
        y = STEPS[step](y, const(2.0, "float32") if single else along(y, axis_of(y)))
    check_on(Simplify(), graph(x, y))


SHARED = normal(6, 4, 3, 3)
PADDED = {"pads": (1, 1, 1, 1)}


def conv(x: Value, **attrs: Any) -> Value:
    return ops.Conv(x, normal(6, 4, 3, 3), normal(6), **attrs)


trained = Node(
    ops.BatchNormalization,
    (conv(IMAGE), *(normal(6) for _ in range(4))),
    {"training_mode": 1},
    arity=3,
).outputs[:1]
CHANNELS, OUTPUTS = const(np.ones((4, 1, 1)), "float32"), const(np.ones((6, 1, 1)), "float32")
WIDE_ONES, DEEP_ONES = (const(np.ones(n), "float32") for n in ((4, 1, 1), (1, 5)))
LEFT_ALONE: dict[str, Value] = {
    "a layer that others read": ops.Add(ops.Mul(y := conv(IMAGE), OUTPUTS), y),
    "weights that others read": ops.Add(
        ops.Mul(ops.Conv(IMAGE, SHARED), OUTPUTS), ops.Conv(IMAGE, SHARED)
    ),
    "a number for each column": ops.Mul(conv(IMAGE), const(np.ones(3), "float32")),
    "a number for each place": ops.Mul(conv(IMAGE), const(np.ones((6, 3, 3)), "float32")),
    "more axes": ops.Mul(conv(IMAGE), const(np.ones((1, 1, 1, 1, 1)), "float32")),
    "what flows": ops.Mul(conv(IMAGE), ops.GlobalMaxPool(conv(IMAGE))),
    "a division by what flows": ops.Div(OUTPUTS, conv(IMAGE)),
    "a division by 0": ops.Div(conv(IMAGE), const(np.zeros((6, 1, 1)), "float32")),
    "a bias that would come on top": ops.Add(
        ops.Conv(IMAGE, normal(6, 4, 3, 3)), const(1.0, "float32")
    ),
    "a number for each channel that others read too": ops.Concat(
        ops.Add(ops.Conv(IMAGE, normal(6, 4, 3, 3)), OUTPUTS),
        ops.Div(OUTPUTS, conv(IMAGE)),
        axis=0,
    ),
    "the bias of a MatMul": ops.Add(ops.MatMul(TOKENS, normal(6, 5)), normal(5)),
    "a factor of weights that others read": ops.Concat(
        ops.Gemm(ROWS, m := normal(6, 5), alpha=2.0), ops.Gemm(ROWS, m), axis=0
    ),
    "a factor of a bias that flows": ops.Gemm(ROWS, normal(6, 6), ROWS, beta=2.0),
    "factors of whole numbers": ops.Gemm(
        placeholder(2, 6, dtype=np.int32), const(np.ones((6, 5)), np.int32), alpha=2.0
    ),
    "numbers that are too large": ops.Mul(conv(IMAGE), const(np.full((6, 1, 1), 3e38), "float32")),
    "numbers that are too small": ops.Mul(conv(IMAGE), const(np.full((6, 1, 1), 1e-38), "float32")),
    "what is added before a border": conv(ops.Add(IMAGE, CHANNELS), **PADDED),
    "a norm before a border": conv(norm(IMAGE), **PADDED),
    "a norm of which a number flows": conv(
        ops.BatchNormalization(IMAGE, *[ops.ReduceMax(IMAGE, ints(0, 2, 3), keepdims=0)] * 4)
    ),
    "a norm that trains": ops.Concat(*trained, axis=0),
    "what is added before pads by size": conv(ops.Add(IMAGE, CHANNELS), auto_pad="SAME_UPPER"),
    "numbers that others read between": ops.Concat(
        ops.Mul(a := ops.Mul(IMAGE, CHANNELS), const(3.0)), a, axis=0
    ),
    "terms that cancel": ops.Sub(ops.Add(IMAGE, const(2.0**23)), const(2.0**23)),
    "a difference from a number": ops.Add(ops.Sub(const(1.0), IMAGE), const(2.0)),
    "a term and a factor": ops.Mul(ops.Add(IMAGE, CHANNELS), CHANNELS),
    "more numbers than both": ops.Mul(ops.Mul(IMAGE, WIDE_ONES), DEEP_ONES),
    "factors too small": ops.Mul(ops.Mul(IMAGE, const(1e-20)), const(1e-20)),
    "terms of whole numbers": ops.Add(
        ops.Add(placeholder(3, dtype=np.int32), const(1, np.int32)), const(2, np.int32)
    ),
    "what others read before a layer": ops.Add(
        conv(z := ops.Mul(IMAGE, CHANNELS), **PADDED), ops.ReduceMax(z)
    ),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_it_stays(why: str) -> None:
    y = LEFT_ALONE[why]
    before = Graph({f"x{i}": x for i, x in enumerate(sources(y))}, {"y": y})
    assert check_on(Simplify(), before) is before


def test_a_factor_before_a_border_goes_into_the_layer() -> None:
    after = check_on(Simplify(), graph(IMAGE, conv(ops.Mul(IMAGE, along(IMAGE, 1)), **PADDED)))
    assert operators(after) == ["Conv", "Relu"]


WIDE, DEEP = normal(4, 1, 1), normal(1, 5)
IN_A_ROW: dict[str, Value] = {
    "factors": ops.Mul(ops.Mul(IMAGE, const(0.1)), WIDE),
    "a factor and a divisor": ops.Div(ops.Mul(const(0.1), IMAGE), along(IMAGE, 1)),
    "divisors": ops.Div(ops.Div(IMAGE, const(3.0)), const([7.0])),
    "terms": ops.Add(const([2.0]), ops.Add(IMAGE, ops.constant(np.ones((4, 1, 1), np.float32)))),
    "a term that is subtracted": ops.Sub(ops.Sub(IMAGE, const(0.5)), const(0.25)),
    "of one that is wider than what flows": ops.Mul(ops.Mul(ROWS, const(2.0)), normal(3, 1, 6)),
}


@pytest.mark.parametrize("what", IN_A_ROW)
def test_numbers_in_a_row_become_one(what: str) -> None:
    y = IN_A_ROW[what]
    (x,) = sources(y)
    assert len(operators(check_on(Simplify(), Graph({"x": x}, {"y": y})))) == 1


FACTORS: dict[str, Value] = {
    "of the weights": ops.Gemm(ROWS, normal(6, 5), normal(5), alpha=0.3),
    "of the bias": ops.Gemm(ROWS, normal(6, 5), normal(5), beta=2.0),
    "of both": ops.Gemm(ROWS, normal(5, 6), normal(1, 5), alpha=0.3, beta=2.0, transB=1),
    "of no bias": ops.Gemm(ROWS, normal(6, 5), alpha=0.3, beta=2.0),
    "of weights on the left": ops.Gemm(normal(5, 2), placeholder(2, 6), alpha=0.3, beta=2.0),
}


@pytest.mark.parametrize("what", FACTORS)
def test_factors_go_into_the_weights(what: str) -> None:
    y = FACTORS[what]
    (x,) = sources(y)
    (gemm,) = [n for n in check_on(Simplify(), Graph({"x": x}, {"y": y})).nodes if n.inputs]
    assert gemm.attrs.keys() <= {"transB", "transA"}


def test_a_norm_behind_a_gemm_with_factors_goes_into_it() -> None:
    y = norm(ops.Gemm(ROWS, normal(5, 6), normal(5), transB=1, alpha=0.5, beta=2.0))
    assert operators(check_on(Simplify(), graph(ROWS, y))) == ["Gemm", "Relu"]


def test_the_result_keeps_its_name() -> None:
    after = Simplify()(Graph({"x": IMAGE}, {"y": ops.Mul(conv(IMAGE), OUTPUTS)}))
    assert list(after.outputs) == ["y"]


# Wrong versions


RIGHT = {rule.name: rule for rule in RULES}
BEHIND, BEFORE = "numbers behind a layer", "numbers before a layer"


WRONG: dict[str, tuple[str, Callable[[affine.Affine], dict[str, Any]], Value]] = {
    "forgets what is added": (
        BEHIND,
        lambda f: {"shift": 0 * f.shift},
        ops.Add(conv(IMAGE), OUTPUTS),
    ),
    "forgets a sign": (BEHIND, lambda f: {"shift": -f.shift}, ops.Sub(conv(IMAGE), OUTPUTS)),
    "multiplies instead": (
        BEHIND,
        lambda f: {"scale": 1 / f.scale},
        ops.Div(conv(IMAGE), const(np.full((6, 1, 1), 2.0), "float32")),
    ),
    "mixes channels": (
        BEHIND,
        lambda f: {"scale": f.scale[::-1]},
        ops.Mul(conv(IMAGE), const(np.arange(1, 7).reshape(6, 1, 1), "float32")),
    ),
    "forgets what is added before": (
        BEFORE,
        lambda f: {"shift": 0 * f.shift},
        conv(ops.Add(IMAGE, CHANNELS)),
    ),
    "mixes channels before": (
        BEFORE,
        lambda f: {"scale": f.scale[::-1]},
        conv(ops.Mul(IMAGE, const(np.arange(1, 5).reshape(4, 1, 1), "float32"))),
    ),
}


WRONG_ROWS: dict[str, tuple[Callable[[affine.Affine, affine.Affine, str], Any], Value]] = {
    "takes the second alone": (lambda _, b, __: b.scale, IN_A_ROW["factors"]),
    "takes a divisor for a factor": (lambda a, b, _: a.scale / b.scale, IN_A_ROW["divisors"]),
    "forgets a sign": (lambda a, b, _: a.shift - b.shift, IN_A_ROW["a term that is subtracted"]),
}


@pytest.mark.parametrize("how", WRONG_ROWS)
def test_a_wrong_row_is_refuted(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, y = WRONG_ROWS[how]
    monkeypatch.setattr(simplify, "RULES", [RIGHT["numbers in a row"]])
    monkeypatch.setattr(affine, "_joined", wrong)
    with pytest.raises(Broken):
        check_on(Simplify(), graph(IMAGE, y))


def test_factors_that_are_forgotten_are_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(node: Node, _: Around) -> Found:
        return ops.Gemm(*node.inputs, transB=1) if "alpha" in node.attrs else None

    monkeypatch.setattr(simplify, "RULES", [replace(RIGHT["factors of a Gemm"], rewrite=wrong)])
    with pytest.raises(Broken):
        check_on(Simplify(), graph(ROWS, FACTORS["of both"]))


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_rule_is_refuted(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, other, y = WRONG[how]
    right = affine.affine

    def wrong(node: Node) -> affine.Affine | None:
        found = right(node)
        return None if found is None else replace(found, **other(found))

    monkeypatch.setattr(simplify, "RULES", [RIGHT[name]])
    monkeypatch.setattr(affine, "affine", wrong)
    with pytest.raises(Broken):
        check_on(Simplify(), graph(IMAGE, y))


def ignoring_borders(node: Node, around: Around) -> Found:
    attrs = {"pads": (0, 0, 0, 0)}
    found = RIGHT[BEFORE].rewrite(node.on(node.inputs, **attrs), around)
    assert isinstance(found, Value)
    assert found.node is not None
    return found.node.on(found.node.inputs, **PADDED).outputs[0]


def test_a_rule_that_ignores_borders_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplify, "RULES", [replace(RIGHT[BEFORE], rewrite=ignoring_borders)])
    with pytest.raises(Broken):
        check_on(Simplify(), graph(IMAGE, conv(ops.Add(IMAGE, CHANNELS), **PADDED)))
