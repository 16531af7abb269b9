"""Reading ONNX: each model keeps its operator set, its names and what redir does not understand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto, external_data_helper

from redir import ops
from redir.errors import BadInput, IllTyped
from redir.frontends.onnx.functions import Calls
from redir.frontends.onnx.notes import metadata, node_shell, says_more, stripped
from redir.frontends.onnx.order import ordered, spoken
from redir.frontends.onnx.stored import Files, read_model
from redir.ir import Attr, Graph, Node, Op, Source, Value
from redir.ir.tensor import UNKNOWN, Tensor, TensorType, Type
from redir.ops import protos

Overridable = Literal["input", "constant"]
_NEWEST = 2**31  # above every version of an operator set
_OWN = "redir."  # what metadata starts with that passes left
_OVERRIDABLE = 4  # the IR from which an initializer need not be an input, and runtimes override it


def load(path: str | os.PathLike[str], *, overridable_initializers: Overridable = "input") -> Graph:
    """Read an ``.onnx`` file. Tensors beside it, and large ones of a large file, stay there.

    ``overridable_initializers`` says what an initializer is that is an input too: an input with
    a default, or a constant, which then is no input any more. It is one in a file of an IR below 4,
    where each must be an input, and runtimes override none.

    Raises:
        BadInput: the file is not a model, or its external data cannot be had.
    """
    path = Path(path)
    try:
        model = read_model(path)
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(f"{path}: not an ONNX model, or a damaged one: {reason}") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    try:
        return _read(model, Files(path.parent, path), overridable_initializers)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: a name in it is not UTF-8") from None


def is_proto(model: object) -> TypeGuard[onnx.ModelProto]:
    """Whether a model is one of onnx in memory."""
    return isinstance(model, onnx.ModelProto)


def from_proto(
    model: onnx.ModelProto,
    folder: str | os.PathLike[str] = ".",
    *,
    overridable_initializers: Overridable = "input",
) -> Graph:
    """The graph of a model in memory; ``folder`` is where its external data lies.

    Raises:
        BadInput: the model is incomplete or refers to what is not there.
    """
    return _read(model, Files(Path(folder)), overridable_initializers)


def _read(model: onnx.ModelProto, files: Files, overridable_initializers: Overridable) -> Graph:
    if not model.HasField("graph") or not (model.graph.output or model.graph.node):
        raise BadInput("the file holds no model: it has no graph")
    if not model.opset_import:
        raise BadInput("the model does not say which operator set it uses (opset_import)")
    if any(not 0 < o.version < _NEWEST for o in model.opset_import):
        raise BadInput("the model states a version of an operator set that cannot be")
    file = _File(model, files)
    constant = overridable_initializers == "constant" or model.ir_version < _OVERRIDABLE
    graph = _Scope(file, model.graph, constant=constant).graph()
    shell = stripped(model, {"graph"})
    shell.graph.ParseFromString(graph.shell)
    said = {p.key: p.value for p in shell.metadata_props if p.key.startswith(_OWN)}
    others = [p for p in shell.metadata_props if p.key not in said]
    del shell.metadata_props[:]
    shell.metadata_props.extend(others)
    held = shell.SerializeToString(deterministic=True)
    return replace(graph, opset=file.opset, shell=held, metadata=said)


@dataclass(frozen=True, eq=False)
class _File:
    """What holds for every graph of a model."""

    model: onnx.ModelProto
    files: Files

    @cached_property
    def opset(self) -> dict[str, int]:
        return {protos.domain(o.domain): o.version for o in self.model.opset_import}

    @cached_property
    def calls(self) -> Calls:
        return Calls(self.model, lambda model: _read(model, self.files, "input"))

    def tensor(self, proto: TensorProto) -> Tensor:
        try:
            if external_data_helper.uses_external_data(proto):
                return self.files.tensor(proto)
            return protos.tensor_from(proto)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise BadInput(f"tensor {proto.name!r} is damaged: {error}") from None


@dataclass(eq=False)
class _Scope:
    """One graph being read: the names it can see, and those it took from around it."""

    file: _File
    proto: onnx.GraphProto
    parent: _Scope | None = None
    constant: bool = True
    env: dict[str, Value] = field(default_factory=dict)
    captured: dict[str, Value] = field(default_factory=dict)

    @cached_property
    def declared(self) -> dict[str, Type]:
        infos = [*self.proto.value_info, *self.proto.output]
        return {i.name: protos.type_from(i.type) for i in infos if i.HasField("type")}

    def graph(self) -> Graph:
        if not all(i.name for i in (*self.proto.input, *self.proto.output)):
            raise BadInput(f"an input or output of graph {self.proto.name!r} has no name")
        given = {i.name: i for i in self.proto.input}
        if len(given) < len(self.proto.input):
            twice = next(n for n, k in Counter(i.name for i in self.proto.input).items() if k > 1)
            raise BadInput(f"two inputs are called {twice!r}")
        self._initializers(given)
        defaults = (
            {}
            if self.constant
            else {t.name: self.file.tensor(t) for t in self.proto.initializer if t.name in given}
        )
        inputs = {
            name: Value(_trusted(protos.type_from(info.type)))
            for name, info in given.items()
            if name in defaults or name not in self.env
        }
        self.env.update(inputs)
        for node in ordered(self.proto.node, set(self.env)):
            self._node(node)
        outputs = self._outputs()  # which may capture more
        return Graph(
            {**inputs, **self.captured},
            outputs,
            self.proto.name,
            defaults=defaults,
            shell=self._shell(defaults).SerializeToString(deterministic=True),
        )

    def _outputs(self) -> dict[str, Value]:
        """The outputs by name. Those of a body are told apart by place: one may come twice."""
        outputs: dict[str, Value] = {}
        for place, output in enumerate(self.proto.output):
            again = self.parent is not None and output.name in outputs
            name = f"{output.name}:{place}" if again else output.name
            outputs[name] = self.lookup(output.name, "the graph's outputs")
        return outputs

    def _shell(self, defaults: Mapping[str, Tensor]) -> onnx.GraphProto:
        """What the graph does not hold: notes, and tensors that only an annotation names."""
        held = {"node", "initializer", "sparse_initializer", "value_info"}
        shell: onnx.GraphProto = stripped(self.proto, held)
        annotations = self.proto.quantization_annotation
        named = {e.value for q in annotations for e in q.quant_parameter_tensor_names}
        for proto in self.proto.initializer:
            if proto.name in named:
                shell.initializer.append(protos.tensor_to(self.file.tensor(proto), proto.name))
            elif proto.name in defaults:
                shell.initializer.add(name=proto.name)
            else:
                continue
            shell.initializer[-1].doc_string = proto.doc_string
            shell.initializer[-1].metadata_props.extend(proto.metadata_props)
        return shell

    def _initializers(self, given: Mapping[str, onnx.ValueInfoProto]) -> None:
        for proto in self.proto.initializer:
            if self.constant or proto.name not in given:
                self.env[proto.name] = self._const(self.file.tensor(proto), proto)
        for sparse in self.proto.sparse_initializer:
            self.env[sparse.values.name] = self._const(protos.sparse_from(sparse), sparse.values)

    def _const(self, held: Attr, proto: TensorProto) -> Value:
        """The constant of an initializer."""
        source = Source(
            outputs=(proto.name,),
            doc=proto.doc_string,
            metadata=metadata(proto),
            shell=node_shell(None, self._infos([proto.name])),
        )
        return Node(ops.Const, (), {"value": held}, source=source).outputs[0]

    def lookup(self, name: str, reader: str) -> Value:
        """The value called ``name``; one from around is captured first."""
        if not name:
            return _ABSENT
        if name in self.env:
            return self.env[name]
        if self.parent is None:
            raise BadInput(f"{reader} reads {name!r}, which nothing defines")
        outer = self.parent.lookup(name, reader)
        self.env[name] = self.captured[name] = Value(outer.type)
        return self.env[name]

    def _node(self, proto: onnx.NodeProto) -> None:
        reader = spoken(proto)
        names = (proto.op_type, proto.name, *proto.input, *proto.output)
        if any(isinstance(name, bytes) for name in names):
            raise BadInput(f"a name of {reader} is not UTF-8")
        if proto.op_type == "Constant" and not protos.domain(proto.domain):
            self.env[proto.output[0]] = self._constant(proto)
            return
        inputs = [self.lookup(name, reader) for name in proto.input]
        attrs, captured = self._attributes(proto)
        inputs += [self.lookup(name, reader) for name in captured]
        node = self._typed(proto, inputs, attrs)
        self.env.update(
            {name: v for name, v in zip(proto.output, node.outputs, strict=True) if name}
        )

    def _attributes(self, proto: onnx.NodeProto) -> tuple[dict[str, Attr], Iterable[str]]:
        captured: dict[str, None] = {}

        def body(graph: onnx.GraphProto) -> Graph:
            scope = _Scope(self.file, graph, self)
            read = scope.graph()
            captured.update(dict.fromkeys(scope.captured))
            return read

        try:
            attrs = {a.name: protos.attr_from(a, body) for a in proto.attribute}
        except ValueError as error:
            raise BadInput(f"an attribute of {proto.op_type} {proto.name!r}: {error}") from None
        if captured:
            attrs["captures"] = tuple(sorted(captured))
        return attrs, sorted(captured)

    def _typed(self, proto: onnx.NodeProto, inputs: list[Value], attrs: dict[str, Attr]) -> Node:
        """The node by its schema, or with the types that the file states where that fails."""
        declared = tuple(self.declared.get(name) for name in proto.output)
        source = Source(
            proto.name,
            tuple(proto.output),
            proto.overload,
            proto.doc_string,
            metadata(proto),
            declared,
            shell=node_shell(proto, self._infos(proto.output)),
        )
        op = self._op(proto, declared)
        try:
            node = Node(op, tuple(inputs), attrs, arity=len(proto.output), source=source)
            group = attrs.get("group", 1)
            agrees = node.op.implied(node).get("group", group) == group
            return node if agrees else replace(node, attrs={**node.attrs, "group": group})
        except IllTyped:
            types = [_loose(t) for t in declared]
            op = ops.opaque(op.name, op.domain, op.version, types, op.evaluate)
            return Node(op, tuple(inputs), attrs, arity=len(proto.output), source=source)

    def _op(self, proto: onnx.NodeProto, declared: Sequence[Type | None]) -> Op:
        domain = protos.domain(proto.domain)
        if domain == ops.Const.domain:
            raise BadInput(f"{spoken(proto)} is of the domain {domain!r}, which is redir's own")
        version = self.file.opset.get(domain, 1)
        function = (domain, proto.op_type, proto.overload) in self.file.calls.functions
        op = None if function else ops.lookup(proto.op_type, version, domain)
        if op is not None:
            return op
        types = [_loose(t) for t in declared]
        if function:
            called = self.file.calls
            op = ops.opaque(proto.op_type, domain, version, types, called.run)
            return replace(op, body=called.body)
        return ops.opaque(proto.op_type, domain, version, types)

    def _constant(self, proto: onnx.NodeProto) -> Value:
        attr = proto.attribute[0] if len(proto.attribute) == len(proto.output) == 1 else None
        if attr is None or attr.type not in {_HELD.get(attr.name), AttributeProto.UNDEFINED}:
            raise BadInput(f"Constant {proto.name or list(proto.output)!r} does not hold one value")
        held: Any
        if attr.name == "value":
            held = self.file.tensor(attr.t)
        else:
            held = protos.attr_from(attr, lambda _: Graph({}, {}))
        if attr.name.startswith(("value_float", "value_int")):
            held = Tensor(np.array(held, np.float32 if "float" in attr.name else np.int64))
        elif attr.name.startswith("value_string"):
            held = Tensor(np.array(held, object))
        source = Source(
            outputs=(proto.output[0],),
            doc=proto.doc_string or attr.t.doc_string,
            metadata=metadata(proto) or metadata(attr.t),
            shell=node_shell(proto, self._infos(proto.output)),
        )
        return Node(ops.Const, (), {"value": held}, source=source).outputs[0]

    def _infos(self, names: Iterable[str]) -> Iterator[onnx.ValueInfoProto]:
        """The value infos with notes of the values of these names."""
        return (self._noted[name] for name in names if name in self._noted)

    @cached_property
    def _noted(self) -> dict[str, onnx.ValueInfoProto]:
        """The value infos that say more than a type."""
        return {i.name: i for i in self.proto.value_info if says_more(i)}


_ABSENT = ops.Absent()
_HELD = {  # what a Constant holds, by the name of its attribute
    "value": AttributeProto.TENSOR,
    "sparse_value": AttributeProto.SPARSE_TENSOR,
    "value_float": AttributeProto.FLOAT,
    "value_floats": AttributeProto.FLOATS,
    "value_int": AttributeProto.INT,
    "value_ints": AttributeProto.INTS,
    "value_string": AttributeProto.STRING,
    "value_strings": AttributeProto.STRINGS,
}


def _loose(type_: Type | None) -> Type:
    """What a file states of a result that cannot be inferred: all but its sizes, often stale."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_ or UNKNOWN
    return TensorType(type_.dtype, (None,) * len(type_.shape))


def _trusted(type_: Type) -> Type:
    """Drop the symbols that one shape uses twice, such as ``?``: they name no one number."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_
    once = {d for d in type_.shape if type_.shape.count(d) == 1 and d != "?"}
    return TensorType(
        type_.dtype, tuple(d if isinstance(d, int) or d in once else None for d in type_.shape)
    )
