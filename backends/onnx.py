"""Writing ONNX: the operator set, the names and the notes that the model came with."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

from redir import ops
from redir.errors import BadInput, Unsupported
from redir.files import replacing
from redir.ir import Graph, Node, Op, Value
from redir.ops import control, protos, schema
from redir.tensor import NO_DTYPE, SparseTensor, Tensor, TensorType, Type

LARGEST = 2**31 - 2**24  # bytes of constants that a file without external data may hold
_ALIGNED = 4096  # external tensors start at multiples of this, so that they can be mapped
_EXTERNAL = 1024  # bytes; smaller tensors stay in the model file
_INITIALIZERS = 4  # the IR version from which an initializer need not be an input
_FROM_TORCH = b"torch:"  # what the shell of a graph starts with that came from PyTorch
_TORCH_DOMAINS = ("aten", "torch.")  # of PyTorch's operators that are carried as they are


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to ``path``, and to ``path``.data what was external or is too large.

    Tensors are written one after the other: the model is never in memory as one string.

    Raises:
        BadInput: the folder does not exist, or a file would replace one that the graph reads.
        Unsupported: the model's operator set has no form of an operator.
    """
    path = Path(path)
    model, tensors = _model(graph)
    if _is_external(tensors.values()):
        data = beside(path)
        _refuse_to_replace(data, tensors.values())
        with replacing(data, path) as (data_file, file):
            protos_ = list(_write_external(tensors, data.name, data_file))
            _write(model, protos_, file)
    else:
        with replacing(path) as (file,):
            _write(model, [_Stored(name, t) for name, t in tensors.items()], file)


def beside(path: Path) -> Path:
    """Where the external data of a model at ``path`` goes."""
    return path.with_name(path.name + ".data")


def to_proto(graph: Graph) -> onnx.ModelProto:
    """The whole model in memory, its constants inside.

    Raises:
        Unsupported: the model's operator set has no form of an operator.
    """
    model, tensors = _model(graph)
    model.graph.initializer.extend(protos.tensor_to(t, name) for name, t in tensors.items())
    return model


def _model(graph: Graph) -> tuple[onnx.ModelProto, dict[str, Tensor]]:
    """The model without its initializers, and those."""
    opset = graph.opset or {"": ops.OPSET}
    own = graph.shell and not graph.shell.startswith(_FROM_TORCH)
    model = onnx.ModelProto.FromString(graph.shell) if own else _new(opset)
    given = {name for n in graph.walk() if n.source for name in n.source.outputs}
    given.update(name for n in graph.walk() for body in n.bodies for name in body.inputs)
    writer = _Writer(opset, model.ir_version < _INITIALIZERS, given)
    model.graph.CopyFrom(writer.graph(graph, model.graph))
    return model, writer.tensors


def _new(opset: Mapping[str, int]) -> onnx.ModelProto:
    """A model for a graph that came from no file."""
    model = onnx.ModelProto(producer_name="redir")
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in opset.items())
    oldest = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    model.ir_version = max(oldest, _INITIALIZERS)
    return model


