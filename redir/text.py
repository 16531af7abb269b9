"""Reading the textual form: it is a subset of Python, so ``ast`` is the parser.

Such as::

    @graph('main', opset={'': 17})
    def main(x: float32[batch, 3]):
        w: float32[3, 2] = Const(value=Tensor(float32[3, 2], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        y: float32[batch, 2] = MatMul(x, w)
        return {'y': y}

    source(y, name='last', doc='what the file said of the node')
"""

from __future__ import annotations

import ast
import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from redir import ops
from redir.errors import BadInput, IllTyped
from redir.ir import Attr, Graph, Node, Op, Source, Value
from redir.ir.printer import given_names, split
from redir.ir.tensor import (
    UNKNOWN,
    Array,
    ContainerType,
    SparseTensor,
    Tensor,
    TensorType,
    Type,
    dtype_named,
)
from redir.ops import protos

__all__ = ["parse"]

Find = Callable[[str, TensorType], Array]


def parse(text: str, find: Find | None = None) -> Graph:
    """The graph that ``str`` printed; each type written is checked, not trusted.

    ``find`` gives the array for the digest of a tensor that is printed by its digest.

    Raises:
        BadInput: the text is not in the textual form, or a tensor cannot be found.
        IllTyped: a node does not fit its operands, or a type written is not the one inferred.
    """
    try:
        return _parsed(text, find or _nowhere)
    except (RecursionError, MemoryError):  # as Python's own parser has it
        raise BadInput("the text is nested too deeply") from None


def _parsed(text: str, find: Find) -> Graph:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        reason = error.msg.replace("unexpected ", "misplaced ")  # which sounds like a fault of ours
        raise BadInput(f"line {error.lineno}: {reason}") from None
    except ValueError:
        raise BadInput("a text holds no NUL") from None
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef):
        raise BadInput("a graph is one function definition, and lines of notes behind it")
    reader = _Reader(find)
    for note in tree.body[1:]:
        try:
            reader.note(note)
        except (ValueError, TypeError, KeyError, AssertionError) as error:
            raise BadInput(f"line {note.lineno}: {error}") from None
    return reader.graph(tree.body[0], {})


def _nowhere(digest: str, _: TensorType) -> Array:
    raise BadInput(f"tensor {digest[:12]} is not in the text: it needs the file beside it")


