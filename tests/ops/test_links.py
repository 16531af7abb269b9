"""The law of links, by brute force: what an operator says of its axes is what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, find, given, reject, settings
from hypothesis import strategies as st

from redir import ops
from redir.channels.coupling import Coupling, pinned_once
from redir.errors import IllTyped, Unsupported
from redir.ir import Attr, Graph, Node, Port, Value
from redir.ir.tensor import Array, Tensor, TensorType
from redir.ops import Absent, Const, is_absent, tensor_of
from tests import drawn_nodes
from tests.drawn_nodes import DRAWERS, VERSIONS, Case, Draw, lookup, with_options
from tests.helpers import ints, placeholder

Groups = dict[int, dict[Port, Array]]  # for each group the channels that it has at each port


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
        if set(family) <= linked - pinned_once(case.node):
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
    ends: dict[Port, bool] = {link.b: False for _, link in links if link.kind == "summed"}
    plain = {port for _, k in links if k.kind != "summed" for port in (k.a, k.b)}
    plain |= {k.a for _, k in links if k.kind == "summed"}
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


def known(value: Value, given: Mapping[Value, Any]) -> Any:
    """An operand: one given, an option that narrow wrote anew, or what a chain of it computes."""
    tensor, node = tensor_of(value), value.node
    if tensor is not None or value in given or node is None or is_absent(value):
        return given.get(value) if tensor is None else tensor.array
    return outputs(node, node.inputs, {v: known(v, given) for v in node.inputs})[value.index]


def check_narrow(case: Case, arrays: dict[Value, Array], kept: dict[Port, Array]) -> None:
    """The narrowed node computes what the node does, without the channels that are gone."""
    before = outputs(case.node, case.node.inputs, case.arrays)
    short = Case(case.node, arrays)
    narrow = changed(short, lambda port, a: a.take(kept[port], port[1]), list(kept))
    operands = remade(case, narrow)
    node = case.node.op.narrow(case.node, operands, kept)
    given = {new: narrow.get(old) for old, new in zip(case.node.inputs, operands, strict=True)}
    after = outputs(node, node.inputs, {v: known(v, given) for v in node.inputs})
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


def check_laws(case: Case) -> None:
    """The first and the last channels of each family are exchanged, merged and dropped alike."""
    for groups in families(case):
        for g, h in alike(groups)[:1] + alike(groups)[-1:]:
            check_exchange(case, groups, g, h)
            if may_shrink(groups) and may_add_up(case, groups):
                check_merge(case, groups, g, h)
        for gone in list(groups)[:1] + list(groups)[-1:]:
            if may_shrink(groups):
                check_drop(case, groups, gone)


def may_add_up(case: Case, groups: Groups) -> bool:
    """Whether no port is summed over and read otherwise too."""
    return not any(plain for p, plain in summed(case).items() for g in groups.values() if p in g)


LINKED = [name for name, entry in ops.ENTRIES.items() if entry.links is not ops.entry().links]
_DRAWN = list(dict.fromkeys(DRAWERS[n] for n in LINKED))
KINDS = {d.__name__: [n for n in LINKED if DRAWERS[n] is d] for d in _DRAWN}
SLOW = {"deform_conv", "grid_sample"}  # as a convolution and a Resize
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
        case = with_options(draw, case) if draw(st.booleans()) else case
        outputs(case.node, case.node.inputs, case.arrays)
    except (IllTyped, Unsupported):
        reject()
    assume(SOUND.get(name, bool)(case))
    return case


def test_every_operator_with_links_is_drawn() -> None:
    assert set(LINKED) <= set(DRAWERS)


# Attributes that no node is drawn with, and why.
NOT_DRAWN = {
    "activation_alpha": "the kernel refuses it",
    "activation_beta": "the kernel refuses it",
    "activations": "as many as there are directions: compared with onnxruntime in test_kernels.py",
    "kv_num_heads": "Attention on three axes is pinned",
    "q_num_heads": "Attention on three axes is pinned",
    "stash_type": "it says how a result is rounded",
}


def test_every_attribute_that_an_entry_understands_is_drawn() -> None:
    """Where this fails, let a node be drawn with the attribute: add it to ``OPTIONS``, say."""
    text = Path(drawn_nodes.__file__).read_text(encoding="utf-8")
    known = {a for name in LINKED for a in ops.ENTRIES[name].attributes - {"captures"}}
    drawn = {a for a in known if f'"{a}"' in text or f'.{a}"' in text or f" {a}=" in text}
    assert known - drawn == NOT_DRAWN.keys()


@pytest.mark.nightly
@pytest.mark.parametrize("name", [n for n in LINKED if n not in NO_KERNEL])
def test_links_fire(name: str) -> None:
    quick = settings(
        phases=[Phase.generate],
        max_examples=500,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    assert find(cases([name]), lambda c: any(map(alike, families(c))), settings=quick)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.nightly] * (kind in SLOW)) for kind in KINDS]
)
@given(data=st.data())
def test_channels_that_are_linked_are_exchanged_dropped_and_merged_alike(
    kind: str, data: st.DataObject
) -> None:
    """The three laws in one, since to draw a node takes longer than to try them on it."""
    case = data.draw(cases(KINDS[kind]))
    check_laws(case)


# Known breaches


def only(name: str, *inputs: Value, version: int = 21, arity: int = 1, **attrs: Attr) -> Node:
    return Node(lookup(name, version), inputs, attrs, arity=arity)


def tied(node: Node, value: Value, axis: int) -> bool:
    """Whether a link of the node mentions an axis."""
    return any((value, axis) in (link.a, link.b) for link in node.op.links(node))


X = placeholder(2, 4, 6, 6)
ONES = Const(value=Tensor(np.ones(4, np.float32)))
HEADS = placeholder(2, 4, 6, 6), placeholder(2, 2, 6, 6), placeholder(2, 2, 6, 6)
ANGLES = placeholder(2, 6, 2), placeholder(2, 6, 2)
CROP = Const(value=Tensor(np.array([0, 0, 0.25, 0, 1, 1, 0.75, 1], np.float32)))


def test_a_reshape_that_copies_a_size_is_narrowed() -> None:
    x = placeholder(2, 2, 1)
    node = only("Reshape", x, ints(1, 0, 2))
    kept = {(x, 0): np.array([0]), (node.outputs[0], 1): np.array([0])}
    narrow = node.op.narrow(node, (placeholder(1, 2, 1), node.inputs[1]), kept)
    assert narrow.outputs[0].type.shape == (1, 1, 2)


@pytest.mark.parametrize(("step", "name"), [(2, "Gather"), (-1, "Slice")])
def test_a_slice_in_steps_gathers_what_stands_unevenly(step: int, name: str) -> None:
    x, array = placeholder(2, 6), np.arange(12, dtype=np.float32).reshape(2, 6)
    starts, ends = (0, 6) if step > 0 else (5, -9)
    node = only("Slice", x, ints(starts), ints(ends), ints(1), ints(step))
    y, left = node.outputs[0], np.array([0, 2, 3, 4, 5])
    (link,) = (k for k in node.op.links(node) if k.b == (x, 1))
    kept = {(x, 1): left, (y, 1): np.flatnonzero(np.isin(link.index, left))}
    short = placeholder(2, 5)
    narrow = node.op.narrow(node, (short, *node.inputs[1:]), kept)
    assert narrow.op.name == name
    found = known(narrow.outputs[0], {short: array[:, left]})
    np.testing.assert_array_equal(found, array[:, link.index[kept[y, 1]]])


def test_an_operand_that_is_pinned_in_one_of_its_places_is_pinned() -> None:
    x = placeholder(4, 4)
    node = only("Einsum", ops.Relu(x), ops.Relu(x), equation="ij,jj->ij")
    both = node.on([node.inputs[0]] * 2)
    pins = [Coupling(Graph({"x": x}, {"y": n.outputs[0]})).pins for n in (node, both)]
    assert [(node.inputs[0], 0) in p for p in pins] == [False, True]


def test_a_reshape_of_open_size_keeps_the_axes_at_its_ends() -> None:
    node = only("Reshape", placeholder("n", 8, 7), ints(-1, 7))
    assert tied(node, node.inputs[0], 2)
    assert not tied(node, node.inputs[0], 1)


# What is pinned


@pytest.mark.parametrize("columns", [1, 4])
def test_rows_of_a_gemm_are_tied_as_those_of_its_bias(columns: int) -> None:
    node = only("Gemm", placeholder(2, 3), placeholder(3, 4), placeholder(2, columns))
    assert tied(node, node.outputs[0], 0) == tied(node, node.inputs[2], 0)


def test_the_mask_of_a_dropout_is_tied_like_its_result() -> None:
    result, mask = (node := only("Dropout", X, arity=2)).outputs
    assert tied(node, result, 1) == tied(node, mask, 1)


def test_the_indices_of_a_pooling_are_not_tied() -> None:
    node = only("MaxPool", X, arity=2, kernel_shape=(2, 2))
    assert not tied(node, node.outputs[1], 1)


NORM = [placeholder(4) for _ in range(4)]
BYTES, OTHERS = (placeholder(4, 4, 4, 4, dtype=np.uint8) for _ in range(2))
STORED = Const(value=Tensor(np.ones((4, 4, 4, 4), np.uint8)))
PINNED: dict[str, tuple[Node, list[tuple[int, int]]]] = {  # the operand or -1 for the result, axis
    "softmax axis": (only("Softmax", X, axis=1), [(0, 1), (-1, 1)]),
    "softmax that flattens": (only("Softmax", X, version=11, axis=1), [(0, 1), (0, 3), (-1, 3)]),
    "hardmax axis": (only("Hardmax", X), [(0, 3), (-1, 3)]),
    "reduced axis": (only("ReduceMean", X, ints(1)), [(0, 1), (-1, 1)]),
    "axes reduced without naming them": (only("ReduceMax", X), [(0, 0), (0, 1), (0, 3)]),
    "axes given at run time": (
        only("ReduceSum", X, placeholder(1, dtype=np.int64)),
        [(0, 0)],
    ),
    "kernel of a convolution": (
        only("Conv", X, placeholder(6, 4, 3, 3)),
        [(0, 2), (1, 2), (-1, 3)],
    ),
    "depthwise weight": (only("Conv", X, placeholder(8, 1, 3, 3)), [(1, 1)]),
    "kernel of a transposed convolution": (
        only("ConvTranspose", X, placeholder(4, 3, 3, 3), group=2),
        [(0, 2), (1, 2), (1, 3), (-1, 2)],
    ),
    "columns of a depthwise transposed convolution": (
        only("ConvTranspose", X, placeholder(4, 3, 3, 3), group=4),
        [(1, 1)],
    ),
    "layer norm": (
        only("LayerNormalization", X, placeholder(6), placeholder(6)),
        [(0, 3), (1, 0), (-1, 3)],
    ),
    "layer norm with scales that differ before its axes": (
        only("LayerNormalization", X, placeholder(4, 1, 6)),
        [(0, 0), (0, 1), (0, 3), (1, 0), (-1, 1)],
    ),
    "group norm over all channels": (
        only("GroupNormalization", X, NORM[0], NORM[1], num_groups=1),
        [(0, 1), (1, 0), (-1, 1)],
    ),
    "norm over an axis": (only("LpNormalization", X, axis=1), [(0, 1), (-1, 1)]),
    "norm over axes": (only("MeanVarianceNormalization", X), [(0, 0), (0, 2), (-1, 3)]),
    "running sum": (only("CumSum", X, ints(1)), [(0, 1), (-1, 1)]),
    "running sum along a computed axis": (
        only("CumSum", X, placeholder(1, dtype=np.int64)),
        [(0, 0), (0, 1), (-1, 3)],
    ),
    "triangle": (only("Trilu", X), [(0, 2), (0, 3), (-1, 2)]),
    "compressed axis": (
        only("Compress", X, placeholder(4, dtype=bool), axis=1),
        [(0, 1), (1, 0)],
    ),
    "axes compressed as one": (
        only("Compress", X, placeholder(4, dtype=bool)),
        [(0, 0), (0, 1)],
    ),
    "reversed steps": (
        only("ReverseSequence", X, placeholder(4, dtype=np.int64)),
        [(0, 0), (0, 1), (-1, 0), (-1, 1)],
    ),
    "cropped axis": (only("CenterCropPad", X, ints(2), axes=(1,)), [(0, 1), (-1, 1)]),
    "places of a grid": (
        only("GridSample", X, placeholder(2, 3, 3, 2)),
        [(0, 2), (0, 3), (1, 3)],
    ),
    "examples of regions": (
        only("RoiAlign", X, placeholder(5, 4), placeholder(5, dtype=np.int64)),
        [(0, 0), (0, 2), (1, 1), (-1, 2)],
    ),
    "axes that are looked up": (only("GatherND", X, ints(1, 0)), [(0, 0), (0, 1), (1, 0)]),
    "axes that are scattered to": (
        only("ScatterND", X, ints(1, 0), placeholder(6, 6)),
        [(0, 0), (0, 1), (1, 0), (-1, 1)],
    ),
    "places of an attention": (
        only("Attention", *[placeholder(2, 4, 6, 6) for _ in range(3)], version=23),
        [(0, 2), (1, 2), (2, 2), (-1, 2)],
    ),
    "heads of an attention that share keys, but no mask": (
        only("Attention", *HEADS, placeholder(2, 4, 6, 6), version=23),
        [(0, 1), (1, 1), (2, 1), (-1, 1)],
    ),
    "channels of which some are turned": (
        only("RotaryEmbedding", X, *ANGLES, rotary_embedding_dim=4, version=23),
        [(0, 3), (1, 2), (2, 2), (-1, 3)],
    ),
    "attention with heads side by side": (
        only("Attention", *[placeholder(2, 6, 8)] * 3, version=23, q_num_heads=2, kv_num_heads=2),
        [(0, 2), (1, 2), (-1, 2)],
    ),
    "scattered elements": (
        only("ScatterElements", X, placeholder(2, 4, 6, 6, dtype=np.int64), X, axis=1),
        [(0, 0), (0, 1), (-1, 1)],
    ),
    "shape": (only("Shape", X), [(0, 0), (0, 1)]),
    "size": (only("Size", X), [(0, 0), (0, 1)]),
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
        only("Gather", X, placeholder(2, dtype=np.int64), axis=1),
        [(0, 1), (-1, 1)],
    ),
    "axis gathered where nothing is": (only("Gather", X, ints(0, 7), axis=1), [(0, 1), (-1, 1)]),
    "axis sliced to an end that is computed": (
        only("Slice", X, ints(0), placeholder(1, dtype=np.int64), ints(1)),
        [(0, 1)],
    ),
    "axis split into sizes that are computed": (
        only("Split", X, placeholder(2, dtype=np.int64), arity=2, axis=1),
        [(0, 1)],
    ),
    "axis padded with its own values": (
        only("Pad", X, ints(0, 1, 0, 0, 0, 1, 0, 0), mode="edge"),
        [(0, 1)],
    ),
    "axis that a pad crops": (only("Pad", X, ints(0, -1, 0, 0, 0, 0, 0, 0)), [(0, 1), (-1, 1)]),
    "concatenated axis of open size": (
        only("Concat", placeholder(2, 4), placeholder(2, "n"), axis=1),
        [(0, 1), (1, 1), (-1, 1)],
    ),
    "resized axis": (only("Resize", X, Absent(), Absent(), ints(2, 8, 6, 6)), [(0, 1), (-1, 1)]),
    "axes broken and flattened at once, at places of their own": (
        only("Reshape", placeholder(4, 6), ints(3, 8)),
        [(0, 0), (0, 1), (-1, 0), (-1, 1)],
    ),
    "target of a reshape that is computed": (
        only("Reshape", X, placeholder(2, dtype=np.int64)),
        [(0, 0), (0, 1), (0, 3)],
    ),
    "scales of blocks": (
        only("QuantizeLinear", X, placeholder(2, 2, 6, 6), axis=1, block_size=2),
        [(0, 1), (1, 1), (-1, 1)],
    ),
    "scales of channels before there was an axis": (
        only("QuantizeLinear", X, NORM[0], version=10),
        [(0, 1), (1, 0)],
    ),
    "sum of weights whose zero point is not 0": (
        only("ConvInteger", BYTES, OTHERS, Absent(), Const(value=Tensor(np.uint8(3)))),
        [(0, 1), (1, 1)],
    ),
    "sum of weights whose zero point is computed": (
        only("MatMulInteger", BYTES, OTHERS, Absent(), placeholder(dtype=np.uint8)),
        [(0, 3), (1, 2)],
    ),
    "sum of constants whose zero point is not 0": (
        only("ConvInteger", STORED, OTHERS, Const(value=Tensor(np.uint8(3)))),
        [(0, 1), (1, 1)],
    ),
    "rows with a zero point each": (
        only("MatMulInteger", BYTES, OTHERS, placeholder(4, dtype=np.uint8)),
        [(0, 2), (0, 3), (1, 2), (1, 3), (-1, 2), (-1, 3)],
    ),
    "vector product": (
        only("MatMul", placeholder(4), placeholder(4, 5)),
        [(0, 0), (1, 1), (-1, 0)],
    ),
    "letter twice in an operand of an einsum": (
        only("Einsum", placeholder(4, 4), placeholder(4, 5), equation="ii,ij->ij"),
        [(0, 0), (0, 1), (1, 0), (-1, 0)],
    ),
    "letter of three operands that is summed over": (
        only("Einsum", *[placeholder(2, 4)] * 3, equation="ij,ij,ij->i"),
        [(0, 1), (1, 1)],
    ),
    "letter of an axis that an einsum broadcasts": (
        only("Einsum", placeholder(2, 4), placeholder(1, 4), equation="ij,ij->ij"),
        [(0, 0), (1, 0), (-1, 0)],
    ),
    "axes that an ellipsis stands for": (
        only("Einsum", X, placeholder(6, 5), equation="...i,ij->...j"),
        [(0, 0), (0, 1), (0, 2), (-1, 0), (-1, 1), (-1, 2)],
    ),
    "axis of size 1 that is expanded": (
        only("Expand", placeholder(2, 1, 6), ints(2, 4, 6)),
        [(0, 1)],
    ),
    "axis expanded to a size that is computed": (
        only("Expand", X, placeholder(4, dtype=np.int64)),
        [(0, 0), (0, 1), (-1, 0), (-1, 1)],
    ),
    "axis of open size that is expanded": (
        only("Expand", placeholder(2, "n"), ints(2, 4)),
        [(0, 1), (-1, 1)],
    ),
    "axis repeated a computed number of times": (
        only("Tile", X, placeholder(4, dtype=np.int64)),
        [(0, 0), (0, 1)],
    ),
    "places of a DepthToSpace": (
        only("DepthToSpace", X, blocksize=2),
        [(0, 2), (0, 3), (-1, 2), (-1, 3)],
    ),
    "places of a SpaceToDepth": (
        only("SpaceToDepth", X, blocksize=2),
        [(0, 2), (0, 3), (-1, 2), (-1, 3)],
    ),
    "axis resized to a computed size": (
        only("Resize", X, Absent(), Absent(), placeholder(4, dtype=np.int64)),
        [(0, 1), (-1, 1)],
    ),
    "axis that a resize shifts by half a place": (
        only(
            "Resize",
            X,
            CROP,
            ONES,
            version=11,
            coordinate_transformation_mode="tf_half_pixel_for_nn",
        ),
        [(0, 1), (-1, 1)],
    ),
    "sizes that keep their ratio": (
        only(
            "Resize", X, Absent(), Absent(), ints(2, 4, 6, 9), keep_aspect_ratio_policy="not_larger"
        ),
        [(0, 1), (-1, 1)],
    ),
    "directions, steps and gates of an LSTM": (
        only("LSTM", placeholder(5, 2, 3), placeholder(1, 16, 3), placeholder(1, 16, 4)),
        [(0, 0), (1, 0), (2, 0), (-1, 0), (-1, 1)],
    ),
    "LSTM on examples first": (
        only("LSTM", placeholder(5, 2, 3), placeholder(1, 16, 3), placeholder(1, 16, 4), layout=1),
        [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2), (-1, 2), (-1, 3)],
    ),
    "searched axis": (only("ArgMax", X, axis=1), [(0, 1), (-1, 1)]),
    "axis sorted": (only("TopK", X, ints(2), axis=1, arity=2), [(0, 1), (-1, 1)]),
    "axis that an operand of open size may broadcast along or not": (
        only("Add", placeholder(4), placeholder("n")),
        [(0, 0), (1, 0), (-1, 0)],
    ),
    "axis of open size in another operand of a concat": (
        only("Concat", placeholder(2, 4), placeholder(2, "n"), axis=0),
        [(0, 1), (-1, 1)],
    ),
    "axis that a resize crops": (
        only("Resize", X, CROP, ONES, coordinate_transformation_mode="tf_crop_and_resize"),
        [(0, 2), (-1, 2)],
    ),
    "broadcast axis": (only("Add", X, placeholder(1, 1, 1)), [(1, 0)]),
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
