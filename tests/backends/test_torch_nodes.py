"""Writing PyTorch: drawn nodes of every operator, in every version, compute what they should."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from redir import ops
from redir.errors import IllTyped, Unsupported
from redir.ir import Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, Tensor, TensorType
from redir.ops import Const
from redir.runtime.onnxruntime import runner
from tests.drawn_nodes import DRAWERS, VERSIONS, Case, Draw, recurrent
from tests.helpers import const, placeholder

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from redir.backends.torch.writer import TABLE, to_torch  # noqa: E402 - torch comes first

DTYPES = "float32 int32 int64 uint8 int8 uint32".split()
KINDS = {
    drawer.__name__: names
    for drawer in dict.fromkeys(DRAWERS.values())
    if drawer is not recurrent  # of which torch does little
    and (names := [n for n in TABLE if DRAWERS.get(n) is drawer])
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def retyped(case: Case, dtype: str) -> Case:
    """The case with operands of ``dtype`` in place of those of float32."""

    def turned(value: Value) -> Value:
        array = case.arrays.get(value)
        if array is None or array.dtype != np.float32:
            return value
        array = np.where((array == 0) & (case.node.op.name == "Div"), 1, array)
        array = (np.abs(array) if dtype.startswith("u") else array).astype(dtype)
        other = (
            Value(TensorType(array.dtype, value.type.shape))
            if value.node is None
            else Const(value=Tensor(array))
        )
        arrays[other] = array
        return other

    arrays = dict(case.arrays)
    turn = {v: turned(v) for v in case.node.inputs}
    inputs = tuple(turn[v] for v in case.node.inputs)
    node = Node(case.node.op, inputs, case.node.attrs, arity=case.node.arity)
    return Case(node, {turn.get(v, v): arrays[turn.get(v, v)] for v in case.arrays})


@st.composite
def cases(draw: Draw, kind: str) -> Case:
    """A node of one of the operators of a kind, of one element type or another."""
    name = draw(st.sampled_from(KINDS[kind]))
    try:
        case = DRAWERS[name](draw, name, draw(st.sampled_from(VERSIONS[name])))
        rounded = "Log" in name  # what a whole number becomes there hangs on a last bit
        return case if rounded else retyped(case, draw(st.sampled_from(DTYPES)))
    except IllTyped:
        reject()


def run(module: Any, feeds: dict[str, Array]) -> list[Array]:
    with torch.no_grad():
        found = module(*(torch.from_numpy(np.array(a)) for a in feeds.values()))
    return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=settings().max_examples // 8,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_drawn_node_computes_the_same(kind: str, data: st.DataObject) -> None:
    """As onnxruntime, which has no operators of sets before 7, or as the interpreter."""
    assert_computes_the_same(data.draw(cases(kind)))


def test_a_norm_of_one_place_computes_the_same() -> None:
    x, scale, bias = placeholder(2, 2, 1), const([-4, 5]), const([0, 0])
    node = Node(ops.InstanceNormalization, (x, scale, bias))
    held = {x: [[[0], [1]], [[3], [5]]], scale: [-4, 5], bias: [0, 0]}
    assert_computes_the_same(Case(node, {v: np.array(a, np.float32) for v, a in held.items()}))


def assert_computes_the_same(case: Case) -> None:
    """Refute that a node gives in PyTorch what it gives elsewhere; reject what cannot be run."""
    version = case.node.op.version
    graph, old = replace(case.graph, opset={"": version}), version < 7
    feeds = {name: case.arrays[value] for name, value in graph.inputs.items()}
    try:
        wanted = evaluate(graph, feeds) if old else runner(graph)(feeds)
        module = to_torch(graph)
    except Unsupported:
        reject()
    wanted = {n: np.asarray(w, graph.outputs[n].type.dtype) for n, w in wanted.items()}
    if not all(np.isfinite(w).all() for w in wanted.values()):
        reject()
    for found, (name, want) in zip(run(module, feeds), wanted.items(), strict=True):
        assert (found.shape, found.dtype) == (want.shape, want.dtype), name
        np.testing.assert_allclose(found, want, 1e-4, tolerance(case), err_msg=name)


def tolerance(case: Case) -> float:
    """1e-4; for a norm also what a last bit of its operands may become.

    Where all the numbers that it evens out are equal, their variance is 0, and it multiplies what
    rounding has left of their distance from the mean by 1/sqrt(epsilon), which is 316.
    """
    if not case.node.op.name.endswith("Normalization"):
        return 1e-4
    sizes = [float(np.abs(array).max(initial=1)) for array in case.arrays.values()]
    epsilon = float(case.node.attrs.get("epsilon", 1e-5))
    return 1e-4 + 4 * math.prod(sizes) * 2.0**-23 / math.sqrt(epsilon)
