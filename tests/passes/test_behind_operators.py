"""Copies, multiples and channels that nobody reads are found behind every operator followed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Node, Op, Value
from redir.passes import EliminateDeadChannels, Merge
from redir.runtime.onnxruntime import session
from redir.testing import check_on
from tests.helpers import const, ints, one_of_three, placeholder

X = placeholder(1, 1, 4, 4)
Between = Callable[[Value], Value]
ABSENT = ops.Absent()
AROUND, ROWS = ints(0, 0, 1, 1, 0, 0, 1, 2), ints(2)


OPSETS = {"Pad of old": 9, "Upsample": 9, "Upsample of old": 8, "Slice of old": 9}


def older(name: str, opset: int) -> Op:
    """An operator as it was in an older operator set."""
    op = ops.lookup(name, opset)
    assert op is not None
    return op


def resized(x: Value, mode: str, coordinates: str = "half_pixel") -> Value:
    scales = const([1, 1, 1.5, 2])
    return ops.Resize(x, ABSENT, scales, mode=mode, coordinate_transformation_mode=coordinates)


def per_channel(x: Value, number: float) -> Value:
    return const(np.full(x.type.size(1) or 0, number))


def depthwise(x: Value, op: Op, **attrs: int) -> Value:
    size = x.type.size(1) or 0
    return op(x, const(np.ones((size, 1, 2, 2))), pads=(0, 0, 1, 1), **attrs)


def deformed(x: Value) -> Value:
    size, offsets = x.type.size(1) or 0, np.random.default_rng(0).integers(-1, 2, (1, 8, 4, 4)) / 2
    return ops.DeformConv(x, const(np.ones((size, 1, 2, 2))), const(offsets), pads=(0, 0, 1, 1))


def half(x: Value) -> Value:
    return Node(ops.Split, (x, ints(1, 3)), {"axis": 2}, arity=2).outputs[1]


LINEAR: dict[str, Between] = {
    "Pad": lambda x: ops.Pad(x, AROUND),
    "Pad, reflect": lambda x: ops.Pad(x, AROUND, mode="reflect"),
    "Pad, edge": lambda x: ops.Pad(x, AROUND, mode="edge"),
    "Pad, wrap": lambda x: ops.Pad(x, AROUND, mode="wrap"),
    "Pad, cropping": lambda x: ops.Pad(x, ints(0, 0, -1, 0, 0, 0, 0, -1)),
    "Pad of some axes": lambda x: ops.Pad(x, ints(1, 0, 0, 2), ABSENT, ints(-1, 2)),
    "Pad of old": lambda x: older("Pad", 9)(x, pads=(0, 0, 1, 0, 0, 0, 1, 0)),
    "Conv": lambda x: depthwise(x, ops.Conv),
    "ConvTranspose": lambda x: depthwise(x, ops.ConvTranspose, group=x.type.size(1) or 0),
    "DeformConv": deformed,
    "MaxPool": lambda x: ops.MaxPool(x, kernel_shape=(2, 2), pads=(1, 0, 1, 0)),
    "AveragePool": lambda x: ops.AveragePool(x, kernel_shape=(3, 3), pads=(1, 1, 1, 1)),
    "LpPool": lambda x: ops.LpPool(x, kernel_shape=(2, 2), p=1),
    "GlobalAveragePool": ops.GlobalAveragePool,
    "GlobalMaxPool": ops.GlobalMaxPool,
    "ReduceMean": lambda x: ops.ReduceMean(x, ROWS),
    "ReduceSum": lambda x: ops.ReduceSum(x, ROWS),
    "ReduceMax": lambda x: ops.ReduceMax(x, ROWS),
    "Resize, nearest": lambda x: resized(x, "nearest", "asymmetric"),
    "Resize, linear": lambda x: resized(x, "linear"),
    "Resize to sizes": lambda x: ops.Resize(x, ABSENT, ABSENT, ints(1, x.type.size(1) or 0, 6, 5)),
    "Resize of some axes": lambda x: ops.Resize(x, ABSENT, const([2, 2]), axes=(3, 2)),
    "Resize of some axes to sizes": lambda x: ops.Resize(
        x, ABSENT, ABSENT, ints(5, 3), axes=(3, 2)
    ),
    "Upsample": lambda x: older("Upsample", 9)(x, const([1, 1, 2, 2])),
    "Upsample of old": lambda x: older("Upsample", 8)(x, scales=(1.0, 1.0, 2.0, 2.0)),
    "Slice": lambda x: ops.Slice(x, ints(1), ints(3), ints(2)),
    "Slice backwards": lambda x: ops.Slice(x, ints(3), ints(-9), ints(3), ints(-2)),
    "Slice of old": lambda x: older("Slice", 9)(x, starts=(1,), ends=(3,), axes=(2,)),
    "Split": half,
    "Gather": lambda x: ops.Gather(x, ints(2, 0), axis=2),
    "Transpose": lambda x: ops.Transpose(x, perm=(0, 1, 3, 2)),
    "Flatten": lambda x: ops.Unsqueeze(ops.Flatten(x), ints(2, 3)),
    "Reshape": lambda x: ops.Reshape(ops.Reshape(x, ints(0, 0, -1)), ints(0, 0, 2, 8)),
    "Concat": lambda x: ops.Concat(x, ops.Neg(x), axis=2),
    "Tile": lambda x: ops.Tile(x, ints(1, 1, 2, 1)),
    "Expand": lambda x: ops.Expand(ops.GlobalMaxPool(x), ints(1, 1, 2, 3)),
    "SpaceToDepth": lambda x: ops.SpaceToDepth(x, blocksize=2),
    "BatchNormalization": lambda x: ops.BatchNormalization(
        x, per_channel(x, 2), *(per_channel(x, 0) for _ in range(2)), per_channel(x, 3)
    ),
    "LeakyRelu": lambda x: ops.LeakyRelu(x, alpha=0.5),
    "PRelu": lambda x: ops.PRelu(x, const([[[0.25]]])),
    "Relu": ops.Relu,
    "Dropout": ops.Dropout,
    "CumSum": lambda x: ops.CumSum(x, const(3, np.int64)),
    "Trilu": ops.Trilu,
}
BENT: dict[str, Between] = {
    "Cast": lambda x: ops.Cast(x, to=1),
    **{
        name: getattr(ops, name)
        for name in "Elu Erf Gelu HardSigmoid HardSwish Mish Selu Sigmoid Softplus Softsign Tanh "
        "Exp Neg Abs Sign Floor Ceil Round Sin Celu ThresholdedRelu Identity".split()
    },
    "Clip": lambda x: ops.Clip(x, const(-1), const(2)),
    "Pad with ones": lambda x: ops.Pad(x, AROUND, const(1)),
    "Resize, cubic": lambda x: resized(x, "cubic"),
    "a norm of places": lambda x: ops.LayerNormalization(x, const(np.ones((4, 4))), axis=2),
    "a norm of each channel": lambda x: ops.InstanceNormalization(
        x, per_channel(x, 2), per_channel(x, 1)
    ),
    "Softmax over places": lambda x: ops.Softmax(x, axis=2),
    "MeanVarianceNormalization": lambda x: ops.MeanVarianceNormalization(x, axes=(0, 2, 3)),
    "Pow": lambda x: ops.Pow(x, const(2)),
    "Add": lambda x: ops.Add(x, const(3)),
    "quantised": lambda x: ops.DequantizeLinear(
        ops.QuantizeLinear(x, const(0.5), const(128, np.uint8)), const(0.5), const(128, np.uint8)
    ),
}
EVERY = {**LINEAR, **BENT}


def network(what: str, *rows: float, unread: int = 0) -> Graph:
    """A layer, and one that reads what is behind it, but for the last channels."""
    behind = EVERY[what](ops.Conv(X, const(np.array(rows)[:, None, None, None])))
    reader = np.arange(1.0, (behind.type.size(1) or 0) + 1)
    reader[len(reader) - unread :] = 0
    y = ops.Conv(behind, const(reader[None, :, None, None]))
    return Graph({"x": X}, {"y": y}, opset={"": OPSETS.get(what, ops.OPSET)})


def made(graph: Graph) -> int:
    """The channels that the first layer makes."""
    first = next(node for node in graph.nodes if node.op == ops.Conv and node.inputs[0] is X)
    return first.outputs[0].type.size(1) or 0


@pytest.mark.parametrize("what", EVERY)
def test_copies_are_found_behind(what: str) -> None:
    assert made(check_on(Merge(), network(what, 2, 3, 2, 3))) == 2


@pytest.mark.parametrize("what", one_of_three(LINEAR))
def test_multiples_are_found_behind(what: str) -> None:
    assert made(check_on(Merge(), network(what, 2, 3, 4, 6))) == 2


@pytest.mark.parametrize("what", one_of_three(LINEAR))
def test_silent_channels_are_found_behind(what: str) -> None:
    assert made(check_on(EliminateDeadChannels(), network(what, 2, 3, 0, 0))) == 2


@pytest.mark.parametrize("what", one_of_three(sorted(EVERY.keys() - {"Flatten", "SpaceToDepth"})))
def test_channels_that_nobody_reads_are_found_behind(what: str) -> None:
    graph = network(what, 2, 3, 4, 5, unread=2)
    assert made(check_on(EliminateDeadChannels(), graph)) == 2


def test_a_deformable_layer_reads_and_makes_channels_as_others_do() -> None:
    drawn = np.random.default_rng(0)
    made = ops.Conv(X, const(np.array([1, 2, 1])[:, None, None, None]))
    offsets, mask = placeholder(1, 8, 3, 3), placeholder(1, 4, 3, 3)
    deep = ops.DeformConv(made, const(drawn.normal(size=(5, 3, 2, 2))), offsets, ABSENT, mask)
    read = drawn.normal(size=(2, 5, 1, 1))
    read[:, 3:] = 0
    inputs = {"x": X, "offsets": offsets, "mask": mask}
    graph = Graph(inputs, {"y": ops.Conv(deep, const(read))}, opset={"": 19})
    after = check_on(EliminateDeadChannels(), check_on(Merge(), graph))
    (node,) = (n for n in after.nodes if n.op == ops.DeformConv)
    assert node.inputs[1].type.shape == (3, 1, 2, 2)
    feeds = {n: drawn.normal(size=v.type.static).astype(np.float32) for n, v in inputs.items()}
    y, z = (session(each)(feeds)["y"] for each in (graph, after))
    np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5)


def test_channels_of_several_offsets_stay() -> None:
    made = ops.Conv(X, const(np.array([1, 1, 1, 1])[:, None, None, None]))
    offsets, weights = placeholder(1, 16, 3, 3), const(np.ones((2, 4, 2, 2)))
    y = ops.DeformConv(made, weights, offsets, offset_group=2)
    graph = Graph({"x": X, "offsets": offsets}, {"y": y}, opset={"": 19})
    assert Merge()(graph) is graph
