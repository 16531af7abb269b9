"""Types, tensors and attributes between redir and the protobufs of onnx."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    SparseTensorProto,
    TensorProto,
    TypeProto,
    external_data_helper,
    helper,
    numpy_helper,
)

from redir.errors import BadInput
from redir.ir import Attr, Graph
from redir.ir.tensor import (
    NO_DTYPE,
    UNKNOWN,
    ContainerType,
    Dim,
    DType,
    SparseTensor,
    Tensor,
    TensorType,
    Type,
    bits,
)

_LARGEST = 2**31  # the size of an axis of a sparse tensor

_CONTAINERS = {
    "sequence_type": "Sequence",
    "optional_type": "Optional",
    "map_type": "Map",
    "sparse_tensor_type": "Sparse",
}


def dtype_from(code: int) -> DType:
    """The element type of an onnx code; NO_DTYPE for the undefined one."""
    if code == TensorProto.UNDEFINED:
        return NO_DTYPE
    try:
        return helper.tensor_dtype_to_np_dtype(code)
    except KeyError:
        raise BadInput(f"there is no element type {code}") from None


def dtype_code(dtype: DType) -> int:
    """The onnx code of an element type."""
    return TensorProto.UNDEFINED if dtype == NO_DTYPE else helper.np_dtype_to_tensor_dtype(dtype)


def is_packed(dtype: DType) -> bool:
    """Whether a file keeps several elements in a byte."""
    return bits(dtype) < 8  # noqa: PLR2004


def type_from(proto: TypeProto) -> Type:
    """The type that a protobuf states."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type":
        return _tensor_type(proto.tensor_type)
    if kind not in _CONTAINERS:
        return UNKNOWN
    inner = getattr(proto, kind)
    if kind == "sparse_tensor_type":
        items: tuple[Type, ...] = (_tensor_type(inner),)
    elif kind == "map_type":
        key = TensorType(dtype_from(inner.key_type), ())
        items = (key, type_from(inner.value_type))
    else:
        items = (type_from(inner.elem_type),)
    return ContainerType(_CONTAINERS[kind], items)


def _tensor_type(proto: TypeProto.Tensor | TypeProto.SparseTensor) -> TensorType:
    shape = tuple(map(_dim_from, proto.shape.dim)) if proto.HasField("shape") else None
    return TensorType(dtype_from(proto.elem_type), shape)


def _dim_from(proto: onnx.TensorShapeProto.Dimension) -> Dim:
    which = proto.WhichOneof("value")
    if which == "dim_param":
        return proto.dim_param or None
    return proto.dim_value if which == "dim_value" and proto.dim_value >= 0 else None


def type_to(type_: Type) -> TypeProto:
    """The protobuf that states a type."""
    if isinstance(type_, TensorType):
        return helper.make_tensor_type_proto(dtype_code(type_.dtype), type_.shape)
    match type_.kind:
        case "Sequence":
            return helper.make_sequence_type_proto(type_to(type_.items[0]))
        case "Optional":
            return helper.make_optional_type_proto(type_to(type_.items[0]))
        case "Map":
            key = dtype_code(type_.items[0].dtype)
            return helper.make_map_type_proto(key, type_to(type_.items[1]))
    (dense,) = type_.items
    return helper.make_sparse_tensor_type_proto(dtype_code(dense.dtype), dense.shape)