@dataclass(eq=False)
class _Writer:
    """The names used so far, shared by a graph and its bodies, and the initializers.

    ``given`` are the names that values came with: a value without one gets another.
    """

    opset: Mapping[str, int]
    old_form: bool
    given: set[str]
    used: set[str] = field(default_factory=set)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def graph(
        self,
        graph: Graph,
        shell: onnx.GraphProto,
        env: dict[Value, str] | None = None,
    ) -> onnx.GraphProto:
        """The protobuf of ``graph``; ``env`` names what a body captures."""
        proto = onnx.GraphProto(name=graph.name or "main", doc_string=shell.doc_string)
        proto.metadata_props.extend(shell.metadata_props)
        names = dict(env or {})
        body = env is not None
        self._interface(graph, proto, shell, names)
        taken = {value: name for name, value in reversed(list(graph.outputs.items()))}
        taken = {v: n for v, n in taken.items() if v.node is not None and not _is_const(v)}
        for node in graph.nodes:
            if node.op == ops.Const and not (body or self.old_form):
                self._initializer(node, names, proto)
            elif node.op != ops.Absent:
                proto.node.append(self._node(node, names, taken))
                proto.value_info.extend(self._infos(node, names, graph))
        for name, value in graph.outputs.items():
            if taken.get(value, names[value]) != name:
                proto.node.append(helper.make_node("Identity", [names[value]], [name]))
        _distinguish(proto)
        present = {*names.values(), *graph.outputs}
        notes = (q for q in shell.quantization_annotation if q.tensor_name in present)
        proto.quantization_annotation.extend(notes)
        return proto

    def _interface(
        self,
        graph: Graph,
        proto: onnx.GraphProto,
        shell: onnx.GraphProto,
        names: dict[Value, str],
    ) -> None:
        self.used |= {*graph.inputs, *graph.outputs}
        infos, around = {i.name: i for i in shell.input}, set(names.values())
        for name, value in graph.inputs.items():
            if value not in names:
                names[value] = self._free(name) if name in around else name
                info = onnx.ValueInfoProto()
                info.CopyFrom(infos.get(name) or _info(name, value.type))
                info.name = names[value]
                proto.input.append(info)
        infos = {o.name: o for o in shell.output}
        for name, value in graph.outputs.items():
            proto.output.append(infos.get(name) or _info(name, _completed(value)))
        self.tensors.update(graph.defaults)

    def _initializer(self, node: Node, names: dict[Value, str], proto: onnx.GraphProto) -> None:
        name = self._name(node, 0)
        names[node.outputs[0]] = name
        held = node.attrs["value"]
        if isinstance(held, SparseTensor):
            proto.sparse_initializer.append(protos.sparse_to(held, name))
        else:
            assert isinstance(held, Tensor)
            self.tensors[name] = held

    def _node(self, node: Node, names: dict[Value, str], taken: dict[Value, str]) -> onnx.NodeProto:
        source = node.source
        for i, value in enumerate(node.outputs):
            absent = source is not None and len(source.outputs) > i and not source.outputs[i]
            free = node.arity > 1 and absent and value not in taken
            names[value] = taken.get(value) or ("" if free else self._name(node, i))
        captured = control.captures(node)
        own = node.inputs[: len(node.inputs) - len(captured)]
        target = self._target(node)
        proto = helper.make_node(
            "Constant" if node.op == ops.Const else node.op.name,
            ["" if ops.is_absent(v) else names[v] for v in own],
            [names[v] for v in node.outputs],
            name=source.name if source else None,
            doc_string=source.doc if source else None,
            domain="" if node.op == ops.Const else node.op.domain,
            overload=source.overload if source else None,
        )
        for key, text in source.metadata if source else ():
            proto.metadata_props.add(key=key, value=text)
        proto.attribute.extend(self._attrs(node, names, target))
        return proto

    def _attrs(
        self, node: Node, names: dict[Value, str], target: Op | None
    ) -> Iterator[onnx.AttributeProto]:
        known = None if target is None else _schema(target)
        attrs: dict[str, Any] = {**node.op.implied(node), **node.attrs}
        if isinstance(attrs.get("value"), SparseTensor) and node.op == ops.Const:
            attrs["sparse_value"] = attrs.pop("value")
        captured = control.captures(node)
        if captured:
            del attrs["captures"]
        operands = node.inputs[len(node.inputs) - len(captured) :]
        env = dict(zip(captured, operands, strict=True))

        def body(graph: Graph) -> onnx.GraphProto:
            shell = onnx.GraphProto.FromString(graph.shell)
            outer = {graph.inputs[n]: names[v] for n, v in env.items() if n in graph.inputs}
            return self.graph(graph, shell, outer)

        for name, attr in sorted(attrs.items()):
            yield protos.attr_to(name, attr, body, schema.attr_kind(known, name))

    def _target(self, node: Node) -> Op | None:
        """The form that the model's operator set has of a node's operator, if it is standard."""
        if node.op == ops.Const:
            return None
        if node.op.domain == _TORCH_DOMAINS[0] or node.op.domain.startswith(_TORCH_DOMAINS[1]):
            raise Unsupported(f"{node}: no ONNX operator does what this one of PyTorch does")
        version = self.opset.get(node.op.domain)
        op = None if version is None else ops.lookup(node.op.name, version, node.op.domain)
        if op is None or op.version == node.op.version:
            if op is None and node.op.domain == "":
                raise Unsupported(f"{node}: operator set {version} has no such operator")
            return op
        allowed = _schema(op)
        odd = sorted({*node.attrs} - {*allowed.attributes, "captures"})
        if odd or not allowed.min_input <= len(node.inputs) <= allowed.max_input:
            what = f"attribute {odd[0]!r}" if odd else f"{len(node.inputs)} operands"
            raise Unsupported(f"{node}: in operator set {version} it has no {what}")
        return op

    def _name(self, node: Node, index: int) -> str:
        """The name that an output had, if it is still free, or one like it."""
        names = node.source.outputs if node.source else ()
        stem = names[index] if index < len(names) else ""
        return self._free(stem, node.op.name.lower())

    def _free(self, wish: str, stem: str = "") -> str:
        """``wish`` if it is free, else a name made from it, or from ``stem`` if there is none."""
        return _free(wish, stem, self.used, self.given)

    @staticmethod
    def _infos(node: Node, names: dict[Value, str], graph: Graph) -> Iterator[onnx.ValueInfoProto]:
        declared = node.source.declared if node.source else ()
        for value, stated in zip(node.outputs, declared, strict=False):
            if stated is not None and names[value] and names[value] not in graph.outputs:
                yield _info(names[value], _known(value.type, stated))


