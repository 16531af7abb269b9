"""Where the numbers of a model lie: in its file, where large ones stay until used, or beside it.

Protobuf's wire format is read here as far as it takes to find them: parsing a model as a whole
would have all of it in memory, twice.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import cache
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, external_data_helper

from redir.errors import BadInput
from redir.ir.mapped import HeldFile, Mapped
from redir.ir.tensor import Tensor, bits, dtype_name
from redir.ops import protos

LARGE = 2**25  # bytes of a file, from which on its numbers stay in it
_LARGE_TENSOR = 2**16  # bytes; smaller ones are read at once


def read_model(path: Path) -> onnx.ModelProto:
    """The model at ``path``; of a large one, the large tensors name the file and the place in it.

    Raises:
        DecodeError: it is damaged, or no model.
        OSError: it cannot be read.
    """
    if path.stat().st_size >= LARGE:
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                return _outlined(memoryview(m), path.name)
        except (_OddError, DecodeError):
            pass  # let onnx say what is wrong
    return onnx.load_model(path, load_external_data=False)


class _OddError(Exception):
    """The bytes are not those of a model, or not in the usual form."""


class _Field(NamedTuple):
    """A field of a message: its number, and where it, its content and its end lie."""

    number: int
    start: int
    content: int
    end: int


_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def _outlined(data: memoryview, name: str) -> onnx.ModelProto:
    model, start = onnx.ModelProto(), 0
    with data:
        for field in _fields(data, 0, len(data)):
            if field.number == _GRAPH:
                model.MergeFromString(data[start : field.start].tobytes())
                model.graph.SetInParent()
                _outline_graph(data, field, model.graph, name)
                start = field.end
        model.MergeFromString(data[start:].tobytes())
    return model


def _outline_graph(data: memoryview, whole: _Field, graph: onnx.GraphProto, name: str) -> None:
    start = whole.content
    for field in _fields(data, whole.content, whole.end):
        large = field.number == _INITIALIZER and field.end - field.content >= _LARGE_TENSOR
        outline = _outline_tensor(data, field, name) if large else None
        if outline is not None:
            graph.MergeFromString(data[start : field.start].tobytes())
            graph.initializer.append(outline)
            start = field.end
    graph.MergeFromString(data[start : whole.end].tobytes())


def _outline_tensor(data: memoryview, whole: _Field, name: str) -> TensorProto | None:
    """The tensor without its numbers, and where they lie; None where they are not plain bytes."""
    fields = list(_fields(data, whole.content, whole.end))
    raw = [field for field in fields if field.number == _RAW_DATA]
    rest = b"".join(data[f.start : f.end].tobytes() for f in fields if f.number != _RAW_DATA)
    if len(raw) != 1 or len(rest) >= _LARGE_TENSOR:
        return None
    tensor = TensorProto()
    tensor.ParseFromString(rest)
    (field,) = raw
    size = field.end - field.content
    if tensor.external_data or size != _plain_size(tensor):
        return None
    tensor.data_location = TensorProto.EXTERNAL
    for key, what in (("location", name), ("offset", field.content), ("length", size)):
        tensor.external_data.add(key=key, value=str(what))
    return tensor


def _plain_size(tensor: TensorProto) -> int | None:
    """The bytes of the numbers, if each takes whole ones."""
    dtype = protos.dtype_from(tensor.data_type)
    plain = dtype.kind not in "OV" or "float" in dtype.name
    whole = plain and not protos.is_packed(dtype) and all(d >= 0 for d in tensor.dims)
    return prod(tensor.dims) * dtype.itemsize if whole else None


def _fields(data: memoryview, start: int, end: int) -> Iterator[_Field]:
    while start < end:
        key, at = _varint(data, start, end)
        kind = key & 7
        if kind == _BYTES:
            length, content = _varint(data, at, end)
            last = content + length
        elif kind == _VARINT:
            content = at
            _, last = _varint(data, at, end)
        elif kind in (_FIXED64, _FIXED32):
            content, last = at, at + (8 if kind == _FIXED64 else 4)
        else:
            raise _OddError
        if last > end:
            raise _OddError
        yield _Field(key >> 3, start, content, last)
        start = last


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no such bit
            return number, at
    raise _OddError


class Files:
    """The files that the tensors of a model at ``path``, or of one in memory, are read from."""

    def __init__(self, folder: Path, path: Path | None = None) -> None:
        """Read what lies in ``folder``, and nowhere else."""
        self._folder = folder.resolve()
        self._model = path and path.resolve()
        self._held = cache(lambda path: HeldFile(path, beside=path != self._model))

    def tensor(self, proto: TensorProto) -> Tensor:
        """The tensor of which a protobuf says where it lies.

        Raises:
            BadInput: it is not there, or not where it may be.
        """
        stated = {entry.key: entry.value for entry in proto.external_data}
        where = f"external data {stated.get('location', '')!r} of tensor {proto.name!r}"
        try:
            info = external_data_helper.ExternalDataInfo(proto)
            offset, length = int(info.offset or 0), int(info.length or 0)
        except ValueError:
            raise BadInput(f"{where} has an offset or a length that is no number") from None
        path = (self._folder / info.location).resolve()
        if not info.location or not path.is_relative_to(self._folder):
            raise BadInput(f"{where} lies outside the model's folder")
        if not path.is_file():
            raise BadInput(f"{where} is not there")
        dtype = protos.dtype_from(proto.data_type)
        shape = tuple(proto.dims)
        size = (prod(proto.dims) * bits(dtype) + 7) // 8
        if dtype == np.dtype(object) or any(d < 0 for d in proto.dims):
            raise BadInput(f"{where} is {dtype_name(dtype)}{list(proto.dims)}, which no file holds")
        if offset < 0 or (length or size) < size or path.stat().st_size < offset + size:
            raise BadInput(f"{where} is too short: it needs {size} bytes from {offset} on")
        if protos.is_packed(dtype) or size == 0:
            raw = onnx.TensorProto(dims=proto.dims, data_type=proto.data_type)
            raw.raw_data = np.fromfile(path, np.uint8, size, offset=offset).tobytes()
            return protos.tensor_from(raw)
        return Tensor(Mapped(self._held(path), offset, dtype, shape))
