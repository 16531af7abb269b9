"""What an ONNX file says beside its graph: kept for the backend, which no pass reads."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import onnx

_HELD = frozenset(
    "name op_type domain overload input output attribute doc_string metadata_props".split()
)


def stripped(message: Any, held: Container[str]) -> Any:
    """A protobuf without the fields that the graph ``held``."""
    shell = type(message)()
    for descriptor, value in message.ListFields():
        if descriptor.name in held:
            continue
        if descriptor.is_repeated:
            getattr(shell, descriptor.name).extend(value)
        elif descriptor.message_type is not None:
            getattr(shell, descriptor.name).CopyFrom(value)
        else:
            setattr(shell, descriptor.name, value)
    return shell


def metadata(proto: Any) -> tuple[tuple[str, str], ...]:
    """The metadata of a node or a tensor, in order."""
    return tuple((p.key, p.value) for p in proto.metadata_props)


def says_more(info: onnx.ValueInfoProto) -> bool:
    """Whether a value info holds a note, or says what a type or a dimension denotes."""
    dims = info.type.tensor_type.shape.dim
    denoted = info.type.denotation or any(d.denotation for d in dims)
    return bool(info.doc_string or info.metadata_props or denoted)


def node_shell(node: onnx.NodeProto | None, infos: Iterable[onnx.ValueInfoProto]) -> bytes:
    """What a ``Source`` has no field for: of a node, if it is one, and of its results.

    It is a graph of one node, without what is held elsewhere, whose attributes hold notes alone.
    """
    shell = onnx.GraphProto(value_info=infos)
    rest = onnx.NodeProto() if node is None else stripped(node, _HELD)
    if node is not None:
        notes = [(a.name, a.doc_string) for a in node.attribute if a.doc_string]
        rest.attribute.extend(onnx.AttributeProto(name=n, doc_string=d) for n, d in notes)
        if node.op_type == "Constant":
            rest.name = node.name
    if rest.ByteSize():
        shell.node.append(rest)
    return bytes(shell.SerializeToString(deterministic=True))