def tensor_from(proto: TensorProto) -> Tensor:
    """The constant that a protobuf holds inside itself.

    Raises:
        BadInput: its numbers lie elsewhere, or are not as many as its shape says.
    """
    if external_data_helper.uses_external_data(proto):
        raise BadInput(f"tensor {proto.name!r} lies in another file, where redir reads none")
    if any(d < 0 for d in proto.dims):
        raise BadInput(f"tensor {proto.name!r} is damaged: its shape is {list(proto.dims)}")
    try:
        return Tensor.take(numpy_helper.to_array(proto))
    except (ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise BadInput(f"tensor {proto.name!r} is damaged: {error}") from None


def tensor_to(tensor: Tensor, name: str = "") -> TensorProto:
    """The protobuf that holds a constant inside itself."""
    array = tensor.array
    if array.dtype == np.dtype(object):
        return helper.make_tensor(name, TensorProto.STRING, array.shape, array.ravel().tolist())
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def sparse_from(proto: SparseTensorProto) -> SparseTensor:
    """The sparse constant that a protobuf holds.

    Raises:
        BadInput: its places do not lie in its shape.
    """
    values, places = tensor_from(proto.values), tensor_from(proto.indices)
    shape, index = tuple(proto.dims), places.array
    fits = (
        values.array.ndim == 1
        and index.dtype == np.int64
        and index.shape in {values.array.shape, (*values.array.shape, len(shape))}
        and all(0 <= d < _LARGEST for d in shape)
    )
    ends = np.array([prod(shape)], object) if index.ndim == 1 else np.array(shape, object)
    if not fits or not bool(np.all((index >= 0) & (index < ends))):
        raise BadInput(f"the sparse tensor {proto.values.name!r} is damaged: its places do not fit")
    return SparseTensor(values, places, shape)


def sparse_to(sparse: SparseTensor, name: str = "") -> SparseTensorProto:
    """The protobuf that holds a sparse constant."""
    values, indices = tensor_to(sparse.values, name), tensor_to(sparse.indices)
    return helper.make_sparse_tensor(values, indices, sparse.shape)


class EmptyList(tuple[Attr, ...]):
    """An empty list that remembers its type, which a custom operator's schema cannot tell."""

    __slots__ = ()
    kind: int = AttributeProto.INTS

    def __reduce__(self) -> tuple[type[EmptyList], tuple[()]]:
        """Pickle as the type alone."""
        return type(self), ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Floats(EmptyList):
    """No floats."""

    __slots__ = ()
    kind = AttributeProto.FLOATS


class Strings(EmptyList):
    """No strings."""

    __slots__ = ()
    kind = AttributeProto.STRINGS


class Tensors(EmptyList):
    """No tensors."""

    __slots__ = ()
    kind = AttributeProto.TENSORS


class Graphs(EmptyList):
    """No graphs."""

    __slots__ = ()
    kind = AttributeProto.GRAPHS


EMPTY: dict[str, EmptyList] = {  # by their names in the text
    "Floats": Floats(),
    "Graphs": Graphs(),
    "Strings": Strings(),
    "Tensors": Tensors(),
}
_EMPTY = {held.kind: held for held in EMPTY.values()}


def attr_from(proto: AttributeProto, body: Callable[[onnx.GraphProto], Graph]) -> Attr:
    """The value of an attribute; ``body`` reads the graphs among them."""
    convert: dict[int, Callable[[object], Attr]] = {
        AttributeProto.STRING: _text,
        AttributeProto.TENSOR: tensor_from,  # type: ignore[dict-item]
        AttributeProto.SPARSE_TENSOR: sparse_from,  # type: ignore[dict-item]
        AttributeProto.GRAPH: body,  # type: ignore[dict-item]
        AttributeProto.TYPE_PROTO: type_from,  # type: ignore[dict-item]
        AttributeProto.STRINGS: lambda many: tuple(map(_text, many)),  # type: ignore[call-overload]
        AttributeProto.TENSORS: lambda many: tuple(map(tensor_from, many)),  # type: ignore[call-overload]
        AttributeProto.GRAPHS: lambda many: tuple(map(body, many)),  # type: ignore[call-overload]
        AttributeProto.INTS: tuple,  # type: ignore[dict-item]
        AttributeProto.FLOATS: tuple,  # type: ignore[dict-item]
    }
    if proto.type == AttributeProto.UNDEFINED:
        raise BadInput(f"attribute {proto.name!r} has no type")
    value = helper.get_attribute_value(proto)
    if proto.type in _EMPTY and not value:
        return _EMPTY[proto.type]
    return convert[proto.type](value) if proto.type in convert else value


def _text(raw: object) -> str | bytes:
    assert isinstance(raw, bytes)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def attr_to(
    name: str, attr: Attr, body: Callable[[Graph], onnx.GraphProto], kind: int = AttributeProto.INTS
) -> AttributeProto:
    """The attribute that holds ``attr``; ``kind`` is its type where an empty list hides it."""
    match attr:
        case Tensor():
            return helper.make_attribute(name, tensor_to(attr))
        case SparseTensor():
            return helper.make_attribute(name, sparse_to(attr))
        case Graph():
            return helper.make_attribute(name, body(attr))
        case TensorType() | ContainerType():
            return helper.make_attribute(name, type_to(attr))
        case ():
            listed = kind if kind in {AttributeProto.INTS, *_EMPTY} else AttributeProto.INTS
            return helper.make_attribute(name, [], attr_type=getattr(attr, "kind", listed))
        case (Tensor(), *_):
            return helper.make_attribute(name, [tensor_to(t) for t in attr])  # type: ignore[arg-type]
        case (Graph(), *_):
            return helper.make_attribute(name, [body(g) for g in attr])  # type: ignore[arg-type]
        case bool():
            return helper.make_attribute(name, int(attr))
    return helper.make_attribute(name, attr)


Called = tuple[str, str, str]
"""The domain, the name and the overload of an operator or function."""


def domain(name: str) -> str:
    """A domain by its shortest name."""
    return "" if name == "ai.onnx" else name


def called(nodes: Iterable[onnx.NodeProto]) -> Iterator[Called]:
    """What nodes call, and those of their bodies."""
    return map(called_by, walk(nodes))


def called_by(node: onnx.NodeProto) -> Called:
    """What a node calls."""
    return domain(node.domain), node.op_type, node.overload


def walk(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their bodies."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from walk(graph.node)
