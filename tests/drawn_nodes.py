"""Nodes of every operator that has links, drawn in each of its versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import defs

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, Dim, Tensor, TensorType
from redir.ops import Absent, Const


@dataclass(frozen=True, eq=False)
class Case:
    """A node, and an array for each of its operands."""

    node: Node
    arrays: dict[Value, Array]

    @property
    def graph(self) -> Graph:
        free = [v for v in self.arrays if v.node is None]
        inputs = {f"x{i}": v for i, v in enumerate(free)}
        return Graph(inputs, {f"y{i}": v for i, v in enumerate(self.node.outputs)})

    def __repr__(self) -> str:
        return f"{self.node.op} of version {self.node.op.version} in\n{self.graph}"


VERSIONS: dict[str, list[int]] = {name: [] for name in ops.ENTRIES}
for _schema in defs.get_all_schemas_with_history():
    if _schema.domain == "" and _schema.name in VERSIONS:
        gone = _schema.deprecated and defs.get_schema(_schema.name).deprecated
        VERSIONS[_schema.name] += [] if gone else [_schema.since_version]

SIZES = st.integers(1, 4)
Draw = st.DrawFn


def shapes(low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(SIZES, min_size=low, max_size=high).map(tuple)


def numbers(draw: Draw, shape: Sequence[int], dtype: Any = np.float32, low: int = -4) -> Array:
    """Whole numbers, on which sums of products are exact."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    array = rng.integers(low, 6, tuple(shape))
    return (array > 0) if dtype is bool else array.astype(dtype)


class Operands:
    """Values and their arrays, gathered while a node is drawn."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.arrays: dict[Value, Array] = {}

    def free(self, array: Array, *, open_: bool = False) -> Value:
        """A graph input; ``open_`` may turn some of its sizes into symbols."""
        dims: list[Dim] = list(array.shape)
        for axis in range(array.ndim if open_ else 0):
            if self.draw(st.integers(0, 7)) == 7:
                dims[axis] = self.draw(st.sampled_from([f"n{axis}", None]))
        value = Value(TensorType(array.dtype, tuple(dims)))
        self.arrays[value] = array
        return value

    def const(self, array: Any) -> Value:
        value = Const(value=Tensor(np.asarray(array)))
        self.arrays[value] = np.asarray(array)
        return value

    def weight(self, array: Array) -> Value:
        return self.const(array) if self.draw(st.booleans()) else self.free(array)

    def case(self, op: Any, *inputs: Value, arity: int = 1, **attrs: Any) -> Case:
        return Case(Node(op, inputs, attrs, arity=arity), self.arrays)


# Attributes that any node may get: values other than the default, by name, or by operator and name.
OPTIONS: dict[str, list[Any]] = {
    "align_corners": [1],
    "allowzero": [1],
    "alpha": [0.5, 2.0],
    "antialias": [1],
    "approximate": ["tanh"],
    "auto_pad": ["SAME_UPPER", "SAME_LOWER", "VALID"],
    "beta": [0.5],
    "bias": [0.5, 2.0],
    "ceil_mode": [1],
    "count_include_pad": [1],
    "cubic_coeff_a": [-0.5],
    "detect_negative": [0],
    "detect_positive": [0],
    "dilations": [(2,), (2, 2)],
    "epsilon": [0.5],
    "exclude_outside": [1],
    "exclusive": [1],
    "extrapolation_value": [3.0],
    "gamma": [0.5],
    "is_causal": [1],
    "lambd": [1.5],
    "largest": [0],
    "left_window_size": [0, 1],
    "momentum": [0.5],
    "nearest_mode": ["floor", "ceil", "round_prefer_ceil"],
    "output_padding": [(1,)],
    "output_shape": [(6,)],
    "p": [1],
    "pads": [(1, 0), (0, 1, 1, 0)],
    "precision": [1],
    "qk_matmul_output_mode": [1, 2, 3],
    "ratio": [0.25],
    "reverse": [1],
    "right_window_size": [0, 1],
    "round_mode": ["down"],
    "saturate": [0],
    "seed": [1],
    "select_last_index": [1],
    "softmax_precision": [1],
    "sorted": [0],
    "spatial": [0],
    "spatial_scale": [0.5],
    "storage_order": [1],
    "training_mode": [1],
    "upper": [0],
    "BitShift.direction": ["RIGHT"],
    "DequantizeLinear.output_dtype": [1],
    "Resize.mode": ["cubic"],
    "RoiAlign.coordinate_transformation_mode": ["output_half_pixel"],
    "ScatterND.reduction": ["mul", "max", "min"],
}


def with_options(draw: Draw, case: Case) -> Case:
    """``case`` with some of the ``OPTIONS`` that its version of the operator has."""
    op, attrs = case.node.op, dict(case.node.attrs)
    allowed = defs.get_schema(op.name, op.version, op.domain).attributes
    for name in sorted(allowed):
        values = OPTIONS.get(f"{op.name}.{name}", [] if name in attrs else OPTIONS.get(name, []))
        if values and draw(st.integers(0, 3)) == 0:
            attrs[name] = draw(st.sampled_from(values))
            attrs = {k: a for k, a in attrs.items() if name != "auto_pad" or k != "pads"}
    return Case(Node(op, case.node.inputs, attrs, arity=case.node.arity), case.arrays)


Drawer = Callable[[Draw, str, int], Case]
DRAWERS: dict[str, Drawer] = {}


def draws(*names: str) -> Callable[[Drawer], Drawer]:
    """Register how to draw the operators ``names``."""

    def register(drawer: Drawer) -> Drawer:
        DRAWERS.update(dict.fromkeys(names, drawer))
        return drawer

    return register


def lookup(name: str, version: int) -> Any:
    return ops.lookup(name, version)


WHOLE = {"BitwiseNot", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}
LOGICAL = {"Not", "And", "Or", "Xor"}


def dtype_of(name: str) -> Any:
    return bool if name in LOGICAL else np.int32 if name in WHOLE else np.float32


def named(links: str) -> list[str]:
    return [name for name, entry in ops.ENTRIES.items() if entry.links.__name__ == links]


@draws(*named("first_operand"))
def unary(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = o.free(numbers(draw, draw(shapes(0, 4)), dtype_of(name)), open_=True)
    more, attrs = list[Value](), dict[str, Any]()
    if name == "Clip" and version >= 11:
        bounds = [o.const(np.float32(-1)), o.free(np.array(2, np.float32)), Absent()]
        more = draw(st.lists(st.sampled_from(bounds), max_size=2))
    if name == "Clip" and version < 11:
        attrs = {"min": -1.0, "max": 2.0}
    if name == "Cast":
        attrs = {"to": draw(st.sampled_from([7, 11])) if version > 1 else "INT64"}
    return o.case(lookup(name, version), x, *more, **attrs)


@draws("Dropout")
def dropout(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = o.free(numbers(draw, draw(shapes(0, 4))), open_=True)
    options = [o.const(np.float32(0.5)), o.const(np.array(draw(st.booleans())))]
    more = options[: draw(st.integers(0, 2))] if version >= 12 else []
    attrs: dict[str, Any] = {"is_test": 1} if version < 7 else {}
    arity = draw(st.integers(1, 2)) if version >= 12 else 1
    return o.case(lookup(name, version), x, *more, arity=arity, **attrs)


def narrowed_shape(draw: Draw, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to ``shape``."""
    kept = tuple(draw(st.sampled_from([1, n, n])) for n in shape)
    return kept[draw(st.integers(0, len(shape))) :]


