"""Writing ONNX: the operator set, the names and the notes that the model came with."""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from redir import ops
from redir.atomic import replacing
from redir.backends.onnx.files import (
    Stored,
    is_external,
    refuse_to_replace,
    write,
    write_external,
)
from redir.backends.onnx.notes import (
    add_metadata,
    add_own,
    annotate,
    fits,
    forget,
    info_of,
    noted_infos,
    read,
    restore,
    shell_of,
    tensor_notes,
)
from redir.errors import Unsupported
from redir.ir import Graph, Node, Op, Source, Value
from redir.ir.tensor import NO_DTYPE, SparseTensor, Tensor, TensorType, Type
from redir.ops import control, protos, schema
from redir.ops.contrib_schemas import schema_of

_INITIALIZERS = 4  # the IR version from which an initializer need not be an input
_FROM_TORCH = b"torch:"  # what the shell of a graph starts with that came from PyTorch
_TORCH_DOMAINS = ("aten", "torch.")  # of PyTorch's operators that are carried as they are


def save(
    graph: Graph, path: str | os.PathLike[str], *, external: bool = False, notes: bool = True
) -> None:
    """Write ``graph`` to ``path``, and to ``path``.data what was external or is too large.

    ``external`` puts all large tensors there. Without ``notes`` documentation and metadata are left
    out, but for the graph's own. Tensors are written one after the other: the model is never in
    memory as one string.

    Raises:
        BadInput: the folder does not exist, or a file would replace one that the graph reads.
        Unsupported: the model's operator set has no form of an operator.
    """
    path = Path(path)
    model, tensors = _model(graph)
    if not notes:
        forget(model)
        add_own(model, graph)
        tensors = [replace(stored, notes=TensorProto()) for stored in tensors]
    if not external and not is_external(tensors):
        with replacing(path) as (file,):
            write(model, tensors, file)
        return
    data = beside(path)
    refuse_to_replace(data, tensors)
    with replacing(data, path) as (data_file, file):
        write(model, list(write_external(tensors, data.name, data_file)), file)


def beside(path: Path) -> Path:
    """Where the external data of a model at ``path`` goes."""
    return path.with_name(path.name + ".data")


def to_proto(graph: Graph) -> onnx.ModelProto:
    """The whole model in memory, its constants inside.

    Raises:
        Unsupported: the model's operator set has no form of an operator.
    """
    model, tensors = _model(graph)
    model.graph.initializer.extend(stored.whole() for stored in tensors)
    return model


def _model(graph: Graph) -> tuple[onnx.ModelProto, list[Stored]]:
    """The model without its initializers, and those."""
    opset = graph.opset or {"": ops.OPSET}
    own = graph.shell and not graph.shell.startswith(_FROM_TORCH)
    model = read(onnx.ModelProto(), graph.shell) if own else _new(opset)
    given = {name for n in graph.walk() if n.source for name in n.source.outputs}
    given.update(name for n in graph.walk() for body in n.bodies for name in body.inputs)
    given.update(t.name for t in model.graph.initializer)
    writer = _Writer(opset, model.ir_version < _INITIALIZERS, given)
    model.graph.CopyFrom(writer.graph(graph, model.graph))
    _drop_functions(model)
    add_own(model, graph)
    return model, list(writer.tensors.values())


