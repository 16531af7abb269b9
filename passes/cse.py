"""Compute once what several nodes compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from redir.check.guarantees import (
    NO_GROWTH,
    NO_MORE_PARAMETERS,
    SAME_INTERFACE,
    SAME_OUTPUTS,
    gives_sizes,
)
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, in_branches, transform
from redir.ir.tensor import Array, Tensor, TensorType, is_floating
from redir.ops import is_absent, tensor_of
from redir.pipeline import Pass

# onnxruntime refuses some models in which two weights share a single zero point of this type.
_ZERO_POINT = np.dtype(np.int8)
_START = 16  # numbers by which constants are told apart before they are compared


@dataclass(frozen=True)
class Cse(Pass):
    """Common subexpression elimination: equal nodes on equal operands become one.

    Operands that are constants are compared by content. Of these themselves only single numbers and
    such as say sizes become one: to share the zero biases of two layers would tie their channels.
    With ``weights`` all floating-point ones that are equal do, but for one number over and over:
    such as those of layers that two branches share. Random and unknown operators, control flow and
    sequences are left alone.
    """

    weights: bool = False
    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Keep the first of each kind."""
        graph = in_branches(graph, self.run)
        seen: dict[object, Node] = {}
        alike = _alike(graph) if self.weights else set[Value]()

        def first(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            tensor = tensor_of(node.outputs[0])
            if tensor is not None:
                free = _is_free(graph, node.outputs[0]) or node.outputs[0] in alike
                key: object = tensor, _is_frozen(node)
                return seen.setdefault(key, node).outputs if free else None
            if not node.inputs or _obstacle(node) is not None:
                return None
            key = _key(node, inputs)
            if key not in seen:
                seen[key] = node.on(inputs)
            return seen[key].outputs

        return transform(graph, first)

    def explain(self, graph: Graph) -> Iterator[str]:
        """What is like another, and why both stay."""
        seen: dict[object, Node] = {}
        alike = _alike(graph)
        for node in graph.nodes:
            held = node.outputs[0] in alike
            if not node.inputs and not held:
                continue
            key = tensor_of(node.outputs[0]) if held else _key(node, node.inputs)
            other = seen.setdefault(key, node)
            if other is not node:
                why = "to share it would tie their channels" if held else _obstacle(node)
                yield f"{node} is like {other}, but {why}"


def _obstacle(node: Node) -> str | None:
    """Why a node may not be computed once for another one, if it may not."""
    if not node.repeatable:
        return "it draws, or nobody knows what it does"
    if node.bodies:
        return "it has bodies"
    plain = all(isinstance(v.type, TensorType) for v in node.outputs)
    return None if plain else "it makes no tensors"


def _key(node: Node, inputs: tuple[Value, ...]) -> object:
    """What is equal for nodes that compute the same."""
    # 1, 1.0 and True are equal to Python, and so are 0.0 and -0.0.
    attrs = tuple((k, type(a), a, str(a)) for k, a in sorted(node.attrs.items()))
    operands = tuple(None if is_absent(v) else tensor_of(v) or v for v in inputs)
    return node.op, node.op.version, operands, attrs, node.arity


def _is_free(graph: Graph, value: Value) -> bool:
    """Whether a constant has no channels that sharing it could tie, and is no zero point."""
    single = value.rank == 0 and value.type.dtype != _ZERO_POINT
    return single or gives_sizes(graph, value)


def _alike(graph: Graph) -> set[Value]:
    """The constants that start as others do, and are one number or not the same over and over.

    Of quantised ones onnxruntime refuses some that two operators read.
    """
    found: dict[object, dict[Value, Tensor]] = {}
    for node in graph.nodes:
        value = node.outputs[0]
        tensor = tensor_of(value)
        if tensor is not None and is_floating(value.type.dtype) and tensor.size:
            start = tensor.array.reshape(-1)[:_START].tobytes()
            found.setdefault((tensor.type, start), {})[value] = tensor
    several = [held for held in found.values() if len(held) > 1]
    return {v for held in several for v, tensor in held.items() if _is_shared(tensor.array)}


def _is_shared(array: Array) -> bool:
    """Whether an array is one number and no zero point, or is not one number over and over."""
    single = array.size == 1 and array.dtype != _ZERO_POINT
    return single or bool(np.any(array != array.flat[0]))


def _is_frozen(node: Node) -> bool:
    """Whether a constant is of a parameter that is not to be trained."""
    return node.source is not None and node.source.frozen