class _Reader:
    def __init__(self, find: Find) -> None:
        self.find = find
        self.opset: Mapping[str, int] = {}
        self.sources: dict[str, dict[str, Any]] = {}
        self.shells: dict[str, bytes] = {}

    def note(self, line: ast.stmt) -> None:
        """Remember what a line behind the graph says of a node, or of a graph."""
        match line:
            case ast.Expr(ast.Call(ast.Name("shell"), [ast.Name(name), ast.Constant(bytes(held))])):
                self.shells[name] = held
            case ast.Expr(ast.Call(ast.Name("source"), [ast.Name(name)], keywords)):
                said = {str(k.arg): self._attr(k.value, {}) for k in keywords}
                odd = [key for key, held in said.items() if not _is_said(key, held)]
                if odd:
                    raise BadInput(f"line {line.lineno}: {odd[0]!r} says nothing of a source")
                self.sources[name] = said
            case _:
                raise BadInput(f"line {line.lineno}: expected source(...) or shell(...)")

    def graph(self, function: ast.FunctionDef, outer: Mapping[str, int]) -> Graph:
        try:
            return self._function(function, outer)
        except (ValueError, TypeError, KeyError, AssertionError) as error:
            raise BadInput(f"line {function.lineno}: {error}") from None

    def _function(self, function: ast.FunctionDef, outer: Mapping[str, int]) -> Graph:
        name, header = self._header(function)
        stated = header.pop("opset", {})
        if not isinstance(stated, dict):
            raise BadInput(f"line {function.lineno}: opset is no dict of versions")
        self.opset = stated or outer or {"": ops.OPSET}
        odd = header.pop("inputs", {})
        given = {a.arg: Value(_type(a.annotation)) for a in function.args.args}
        env, types, bodies = dict(given), dict[str, Type](), dict[str, Graph]()
        for line in function.body:
            try:
                outputs = self._line(line, env, types, bodies)
            except IllTyped as error:
                raise IllTyped(f"line {line.lineno}: {error}") from None
            except (ValueError, TypeError, KeyError, AssertionError) as error:
                raise BadInput(f"line {line.lineno}: {str(error) or 'it does not fit'}") from None
            if outputs == {}:
                raise BadInput(f"line {line.lineno}: a graph has at least one output")
            if outputs is not None and header.keys() - {"defaults", "metadata"}:
                raise BadInput(f"line {function.lineno}: nothing is known of {sorted(header)}")
            if outputs is not None:
                inputs = {odd.get(n, n): v for n, v in given.items()}
                if not _are_texts(header.get("metadata", {})):
                    raise BadInput(f"line {function.lineno}: metadata is no dict of texts")
                shell = self.shells.get(function.name, b"")
                return Graph(inputs, outputs, name, stated, shell=shell, **header)
        raise BadInput(f"{function.name} returns nothing")

    def _header(self, function: ast.FunctionDef) -> tuple[str, dict[str, Any]]:
        match function.decorator_list:
            case [ast.Call(ast.Name("graph"), [ast.Constant(str(name))], keywords)]:
                return name, {str(k.arg): self._attr(k.value, {}) for k in keywords}
            case []:
                return function.name, {}
        raise BadInput(f"line {function.lineno}: expected @graph(name, ...)")

    def _line(
        self,
        line: ast.stmt,
        env: dict[str, Value],
        types: dict[str, Type],
        bodies: dict[str, Graph],
    ) -> dict[str, Value] | None:
        match line:
            case ast.FunctionDef():
                opset = self.opset
                bodies[line.name] = self.graph(line, opset)
                self.opset = opset
            case ast.AnnAssign(ast.Name(name), note, None):
                types[name] = _type(note)
            case ast.AnnAssign(ast.Name(name), note, ast.Call() as call):
                self._assign([name], {name: _type(note)}, call, env, bodies)
            case ast.Assign([ast.Tuple(targets)], ast.Call() as call):
                self._assign([_name(t) for t in targets], types, call, env, bodies)
            case ast.Return(ast.Dict(keys, results)):
                names = [ast.literal_eval(k) for k in keys if k is not None]
                return {n: _defined(env, r) for n, r in zip(names, results, strict=True)}
            case _:
                raise BadInput(f"line {line.lineno}: not a statement of the textual form")
        return None

    def _assign(
        self,
        names: list[str],
        types: Mapping[str, Type],
        call: ast.Call,
        env: dict[str, Value],
        bodies: Mapping[str, Graph],
    ) -> None:
        stated = [types.get(n, UNKNOWN) for n in names]
        attrs: dict[str, Any] = {}
        for word in call.keywords:
            held = self._attr(word.value, bodies)
            attrs.update(held if word.arg is None else {word.arg: held})
        said = {"outputs": given_names(names), **self.sources.get(names[0], {})}
        source = Source(**said) if any(said["outputs"]) or len(said) > 1 else None
        node = Node(
            self._op(call, stated),
            tuple(_defined(env, a) for a in call.args),
            attrs,
            arity=len(names),
            source=source,
        )
        for name, value, type_ in zip(names, node.outputs, stated, strict=True):
            if type_ not in (value.type, UNKNOWN):
                raise IllTyped(f"{name} is {value.type}, not {type_}")
            env[name] = value

    def _op(self, call: ast.Call, types: list[Type]) -> Op:
        match call.func:
            case ast.Name("Const"):
                return ops.Const
            case ast.Name("Absent"):
                return ops.Absent
            case ast.Call(ast.Name("Op" | "Opaque" as how), parts):
                domain, last, version = map(ast.literal_eval, parts)
                if not _are((domain, last, version), str, str, int):
                    raise BadInput(f"line {call.lineno}: expected {how}(domain, name, version)")
            case _:
                how = "Op"
                domain, last = split(ast.unparse(call.func), self.opset)
                version = self.opset.get(domain, 1)
        op = ops.lookup(last, version, domain) if how == "Op" else None
        if how == "Opaque":
            return ops.opaque(last, domain, version, types)
        if op is None and not domain:
            raise BadInput(f"line {call.lineno}: operator set {version} has no operator {last!r}")
        return op or ops.opaque(last, domain, version, types)

    def _attr(self, tree: ast.expr, bodies: Mapping[str, Graph]) -> Any:
        match tree:
            case ast.Call(ast.Name("Tensor"), [note, data]):
                return self._tensor(_type(note), ast.literal_eval(data))
            case ast.Call(ast.Name("SparseTensor"), keywords=keywords):
                parts = {str(k.arg): self._attr(k.value, bodies) for k in keywords}
                if parts.keys() != {f.name for f in fields(SparseTensor)}:
                    raise BadInput(
                        f"line {tree.lineno}: expected SparseTensor(values, indices, shape)"
                    )
                return SparseTensor(**parts)
            case ast.Call(ast.Name(kind), []) if kind in protos.EMPTY:
                return protos.EMPTY[kind]
            case ast.Name(name) if name in bodies:
                return bodies[name]
            case ast.Name("Unknown") | ast.Subscript():
                return _type(tree)
            case ast.Tuple(parts):
                return tuple(self._attr(part, bodies) for part in parts)
            case ast.Dict(keys, values):
                pairs = zip(keys, values, strict=True)
                return {ast.literal_eval(k): self._attr(v, bodies) for k, v in pairs if k}
        return _literal(tree)

    def _tensor(self, type_: Type, data: Any) -> Tensor:
        shape = type_.static if isinstance(type_, TensorType) else None
        if shape is None or not isinstance(type_, TensorType):
            raise BadInput(f"{type_} is not the type of a tensor")
        if type_.dtype == np.dtype(object):
            return Tensor(_strings(data, shape))
        if isinstance(data, str):
            return Tensor(self.find(data, type_))
        if isinstance(data, bytes):
            raw = np.frombuffer(base64.b85decode(data), type_.dtype)
            return Tensor(raw.reshape(shape))
        return Tensor(np.array(data, type_.dtype).reshape(shape))


