"""eliminate-dead-channels: golden pairs, what it leaves alone, the conformance kit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from redir import ops
from redir.ir import Graph, Node, Value
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.pipeline import Pipeline
from redir.rewrite import transform
from redir.tensor import Tensor, TensorType
from redir.testing import check_on, check_pass, graphs
from redir.text import parse

DEAD = EliminateDeadChannels()
GOLDEN = sorted((Path(__file__).parents[1] / "golden" / DEAD.name).glob("*.txt"))
X = Value(TensorType(np.dtype(np.float32), (1, 1, 3, 3)))


def const(array: object, dtype: str = "float32") -> Value:
    return ops.Const(value=Tensor(np.array(array).astype(dtype)))


def conv(x: Value, rows: object, *bias: Value) -> Value:
    """A 1x1 convolution by a matrix."""
    return ops.Conv(x, const(np.array(rows)[:, :, None, None]), *bias)


def of(y: Value, **more: Value) -> Graph:
    return Graph({"x": X}, {"y": y, **more})


ZERO = conv(X, [[0], [1]])  # its first channel is always zero
ONE = conv(X, [[2], [1]])
SUM, SKIP = [[3, 4]], [[0, 4]]  # the second does not read the first channel


def width(graph: Graph) -> int | None:
    """The channels that the last convolution reads."""
    last = next(n for n in reversed(graph.nodes) if n.op == ops.Conv)
    return last.inputs[0].type.size(1)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.stem)
def test_golden_pair(case: Path) -> None:
    before, after = case.read_text(encoding="utf-8").split("# after\n")
    assert str(check_on(DEAD, parse(before))) == after


REMOVED = {
    "never read": conv(ONE, SKIP),
    "always zero": conv(ZERO, SUM),
    "zero through a function of zero": conv(ops.Tanh(ops.Relu(ZERO)), SUM),
    "zero by a bias of zero": conv(conv(X, [[0], [1]], const([0, 5])), SUM),
    "zero by a depthwise kernel of zero": conv(
        ops.Conv(ONE, const([[[[0.0]]], [[[1.0]]]]), const([0.0, 1.0])), SUM
    ),
    "zero by a factor": conv(ops.Mul(ONE, const([[[0.0]], [[1.0]]])), SUM),
    "sum of zeros": conv(ops.Add(ZERO, conv(X, [[0], [3]])), SUM),
    "zero border": conv(ops.Pad(conv(X, [[1]]), const([0, 1, 0, 0, 0, 0, 0, 0], "int64")), SUM),
    "negative zero": conv(conv(X, [[-0.0], [1]]), SUM),
}


@pytest.mark.parametrize("y", REMOVED.values(), ids=REMOVED)
def test_removed(y: Value) -> None:
    assert (width(of(y)), width(check_on(DEAD, of(y)))) == (2, 1)


def captured() -> Value:
    a, b = Value(ZERO.type), Value(ZERO.type)
    flag = const(array=True, dtype="bool")
    then, other = Graph({"a": a}, {"y": ops.Relu(a)}), Graph({"a": b}, {"y": ops.Neg(b)})
    return ops.If(flag, ZERO, captures=("a",), then_branch=then, else_branch=other)


LEFT_ALONE = {
    "read and not zero": of(conv(ONE, SUM)),
    "a bias that is not zero": of(conv(conv(X, [[0], [1]], const([2, 5])), SUM)),
    "a function that is not 0 at 0": of(conv(ops.Sigmoid(ZERO), SUM)),
    "cosine": of(conv(ops.Cos(ZERO), SUM)),
    "something added": of(conv(ops.Add(ZERO, ONE), SUM)),
    "a scalar added": of(conv(ops.Add(ZERO, const(1.0)), SUM)),
    "a power": of(conv(ops.Pow(ZERO, const(0.0)), SUM)),
    "a quotient": of(conv(ops.Div(ZERO, ZERO), SUM)),
    "a border that is not zero": of(
        conv(ops.Pad(conv(X, [[1]]), const([0, 1, 0, 0, 0, 0, 0, 0], "int64"), const(2.0)), SUM)
    ),
    "read by another": of(ops.Add(conv(ONE, SKIP), conv(ONE, SUM))),
    "graph output": of(conv(ONE, SKIP), z=ONE),
    "softmax over channels": of(conv(ops.Softmax(ZERO, axis=1), SUM)),
    "captured by a body": of(conv(captured(), SUM)),
    "unknown operator": of(conv(ops.opaque("Mix", "custom", 1, [ZERO.type])(ZERO), SUM)),
    "a weight that is NaN": of(conv(conv(X, [[np.nan], [1]]), SUM)),
    "the last channel of an axis": of(conv(conv(X, [[0]]), [[3]])),
}


@pytest.mark.parametrize("graph", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(graph: Graph) -> None:
    assert DEAD(graph) is graph


def test_one_channel_stays_where_all_are_dead() -> None:
    assert width(check_on(DEAD, of(conv(conv(X, [[0], [0]]), SUM)))) == 1


def test_every_axis_of_a_concat_keeps_a_channel() -> None:
    y = conv(ops.Concat(conv(X, [[0]]), ONE, axis=1), [[1, 2, 3]])
    assert DEAD(of(y)).outputs["y"].type == y.type


def silenced(graph: Graph) -> Graph:
    """``graph`` with zeros for the first slice of each matrix of weights."""

    def visit(node: Node, _: tuple[Value, ...]) -> Value | None:
        held = node.attrs.get("value")
        if not isinstance(held, Tensor) or held.array.ndim < 2 or held.array.dtype.kind != "f":
            return None
        array = held.array.copy()
        array[:1] = 0
        return ops.Const(value=Tensor.take(array))

    return transform(graph, visit)


def quiet() -> st.SearchStrategy[Graph]:
    return graphs("conv", "activation", "residual").map(silenced)


def test_keeps_its_promises() -> None:
    check_pass(DEAD, quiet())


def test_has_no_options() -> None:
    assert str(Pipeline.parse("eliminate-dead-channels")) == "eliminate-dead-channels"
