"""How many multiply-adds the operators make that multiply; a size that is open counts as 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from redir.ir import Node, Value
from redir.ir.builtin import is_absent, tensor_of

Rule = Callable[[Node], int]


def dims(value: Value) -> tuple[int, ...]:
    """The shape with 1 for every dimension that is open."""
    return tuple(d if isinstance(d, int) else 1 for d in value.type.shape or ())


def conv(node: Node) -> int:
    """Each result meets the weights of one output."""
    weight = node.inputs[3 if node.op.name == "QLinearConv" else 1]
    return prod(dims(node.outputs[0])) * prod(dims(weight)[1:])


def conv_transpose(node: Node) -> int:
    """Each number meets the weights of its channel."""
    return prod(dims(node.inputs[0])) * prod(dims(node.inputs[1])[1:])


def gemm(node: Node) -> int:
    """Each result is a sum along an axis of the first operand."""
    depth = 0 if node.attrs.get("transA") else 1
    return prod(dims(node.outputs[0])) * dims(node.inputs[0])[depth]


def matmul(node: Node) -> int:
    """Each result is a sum along the last axis of the first operand."""
    return prod(dims(node.outputs[0])) * (dims(node.inputs[0]) or (1,))[-1]


def mul(node: Node) -> int:
    """That of a scale for each channel; a factor for all of them counts as none."""
    wide = any((t := tensor_of(v)) is not None and t.size > 1 for v in node.inputs)
    return prod(dims(node.outputs[0])) if wide else 0


def attention(node: Node) -> int:
    """Each query meets each key along its channels, and what is weighed for it each value."""
    q, k = node.inputs[:2]
    keys = dims(q if is_absent(k) else k)[-2]
    return keys * (prod(dims(q)) + prod(dims(node.outputs[0])))


def recurrent(node: Node) -> int:
    """Each step multiplies by the weights of what it reads, and of what it remembers."""
    length, batch, _ = dims(node.inputs[0])
    return length * batch * (prod(dims(node.inputs[1])) + prod(dims(node.inputs[2])))


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Conv", "ConvInteger", "DeformConv", "QLinearConv"), conv),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), matmul),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
    "Attention": attention,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "Mul": mul,
}
