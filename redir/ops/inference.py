"""Inferred sizes where runtimes do other than the schema says, or do not agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from redir.ir import Node, Size, Value
from redir.ir.builtin import Const, tensor_of
from redir.ir.tensor import Dim, Tensor, TensorType, Type
from redir.ops import layout, schema, sizes, symbols

_ALIGNED = 7  # the version from which operands are aligned at the right
_CLOSE = 1e-3  # to a whole number, where a float32 and a float64 product may fall on either side


def resized(node: Node) -> Sequence[Type]:
    """A Resize or Upsample by a fraction that nearly gives a whole size may give the next one.

    One that is told sizes which are not constant gives those.
    """
    x, found = node.inputs[0].type, schema.infer(node)
    scales, goal = layout.scales_of(node), sizes.goal_of(node)
    if scales is not None and x.shape is not None:
        doubtful = {axis for axis, scale in scales.items() if _is_close(x.shape[axis], scale)}
        return [_open(t, doubtful) for t in found]
    if goal is None or goal.constant is not None or x.shape is None or not layout.stretches(node):
        return found
    return [TensorType(x.dtype, tuple(goal.dims.get(a, dim) for a, dim in enumerate(x.shape)))]


def _is_close(size: Dim, scale: float) -> bool:
    if not isinstance(size, int) or float(scale).is_integer():
        return False
    product = size * scale
    if not isfinite(product):
        return False
    exact = product == round(product) and (scale * 2**20).is_integer()
    return abs(product - round(product)) < _CLOSE * max(1.0, product) and not exact


def counted(node: Node) -> Sequence[Type]:
    """A Range takes one number in a vector for that number, as runtimes do."""
    ends = tuple(map(_scalar, node.inputs))
    if any(a is not b for a, b in zip(ends, node.inputs, strict=True)):
        return [v.type for v in replace(node, inputs=ends).outputs]
    (found,), told = schema.infer(node), [sizes.of(v) for v in ends]
    first, last, step = (Size() if t is None else t.item() for t in told)
    if (first.dim, step.dim) != (0, 1) or not isinstance(last.dim, str):
        return [found]
    return [TensorType(found.dtype, (last.dim,))]


def spread(node: Node) -> Sequence[Type]:
    """What operands are broadcast to, where onnx's own inference does not know the symbols."""
    found, shapes = schema.infer(node), [v.type.shape for v in node.inputs]
    known = [shape for shape in shapes if shape is not None]
    (y,) = found
    aligned = node.op.version >= _ALIGNED and len(known) == len(shapes)
    if not aligned or y.shape is None or None not in y.shape:
        return found
    dims = zip(y.shape, symbols.broadcast(known), strict=True)
    return [TensorType(y.dtype, tuple(b if a is None else a for a, b in dims))]


def _scalar(value: Value) -> Value:
    if value.type.shape != (1,):
        return value
    tensor = tensor_of(value)
    if tensor is None:
        return Value(TensorType(value.type.dtype, ()))
    number: Value = Const(value=Tensor(tensor.array.reshape(())))
    return number


def pooled(node: Node) -> Sequence[Type]:
    """A window that starts behind the end, or a dilated one padded automatically, is doubtful."""
    found, attrs = schema.infer(node), node.attrs
    dilated = any(d != 1 for d in attrs.get("dilations", ()))
    automatic = attrs.get("auto_pad", "NOTSET") != "NOTSET"
    if not (dilated and automatic) and not (attrs.get("ceil_mode") and _sticks_out(node)):
        return found
    return [_open(t, set(range(2, len(t.shape or ())))) for t in found]


def _sticks_out(node: Node) -> bool:
    """Whether, rounding up, the last window of some axis would start behind the operand."""
    places, rank = (node.inputs[0].type.shape or ())[2:], len(node.attrs["kernel_shape"])
    strides = node.attrs.get("strides", (1,) * rank)
    pads = node.attrs.get("pads", (0,) * 2 * rank)
    dilations = node.attrs.get("dilations", (1,) * rank)
    for axis, size in enumerate(places):
        span = (node.attrs["kernel_shape"][axis] - 1) * dilations[axis] + 1
        if isinstance(size, int):
            room = size + pads[axis] + pads[axis + rank] - span
            last = -(-room // strides[axis]) * strides[axis]
            if last >= size + pads[axis]:
                return True
    return False


def transposed(node: Node) -> Sequence[Type]:
    """A ConvTranspose padded automatically, with padding of its result, is doubtful."""
    found, attrs = schema.infer(node), node.attrs
    more = any(attrs.get("output_padding", ())) or any(d != 1 for d in attrs.get("dilations", ()))
    if attrs.get("auto_pad", "NOTSET") == "NOTSET" or not more:
        return found
    return [_open(t, set(range(2, len(t.shape or ())))) for t in found]


def _open(type_: Type, axes: set[int]) -> Type:
    """``type_`` with the sizes of ``axes`` unknown."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_
    return TensorType(
        type_.dtype, tuple(None if a in axes else d for a, d in enumerate(type_.shape))
    )