@draws(*named("broadcast"), "Div")
def broadcast(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    op, shape = lookup(name, version), draw(shapes(0, 4))
    count = draw(st.integers(1, 3)) if name in {"Max", "Mean", "Min", "Sum"} else 2
    aligned = version >= 7 + (name in {"Max", "Mean", "Min", "Sum"})
    dtype = np.uint8 if name == "BitShift" else dtype_of(name)
    dtype = bool if name == "Equal" and version < 11 else dtype
    attrs: dict[str, Any] = {"direction": "LEFT"} if name == "BitShift" else {}
    attrs |= {"fmod": 1} if name == "Mod" else {}
    low = {"Pow": 0, "BitShift": 0, "Mod": 1}.get(name, -4)
    parts = [narrowed_shape(draw, shape) if aligned else shape for _ in range(count)]
    if name == "PRelu":
        parts[0] = shape
    inputs = [
        o.free(numbers(draw, part, dtype, low), open_=True)
        if draw(st.booleans())
        else o.const(numbers(draw, part, dtype, low))
        for part in parts
    ]
    if name == "Where":
        inputs = [o.free(numbers(draw, narrowed_shape(draw, shape), bool)), *inputs]
    if count == 2 and name not in {"Where", "PRelu"} and draw(st.integers(0, 5)) == 5:
        inputs = [inputs[0], inputs[0]]
    return o.case(op, *inputs, **attrs)


@draws(*named("channelwise"))
def pooling(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(
        draw, (*draw(shapes(2, 2)), *draw(st.lists(st.integers(2, 4), min_size=1, max_size=2)))
    )
    attrs: dict[str, Any] = {}
    if not name.startswith("Global"):
        attrs = {"kernel_shape": (2,) * (x.ndim - 2), "strides": (draw(SIZES),) * (x.ndim - 2)}
        attrs |= {"pads": (1, 0) * (x.ndim - 2)} if draw(st.booleans()) else {}
    if name == "AveragePool" and version >= 7 and "pads" in attrs:
        attrs["count_include_pad"] = draw(st.integers(0, 1))
    arity = 2 if name == "MaxPool" and version >= 8 and draw(st.booleans()) else 1
    return o.case(lookup(name, version), o.free(x, open_=True), arity=arity, **attrs)


def some_axes(draw: Draw, rank: int) -> list[int]:
    axes = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=rank))
    return [a - rank if draw(st.booleans()) else a for a in axes]


@draws(*named("reduction"))
def reduction(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(1, 4)))
    axes = some_axes(draw, x.ndim)
    axes = [a % x.ndim for a in axes] if version < 11 else axes
    attrs: dict[str, Any] = {"keepdims": draw(st.integers(0, 1))}
    operand = version >= (13 if name == "ReduceSum" else 18)
    if operand:
        attrs["noop_with_empty_axes"] = draw(st.integers(0, 1))
    elif axes:
        attrs["axes"] = tuple(axes)
    given = [o.const(np.array(axes, np.int64))] if operand and draw(st.booleans()) else []
    return o.case(lookup(name, version), o.free(x, open_=True), *given, **attrs)