def _strings(data: Any, shape: tuple[int, ...]) -> Array:
    """An array of nested lists of strings, or of the one string of a tensor of rank 0."""
    array = np.empty(shape, object)
    array[...] = np.array(data, object).reshape(shape)
    return array


def _are_texts(held: Any) -> bool:
    """Whether it is a dict of texts by name."""
    return isinstance(held, dict) and all(_are(pair, str, str) for pair in held.items())


def _is_said(key: str, held: Any) -> bool:
    """Whether a source may hold ``held`` in its field ``key``."""
    parts = held if isinstance(held, tuple) else ()
    plural = isinstance(held, tuple)
    match key:
        case "name" | "overload" | "doc" | "origin":
            return isinstance(held, str)
        case "shell":
            return isinstance(held, bytes)
        case "outputs":
            return plural and all(isinstance(p, str) for p in parts)
        case "metadata":
            return plural and all(_are(p, str, str) for p in parts)
        case "declared":
            return plural and all(isinstance(p, Type | None) for p in parts)
        case "channels":
            return plural and all(_are(p, int, tuple) and _are_all(p[1], int) for p in parts)
        case "axes":
            return plural and _are_all(parts, int)
    return False


def _are(held: Any, *kinds: type) -> bool:
    return (
        isinstance(held, tuple)
        and len(held) == len(kinds)
        and all(isinstance(part, kind) for part, kind in zip(held, kinds, strict=True))
    )


def _are_all(held: tuple[Any, ...], kind: type) -> bool:
    return all(isinstance(part, kind) for part in held)


def _literal(tree: ast.expr) -> Attr:
    """A literal, in which ``inf`` and ``nan`` are numbers too."""
    match tree:
        case ast.Name("inf" | "nan" as name):
            return float(name)
        case ast.UnaryOp(ast.USub(), ast.Name("inf")):
            return float("-inf")
    try:
        attr: Attr = ast.literal_eval(tree)
    except ValueError:
        raise BadInput(f"line {tree.lineno}: {ast.unparse(tree)!r} is not a value") from None
    return attr


def _type(tree: ast.expr | None) -> Type:
    match tree:
        case ast.Name("Unknown"):
            return UNKNOWN
        case ast.Subscript(ast.Name("Sequence" | "Optional" | "Map" | "Sparse" as kind), inner):
            items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return ContainerType(kind, tuple(_type(i) for i in items))
        case ast.Subscript(ast.Name(name), ast.Constant(value)) if value is ...:
            return TensorType(_dtype(name), None)
        case ast.Subscript(ast.Name(name), dims):
            axes = dims.elts if isinstance(dims, ast.Tuple) else [dims]
            return TensorType(_dtype(name), tuple(map(_dim, axes)))
    raise BadInput(f"{'nothing' if tree is None else ast.unparse(tree)!r} is not a type")


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return dtype_named(name)
    except TypeError:
        raise BadInput(f"{name!r} is not an element type") from None


def _dim(tree: ast.expr) -> int | str | None:
    match tree:
        case ast.Name("_"):
            return None
        case ast.Name(name) | ast.Constant(str(name)):
            return name
        case ast.Constant(int(size)):
            return size
    raise BadInput(f"{ast.unparse(tree)!r} is not a dimension")


def _name(tree: ast.expr) -> str:
    if not isinstance(tree, ast.Name):
        raise BadInput(f"line {tree.lineno}: {ast.unparse(tree)!r} is not a name")
    return tree.id


def _defined(env: Mapping[str, Value], tree: ast.expr) -> Value:
    name = _name(tree)
    if name not in env:
        raise BadInput(f"line {tree.lineno}: {name!r} is not defined")
    return env[name]


def tensors(graph: Graph) -> Iterable[Tensor]:
    """Every tensor in the attributes of a graph and its bodies."""
    for node in graph.walk():
        for attr in node.attrs.values():
            if isinstance(attr, Tensor):
                yield attr
            elif isinstance(attr, SparseTensor):
                yield from (attr.values, attr.indices)
    yield from graph.defaults.values()
