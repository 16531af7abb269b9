"""The law of links, by brute force: what an operator says of its axes is what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, find, given, reject, settings
from hypothesis import strategies as st
from onnx import defs

from redir import ops
from redir.coupling import Coupling
from redir.errors import IllTyped, Unsupported
from redir.ir import Attr, Graph, Node, Port, Value
from redir.ops import Absent, Const, is_absent, tensor_of
from redir.tensor import Array, Dim, Tensor, TensorType

Groups = dict[int, dict[Port, Array]]  # for each group the channels that it has at each port


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


# The machinery: groups of channels, and operands changed along them


def families(case: Case) -> list[Groups]:
    """The groups of each family of linked ports."""
    coupling = Coupling(case.graph)
    linked = {port for _, link in coupling.links for port in (link.a, link.b)}
    found = []
    for family in coupling.families():
        groups: Groups = {}
        for port in family:
            labels = coupling.group(port)
            for group in np.unique(labels).tolist():
                groups.setdefault(group, {})[port] = np.flatnonzero(labels == group)
        if set(family) <= linked:
            found.append(groups)
    return found


def sizes(group: dict[Port, Array]) -> dict[Port, int]:
    return {port: place.size for port, place in group.items()}


def alike(groups: Groups) -> list[tuple[int, int]]:
    """The pairs of groups that have as many channels at every port."""
    return [
        (g, h) for g in groups for h in groups if g < h and sizes(groups[g]) == sizes(groups[h])
    ]


def summed(case: Case) -> dict[Port, bool]:
    """The ports that are summed over, and whether they are linked otherwise too."""
    links = Coupling(case.graph).links
    ends: dict[Port, bool] = {link.b: False for _, link in links if link.summed}
    plain = {port for _, k in links if not k.summed for port in (k.a, k.b)}
    plain |= {k.a for _, k in links if k.summed}
    return {port: port in plain for port in ends}


def remade(case: Case, arrays: dict[Value, Array]) -> tuple[Value, ...]:
    """Operands for the arrays in place of those of ``case``."""
    new: dict[Value, Value] = {}
    for value, array in arrays.items():
        if tensor_of(value) is not None:
            new[value] = Const(value=Tensor(array))
        else:
            dims = zip(value.type.shape or (), array.shape, strict=True)
            shape = tuple(d if not isinstance(d, int) else n for d, n in dims)
            new[value] = Value(TensorType(array.dtype, shape))
    changed = {v for v, a in arrays.items() if a is not case.arrays[v]}
    return tuple(new[v] if v in changed else v for v in case.node.inputs)


def outputs(node: Node, operands: Sequence[Value], arrays: Mapping[Value, Array]) -> list[Any]:
    given = [None if is_absent(v) else arrays[v] for v in operands]
    with np.errstate(all="ignore"):
        return [np.asarray(a) for a in node.op.evaluate(node, *given)]


def assert_same(found: Sequence[Array], wanted: Sequence[Array]) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-5)


def changed(
    case: Case, change: Callable[[Port, Array], Array], ports: Sequence[Port]
) -> dict[Value, Array]:
    arrays = dict(case.arrays)
    for value, axis in ports:
        if value in arrays:
            arrays[value] = change((value, axis), arrays[value])
    return arrays


def placed(outs: Sequence[Array], node: Node, take: Mapping[Port, Array]) -> list[Array]:
    """Outputs of which only the channels ``take`` are left, at each port that it names."""
    outs = list(outs)
    for (value, axis), channels in take.items():
        if value in node.outputs:
            outs[value.index] = outs[value.index].take(channels, axis)
    return outs


# The three laws


def check_exchange(case: Case, groups: Groups, g: int, h: int) -> None:
    """Two groups exchanged in the operands are exchanged in the result."""
    swaps: dict[Port, Array] = {}
    for port, place in groups[g].items():
        swap = np.arange(port[0].type.size(port[1]) or 0)
        swap[place], swap[groups[h][port]] = groups[h][port], place
        swaps[port] = swap
    arrays = changed(case, lambda port, a: a.take(swaps[port], port[1]), list(swaps))
    operands = remade(case, arrays)
    before = outputs(case.node, case.node.inputs, case.arrays)
    given = dict(zip(operands, (arrays.get(v) for v in case.node.inputs), strict=True))
    after = outputs(case.node.on(operands), operands, given)  # type: ignore[arg-type]
    assert_same(after, placed(before, case.node, swaps))


def narrowing(groups: Groups, dropped: int) -> dict[Port, Array]:
    """The channels that are left at each port without the group ``dropped``."""
    everything = {
        p: np.arange(p[0].type.size(p[1]) or 0) for group in groups.values() for p in group
    }
    gone = groups[dropped]
    return {p: np.delete(everything[p], place) for p, place in gone.items()}


def check_narrow(case: Case, arrays: dict[Value, Array], kept: dict[Port, Array]) -> None:
    """The narrowed node computes what the node does, without the channels that are gone."""
    before = outputs(case.node, case.node.inputs, case.arrays)
    short = Case(case.node, arrays)
    narrow = changed(short, lambda port, a: a.take(kept[port], port[1]), list(kept))
    operands = remade(case, narrow)
    node = case.node.op.narrow(case.node, operands, kept)
    given = {new: narrow.get(old) for old, new in zip(case.node.inputs, operands, strict=True)}
    for value in node.inputs:
        tensor = tensor_of(value)  # options that narrow wrote anew
        given[value] = given.get(value) if tensor is None else tensor.array
    after = outputs(node, node.inputs, given)  # type: ignore[arg-type]
    assert_same(after, placed(before, case.node, kept))
    for value, array in zip(node.outputs, after, strict=True):
        stated = value.type.shape or (None,) * array.ndim
        assert all(
            d in (n, None) or isinstance(d, str) for d, n in zip(stated, array.shape, strict=True)
        )


def check_drop(case: Case, groups: Groups, gone: int) -> None:
    """A group may go from all operands, if what is summed over holds zeros there."""
    added = summed(case)

    def zero(port: Port, array: Array) -> Array:
        out = array.copy()
        np.moveaxis(out, port[1], 0)[groups[gone][port]] = 0
        return out

    arrays = changed(case, zero, [p for p in groups[gone] if p in added])
    check_narrow(Case(case.node, arrays), arrays, narrowing(groups, gone))


def check_merge(case: Case, groups: Groups, g: int, h: int) -> None:
    """Two groups that hold the same become one, if slices that are summed over are added."""
    added = summed(case)

    def copy(port: Port, array: Array) -> Array:
        out = array.copy()
        first = np.moveaxis(out, port[1], 0)
        first[groups[h][port]] = first[groups[g][port]]
        return out

    def add(port: Port, array: Array) -> Array:
        out = array.copy()
        first = np.moveaxis(out, port[1], 0)
        first[groups[g][port]] += first[groups[h][port]]
        return out

    equal = Case(case.node, changed(case, copy, [p for p in groups[g] if p not in added]))
    arrays = changed(equal, add, [p for p in groups[g] if p in added])
    check_narrow(equal, arrays, narrowing(groups, h))


def may_shrink(groups: Groups) -> bool:
    """Whether each port keeps a channel."""
    return all(
        (p[0].type.size(p[1]) or 0) > n for g in groups.values() for p, n in sizes(g).items()
    )


def may_add_up(case: Case, groups: Groups) -> bool:
    """Whether no port is summed over and read otherwise too."""
    return not any(plain for p, plain in summed(case).items() for g in groups.values() if p in g)


# Nodes are drawn by kind of operator

VERSIONS: dict[str, list[int]] = {name: [] for name in ops.ENTRIES}
for _schema in defs.get_all_schemas_with_history():
    if _schema.domain == "" and _schema.name in VERSIONS and not _schema.deprecated:
        VERSIONS[_schema.name].append(_schema.since_version)

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
    arity = draw(st.integers(1, 2)) if version >= 7 else 1
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
    low = 0 if name in {"Pow", "BitShift"} else -4
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
    x = numbers(draw, draw(shapes(1, 3)))
    axes = some_axes(draw, x.ndim) or [0]
    axes = [a % x.ndim for a in axes] if version < 10 else axes
    starts, ends = [draw(st.integers(0, 1)) for _ in axes], [draw(st.integers(2, 5)) for _ in axes]
    value = o.free(x, open_=True)
    if version < 10:
        attrs: dict[str, Any] = {"starts": tuple(starts), "ends": tuple(ends), "axes": tuple(axes)}
        return o.case(lookup(name, version), value, **attrs)
    given = [o.const(np.array(a, np.int64)) for a in (starts, ends, axes)]
    more = [o.const(np.array([draw(st.sampled_from([1, 2])) for _ in axes], np.int64))]
    given += more if draw(st.booleans()) else []
    first = draw(st.booleans()) and len(axes) == x.ndim  # axes may be left out
    return o.case(lookup(name, version), value, *(given[:2] if first else given))


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
        region = [0.25] * x.ndim + [0.75] * x.ndim
        given = [o.const(np.array(region, np.float32)), *given]
        modes = ["half_pixel", "asymmetric", "align_corners", "tf_crop_and_resize"]
        attrs["coordinate_transformation_mode"] = draw(st.sampled_from(modes))
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
    few = version < 13 or draw(st.booleans())
    shape = draw(st.sampled_from([(), ()])) if few else (x.shape[axis],)
    scale = o.const(numbers(draw, shape, low=1))
    zeros = [o.const(numbers(draw, shape, np.int8))] if draw(st.booleans()) else []
    attrs: dict[str, Any] = {} if few else {"axis": axis}
    return o.case(lookup(name, version), o.free(x, open_=True), scale, *zeros, **attrs)


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


@draws("ConvTranspose")
def conv_transpose(draw: Draw, name: str, version: int) -> Case:
    o = Operands(draw)
    groups, per_group, each = draw(st.tuples(SIZES, SIZES, SIZES))
    groups = draw(st.sampled_from([1, 1, groups]))
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
    value = o.free(x, open_=True)
    if version < 11:
        attrs: dict[str, Any] = {"pads" if version > 1 else "paddings": tuple(pads)}
        return o.case(lookup(name, version), value, mode=mode, value=3.0, **attrs)
    given = [o.const(np.array(pads, np.int64))]
    given += [o.const(np.float32(3))] if draw(st.booleans()) else []
    if version >= 18 and draw(st.booleans()):
        given = [o.const(np.array(pads[:1] * 2, np.int64)), Absent()]
        given.append(o.const(np.array([draw(st.integers(0, x.ndim - 1))], np.int64)))
    return o.case(lookup(name, version), value, *given, mode=mode)


LINKED = [name for name, entry in ops.ENTRIES.items() if entry.links is not ops.Entry().links]
KINDS = {d.__name__: [n for n in LINKED if DRAWERS.get(n) is d] for d in DRAWERS.values()}
NO_KERNEL = {"Gelu", "GlobalLpPool"}  # onnx.reference cannot run them


# Known bugs, each with a failing test of its own below or in test_kernels.py: not drawn, so that
# the properties go on finding others. A line goes when the mark on its test does.
SOUND: dict[str, Callable[[Case], bool]] = {}


@st.composite
def cases(draw: Draw, names: Sequence[str]) -> Case:
    """A node of one of the operators ``names`` in one of its versions, which has a kernel."""
    name = draw(st.sampled_from(names))
    try:
        case = DRAWERS[name](draw, name, draw(st.sampled_from(VERSIONS[name])))
        outputs(case.node, case.node.inputs, case.arrays)
    except (IllTyped, Unsupported):
        reject()
    assume(SOUND.get(name, bool)(case))
    return case


def test_every_operator_with_links_is_drawn() -> None:
    assert set(LINKED) == set(DRAWERS)


@pytest.mark.parametrize("name", [n for n in LINKED if n not in NO_KERNEL])
def test_links_fire(name: str) -> None:
    quick = settings(
        phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
    )
    assert find(cases([name]), lambda c: any(map(alike, families(c))), settings=quick)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_exchanged_channels_are_exchanged_in_the_result(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(KINDS[kind]))
    for groups in families(case):
        for g, h in alike(groups)[:1] + alike(groups)[-1:]:
            check_exchange(case, groups, g, h)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_narrowed_node_computes_what_is_left(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(KINDS[kind]))
    for groups in families(case):
        for gone in list(groups)[:1] + list(groups)[-1:]:
            if may_shrink(groups):
                check_drop(case, groups, gone)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_equal_channels_become_one(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(KINDS[kind]))
    for groups in families(case):
        for g, h in alike(groups)[:1] + alike(groups)[-1:]:
            if may_shrink(groups) and may_add_up(case, groups):
                check_merge(case, groups, g, h)


# Known breaches


def given_float(*shape: Dim) -> Value:
    return Value(TensorType(np.dtype(np.float32), shape))


def only(name: str, *inputs: Value, version: int = 21, arity: int = 1, **attrs: Attr) -> Node:
    return Node(lookup(name, version), inputs, attrs, arity=arity)


def tied(node: Node, value: Value, axis: int) -> bool:
    """Whether a link of the node mentions an axis."""
    return any((value, axis) in (link.a, link.b) for link in node.op.links(node))


def ints(*numbers: int) -> Value:
    return Const(value=Tensor(np.array(numbers, np.int64)))


X = given_float(2, 4, 6, 6)
ONES = Const(value=Tensor(np.ones(4, np.float32)))
CROP = Const(value=Tensor(np.array([0, 0, 0.25, 0, 1, 1, 0.75, 1], np.float32)))


def test_a_reshape_that_copies_a_size_is_narrowed() -> None:
    x = given_float(2, 2, 1)
    node = only("Reshape", x, ints(1, 0, 2))
    kept = {(x, 0): np.array([0]), (node.outputs[0], 1): np.array([0])}
    narrow = node.op.narrow(node, (given_float(1, 2, 1), node.inputs[1]), kept)
    assert narrow.outputs[0].type.shape == (1, 1, 2)


# What is pinned


@pytest.mark.parametrize("columns", [1, 4])
def test_rows_of_a_gemm_are_tied_as_those_of_its_bias(columns: int) -> None:
    node = only("Gemm", given_float(2, 3), given_float(3, 4), given_float(2, columns))
    assert tied(node, node.outputs[0], 0) == tied(node, node.inputs[2], 0)


def test_the_mask_of_a_dropout_is_tied_like_its_result() -> None:
    result, mask = (node := only("Dropout", X, arity=2)).outputs
    assert tied(node, result, 1) == tied(node, mask, 1)


def test_the_indices_of_a_pooling_are_not_tied() -> None:
    node = only("MaxPool", X, arity=2, kernel_shape=(2, 2))
    assert not tied(node, node.outputs[1], 1)


NORM = [given_float(4) for _ in range(4)]
PINNED: dict[str, tuple[Node, list[tuple[int, int]]]] = {  # the operand or -1 for the result, axis
    "softmax axis": (only("Softmax", X, axis=1), [(0, 1), (-1, 1)]),
    "softmax that flattens": (only("Softmax", X, version=11, axis=1), [(0, 1), (0, 3), (-1, 3)]),
    "hardmax axis": (only("Hardmax", X), [(0, 3), (-1, 3)]),
    "reduced axis": (only("ReduceMean", X, ints(1)), [(0, 1), (-1, 1)]),
    "axes reduced without naming them": (only("ReduceMax", X), [(0, 0), (0, 1), (0, 3)]),
    "axes given at run time": (
        only("ReduceSum", X, Value(TensorType(np.dtype(np.int64), (1,)))),
        [(0, 0)],
    ),
    "kernel of a convolution": (
        only("Conv", X, given_float(6, 4, 3, 3)),
        [(0, 2), (1, 2), (-1, 3)],
    ),
    "depthwise weight": (only("Conv", X, given_float(8, 1, 3, 3)), [(1, 1)]),
    "grouped transposed convolution": (
        only("ConvTranspose", X, given_float(4, 3, 3, 3), group=2),
        [(0, 1), (1, 0), (1, 1), (-1, 1)],
    ),
    "layer norm": (
        only("LayerNormalization", X, given_float(6), given_float(6)),
        [(0, 0), (0, 3), (1, 0), (-1, 3)],
    ),
    "group norm": (
        only("GroupNormalization", X, NORM[0], NORM[1], num_groups=2),
        [(0, 1), (1, 0), (-1, 1)],
    ),
    "local response norm": (only("LRN", X, size=3), [(0, 1), (-1, 1)]),
    "batch norm that trains": (
        only("BatchNormalization", X, *NORM, training_mode=1, arity=3),
        [(0, 1), (1, 0), (-1, 1)],
    ),
    "dropout that trains": (
        only("Dropout", X, Const(value=Tensor(np.float32(0.5))), Const(value=Tensor(np.True_))),
        [(0, 1), (-1, 1)],
    ),
    "norm over places": (only("InstanceNormalization", X, *NORM[:2]), [(0, 2), (-1, 3)]),
    "pooled places": (only("AveragePool", X, kernel_shape=(2, 2)), [(0, 2), (-1, 3)]),
    "axis gathered at places that are computed": (
        only("Gather", X, Value(TensorType(np.dtype(np.int64), (2,))), axis=1),
        [(0, 1), (-1, 1)],
    ),
    "axis gathered where nothing is": (only("Gather", X, ints(0, 7), axis=1), [(0, 1), (-1, 1)]),
    "axis sliced in steps": (
        only("Slice", X, ints(0), ints(4), ints(1), ints(2)),
        [(0, 1), (-1, 1)],
    ),
    "axis sliced to an end that is computed": (
        only("Slice", X, ints(0), Value(TensorType(np.dtype(np.int64), (1,))), ints(1)),
        [(0, 1)],
    ),
    "axis split into sizes that are computed": (
        only("Split", X, Value(TensorType(np.dtype(np.int64), (2,))), arity=2, axis=1),
        [(0, 1)],
    ),
    "axis padded with its own values": (
        only("Pad", X, ints(0, 1, 0, 0, 0, 1, 0, 0), mode="edge"),
        [(0, 1)],
    ),
    "axis that a pad crops": (only("Pad", X, ints(0, -1, 0, 0, 0, 0, 0, 0)), [(0, 1), (-1, 1)]),
    "concatenated axis of open size": (
        only("Concat", given_float(2, 4), given_float(2, "n"), axis=1),
        [(0, 1), (1, 1), (-1, 1)],
    ),
    "resized axis": (only("Resize", X, Absent(), Absent(), ints(2, 8, 6, 6)), [(0, 1), (-1, 1)]),
    "axes broken and flattened at once, at places of their own": (
        only("Reshape", given_float(4, 6), ints(3, 8)),
        [(0, 0), (0, 1), (-1, 0), (-1, 1)],
    ),
    "target of a reshape that is computed": (
        only("Reshape", X, Value(TensorType(np.dtype(np.int64), (2,)))),
        [(0, 0), (0, 1), (0, 3)],
    ),
    "scales of channels": (only("QuantizeLinear", X, NORM[0], axis=1), [(0, 1), (1, 0)]),
    "vector product": (
        only("MatMul", given_float(4), given_float(4, 5)),
        [(0, 0), (1, 1), (-1, 0)],
    ),
    "hidden axis of einsum": (only("Einsum", X, equation="nchw->nc"), [(0, 0), (0, 1), (-1, 1)]),
    "indices": (only("ArgMax", X, axis=1), [(0, 0), (0, 1), (-1, 0)]),
    "axis sorted": (only("TopK", X, ints(2), axis=1, arity=2), [(0, 1), (-1, 1)]),
    "axis that an operand of open size may broadcast along or not": (
        only("Add", given_float(4), given_float("n")),
        [(0, 0), (1, 0), (-1, 0)],
    ),
    "axis of open size in another operand of a concat": (
        only("Concat", given_float(2, 4), given_float(2, "n"), axis=0),
        [(0, 1), (-1, 1)],
    ),
    "axis that a resize crops": (
        only("Resize", X, CROP, ONES, coordinate_transformation_mode="tf_crop_and_resize"),
        [(0, 2), (-1, 2)],
    ),
    "broadcast axis": (only("Add", X, given_float(1, 1, 1)), [(1, 0)]),
}


@pytest.mark.parametrize("what", PINNED)
def test_is_pinned(what: str) -> None:
    node, ports = PINNED[what]
    values = [*node.inputs, node.outputs[0]]
    assert [(place, axis) for place, axis in ports if tied(node, values[place], axis)] == []


@pytest.mark.parametrize("what", PINNED)
def test_what_is_pinned_exists(what: str) -> None:
    node, ports = PINNED[what]
    values = [*node.inputs, node.outputs[0]]
    assert all(axis < (values[place].rank or 9) for place, axis in ports)
