"""Printing a graph as Python that ``redir.text.parse`` reads back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from redir.ir.tensor import ContainerType, SparseTensor, Tensor, TensorType, is_plain

if TYPE_CHECKING:
    from redir.ir.graph import Graph, Node, Value
    from redir.ir.op import Op

_MEANT = frozenset({"inf", "nan", "Unknown"})  # names that stand for something else in the text
_OWN = frozenset("Absent Const Floats Graphs Op Opaque SparseTensor Strings Tensor Tensors".split())
_TABLED = ("ai.onnx", "com.microsoft")  # what domains start with whose operators may be known


def show(graph: Graph, tensor: Callable[[Tensor], str] = repr, *, notes: bool = False) -> str:
    """The text of ``graph``; ``tensor`` prints the tensors.

    With ``notes`` the lines behind the function say where nodes came from, and what else their
    file said, which no pass reads.
    """
    printer = _Printer(graph, tensor)
    lines = [*printer.function(graph, "main"), *(printer.notes if notes else ())]
    return "\n".join(lines) + "\n"


class _Printer:
    def __init__(self, graph: Graph, tensor: Callable[[Tensor], str]) -> None:
        self.tensor = tensor
        self.opset: Mapping[str, int] = graph.opset
        self.taken = set(_MEANT)
        self.notes: list[str] = []

    def function(self, graph: Graph, name: str) -> Iterator[str]:
        names = {v: _fresh(n, self.taken) for n, v in graph.inputs.items()}
        yield f"@graph({', '.join(self._header(graph, names))})"
        params = ", ".join(f"{names[v]}: {v.type}" for v in graph.inputs.values())
        yield f"def {name}({params}):"
        for node in graph.nodes:
            yield from (f"    {line}" for line in self._statement(node, names))
        results = ", ".join(f"{n!r}: {names[v]}" for n, v in graph.outputs.items())
        yield f"    return {{{results}}}"
        if graph.shell:
            self.notes.append(f"shell({name}, {graph.shell!r})")

    def _header(self, graph: Graph, names: Mapping[Value, str]) -> Iterator[str]:
        yield f"{graph.name!r}"
        if graph.opset:
            yield f"opset={dict(graph.opset)!r}"
        odd = {names[v]: name for name, v in graph.inputs.items() if names[v] != name}
        if odd:
            yield f"inputs={odd!r}"
        if graph.defaults:
            pairs = ", ".join(f"{name!r}: {self.tensor(t)}" for name, t in graph.defaults.items())
            yield f"defaults={{{pairs}}}"
        if graph.metadata:
            yield f"metadata={dict(graph.metadata)!r}"

    def _statement(self, node: Node, names: dict[Value, str]) -> Iterator[str]:
        given, odd = [names[v] for v in node.inputs], list[str]()
        for key, held in sorted(node.attrs.items()):
            parts = held if isinstance(held, tuple) else (held,)
            bodies = {id(g): _fresh(key, self.taken) for g in parts if hasattr(g, "nodes")}
            for part in parts:
                if id(part) in bodies:
                    yield from self.function(part, bodies[id(part)])
            text = self._literal(held, bodies)
            plain = is_plain(key)
            (given if plain else odd).append(f"{key}={text}" if plain else f"{key!r}: {text}")
        given += [f"**{{{', '.join(odd)}}}"] if odd else []
        called = node.source.outputs if node.source else ()
        for value, name in zip(node.outputs, [*called, *[""] * node.arity], strict=False):
            names[value] = _fresh(name, self.taken)
        targets = [names[v] for v in node.outputs]
        call = f"{_called(node.op, self.opset)}({', '.join(given)})"
        if len(targets) == 1:
            yield f"{targets[0]}: {node.outputs[0].type} = {call}"
        else:
            yield from (f"{names[v]}: {v.type}" for v in node.outputs)
            yield f"{', '.join(targets)} = {call}"
        self.notes.extend(self._source(node, targets))

    def _source(self, node: Node, targets: list[str]) -> Iterator[str]:
        if node.source is None:
            return
        said = {f.name: getattr(node.source, f.name) for f in fields(node.source)}
        if said["outputs"] in {(), given_names(targets)}:
            del said["outputs"]
        defaults = {f.name: f.default for f in fields(node.source) if f.default is not MISSING}
        odd = [f"{k}={self._literal(v)}" for k, v in said.items() if v != defaults[k]]
        if odd:
            yield f"source({', '.join([targets[0], *odd])})"

    def _literal(self, held: Any, bodies: Mapping[int, str] | None = None) -> str:
        """The text of an attribute; ``bodies`` are the names of the graphs in it."""
        match held:
            case Tensor():
                return self.tensor(held)
            case SparseTensor():
                values, indices = self.tensor(held.values), self.tensor(held.indices)
                return f"SparseTensor(values={values}, indices={indices}, shape={held.shape!r})"
            case TensorType() | ContainerType():
                return str(held)
            case np.generic():
                return repr(held.item())
            case (first, *rest):
                items = ", ".join(self._literal(h, bodies) for h in (first, *rest))
                return f"({items})" if rest else f"({items},)"
        return bodies[id(held)] if bodies and id(held) in bodies else repr(held)


def _called(op: Op, opset: Mapping[str, int]) -> str:
    """How a call names an operator: plainly, if the plain name is read as this operator."""
    if op.domain == "redir":
        return op.name
    if op.stated is not None and (not op.domain or op.domain.startswith(_TABLED)):
        return f"Opaque({op.domain!r}, {op.name!r}, {op.version})"
    plain = f"{op.domain}.{op.name}" if op.domain else op.name
    read = all(map(is_plain, plain.split("."))) and plain not in _OWN
    if read and split(plain, opset) == (op.domain, op.name) and op.version <= _given(op, opset):
        return plain
    return f"Op({op.domain!r}, {op.name!r}, {op.version})"


def _given(op: Op, opset: Mapping[str, int]) -> float:
    """The version in which the text is read: of the newest operators if it states none."""
    return opset.get(op.domain, 1) if opset else np.inf


def split(name: str, opset: Collection[str]) -> tuple[str, str]:
    """The domain and the name of an operator in the dotted ``name``."""
    known = max((d for d in opset if d and name.startswith(f"{d}.")), key=len, default=None)
    domain = name.rpartition(".")[0] if known is None else known
    return domain, name[len(domain) + 1 :] if domain else name


def _fresh(wish: str, taken: set[str]) -> str:
    """The name wished for, if it is plain and not taken; else the next number."""
    free = is_plain(wish) and wish not in taken and not is_numbered(wish)
    name = wish if free else _next(taken)
    taken.add(name)
    return name


def _next(taken: set[str]) -> str:
    count = len(taken) - len(_MEANT)
    while f"v{count}" in taken:
        count += 1
    return f"v{count}"


def is_numbered(name: str) -> bool:
    """Whether a name is one that the printer gives: v and a number."""
    return name[:1] == "v" and name[1:].isdigit()


def given_names(targets: list[str]) -> tuple[str, ...]:
    """The names of results without those that the printer gave."""
    return tuple("" if is_numbered(name) else name for name in targets)