@draws("Slice")
def slice_(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    axes = some_axes(draw, x.ndim) or [0]
    axes = [a % x.ndim for a in axes] if version < 10 else axes
    steps = [draw(st.sampled_from([1, 1, 2, -1, -2])) if version >= 10 else 1 for _ in axes]
    starts = [draw(st.sampled_from([0, 1, -9] if s > 0 else [-1, 1, 9])) for s in steps]
    ends = [draw(st.sampled_from([2, -1, 5] if s > 0 else [0, -9])) for s in steps]
    value = o.free(x, open_=True)
    if version < 10:
        attrs: dict[str, Any] = {"starts": tuple(starts), "ends": tuple(ends), "axes": tuple(axes)}
        return o.case(lookup(name, version), value, **attrs)
    given = [o.const(np.array(a, np.int64)) for a in (starts, ends, axes)]
    given += (
        [o.const(np.array(steps, np.int64))] if set(steps) != {1} or draw(st.booleans()) else []
    )
    if draw(st.booleans()) and sorted(a % x.ndim for a in axes) == list(range(x.ndim)):
        given[2:] = [Absent(), *given[3:]]  # axes may be left out
    return o.case(lookup(name, version), value, *given)


@draws("Gather")
def gather(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(1, 4)))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    places = numbers(draw, draw(shapes(0, 2)), np.int64, 0) % x.shape[axis]
    indices = o.const(places) if draw(st.booleans()) else o.free(places)
    return o.case(lookup(name, version), o.free(x, open_=True), indices, axis=axis)


@draws("Split")
def split(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    parts = draw(st.lists(SIZES, min_size=2, max_size=3))
    shape = list(draw(shapes(1, 4)))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] = sum(parts)
    value = o.free(numbers(draw, shape), open_=False)
    attrs: dict[str, Any] = {"axis": axis}
    attrs |= {"split": tuple(parts)} if version < 13 else {}
    more = [o.const(np.array(parts, np.int64))] if version >= 13 else []
    if version >= 18 and draw(st.booleans()):
        attrs, more = {**attrs, "num_outputs": len(parts)}, []
    return o.case(lookup(name, version), value, *more, arity=len(parts), **attrs)


@draws("Squeeze", "Unsqueeze")
def squeeze(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    shape = list(draw(shapes(1, 3)))
    long = list(shape)
    axes = sorted(draw(st.lists(st.integers(0, len(shape)), unique=True, min_size=1, max_size=2)))
    for axis in axes:
        long.insert(axis, 1)
    signs = [a - len(long) if version >= 11 and draw(st.booleans()) else a for a in axes]
    x = o.free(numbers(draw, long if name == "Squeeze" else shape), open_=name == "Unsqueeze")
    if version < 13:
        return o.case(lookup(name, version), x, axes=tuple(signs))
    return o.case(lookup(name, version), x, o.const(np.array(signs, np.int64)))


@draws("Resize", "Upsample")
def resize(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(3, 4)))
    scales = [draw(st.sampled_from([1.0, 1.0, 2.0])) for _ in x.shape]
    attrs: dict[str, Any] = {"mode": draw(st.sampled_from(["nearest", "linear"]))}
    value, given = o.free(x, open_=True), list[Value]()
    if name == "Upsample" and version == 7:
        attrs["scales"] = tuple(scales)
    elif name == "Upsample" and version == 1:
        scales = [1.0, 1.0, 2.0, 2.0]
        value = o.free(numbers(draw, draw(shapes(4, 4))))
        attrs |= {"height_scale": 2.0, "width_scale": 2.0}
    else:
        given = [o.const(np.array(scales, np.float32))]
    if name == "Resize" and version >= 11:
        region = o.const(np.array([0.25] * x.ndim + [0.75] * x.ndim, np.float32))
        given = [region, *given]
        modes = ["half_pixel", "asymmetric", "align_corners", "tf_crop_and_resize"]
        modes += ["tf_half_pixel_for_nn"] if version < 13 else ["pytorch_half_pixel"]
        attrs["coordinate_transformation_mode"] = draw(st.sampled_from(modes))
        if draw(st.booleans()):
            goal = [int(n * s) for n, s in zip(x.shape, scales, strict=True)]
            given = [region, Absent(), o.const(np.array(goal, np.int64))]
            policies = ["stretch", "not_larger", "not_smaller"]
            attrs |= (
                {"keep_aspect_ratio_policy": draw(st.sampled_from(policies))}
                if version >= 18
                else {}
            )
    return o.case(lookup(name, version), value, *given, **attrs)


@draws("Softmax", "LogSoftmax", "Hardmax")
def softmax(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(1, 4)))
    axis = draw(st.integers(-x.ndim if version >= 11 else 0, x.ndim - 1))
    return o.case(lookup(name, version), o.free(x, open_=True), axis=axis)


