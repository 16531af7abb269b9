"""What tests make graphs of, and how they look at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike

import redir
from redir import ops
from redir.ir import Graph, Value, evaluate
from redir.ir.tensor import Array, Dim, TensorType
from redir.runtime.onnxruntime import runner


def one_of_three(cases: Iterable[Any]) -> list[Any]:
    """Parameters of much alike tests: every third for each change, the others for the night."""
    return [
        pytest.param(case, marks=[pytest.mark.nightly] * (place % 3 > 0))
        for place, case in enumerate(cases)
    ]


def const(array: object, dtype: DTypeLike = np.float32) -> Value:
    """A constant, rounded to ``dtype``."""
    return ops.constant(np.array(array).astype(dtype))


def ints(*numbers: int) -> Value:
    """A constant vector of whole numbers, as shapes, axes and pads are given."""
    return const(numbers, np.int64)


def placeholder(*shape: Dim, dtype: DTypeLike = np.float32) -> Value:
    """A value that no node makes: an input of a graph."""
    return Value(TensorType(np.dtype(dtype), shape))


def operators(graph: Graph) -> list[str]:
    """The names of the operators that read something, in order."""
    return [node.op.name for node in graph.nodes if node.inputs]


def sources(y: Value) -> list[Value]:
    """The values without a node that a result needs."""
    found, ends = list[Value](), [y]
    while ends:
        value = ends.pop()
        found += [value] if value.node is None and value not in found else []
        ends += value.node.inputs if value.node is not None else ()
    return found


def check_backends(graph: Graph, feeds: Mapping[str, Array], atol: float) -> None:
    """That the output ``y`` is the same in onnxruntime and, of an input ``x``, in PyTorch."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    wanted = evaluate(graph, feeds)["y"]
    np.testing.assert_allclose(runner(graph)(feeds)["y"], wanted, atol=atol)
    found = redir.to_torch(graph)(torch.tensor(feeds["x"])).detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=atol)
