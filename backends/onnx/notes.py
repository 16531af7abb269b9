"""What an ONNX file says beside its graph, put back into the file that is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, TypeVar

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from redir.errors import BadInput
from redir.ir import Graph, Node, Source, Value
from redir.ir.tensor import Type
from redir.ops import protos

_Proto = TypeVar("_Proto", onnx.GraphProto, onnx.ModelProto)


def info_of(name: str, type_: Type) -> onnx.ValueInfoProto:
    """The value info of a name and a type."""
    return helper.make_value_info(name, protos.type_to(type_))


def shell_of(node: Node) -> onnx.GraphProto:
    """What the frontend kept of a node's file for us."""
    return read(onnx.GraphProto(), node.source.shell if node.source else b"")


def read(proto: _Proto, held: bytes) -> _Proto:
    """What a frontend kept, read into ``proto``.

    Raises:
        BadInput: a text holds it, and it is damaged.
    """
    try:
        proto.ParseFromString(held)
    except DecodeError:
        raise BadInput("a note in the text, shell=..., is damaged") from None
    return proto


def add_metadata(proto: Any, source: Source) -> None:
    """Give a node or a tensor the metadata of its source."""
    for key, text in source.metadata:
        proto.metadata_props.add(key=key, value=text)


def add_own(model: onnx.ModelProto, graph: Graph) -> None:
    """Give a model what passes left for whoever uses it."""
    for key, text in graph.metadata.items():
        model.metadata_props.add(key=key, value=text)


def forget(message: Any) -> None:
    """Drop documentation and metadata from a protobuf and all that is in it."""
    held = message.DESCRIPTOR.fields_by_name
    for name in ("doc_string", "metadata_props"):
        if name in held:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                forget(inner)


def tensor_notes(proto: TensorProto) -> TensorProto:
    """A tensor without its numbers and its name."""
    return TensorProto(doc_string=proto.doc_string or None, metadata_props=proto.metadata_props)


def restore(node: onnx.NodeProto, kept: onnx.NodeProto) -> None:
    """Put back what the shell of a node holds; an attribute there has a note only."""
    docs = {a.name: a.doc_string for a in kept.attribute}
    del kept.attribute[:]
    node.MergeFrom(kept)
    for attr in node.attribute:
        if attr.name in docs:
            attr.doc_string = docs[attr.name]


def noted_infos(node: Node, names: Mapping[Value, str]) -> Iterator[onnx.ValueInfoProto]:
    """The value infos with notes of a node's results, under the names that these have now."""
    kept = {info.name: info for info in shell_of(node).value_info}
    came = node.source.outputs if node.source else ()
    for value, name in zip(node.outputs, came, strict=False):
        if name in kept and names[value]:
            info = info_of(names[value], value.type)
            annotate(info, kept[name])
            yield info


def annotate(info: onnx.ValueInfoProto, kept: onnx.ValueInfoProto) -> None:
    """Give a value info the notes of another, its type staying its own."""
    notes = onnx.ValueInfoProto(doc_string=kept.doc_string or None)
    notes.metadata_props.extend(kept.metadata_props)
    info.MergeFrom(notes)
    if kept.type.denotation:
        info.type.denotation = kept.type.denotation
    dims, old = (i.type.tensor_type.shape.dim for i in (info, kept))
    for dim, before in zip(dims, old, strict=False):
        if before.denotation:
            dim.denotation = before.denotation


def fits(parameter: TensorProto, value: Value) -> bool:
    """Whether a quantization parameter is one number, or has one for each channel of an axis."""
    size, shape = prod(parameter.dims), value.type.shape
    return size == 1 or shape is None or size in shape or None in shape