@draws("QuantizeLinear", "DequantizeLinear")
def quantize(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(1, 4)), np.float32 if name == "QuantizeLinear" else np.int8)
    axis = draw(st.integers(0, x.ndim - 1))
    sign = x.ndim if draw(st.booleans()) else 0
    shape: tuple[int, ...] = draw(st.sampled_from([(), (1,)] if version > 10 else [()]))
    attrs: dict[str, Any] = {}
    if version >= 13 and draw(st.booleans()):
        shape, attrs = (x.shape[axis],), {"axis": axis - sign}
    if version >= 21 and x.shape[axis] % 2 == 0 and draw(st.integers(0, 3)) == 0:
        shape = (*x.shape[:axis], x.shape[axis] // 2, *x.shape[axis + 1 :])
        attrs = {"axis": axis - sign, "block_size": 2}
    scale = o.weight(numbers(draw, shape, low=1))
    zeros = [o.weight(numbers(draw, shape, np.int8))] if draw(st.booleans()) else []
    return o.case(lookup(name, version), o.free(x, open_=True), scale, *zeros, **attrs)


@draws("DynamicQuantizeLinear")
def quantize_by_range(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = o.free(numbers(draw, draw(shapes(1, 4))), open_=True)
    return o.case(lookup(name, version), x, arity=3)


class Quantised(Operands):
    """Operands of a product of integers."""

    def zero(self, shape: tuple[int, ...], dtype: Any, low: int = -4) -> Value:
        """A zero point, which is 0 as often as not."""
        array = numbers(self.draw, shape, dtype, low)
        return self.weight(array * self.draw(st.integers(0, 1)))

    def with_scales(self, x: Value, w: Value, each: int, *bias: Value) -> list[Value]:
        """The operands of a QLinearConv or QLinearMatMul of ``each`` channels."""
        parts: tuple[int, ...] = self.draw(st.sampled_from([(), (each,)]))
        scales = [
            self.weight(np.array(0.5, np.float32)),
            self.weight(numbers(self.draw, parts, low=1) / 8),
        ]
        scale = self.weight(np.array(0.25, np.float32))
        types = [np.uint8, np.int8, np.int8]
        zeros = [self.zero(s, t, 0) for s, t in zip([(), parts, ()], types, strict=True)]
        return [x, scales[0], zeros[0], w, scales[1], zeros[1], scale, zeros[2], *bias]

    def with_zeros(self, x: Value, w: Value, each: int) -> list[Value]:
        """The operands of a ConvInteger or MatMulInteger of ``each`` channels."""
        parts: tuple[int, ...] = self.draw(st.sampled_from([(), (each,)]))
        zeros = [self.zero((), np.uint8, 0), self.zero(parts, np.int8)]
        return [x, w, *zeros[: self.draw(st.integers(0, 2))]]


@draws("QLinearConv", "ConvInteger")
def quantised_conv(draw: Draw, name: str, version: int) -> Case:
    o = Quantised(draw)
    groups, per_group, each = draw(st.tuples(SIZES, SIZES, SIZES))
    groups = draw(st.sampled_from([1, groups]))
    x = o.free(numbers(draw, (draw(SIZES), groups * per_group, 4), np.uint8, 0))
    w = o.weight(numbers(draw, (groups * each, per_group, 2), np.int8))
    attrs: dict[str, Any] = {"strides": (draw(st.integers(1, 2)),), "pads": (1, 0)}
    if name == "ConvInteger":
        return o.case(lookup(name, version), *o.with_zeros(x, w, groups * each), **attrs)
    bias = [o.weight(numbers(draw, (groups * each,), np.int32))] if draw(st.booleans()) else []
    operands = o.with_scales(x, w, groups * each, *bias)
    return o.case(lookup(name, version), *operands, **attrs)


@draws("QLinearMatMul", "MatMulInteger")
def quantised_matmul(draw: Draw, name: str, version: int) -> Case:
    o = Quantised(draw)
    rows, depth, columns = draw(st.tuples(SIZES, SIZES, SIZES))
    a = o.weight(numbers(draw, (rows, depth), np.uint8, 0))
    b = o.weight(numbers(draw, (*draw(shapes(0, 1)), depth, columns), np.int8))
    single = name == "MatMulInteger"
    operands = (o.with_zeros if single else o.with_scales)(a, b, columns)
    if single and len(operands) > 2 and draw(st.integers(0, 3)) == 0:
        operands[2] = o.zero((rows,), np.uint8, 0)
    return o.case(lookup(name, version), *operands)


@draws("BatchNormalization")
def batch_norm(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(2, 4)))
    vectors = [o.weight(numbers(draw, x.shape[1:2], low=-2)) for _ in range(3)]
    variance = o.weight(numbers(draw, x.shape[1:2], low=1))
    attrs: dict[str, Any] = {"is_test": 1} if version < 7 else {}
    attrs |= {"consumed_inputs": (0,) * 5} if version < 6 else {}
    return o.case(lookup(name, version), o.free(x), *vectors, variance, **attrs)


@draws("InstanceNormalization")
def instance_norm(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(3, 4)))
    vectors = [o.weight(numbers(draw, x.shape[1:2])) for _ in range(2)]
    return o.case(lookup(name, version), o.free(x), *vectors)


