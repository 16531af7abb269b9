"""The operators that are redir's own: constants and operands that are not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redir.errors import Unsupported
from redir.ir.graph import Node, Value
from redir.ir.op import Op
from redir.ir.tensor import UNKNOWN, Array, SparseTensor, Tensor, TensorType, Type

Evaluate = Callable[..., Sequence[Any]]


def _const_type(node: Node) -> Sequence[Type]:
    held = node.attrs["value"]
    if isinstance(held, SparseTensor):
        return [TensorType(held.values.array.dtype, held.shape)]
    assert isinstance(held, Tensor)
    return [held.type]


def _const(node: Node) -> Sequence[Array]:
    held = node.attrs["value"]
    if isinstance(held, SparseTensor):
        return [held.dense()]
    assert isinstance(held, Tensor)
    return [held.array]


def _own(name: str, *_: object) -> Op:
    return Const if name == "Const" else Absent


Const = Op("Const", "redir", infer=_const_type, evaluate=_const, table=_own)
Absent = Op("Absent", "redir", infer=lambda _: [UNKNOWN], evaluate=lambda _: [None], table=_own)


def constant(array: Array, like: Value | None = None) -> Value:
    """A constant that holds a copy of ``array``, under the name of ``like``."""
    source = None if like is None or like.node is None else like.node.source
    held = Tensor.take(np.array(array, order="C"))
    return Node(Const, (), {"value": held}, source=source).outputs[0]


def tensor_of(value: Value) -> Tensor | None:
    """The constant that ``value`` is, if it is one that passes may look into."""
    node = value.node
    if node is None or node.inputs or node.op != Const:
        return None
    held = node.attrs["value"]
    return held if isinstance(held, Tensor) else None


def is_absent(value: Value) -> bool:
    """Whether ``value`` stands for an optional operand that is not given."""
    node = value.node
    return node is not None and not node.inputs and node.op == Absent


def is_operator(node: Node) -> bool:
    """Whether ``node`` computes something: neither a constant nor an operand that is not given."""
    return node.op not in (Const, Absent)


def opaque(
    name: str, domain: str, version: int, types: Sequence[Type], evaluate: Evaluate | None = None
) -> Op:
    """An operator of which nothing is known but the types that its file states.

    It is carried through unchanged, pins its axes, and is never folded, shared or duplicated.
    """
    return Op(
        name,
        domain,
        version,
        infer=_as_stated,
        evaluate=evaluate or _unknown,
        repeatable=_never,
        opaque=True,
        stated=tuple(types),
    )


def _as_stated(node: Node) -> Sequence[Type]:
    assert node.op.stated is not None
    return node.op.stated


def _never(_: Node) -> bool:
    return False


def _unknown(node: Node, *_: Any) -> Sequence[Any]:
    raise Unsupported(f"{node}: redir does not know this operator and cannot run it")
