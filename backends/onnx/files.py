"""The bytes of an ONNX file: tensors are written one by one, inside it or beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto

from redir.errors import BadInput
from redir.ir.tensor import Tensor, raw
from redir.ops import protos

LARGEST = 2**31 - 2**24  # bytes of constants that a file without external data may hold
_ALIGNED = 4096  # external tensors start at multiples of this, so that they can be mapped
_EXTERNAL = 1024  # bytes; smaller tensors stay in the model file


@dataclass(frozen=True)
class Stored:
    """An initializer as it stands in the file: some bytes, then the array's own.

    ``notes`` has what the file says of it, its documentation and its metadata.
    """

    name: str
    tensor: Tensor
    notes: TensorProto = field(default_factory=TensorProto)

    @property
    def plain(self) -> bool:
        """Whether the file holds the array's own bytes."""
        dtype = self.tensor.type.dtype
        return dtype != np.dtype(object) and not protos.is_packed(dtype)

    @property
    def head(self) -> bytes:
        """What stands before the array's own bytes, or all of it where there are none."""
        if not self.plain:
            return bytes(self.whole().SerializeToString(deterministic=True))
        return bytes(self.outline().SerializeToString()) + _length(
            _RAW_DATA, self.tensor.array.nbytes
        )

    def whole(self) -> TensorProto:
        """The protobuf with the numbers in it."""
        proto = protos.tensor_to(self.tensor, self.name)
        proto.MergeFrom(self.notes)
        return proto

    def outline(self) -> TensorProto:
        """The protobuf without the numbers."""
        array = self.tensor.array
        proto = TensorProto(
            dims=array.shape, data_type=protos.dtype_code(array.dtype), name=self.name
        )
        proto.MergeFrom(self.notes)
        return proto

    @property
    def size(self) -> int:
        """The bytes that it takes in the file."""
        return len(self.head) + (self.tensor.array.nbytes if self.plain else 0)

    def write(self, file: BinaryIO) -> None:
        """Append it to ``file``."""
        file.write(self.head)
        if self.plain:
            file.write(raw(self.tensor.array))


def is_external(tensors: Iterable[Stored]) -> bool:
    """Whether the tensors have to lie beside the file: they did, or are too many for one."""
    held = [stored.tensor for stored in tensors]
    return sum(t.nbytes for t in held) > LARGEST or any(t.file for t in held)


def refuse_to_replace(data: Path, tensors: Iterable[Stored]) -> None:
    """Refuse to write ``data`` where one of the tensors is still read from it.

    Raises:
        BadInput: one is.
    """
    if data.exists() and any(t.tensor.file and data.samefile(t.tensor.file) for t in tensors):
        raise BadInput(
            f"writing would replace {data}, which the model still reads: choose another name"
        )


def write_external(
    tensors: Iterable[Stored], name: str, file: BinaryIO
) -> Iterator[TensorProto | Stored]:
    """Write the large tensors to ``file``, called ``name``: what the model file says of each."""
    for stored in tensors:
        array = stored.tensor.array
        if array.nbytes < _EXTERNAL or not stored.plain:
            yield stored
            continue
        file.write(b"\0" * (-file.tell() % _ALIGNED))
        proto = stored.outline()
        proto.data_location = TensorProto.EXTERNAL
        for key, what in (("location", name), ("offset", file.tell()), ("length", array.nbytes)):
            proto.external_data.add(key=key, value=str(what))
        file.write(raw(array))
        yield proto


_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


def _length(field_number: int, size: int) -> bytes:
    """The start of a field of ``size`` bytes in protobuf's wire format: its key, its length."""
    key, out = field_number << 3 | 2, bytearray()
    for number in (key, size):
        rest = number
        while rest > 0x7F:  # noqa: PLR2004
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def write(model: onnx.ModelProto, tensors: Iterable[TensorProto | Stored], file: BinaryIO) -> None:
    """The model, its graph with the initializers behind everything else."""
    graph = model.graph.SerializeToString(deterministic=True)
    parts = list(tensors)
    sizes = [p.size if isinstance(p, Stored) else p.ByteSize() for p in parts]
    heads = [_length(_INITIALIZER, size) for size in sizes]
    model.ClearField("graph")
    file.write(model.SerializeToString(deterministic=True))
    file.write(_length(_GRAPH, len(graph) + sum(sizes) + sum(map(len, heads))))
    file.write(graph)
    for head, part in zip(heads, parts, strict=True):
        file.write(head)
        if isinstance(part, Stored):
            part.write(file)
        else:
            file.write(part.SerializeToString(deterministic=True))