@draws("Concat")
def concat(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    shape = list(draw(shapes(1, 4)))
    axis = draw(st.integers(0, len(shape) - 1))
    inputs = []
    for _ in range(draw(st.integers(1, 3))):
        shape[axis] = draw(SIZES)
        inputs.append(o.free(numbers(draw, shape), open_=True))
    inputs += [draw(st.sampled_from(inputs))] if draw(st.booleans()) else []
    sign = len(shape) if version >= 11 and draw(st.booleans()) else 0
    return o.case(lookup(name, version), *inputs, axis=axis - sign)


@draws("Conv")
def conv(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    groups, per_group, each = draw(st.tuples(SIZES, SIZES, SIZES))
    groups = draw(st.sampled_from([1, groups]))
    rank = draw(st.integers(1, 2))
    x = o.free(numbers(draw, (draw(SIZES), groups * per_group, *(4, 3)[:rank])))
    w = o.weight(numbers(draw, (groups * each, per_group, *(2, 1)[:rank])))
    bias = [o.weight(numbers(draw, (groups * each,)))] if draw(st.booleans()) else []
    attrs: dict[str, Any] = {"strides": (draw(st.integers(1, 2)),) * rank, "pads": (1, 0) * rank}
    return o.case(lookup(name, version), x, w, *bias, **attrs)


@draws("DeformConv")
def deform_conv(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    groups, per_group, each = draw(st.tuples(*[st.integers(1, 3)] * 3))
    apart = draw(st.sampled_from([1, 1, 1, groups * per_group]))
    x = o.free(numbers(draw, (1, groups * per_group, 3, 2)))
    w = o.weight(numbers(draw, (groups * each, per_group, 2, 1)))
    offset = o.free(numbers(draw, (1, apart * 4, 2, 2), low=-1) // 2)
    bias = o.weight(numbers(draw, (groups * each,))) if draw(st.booleans()) else Absent()
    mask = [o.free(numbers(draw, (1, apart * 2, 2, 2)))] if draw(st.booleans()) else []
    attrs: dict[str, Any] = {"offset_group": apart} if apart > 1 else {}
    return o.case(lookup(name, version), x, w, offset, bias, *mask, **attrs)


@draws("ConvTranspose")
def conv_transpose(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    groups, per_group, each = draw(st.tuples(SIZES, SIZES, SIZES))
    groups = draw(st.sampled_from([1, groups, groups]))
    x = o.free(numbers(draw, (draw(SIZES), groups * per_group, 3)))
    w = o.weight(numbers(draw, (groups * per_group, each, 2)))
    bias = [o.weight(numbers(draw, (groups * each,)))] if draw(st.booleans()) else []
    attrs: dict[str, Any] = {"group": groups} if groups > 1 else {}
    return o.case(lookup(name, version), x, w, *bias, strides=(draw(st.integers(1, 2)),), **attrs)


@draws("Gemm")
def gemm(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    rows, depth, columns = draw(st.tuples(SIZES, SIZES, SIZES))
    left, right = draw(st.booleans()), draw(st.booleans())
    a = o.free(numbers(draw, (depth, rows) if left else (rows, depth)))
    b = o.weight(numbers(draw, (columns, depth) if right else (depth, columns)))
    kinds = [(columns,), (1, columns), (rows, columns), (rows, 1), (), (1,), (1, 1)]
    shape = draw(st.sampled_from(kinds if version >= 7 else [(rows, columns)]))
    bias = [o.weight(numbers(draw, shape))] if version < 11 or draw(st.booleans()) else []
    attrs: dict[str, Any] = {"transA": int(left), "transB": int(right), "alpha": 2.0, "beta": 3.0}
    return o.case(lookup(name, version), a, b, *bias, **attrs)


@draws("MatMul")
def matmul(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    rows, depth, columns = draw(st.tuples(SIZES, SIZES, SIZES))
    batch = draw(shapes(0, 2))
    a = o.free(numbers(draw, (*narrowed_shape(draw, batch), rows, depth)), open_=True)
    b = o.weight(numbers(draw, (*narrowed_shape(draw, batch), depth, columns)))
    square = draw(st.integers(0, 5)) == 5
    both = o.free(numbers(draw, (depth, depth)))
    op = lookup(name, version)
    return o.case(op, both, both) if square else o.case(op, a, b)


@draws("Flatten")
def flatten(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(1, 4)))
    return o.case(lookup(name, version), o.free(x, open_=True), axis=draw(st.integers(0, x.ndim)))


@draws("Reshape")
def reshape(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    parts = draw(st.lists(SIZES, min_size=1, max_size=4))

    def grouped() -> list[int]:
        cuts = sorted(draw(st.sets(st.integers(1, 4))))
        runs = np.split(np.array(parts), [c for c in cuts if c < len(parts)])
        shape = [int(np.prod(run)) for run in runs]
        shape.insert(draw(st.integers(0, len(shape))), 1)
        return shape

    x, goal = numbers(draw, grouped()), grouped()
    place = draw(st.integers(0, len(goal) - 1))
    if draw(st.booleans()):
        goal[place] = -1
    elif place < x.ndim and goal[place] == x.shape[place]:
        goal[place] = 0
    value = o.free(x, open_=True)
    if version < 5:
        return o.case(lookup(name, version), value, shape=tuple(goal))
    target = np.array(goal, np.int64)
    given = o.const(target) if draw(st.integers(0, 3)) else o.free(target)
    return o.case(lookup(name, version), value, given)


@draws("Transpose")
def transpose(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(1, 4)))
    perm = tuple(draw(st.permutations(range(x.ndim))))
    attrs: dict[str, Any] = {"perm": perm} if draw(st.booleans()) else {}
    return o.case(lookup(name, version), o.free(x, open_=True), **attrs)


@draws("Pad")
def pad(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    x = numbers(draw, draw(shapes(1, 3)))
    mode = draw(st.sampled_from(["constant", "constant", "edge"]))
    pads = [draw(st.sampled_from([0, 0, 1, 2])) for _ in range(2 * x.ndim)]
    if mode == "constant" and min(x.shape) > 1 and draw(st.booleans()):
        pads[draw(st.integers(0, 2 * x.ndim - 1))] = -1
    value = o.free(x, open_=True)
    if version < 11:
        attrs: dict[str, Any] = {"pads" if version > 1 else "paddings": tuple(pads)}
        return o.case(lookup(name, version), value, mode=mode, value=3.0, **attrs)
    given = [o.const(np.array(pads, np.int64))]
    given += [o.const(np.float32(3))] if draw(st.booleans()) else []
    if version >= 18 and draw(st.booleans()):
        axis = np.array([draw(st.integers(-x.ndim, x.ndim - 1))], np.int64)
        given = [o.weight(np.array([*pads[:1], 1], np.int64)), Absent()]
        given.append(o.weight(axis) if mode == "constant" else o.const(axis))
    return o.case(lookup(name, version), value, *given, mode=mode)


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@draws(*GATES)
def recurrent(draw: Draw, name: str, version: int) -> Case:
    o, gates = Operands(draw), GATES[name]
    length, batch, features, hidden = draw(st.tuples(SIZES, SIZES, SIZES, SIZES))
    way = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    ways = 2 if way == "bidirectional" else 1

    def maybe(*shape: int) -> Value:
        return o.weight(numbers(draw, shape)) if draw(st.booleans()) else Absent()

    x = o.free(numbers(draw, (length, batch, features)), open_=True)
    w = o.weight(numbers(draw, (ways, gates * hidden, features)))
    r = o.weight(numbers(draw, (ways, gates * hidden, hidden)))
    lengths = o.weight(numbers(draw, (batch,), np.int32, 1) % length + 1)
    more = [maybe(ways, 2 * gates * hidden), draw(st.sampled_from([lengths, Absent()]))]
    more.append(maybe(ways, batch, hidden))
    more += [maybe(ways, batch, hidden), maybe(ways, 3 * hidden)] if name == "LSTM" else []
    options = {"hidden_size": hidden, "clip": 3.0}
    options |= {"input_forget": 1} if name == "LSTM" else {}
    options |= {"linear_before_reset": 1} if name == "GRU" and version >= 3 else {}
    options |= {"layout": 1} if version >= 14 and length == batch and ways == 1 else {}
    attrs: dict[str, Any] = {k: v for k, v in options.items() if draw(st.booleans())}
    if "layout" in attrs:
        more[2:4] = [Absent()] * len(more[2:4])
    arity = draw(st.integers(1, 3 if name == "LSTM" else 2))
    return o.case(lookup(name, version), x, w, r, *more, arity=arity, direction=way, **attrs)


EQUATIONS = """
    ij,jk->ik; ij,jk; bij,bjk->bik; bij,bkj->bik; i,i->i; ij,ij->; ij->i; ij->ji; ii->i; ij->;
    ij,ik->jk; ij,kj->; i,j->ij; ij,jk,kl->il; ij,ij,ij->i; ij,ij,ij->j; ij,ij->ij; aB,Bc;
    ...ij,...jk->...ik; ...i,ij->...j; i...,i...->i...; ...ij->...ji; ij , jk -> ik; bi,oi->bo;
    iji->j; ij,jj->ij; bhwc,hkc->bhwk; i,i; ji; ij,j->i
""".replace("\n", "").split(";")


@draws("Einsum")
def einsum(draw: Draw, name: str, version: int) -> Case:
    o, equation = Operands(draw), draw(st.sampled_from(EQUATIONS)).strip()
    sizes: dict[str, int] = {}
    arrays = []
    for term in equation.partition("->")[0].replace(" ", "").split(","):
        before, dots, behind = term.partition("...")
        known = [[sizes.setdefault(c, draw(SIZES)) for c in part] for part in (before, behind)]
        arrays.append(numbers(draw, (*known[0], *[2] * len(dots[:1]), *known[1])))
    inputs = [o.weight(a) if draw(st.booleans()) else o.free(a, open_=True) for a in arrays]
    same = len(arrays) > 1 and arrays[0].shape == arrays[1].shape and draw(st.booleans())
    inputs[1:2] = [inputs[0]] if same else inputs[1:2]
    return o.case(lookup(name, version), *inputs, equation=equation)


@draws("Expand")
def expand(draw: Draw, name: str, version: int) -> Case:
    o, shape = Operands(draw), draw(shapes(1, 4))
    x = o.free(numbers(draw, narrowed_shape(draw, shape)), open_=True)
    goal = [n if draw(st.booleans()) else 1 for n in shape]
    cut = 0 if x.rank != len(shape) else draw(st.integers(0, len(shape) - 1))
    target = np.array(goal[cut:], np.int64)
    given = o.const(target) if draw(st.integers(0, 3)) else o.free(target)
    return o.case(lookup(name, version), x, given)


@draws("Tile")
def tile(draw: Draw, name: str, version: int) -> Case:
    o, x = Operands(draw), numbers(draw, draw(shapes(1, 4)))
    value = o.free(x, open_=True)
    if version < 6:
        given = [o.const(np.float32(2)), o.const(np.float32(draw(st.integers(0, x.ndim - 1))))]
        return o.case(lookup(name, version), value, *given)
    repeats = np.array([draw(st.sampled_from([1, 2, 3])) for _ in x.shape], np.int64)
    given = [o.const(repeats) if draw(st.integers(0, 3)) else o.free(repeats)]
    return o.case(lookup(name, version), value, *given)


@draws("DepthToSpace", "SpaceToDepth")
def depth_to_space(draw: Draw, name: str, version: int) -> Case:
    o, block = Operands(draw), draw(st.integers(1, 2))
    n, c, h, w = draw(shapes(4, 4))
    shape = (n, c * block**2, h, w) if name == "DepthToSpace" else (n, c, h * block, w * block)
    attrs: dict[str, Any] = {"blocksize": block}
    if version >= (11 if name == "DepthToSpace" else 28) and draw(st.booleans()):
        attrs["mode"] = draw(st.sampled_from(["DCR", "CRD"]))
    return o.case(lookup(name, version), o.free(numbers(draw, shape), open_=True), **attrs)


@draws("ArgMax", "ArgMin", "LpNormalization", "TopK", "CumSum", "CumProd", "Compress", "LRN")
def along_one_axis(draw: Draw, name: str, version: int) -> Case:
    o, x = Operands(draw), numbers(draw, draw(shapes(2 if name == "LRN" else 1, 4)))
    axis = draw(st.integers(-x.ndim if version >= 11 else 0, x.ndim - 1))
    attrs: dict[str, Any] = {} if draw(st.integers(0, 3)) == 0 else {"axis": axis}
    axis = axis if attrs else -1 if name in {"LpNormalization", "TopK"} else 0
    count, more = draw(st.integers(1, x.shape[axis])), list[Value]()
    if name.startswith("Arg"):
        attrs["keepdims"] = draw(st.integers(0, 1))
    if name.startswith("Cum"):
        place = np.array(axis, np.int64)
        attrs, more = {}, [o.const(place) if draw(st.integers(0, 3)) else o.free(place)]
    if name == "Compress":
        more = [o.weight(numbers(draw, (x.shape[axis],) if attrs else (1,), bool, -1))]
    if name == "TopK" and version < 10:
        attrs["k"] = count
    elif name == "TopK":
        more = [o.weight(np.array([count], np.int64))]
    attrs = {"size": draw(st.integers(1, 3))} if name == "LRN" else attrs
    arity = 2 if name == "TopK" else 1
    return o.case(lookup(name, version), o.free(x, open_=True), *more, arity=arity, **attrs)


@draws("Trilu", "MeanVarianceNormalization", "ReverseSequence", "CenterCropPad", "CastLike")
def along_some_axes(draw: Draw, name: str, version: int) -> Case:
    o, x = Operands(draw), numbers(draw, draw(shapes(2, 4)))
    attrs: dict[str, Any] = {}
    more = [o.const(np.array(draw(st.integers(-1, 1)), np.int64))]
    if name == "MeanVarianceNormalization":
        axes = some_axes(draw, x.ndim)
        attrs, more = {"axes": tuple(axes)} if axes and x.ndim < 4 else {}, []
        x = x if attrs else numbers(draw, draw(shapes(4, 4)))
    if name == "ReverseSequence":
        time, batch = draw(st.permutations([0, 1]))
        attrs = {"time_axis": time, "batch_axis": batch}
        steps = numbers(draw, (x.shape[batch],), np.int64, 0) % x.shape[time] + 1
        more = [o.weight(steps)]
    if name == "CenterCropPad":
        axes = some_axes(draw, x.ndim)
        attrs = {"axes": tuple(axes)} if axes else {}
        more = [o.const(numbers(draw, (len(axes) or x.ndim,), np.int64, 1))]
    if name == "CastLike":
        more = [o.weight(numbers(draw, draw(shapes(1, 2)), np.int32))]
    return o.case(lookup(name, version), o.free(x, open_=True), *more, **attrs)


@draws("LayerNormalization", "RMSNormalization")
def layer_norm(draw: Draw, name: str, version: int) -> Case:
    o, x = Operands(draw), numbers(draw, draw(shapes(1, 4)))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    attrs: dict[str, Any] = {"axis": axis} if draw(st.integers(0, 3)) else {}
    shape = x.shape[attrs.get("axis", -1) :]
    wide = (1,) * (x.ndim - len(shape)) if draw(st.integers(0, 3)) == 0 else ()
    count = draw(st.integers(1, 2)) if name == "LayerNormalization" else 1
    scales = [o.weight(numbers(draw, (*wide, *shape))) for _ in range(count)]
    arity = draw(st.integers(1, 3)) if name == "LayerNormalization" else 1
    return o.case(lookup(name, version), o.free(x, open_=True), *scales, arity=arity, **attrs)


@draws("GroupNormalization")
def group_norm(draw: Draw, name: str, version: int) -> Case:
    o, groups, each = Operands(draw), draw(SIZES), draw(SIZES)
    x = numbers(draw, (draw(SIZES), groups * each, *draw(shapes(1, 2))))
    scaled = groups if version < 21 else groups * each
    scales = [o.weight(numbers(draw, (scaled,))) for _ in range(2)]
    return o.case(lookup(name, version), o.free(x, open_=True), *scales, num_groups=groups)


@draws("GridSample")
def grid_sample(draw: Draw, name: str, version: int) -> Case:
    o, (batch, channels, *places) = Operands(draw), draw(shapes(4, 4))
    x, grid = numbers(draw, (batch, channels, 3, 2)), numbers(draw, (batch, *places, 2)) / 4
    modes = ["bilinear", "nearest"] if version < 20 else ["linear", "nearest"]
    attrs: dict[str, Any] = {"mode": draw(st.sampled_from(modes))}
    attrs["padding_mode"] = draw(st.sampled_from(["zeros", "border", "reflection"]))
    value = o.free(grid.astype(np.float32), open_=True)
    return o.case(lookup(name, version), o.free(x, open_=True), value, **attrs)


@draws("RoiAlign")
def regions(draw: Draw, name: str, version: int) -> Case:
    o, (batch, channels, count) = Operands(draw), draw(shapes(3, 3))
    x = o.free(numbers(draw, (batch, channels, 5, 5)), open_=True)
    corners = numbers(draw, (count, 4), np.float32, 0)
    corners[:, 2:] += corners[:, :2]
    examples = numbers(draw, (count,), np.int64, 0) % batch
    attrs: dict[str, Any] = {"output_height": 2, "output_width": 2, "sampling_ratio": 1}
    attrs["mode"] = draw(st.sampled_from(["avg", "max"]))
    return o.case(lookup(name, version), x, o.weight(corners), o.weight(examples), **attrs)


@draws("GatherND", "ScatterND")
def gather_nd(draw: Draw, name: str, version: int) -> Case:
    o, x = Operands(draw), numbers(draw, draw(shapes(1, 4)))
    batch = draw(st.integers(0, 1)) if name == "GatherND" and version >= 12 and x.ndim > 1 else 0
    depth = draw(st.integers(1, x.ndim - batch))
    shape = (*x.shape[:batch], *draw(shapes(1, 1)), depth)
    indices = numbers(draw, shape, np.int64, 0) % x.shape[batch : batch + depth]
    value, places = o.free(x, open_=True), o.weight(indices)
    if name == "GatherND":
        attrs: dict[str, Any] = {"batch_dims": batch} if batch else {}
        return o.case(lookup(name, version), value, places, **attrs)
    updates = o.weight(numbers(draw, (*shape[:-1], *x.shape[depth:])))
    how: dict[str, Any] = (
        {"reduction": draw(st.sampled_from(["none", "add"]))} if version >= 16 else {}
    )
    return o.case(lookup(name, version), value, places, updates, **how)


@draws("Attention")
def attention(draw: Draw, name: str, version: int) -> Case:
    o, (batch, heads, length, times) = Operands(draw), draw(shapes(4, 4))
    depth, width, shared = draw(SIZES), draw(SIZES), draw(st.integers(1, 2))
    q = o.free(numbers(draw, (batch, heads * shared, length, depth)), open_=True)
    k = o.weight(numbers(draw, (batch, heads, times, depth)))
    v = o.weight(numbers(draw, (batch, heads, times, width)))
    full = (batch, heads * shared, length, times)
    masks = [full, (batch, 1, length, times), (1, 1, length, times), full[2:]]
    kind = draw(st.sampled_from([np.float32, bool]))
    mask = o.weight(numbers(draw, draw(st.sampled_from(masks)), kind))
    more = [mask] if draw(st.booleans()) else []
    options = {"scale": 0.5, "softcap": 2.0, "is_causal": 1}
    options |= {"left_window_size": 1, "right_window_size": 0} if version >= 25 else {}
    attrs: dict[str, Any] = {k: a for k, a in options.items() if draw(st.booleans())}
    arity = draw(st.sampled_from([1, 1, 3]))
    if draw(st.integers(0, 3)) == 0:
        before = [o.weight(numbers(draw, (batch, heads, 2, n))) for n in (depth, width)]
        more, arity = [Absent(), *before], 3
    return o.case(lookup(name, version), q, k, v, *more, arity=arity, **attrs)


@draws("RotaryEmbedding")
def rotary(draw: Draw, name: str, version: int) -> Case:
    o, (batch, heads, length, half) = Operands(draw), draw(shapes(4, 4))
    flat, more = draw(st.booleans()), list[Value]()
    width = draw(st.sampled_from([0, 0, 2]))
    shape = (batch, length, heads * 2 * half) if flat else (batch, heads, length, 2 * half)
    x = o.free(numbers(draw, shape), open_=True)
    rows: tuple[int, ...] = (batch, length)
    if draw(st.booleans()):
        rows, more = (5,), [o.free(numbers(draw, rows, np.int64, 0) % 5)]
    angles = [o.weight(numbers(draw, (*rows, width // 2 or half))) for _ in range(2)]
    attrs = {"rotary_embedding_dim": width, "interleaved": draw(st.integers(0, 1))}
    attrs |= {"num_heads": heads} if flat else {}
    return o.case(lookup(name, version), x, *angles, *more, **attrs)


@draws("OneHot")
def one_hot(draw: Draw, name: str, version: int) -> Case:
    o, ids = Operands(draw), numbers(draw, draw(shapes(0, 3)), np.int64, -9)
    depth = np.array(draw(SIZES), np.int64).reshape(draw(st.sampled_from([(), (1,)])))
    values = o.weight(numbers(draw, (2,)))
    axis = draw(st.integers(-ids.ndim - 1, ids.ndim))
    return o.case(lookup(name, version), o.free(ids), o.const(depth), values, axis=axis)


@draws("ConstantOfShape", "EyeLike", "Range", "Shape", "Size")
def generated(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    if name == "ConstantOfShape":
        return o.case(
            lookup(name, version), o.const(numbers(draw, draw(shapes(1, 1)), np.int64, 0))
        )
    if name == "Range":
        ends = [o.free(np.array(n, np.int64)) for n in (draw(SIZES), draw(SIZES) + 4, 1)]
        return o.case(lookup(name, version), *ends)
    rank = (2, 2) if name == "EyeLike" else (0, 4)
    attrs = {"k": draw(st.integers(-1, 1))} if name == "EyeLike" else {}
    return o.case(lookup(name, version), o.free(numbers(draw, draw(shapes(*rank)))), **attrs)


@draws("GatherElements", "ScatterElements")
def elements(draw: Draw, name: str, version: int) -> Case:
    o, x = Operands(draw), numbers(draw, draw(shapes(1, 4)))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    places = numbers(draw, x.shape, np.int64, 0) % x.shape[axis]
    if name == "ScatterElements":  # each place once: none says which of two is written last
        places = np.moveaxis(np.moveaxis(places, axis, -1) * 0 + np.arange(x.shape[axis]), -1, axis)
    updates = [o.free(numbers(draw, x.shape))] if name == "ScatterElements" else []
    return o.case(lookup(name, version), o.free(x), o.weight(places), *updates, axis=axis)
