"""Attentions that are one node, opened into layers and heads, and closed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Op, Source, Value
from redir.ir.builtin import Absent
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.ops import is_absent, tensor_of
from redir.ops.contrib_schemas import MICROSOFT

_PARTS = ("query", "key", "value")
_BIAS, _MASK = 3, 4  # operands of a MultiHeadAttention behind queries, keys and values
_PACKED_MASK = 3  # operand of an Attention
_USUAL = 17  # an operator set, where a graph names none


def _own(name: str) -> Op:
    found = ops.lookup(name, 1, MICROSOFT)
    assert found is not None
    return found


_PACKED, _MULTI = _own("Attention"), _own("MultiHeadAttention")
_GROUPED = _own("GroupQueryAttention")


def shut(node: Node) -> str | None:
    """Why an attention that is one node cannot be opened; None if it can, or is none."""
    if node.op == _GROUPED:
        return "its heads share one size with caches"
    if node.op not in {_PACKED, _MULTI}:
        return None
    packed = node.op == _PACKED
    if node.arity > 1 or any(not is_absent(v) for v in _past(node)):
        return "it has caches"
    held = node.inputs[1:3] if packed else node.inputs[_BIAS : _BIAS + 1]
    if any(_floats(v) is None for v in held if not is_absent(v)):
        return "its weights or biases are not constants of float32"
    if packed and not _is_mask(node):
        return "its mask says where examples begin"
    return None


def _past(node: Node) -> Sequence[Value]:
    if node.op == _PACKED:
        return (*node.inputs[4:5], *node.inputs[6:7])
    return node.inputs[6:]


def _floats(value: Value) -> Array | None:
    tensor = tensor_of(value)
    return tensor.array if tensor is not None and tensor.array.dtype == np.float32 else None


def _is_mask(node: Node) -> bool:
    """Whether a MultiHeadAttention takes the mask of an Attention."""
    if not _has(node.inputs, _PACKED_MASK):
        return True
    shape = node.inputs[_PACKED_MASK].type.shape or ()
    batch = (node.inputs[0].type.shape or (None,))[0]
    return len(shape) > 1 or (shape == (batch,) and batch is not None)


def opened(graph: Graph, ignore: str = "") -> tuple[Graph, Mapping[str, Node]]:
    """The graph with a layer for each of queries, keys and values, and what it was opened of.

    Those are known by the names of what stands for them. What ``ignore`` names stays.
    """
    made, names = dict[str, Node](), Counter(node.name for node in graph.nodes)

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        mine = node.op in {_PACKED, _MULTI}
        if not mine or node.matches(ignore) or shut(node) is not None:
            return None
        if node.op == _MULTI and not _has(node.inputs, _BIAS):
            return None
        alone = node.name and names[node.name] == 1
        name = node.name if alone else f"{node.op.name}#{len(made) + 1}"
        made[name] = node
        return _layers(node, name, inputs, graph.opset.get("", _USUAL))

    return transform(graph, visit), made


def _has(inputs: Sequence[Value], place: int) -> bool:
    return len(inputs) > place and not is_absent(inputs[place])


def _layers(node: Node, name: str, inputs: tuple[Value, ...], opset: int) -> Outputs:
    """The layers, and a MultiHeadAttention of what they make."""
    if node.op == _PACKED:
        x, weights, *rest = inputs
        array, sizes = _floats(weights), _sizes(node)
        assert array is not None
        parts = np.split(array, np.cumsum(sizes)[:2], 1)
        names = (f"{name}/{word}" for word in _PARTS)
        read = [_product(x, p, n, opset) for p, n in zip(parts, names, strict=True)]
        bias, more = rest[:1], (rest[1:2] or [_none()]) + rest[3:4]
    else:
        read, bias, more = [*inputs[:3]], [inputs[_BIAS]], [*inputs[_MASK:]]
        sizes = [v.type.size(2) or 0 for v in read]
    if bias and not is_absent(bias[0]):
        held = _floats(bias[0])
        assert held is not None
        cuts = np.split(held, np.cumsum(sizes)[:2])
        add = _standard("Add", opset)
        read = [add(v, ops.constant(c)) for v, c in zip(read, cuts, strict=True)]
    attrs = {k: a for k, a in node.attrs.items() if k != "qkv_hidden_sizes"}
    source = replace(node.source or Source(), name=name)
    joined = Node(_MULTI, (*read, _none(), *more), attrs, source=source)
    return joined.outputs


def _none() -> Value:
    return Node(Absent).outputs[0]


def _sizes(node: Node) -> Sequence[int]:
    """How many channels an Attention has of queries, keys and values."""
    total = node.inputs[1].type.size(1) or 0
    sizes: Sequence[int] = node.attrs.get("qkv_hidden_sizes") or (total // 3,) * 3
    return sizes


def _product(x: Value, weights: Array, name: str, opset: int) -> Value:
    node = Node(_standard("MatMul", opset), (x, ops.constant(weights)), source=Source(name))
    return node.outputs[0]


def _standard(name: str, opset: int) -> Op:
    found = ops.lookup(name, opset)
    assert found is not None
    return found


def closed(graph: Graph, made: Mapping[str, Node]) -> Graph:
    """What became of an opened graph, with one node again where that can do what became of it."""

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        old = made.get(node.name) if node.op == _MULTI else None
        if old is None:
            return None
        now = node.on(inputs)
        found = _joined(old, now) if old.op == _PACKED else _biased(old, now)
        return (found or replace(now, source=old.source)).outputs

    return transform(graph, visit) if made else graph


def _joined(old: Node, now: Node) -> Node | None:
    """An Attention again, if three layers read one value."""
    layers = [linear(v.node) if v.node is not None else "" for v in now.inputs[:3]]
    found = [each for each in layers if isinstance(each, Linear)]
    if len(found) < len(layers) or any(each.x is not found[0].x for each in found):
        return None
    biases = [each.bias for each in found if each.bias is not None]
    if len(biases) < len(found) or any(each.place != 1 or each.alpha != 1 for each in found):
        return None
    sizes = tuple(each.outputs for each in found)
    attrs = {k: a for k, a in old.attrs.items() if k != "qkv_hidden_sizes"} | _scale(now)
    if len(set(sizes)) > 1:
        attrs["qkv_hidden_sizes"] = sizes
    weights = _like(old, 1, np.concatenate([each.weight[0, :, :, 0].T for each in found], 1))
    bias = _like(old, 2, np.concatenate(biases))
    more = [*now.inputs[_MASK:], _none(), _none()]
    inputs = (found[0].x, weights, bias, more[0], _none(), more[1])[: max(len(old.inputs), 3)]
    return Node(old.op, inputs, attrs, source=old.source)


def _biased(old: Node, now: Node) -> Node | None:
    """A MultiHeadAttention again that has its biases as an operand."""
    adds = [v.node for v in now.inputs[:3] if v.node is not None and v.node.op == ops.Add]
    pairs = [(add.inputs[0], _floats(add.inputs[1])) for add in adds]
    held = [bias for _, bias in pairs if bias is not None]
    if len(held) < len(_PARTS):
        return None
    bias = _like(old, _BIAS, np.concatenate(held))
    inputs = (*(value for value, _ in pairs), bias, *now.inputs[_MASK:])
    return Node(old.op, inputs, {**old.attrs, **_scale(now)}, source=old.source)


def _scale(now: Node) -> dict[str, float]:
    scale = now.attrs.get("scale")
    return {} if scale is None else {"scale": scale}


def _like(old: Node, place: int, array: Array) -> Value:
    """A constant in the place of an operand: that itself if it holds the same."""
    before = old.inputs[place] if _has(old.inputs, place) else None
    tensor = None if before is None else tensor_of(before)
    if before is not None and tensor is not None and np.array_equal(tensor.array, array):
        return before
    return ops.constant(array.astype(np.float32), before)
