"""What torch says of a value: its element type, its shape with the symbols of open sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from redir.errors import Unsupported
from redir.frontends.torch.call import INT64
from redir.ir import Value
from redir.ir.tensor import UNKNOWN, Array, Dim, DType, TensorType, Type, dtype_named, shapes_agree
from redir.ops.torch_tensors import to_array

try:
    import torch
except ImportError:  # the extra is optional
    torch = None

_SYMBOL = re.compile(r"\b[a-z]+\d+\b")


def dtype_of(dtype: Any) -> DType:
    """The element type that torch calls ``dtype``."""
    name = str(dtype).removeprefix("torch.")
    try:
        return dtype_named(name)
    except TypeError:
        raise Unsupported(f"redir has no element type like torch's {name}") from None


def array_of(tensor: Any) -> Array:
    """The numbers of a tensor, as a view where that is possible."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise Unsupported("a parameter is sparse or quantised by torch: redir reads dense ones")
    if tensor.is_meta:
        raise Unsupported("a parameter has no numbers, for it is on torch's meta device")
    dtype_of(tensor.dtype)
    return to_array(tensor)


def is_value(node: Any) -> bool:
    """Whether a node gives tensors, and no size that is computed when it is needed."""
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor | tuple | list)


def size_of(size: Any, symbols: Mapping[str, str]) -> Dim:
    """A size as a number, or as text with the names of the ``symbols`` that were given."""
    if isinstance(size, int):
        return size
    return _SYMBOL.sub(lambda m: symbols.get(m[0], m[0]), str(size))


def type_of(val: Any, symbols: Mapping[str, str]) -> TensorType:
    """The type of a value, or of a number that is an input."""
    if not isinstance(val, torch.Tensor):
        return TensorType(INT64, ()) if isinstance(val, torch.SymInt) else UNKNOWN
    return TensorType(dtype_of(val.dtype), tuple(size_of(d, symbols) for d in val.shape))


def agree(found: Type, stated: TensorType) -> bool:
    """Whether an inferred type is what torch says, as far as it is known."""
    return found.dtype == stated.dtype and shapes_agree(found.shape, stated.shape)


def declared(value: Value, stated: TensorType) -> Value:
    """The same result of a node that notes the symbols, of which not all can be inferred.

    Numbers are left out: passes may change them.
    """
    node, shape = value.node, stated.shape
    if node is None or node.source is None or node.arity > 1 or shape is None:
        return value
    symbols = TensorType(stated.dtype, tuple(d if isinstance(d, str) else None for d in shape))
    return replace(node, source=replace(node.source, declared=(symbols,))).outputs[0]