def _drop_functions(model: onnx.ModelProto) -> None:
    """Drop the local functions that nothing calls."""
    functions = {(protos.domain(f.domain), f.name, f.overload): f for f in model.functions}
    called, new = set[protos.Called](), set(protos.called(model.graph.node)) & functions.keys()
    while new:
        called |= new
        found = {name for call in new for name in protos.called(functions[call].node)}
        new = (found & functions.keys()) - called
    left = [f for name, f in functions.items() if name in called]
    if len(left) < len(model.functions):
        del model.functions[:]
        model.functions.extend(left)


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
    tensors: dict[str, Stored] = field(default_factory=dict)

    def graph(
        self,
        graph: Graph,
        shell: onnx.GraphProto,
        env: dict[Value, str] | None = None,
        around: Collection[str] = (),
    ) -> onnx.GraphProto:
        """The protobuf of ``graph``; ``env`` names what a body captures, ``around`` all there."""
        if any(name in around for name in graph.outputs):
            free = {n: self._free(n) if n in around else n for n in graph.outputs}
            graph = replace(graph, outputs={free[n]: v for n, v in graph.outputs.items()})
        proto = onnx.GraphProto(name=graph.name or "main", doc_string=shell.doc_string)
        proto.metadata_props.extend(shell.metadata_props)
        names = dict(env or {})
        body = env is not None
        self._interface(graph, proto, shell, names)
        taken = {value: name for name, value in reversed(list(graph.outputs.items()))}
        taken = {v: n for v, n in taken.items() if v.node is not None and not _is_const(v)}
        for node in graph.nodes:
            if node.op == ops.Const and not body:
                self._initializer(node, names, proto)
            elif node.op != ops.Absent:
                proto.node.append(self._node(node, names, taken))
                proto.value_info.extend(self._infos(node, names, graph))
        for name, value in graph.outputs.items():
            if taken.get(value, names[value]) != name:
                proto.node.append(helper.make_node("Identity", [names[value]], [name]))
        _distinguish(proto)
        self._annotations(graph, proto, shell, names)
        return proto

    def _annotations(
        self,
        graph: Graph,
        proto: onnx.GraphProto,
        shell: onnx.GraphProto,
        names: Mapping[Value, str],
    ) -> None:
        """The annotations of tensors that are left, and the tensors that only these name."""
        kept = {t.name: t for t in shell.initializer}
        present = {name: value for value, name in names.items()} | dict(graph.outputs)
        for note in shell.quantization_annotation:
            named = [e.value for e in note.quant_parameter_tensor_names if e.value in kept]
            value = present.get(note.tensor_name)
            if value is None or not all(fits(kept[name], value) for name in named):
                continue
            proto.quantization_annotation.append(note)
            for name in named:
                if name not in present and not self.old_form:
                    held = Stored(name, protos.tensor_from(kept[name]), tensor_notes(kept[name]))
                    self.tensors.setdefault(name, held)

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
                info.CopyFrom(infos.get(name) or info_of(name, value.type))
                info.name = names[value]
                proto.input.append(info)
        infos = {o.name: o for o in shell.output}
        listed = [o.name for o in shell.output]  # in which one may come twice
        as_listed = list(dict.fromkeys(listed)) == list(graph.outputs)
        for name in listed if as_listed else graph.outputs:
            info = infos.get(name) or info_of(name, _completed(graph.outputs[name]))
            proto.output.append(info)
        notes = {t.name: tensor_notes(t) for t in shell.initializer}
        for name, tensor in graph.defaults.items():
            self.tensors[name] = Stored(name, tensor, notes.get(name, TensorProto()))

    def _initializer(self, node: Node, names: dict[Value, str], proto: onnx.GraphProto) -> None:
        name = self._name(node, 0)
        names[node.outputs[0]] = name
        if self.old_form:
            proto.input.append(info_of(name, node.outputs[0].type))
        held, source = node.attrs["value"], node.source or Source()
        notes = TensorProto(doc_string=source.doc or None)
        add_metadata(notes, source)
        proto.value_info.extend(noted_infos(node, names))
        if isinstance(held, SparseTensor):
            proto.sparse_initializer.append(protos.sparse_to(held, name))
            proto.sparse_initializer[-1].values.MergeFrom(notes)
        else:
            assert isinstance(held, Tensor)
            self.tensors[name] = Stored(name, held, notes)

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
            name=(source and source.name) or None,
            doc_string=(source and source.doc) or None,
            domain=None if node.op == ops.Const else node.op.domain or None,
            overload=(source and node.op.opaque and source.overload) or None,
        )
        if source is not None:
            add_metadata(proto, source)
        proto.attribute.extend(self._attrs(node, names, target))
        for kept in shell_of(node).node:
            restore(proto, kept)
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
            shell = read(onnx.GraphProto(), graph.shell)
            around = {name for value, name in names.items() if value.node is not node}
            outer = {graph.inputs[n]: names[v] for n, v in env.items() if n in graph.inputs}
            return self.graph(graph, shell, outer, around)

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
            if op is None and node.op.standard:
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
        noted = {info.name: info for info in noted_infos(node, names)}
        for value, stated in zip(node.outputs, declared, strict=False):
            name = names[value]
            if stated is not None and name and name not in graph.outputs:
                info = info_of(name, _known(value.type, stated))
                if name in noted:
                    annotate(info, noted[name])
                yield info


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
    return schema_of(op.name, op.version, op.domain)


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
        return TensorType(found.dtype, stated.shape) if found.shape is None else found
    dims = (
        s if f is None or (isinstance(f, str) and isinstance(s, str)) else f
        for f, s in zip(found.shape, stated.shape, strict=True)
    )
    return TensorType(found.dtype, tuple(dims))
