"""The one view of linear layers: its product is that of the node, and it writes what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.ir import Source, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear, output_axis
from redir.ops import tensor_of
from tests import helpers
from tests.helpers import placeholder

FLOAT = np.dtype(np.float64)
given_of, const = partial(placeholder, dtype=FLOAT), partial(helpers.const, dtype=FLOAT)


def of(value: Value) -> Linear:
    """The layer whose result ``value`` is."""
    assert value.node is not None
    found = linear(value.node)
    assert isinstance(found, Linear), found
    return found


def why(value: Value) -> str:
    """Why ``value`` is the result of no layer."""
    assert value.node is not None
    found = linear(value.node)
    assert isinstance(found, str), found
    return found


# The product of a view, by plain numpy


def read(layer: Linear, x: Array) -> Array:
    """What each output place reads of each tap: (examples, groups, inputs, taps, *places)."""
    if layer.node.op in {ops.Conv, ops.ConvTranspose}:
        return slid(layer, x) if layer.node.op == ops.Conv else spread(layer, x)
    rows = np.moveaxis(x, layer.x_axis, -1).reshape(-1, layer.channels)
    return rows.T[None, None, :, None]


def slid(layer: Linear, x: Array) -> Array:
    """The numbers under each tap of a kernel that slides."""
    attrs, rank = layer.node.attrs, len(layer.kernel)
    strides, dilations = (attrs.get(k, (1,) * rank) for k in ("strides", "dilations"))
    pads = attrs.get("pads", (0,) * 2 * rank)
    ends = zip(pads[:rank], pads[rank:], strict=True)
    padded = np.pad(x, [(0, 0), (0, 0), *ends])
    reach = [(k - 1) * d + 1 for k, d in zip(layer.kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(2, 2 + rank)))
    places = (slice(None, None, s) for s in strides)
    taps = windows[:, :, *places, *(slice(None, None, d) for d in dilations)]
    flat = taps.reshape(*taps.shape[: 2 + rank], -1)
    apart = np.moveaxis(flat, -1, 2)
    return apart.reshape(len(x), layer.groups, -1, *apart.shape[2:])


def spread(layer: Linear, x: Array) -> Array:
    """The same for a kernel that is spread: each tap meets the numbers that it puts there."""
    strides = layer.node.attrs.get("strides", (1,) * len(layer.kernel))
    sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, layer.kernel, strict=True)]
    taps = np.zeros((*x.shape[:2], prod(layer.kernel), *sizes))
    for place, tap in enumerate(product(*map(range, layer.kernel))):
        starts = zip(tap, x.shape[2:], strides, strict=True)
        hit: Any = tuple(slice(t, t + (n - 1) * s + 1, s) for t, n, s in starts)
        taps[:, :, place][(..., *hit)] = x
    return taps.reshape(len(x), layer.groups, -1, *taps.shape[2:])


def made(layer: Linear, x: Array) -> Array:
    """The product of the view and its bias, laid out like the result."""
    bias = layer.bias
    assert bias is not None
    total = layer.alpha * np.einsum("goit,ngit...->ngo...", layer.weight, read(layer, x))
    flat: Array = total.reshape(len(total), layer.outputs, *total.shape[3:])
    flat += layer.beta * bias.reshape(-1, *[1] * (flat.ndim - 2))
    if layer.node.op in {ops.Conv, ops.ConvTranspose}:
        return flat
    rest = np.delete(np.array(x.shape), layer.x_axis)
    return np.moveaxis(flat[0].reshape(layer.outputs, *rest), 0, layer.y_axis)


def evaluated(layer: Linear, x: Array) -> Array:
    """The result of the node, and of the Add behind it, by the interpreter."""
    operands = [None if (t := tensor_of(v)) is None else t.array for v in layer.node.inputs]
    operands[1 - layer.place] = x
    y: Array = compute(layer.node, operands)[0]
    if layer.behind is None:
        return y
    held = [None if (t := tensor_of(v)) is None else t.array for v in layer.behind.inputs]
    found: Array = compute(layer.behind, [y if a is None else a for a in held])[0]
    return found


# Layers


@dataclass
class Draws:
    """Small whole numbers and choices, from Hypothesis."""

    draw: st.DrawFn

    def size(self, low: int = 1, high: int = 3) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def numbers(self, *shape: int) -> Array:
        seed = self.draw(st.integers(0, 2**32 - 1))
        return np.random.default_rng(seed).integers(-3, 4, shape).astype(FLOAT)

    def maybe(self, *shape: int) -> list[Value]:
        return [const(self.numbers(*shape))] if self.flag() else []


def conv(d: Draws) -> Value:
    groups, outputs, inputs, rank = d.size(), d.size(), d.size(), d.size(1, 2)
    kernel = [d.size() for _ in range(rank)]
    w = d.numbers(groups * outputs, inputs, *kernel)
    window = {
        "strides": tuple(d.size(1, 2) for _ in kernel),
        "dilations": tuple(d.size(1, 2) for _ in kernel),
        "pads": tuple(d.size(0, 2) for _ in range(2 * rank)),
    }
    x = given_of(d.size(), groups * inputs, *[d.size(5, 7) for _ in kernel])
    return ops.Conv(x, const(w), *d.maybe(groups * outputs), **window)


def conv_transpose(d: Draws) -> Value:
    groups, outputs, inputs, rank = d.size(), d.size(), d.size(), d.size(1, 2)
    kernel = [d.size() for _ in range(rank)]
    w = d.numbers(groups * inputs, outputs, *kernel)
    x = given_of(d.size(), groups * inputs, *[d.size(1, 4) for _ in kernel])
    strides = tuple(d.size(1, 2) for _ in kernel)
    return ops.ConvTranspose(x, const(w), *d.maybe(groups * outputs), strides=strides, group=groups)


def gemm(d: Draws) -> Value:
    outputs, inputs, rows, a, b = d.size(), d.size(), d.size(), d.flag(), d.flag()
    w = d.numbers(*((outputs, inputs) if b else (inputs, outputs)))
    x = given_of(*((inputs, rows) if a else (rows, inputs)))
    bias = d.maybe(*d.draw(st.sampled_from([(outputs,), (1, outputs), (1,), ()])))
    factors = {"alpha": float(d.size()), "beta": float(d.size(0))}
    return ops.Gemm(x, const(w), *bias, transA=int(a), transB=int(b), **factors)


def gemm_of_a_constant_first(d: Draws) -> Value:
    outputs, inputs, rows, a, b = d.size(), d.size(), d.size(), d.flag(), d.flag()
    w = d.numbers(*((inputs, outputs) if a else (outputs, inputs)))
    x = given_of(*((rows, inputs) if b else (inputs, rows)))
    bias = d.maybe(*d.draw(st.sampled_from([(outputs, 1), (1, 1), ()])))
    return ops.Gemm(const(w), x, *bias, transA=int(a), transB=int(b), alpha=float(d.size()))


def matmul(d: Draws) -> Value:
    w = d.numbers(d.size(), d.size())
    return ops.MatMul(given_of(*[d.size() for _ in range(d.size(0, 3))], len(w)), const(w))


def matmul_of_a_constant_first(d: Draws) -> Value:
    w = d.numbers(d.size(), d.size())
    columns = [d.size()] if d.flag() else []
    more = [d.size() for _ in range(d.size(0, 2))] if columns else []
    return ops.MatMul(const(w), given_of(*more, w.shape[1], *columns))


def added_behind(form: Callable[[Draws], Value]) -> Callable[[Draws], Value]:
    """The form, with the Add of a constant behind it, on either side."""

    def added(d: Draws) -> Value:
        y = form(d)
        layer = of(y)
        ones = (1,) * (-1 - layer.y_axis)
        shape = d.draw(st.sampled_from([(layer.outputs, *ones), (), (1,)]))
        bias = const(d.numbers(*shape))
        return ops.Add(y, bias) if d.flag() else ops.Add(bias, y)

    return added


ALONE = [conv, conv_transpose, gemm, gemm_of_a_constant_first, matmul, matmul_of_a_constant_first]
BARE = [matmul, matmul_of_a_constant_first]
FORMS = {form.__name__: form for form in ALONE} | {
    f"{form.__name__} and an Add": added_behind(form) for form in BARE
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def drawn(data: st.DataObject, form: Callable[[Draws], Value]) -> tuple[Linear, Draws]:
    draws = Draws(data.draw)  # type: ignore[arg-type]
    return of(form(draws)), draws


def shape_of(value: Value) -> Sequence[int]:
    assert value.type.static is not None
    return value.type.static


@every_form
@given(data=st.data())
def test_the_product_of_the_view_is_what_the_node_computes(
    form: Callable[[Draws], Value], data: st.DataObject
) -> None:
    layer, draws = drawn(data, form)
    x = draws.numbers(*shape_of(layer.x))
    assert np.array_equal(made(layer, x), evaluated(layer, x))


@every_form
@given(data=st.data())
def test_what_is_written_is_read(form: Callable[[Draws], Value], data: st.DataObject) -> None:
    layer, draws = drawn(data, form)
    weight, bias = draws.numbers(*layer.weight.shape), draws.numbers(layer.outputs)
    x = draws.numbers(*shape_of(layer.x))
    new = of(layer.with_weight(weight).with_bias(bias).y)
    assert np.array_equal(new.weight, weight)
    assert new.bias is not None
    assert np.array_equal(new.bias, bias)
    assert np.array_equal(made(new, x), evaluated(new, x))


@every_form
@given(data=st.data())
def test_the_same_weights_are_stored_as_they_were(
    form: Callable[[Draws], Value], data: st.DataObject
) -> None:
    layer, _ = drawn(data, form)
    assert tensor_of(layer.with_weight(layer.weight).held) == tensor_of(layer.held)


@every_form
@given(data=st.data())
def test_the_taps_may_lie_with_the_inputs(
    form: Callable[[Draws], Value], data: st.DataObject
) -> None:
    layer, _ = drawn(data, form)
    rows = layer.weight.reshape(*layer.weight.shape[:2], -1)
    assert np.array_equal(layer.stored(rows), layer.stored(layer.weight))


@every_form
@given(data=st.data())
def test_kernels_are_the_weights_by_what_they_read(
    form: Callable[[Draws], Value], data: st.DataObject
) -> None:
    layer, _ = drawn(data, form)
    kernels = layer.kernels.reshape(layer.groups, -1, *layer.kernels.shape[1:])
    assert np.array_equal(kernels.swapaxes(1, 2), layer.weight)
    assert layer.channels == len(layer.kernels)


@every_form
@given(data=st.data())
def test_fewer_outputs_are_stored_too(form: Callable[[Draws], Value], data: st.DataObject) -> None:
    layer, _ = drawn(data, form)
    assert np.array_equal(layer.viewed(layer.stored(layer.weight[:, :1])), layer.weight[:, :1])


@pytest.mark.parametrize("form", [conv, conv_transpose, gemm, matmul], ids=lambda f: f.__name__)
@given(data=st.data())
def test_the_axis_of_the_outputs_is_where_they_are_stored(
    form: Callable[[Draws], Value], data: st.DataObject
) -> None:
    layer, _ = drawn(data, form)
    axis = output_axis(layer.node, layer.stored(layer.weight))
    turned = layer.node.op == ops.ConvTranspose and layer.node.attrs["group"] > 1
    assert axis == (None if turned else int(layer.turned))


@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 4), 2), ((3,), None)])
def test_a_stack_of_matrices_has_an_axis_of_outputs_and_a_vector_none(
    shape: tuple[int, ...], axis: int | None
) -> None:
    y = ops.MatMul(given_of(5, 3), const(np.ones(shape)))
    assert y.node is not None
    assert output_axis(y.node, np.ones(shape)) == axis


# Names and what stays


SMALL = given_of(1, 2, 3)


def named(array: Array, name: str) -> Value:
    value = const(array)
    assert value.node is not None
    return replace(value.node, source=Source(name)).outputs[0]


def names(layer: Linear) -> list[str]:
    return [v.node.name for v in layer.node.inputs[1:] if v.node is not None]


def test_new_constants_have_the_names_of_those_before() -> None:
    layer = of(ops.Conv(SMALL, named(np.ones((2, 2, 1)), "w"), named(np.ones(2), "b")))
    new = layer.with_weight(layer.weight * 2).with_bias(np.zeros(2))
    assert names(new) == ["w", "b"]


def test_a_new_bias_may_have_another_name() -> None:
    layer = of(ops.Conv(SMALL, named(np.ones((2, 2, 1)), "w")))
    assert names(layer.with_bias(np.zeros(2), named(np.ones(1), "n"))) == ["w", "n"]


def test_weights_are_rounded_to_the_type_of_those_before() -> None:
    x = placeholder(3, 4, dtype=np.float16)
    layer = of(ops.MatMul(x, helpers.const(np.ones((4, 2)), np.float16)))
    new = layer.with_weight(layer.weight + 0.1).with_bias(np.full(2, 0.1))
    assert new.weight.dtype == new.y.type.dtype == np.float16


def test_the_add_of_an_old_product_broadcasts() -> None:
    matmul = ops.lookup("MatMul", 1)
    assert matmul is not None
    new = of(matmul(FLAT, MATRIX)).with_bias(np.ones(2))
    assert new.behind is not None
    assert new.behind.op.version == 7


def test_a_bias_that_is_no_constant_is_not_known() -> None:
    layer = of(ops.Conv(SMALL, const(np.ones((2, 2, 1))), given_of(2)))
    assert layer.bias is None
    bias = layer.with_bias(np.ones(2)).bias
    assert bias is not None
    assert bias.tolist() == [1, 1]


def test_a_bias_that_differs_by_row_is_not_known() -> None:
    layer = of(ops.Gemm(given_of(2, 4), MATRIX, const(np.array([[1], [2]]))))
    assert layer.bias is None
    bias = layer.with_bias(np.array([3, 4])).bias
    assert bias is not None
    assert bias.tolist() == [3, 4]


def test_without_known_channels_the_node_says_how_many_groups_there_are() -> None:
    x, w = given_of(None, None, 3), const(np.ones((4, 2, 1)))
    assert of(ops.Conv(x, w)).groups == 1
    assert of(ops.Conv(x, w, group=2)).groups == 2


def test_of_no_outputs_there_are_no_weights() -> None:
    layer = of(ops.MatMul(FLAT, const(np.ones((4, 0)))))
    assert layer.weight.shape == (1, 0, 4, 1)
    assert layer.stored(layer.weight).shape == (4, 0)


# What is no layer


X, FLAT = given_of(1, 4, 5, 5), given_of(3, 4)
KERNELS, MATRIX = const(np.ones((2, 4, 3, 3))), const(np.ones((4, 2)))
PRODUCT = ops.MatMul(FLAT, MATRIX)
OLD_ADD = ops.lookup("Add", 6)
assert OLD_ADD is not None

COMPUTED = "its weights are not a constant"
MISFIT = "its groups or its kernel are not those of its weights"
NO_SUM = "it adds nothing to a layer"
NO_BIAS = "what it adds is not one constant number for each output"
REFUSED = {
    "another operator": (ops.Relu(X), "it is not linear in its weights"),
    "a Conv of computed weights": (ops.Conv(X, given_of(2, 4, 3, 3)), COMPUTED),
    "a product of two that flow": (ops.MatMul(FLAT, given_of(4, 2)), COMPUTED),
    "a stack of matrices": (
        ops.MatMul(FLAT, const(np.ones((3, 4, 2)))),
        "its weights have 3 axes, not 2",
    ),
    "a vector": (ops.MatMul(FLAT, const(np.ones(4))), "its weights have 1 axes, not 2"),
    "channels that make no group": (ops.Conv(given_of(1, 6, 5, 5), KERNELS), MISFIT),
    "outputs that make no group": (ops.Conv(given_of(1, 12, 5, 5), KERNELS), MISFIT),
    "another kernel": (ops.Conv(X, KERNELS, kernel_shape=(1, 1)), MISFIT),
    "an Add of two that flow": (ops.Add(FLAT, FLAT), NO_SUM),
    "an Add of a product to itself": (ops.Add(PRODUCT, PRODUCT), NO_SUM),
    "an Add that must be told to broadcast": (
        OLD_ADD(PRODUCT, const(np.ones(2)), broadcast=1),
        NO_SUM,
    ),
    "an Add of what flows": (ops.Add(PRODUCT, given_of(2)), NO_BIAS),
    "an Add of a number for each row": (ops.Add(PRODUCT, const(np.ones((3, 1)))), NO_BIAS),
    "an Add that makes an axis": (ops.Add(PRODUCT, const(np.ones((1, 1, 2)))), NO_BIAS),
    "an Add behind a bias": (
        ops.Add(ops.Gemm(FLAT, MATRIX, const(np.ones(2))), const(np.ones(2))),
        NO_BIAS,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    value, reason = REFUSED[case]
    assert why(value) == reason


def test_what_the_refused_spoil_is_read() -> None:
    layers = [
        ops.Conv(X, KERNELS),
        PRODUCT,
        ops.Add(PRODUCT, const(np.ones(2))),
        ops.Gemm(FLAT, MATRIX),
    ]
    assert [of(y).groups for y in layers] == [1, 1, 1, 1]