def _distinguish(graph: onnx.GraphProto) -> None:
    """Number the nodes that have the name of one before them: runtimes refuse two of one name."""
    given, used = {node.name for node in graph.node}, set[str]()
    for node in graph.node:
        if node.name:
            node.name = _free(node.name, "", used, given)


def _free(wish: str, stem: str, used: set[str], given: Container[str]) -> str:
    """``wish`` or a name made from it, or from ``stem``, that is not ``used``, and is from now on.

    A name that is made is none of those ``given``.
    """
    name, count = wish or f"{stem}_0", 0
    while name in used or (name != wish and name in given):
        count += 1
        name = f"{wish or stem}_{count}"
    used.add(name)
    return name


def _is_const(value: Value) -> bool:
    return value.node is not None and value.node.op == ops.Const


def _schema(op: Op) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op.name, op.version, op.domain)


def _info(name: str, type_: Type) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, protos.type_to(type_))


def _completed(value: Value) -> Type:
    """The type of an output, completed by what its source states."""
    source = value.node.source if value.node is not None else None
    stated = source.declared[value.index : value.index + 1] if source else ()
    return _known(value.type, stated[0]) if stated and stated[0] else value.type


def _known(found: Type, stated: Type) -> Type:
    """What inference found, completed by what the file states where the two agree."""
    both = isinstance(found, TensorType) and isinstance(stated, TensorType)
    if not both or found.dtype == NO_DTYPE:
        return stated
    if found.shape is None or stated.shape is None or len(found.shape) != len(stated.shape):
        return stated if found.shape is None else found
    dims = (
        s if f is None or (isinstance(f, str) and isinstance(s, str)) else f
        for f, s in zip(found.shape, stated.shape, strict=True)
    )
    return TensorType(found.dtype, tuple(dims))


# Files


@dataclass(frozen=True)
class _Stored:
    """An initializer as it stands in the file: some bytes, then the array's own."""

    name: str
    tensor: Tensor

    @property
    def plain(self) -> bool:
        dtype = self.tensor.array.dtype
        return dtype != np.dtype(object) and not protos.is_packed(dtype)

    @property
    def head(self) -> bytes:
        if not self.plain:
            whole = protos.tensor_to(self.tensor, self.name)
            return bytes(whole.SerializeToString(deterministic=True))
        array = self.tensor.array
        proto = TensorProto(
            dims=array.shape, data_type=protos.dtype_code(array.dtype), name=self.name
        )
        return bytes(proto.SerializeToString()) + _length(_RAW_DATA, array.nbytes)

    @property
    def size(self) -> int:
        return len(self.head) + (self.tensor.array.nbytes if self.plain else 0)

    def write(self, file: BinaryIO) -> None:
        file.write(self.head)
        if self.plain:
            file.write(np.ascontiguousarray(self.tensor.array).tobytes())


def _is_external(tensors: Iterable[Tensor]) -> bool:
    held = list(tensors)
    return sum(t.nbytes for t in held) > LARGEST or any(t.file for t in held)


def _refuse_to_replace(data: Path, tensors: Iterable[Tensor]) -> None:
    if data.exists() and any(t.file and data.samefile(t.file) for t in tensors):
        raise BadInput(
            f"writing would replace {data}, which the model still reads: choose another name"
        )


def _write_external(
    tensors: dict[str, Tensor], name: str, file: BinaryIO
) -> Iterator[TensorProto | _Stored]:
    for tensor_name, tensor in tensors.items():
        array = tensor.array
        stored = _Stored(tensor_name, tensor)
        if array.nbytes < _EXTERNAL or not stored.plain:
            yield stored
            continue
        file.write(b"\0" * (-file.tell() % _ALIGNED))
        proto = TensorProto(
            dims=array.shape, data_type=protos.dtype_code(array.dtype), name=tensor_name
        )
        proto.data_location = TensorProto.EXTERNAL
        for key, what in (("location", name), ("offset", file.tell()), ("length", array.nbytes)):
            proto.external_data.add(key=key, value=str(what))
        file.write(np.ascontiguousarray(array).tobytes())
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


def _write(
    model: onnx.ModelProto, tensors: Iterable[TensorProto | _Stored], file: BinaryIO
) -> None:
    """The model, its graph with the initializers behind everything else."""
    graph = model.graph.SerializeToString(deterministic=True)
    parts = list(tensors)
    sizes = [p.size if isinstance(p, _Stored) else p.ByteSize() for p in parts]
    heads = [_length(_INITIALIZER, size) for size in sizes]
    model.ClearField("graph")
    file.write(model.SerializeToString(deterministic=True))
    file.write(_length(_GRAPH, len(graph) + sum(sizes) + sum(map(len, heads))))
    file.write(graph)
    for head, part in zip(heads, parts, strict=True):
        file.write(head)
        if isinstance(part, _Stored):
            part.write(file)
        else:
            file.write(part.SerializeToString(deterministic=True))
