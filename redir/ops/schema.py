"""Every standard operator by its onnx schema: the entry it has until it gets a better one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from typing import Any, NoReturn, TypeAlias

import numpy as np
import onnx
from onnx import defs, helper, shape_inference

from redir.errors import IllTyped, Unsupported
from redir.ir import Graph, Node, Value, limits
from redir.ir.builtin import Const, is_absent, tensor_of
from redir.ir.tensor import NO_DTYPE, UNKNOWN, Array, Tensor, TensorType, Type
from redir.ops import protos
from redir.ops.contrib_schemas import schema_of

_Name: TypeAlias = tuple[str, int, str]  # of an operator: also its version and its domain

_SMALL = 1024  # constants of more elements than this never say a shape
_WORDS = re.compile(r"[\w ,.>+-]*", re.ASCII)
_PYTHON: dict[str, Any] = {
    "FLOAT": float | int,
    "GRAPH": Graph,
    "INT": int,
    "STRING": str,
    "TENSOR": Tensor,
}
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"}
    | {"Bernoulli"}
)


def no_body(_: Graph) -> NoReturn:
    """Refuse a graph attribute: only a backend can write one."""
    raise Unsupported("a control-flow body cannot be run on its own")


def node_proto(node: Node) -> onnx.NodeProto:
    """The node with its operands called i0, i1 ... and its results o0, o1 ..."""
    return _proto(_name(node), _operands(node), node.arity, _stated(node))


def _name(node: Node) -> _Name:
    return node.op.name, node.op.version, node.op.domain


def _operands(node: Node) -> tuple[str, ...]:
    return tuple("" if is_absent(v) else f"i{k}" for k, v in enumerate(node.inputs))


def _stated(node: Node) -> dict[str, Any]:
    """The attributes as a file states them."""
    return {**node.op.implied(node), **node.attrs}


def _proto(
    op: _Name, operands: Sequence[str], arity: int, attrs: Mapping[str, Any]
) -> onnx.NodeProto:
    name, version, domain = op
    proto = helper.make_node(name, operands, [f"o{k}" for k in range(arity)], domain=domain)
    schema = schema_of(name, version, domain)
    proto.attribute.extend(
        protos.attr_to(name, attr, no_body, attr_kind(schema, name)) for name, attr in attrs.items()
    )
    return proto


def attr_kind(schema: defs.OpSchema | None, name: str) -> int:
    """The type of an attribute by its schema; a list of integers where none says."""
    known = schema is not None and name in schema.attributes
    kind: Any = schema.attributes[name].type if schema is not None and known else None
    return onnx.AttributeProto.INTS if kind is None else int(kind.value)


def foreign(node: Node) -> str | None:
    """What a node has that the schema of its operator does not have, if it has such a thing."""
    try:
        names, least, inputs, outputs = _limits(node.op.name, node.op.version, node.op.domain)
    except defs.SchemaError:  # it is carried, for it is newer than the model's operator set
        return f"version {node.op.version}"
    if not node.attrs.keys() <= names:
        return f"attribute {min(node.attrs.keys() - names)!r}"
    if not least <= len(node.inputs) <= inputs and "captures" not in node.attrs:
        return f"{len(node.inputs)} operands"
    return f"{node.arity} results" if node.arity > outputs else None


@cache
def _limits(name: str, version: int, domain: str) -> tuple[frozenset[str], int, int, int]:
    """The attributes that a node may have, the fewest and most operands, and the most results."""
    allowed = schema_of(name, version, domain)
    names = frozenset({*allowed.attributes, "captures"})
    return names, allowed.min_input, allowed.max_input, allowed.max_output


def is_default(node: Node, name: str) -> bool:
    """Whether an attribute has the value that it has where a node does not state it."""
    attribute = schema_of(node.op.name, node.op.version, node.op.domain).attributes[name]
    usual: Any = attribute.default_value
    stated = usual.type != onnx.AttributeProto.UNDEFINED
    return stated and bool(node.attrs[name] == protos.attr_from(usual, _no_graph))


def _no_graph(_: onnx.GraphProto) -> Graph:
    raise Unsupported("no schema has a graph for a default")


def checked(kernel: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """``kernel``, which refuses a node that has what the schema does not have."""
    return partial(_evaluated, kernel)


def _evaluated(kernel: Callable[..., Sequence[Any]], node: Node, *arrays: Any) -> Sequence[Any]:
    odd = foreign(node)
    if odd is not None:
        raise Unsupported(f"{node}: version {node.op.version} of it has no {odd}")
    return kernel(node, *arrays)


def odd_attribute(node: Node) -> str | None:
    """The first attribute of a standard operator that is not what its schema states, or is missing.

    A text that is more than words counts too: no operator takes one.
    """
    try:
        schema = schema_of(node.op.name, node.op.version, node.op.domain)
    except defs.SchemaError:
        return None
    stated = schema.attributes
    given = {name: attr for name, attr in node.attrs.items() if name != "captures"}  # our own
    missing = [name for name, one in stated.items() if one.required and name not in given]
    odd = [name for name, attr in given.items() if not _fits(stated.get(name), attr)]
    return next(iter([*missing, *odd]), None)


def _fits(stated: Any, attr: Any) -> bool:
    """Whether an attribute is what a schema states; one that it lacks may be any but a text."""
    kind = None if stated is None else stated.type.name
    single = _PYTHON.get((kind or "").removesuffix("S"), object)
    parts = attr if isinstance(attr, tuple) else (attr,)
    listed = kind is None or isinstance(attr, tuple) == kind.endswith("S")
    plain = all(_WORDS.fullmatch(p) for p in parts if isinstance(p, str)) and kind is not None
    texts = any(isinstance(p, str | bytes) for p in parts)
    return listed and all(isinstance(p, single) for p in parts) and (plain or not texts)


def infer(node: Node) -> Sequence[Type]:
    """The output types by onnx's own inference for one node.

    Raises:
        IllTyped: the operands do not fit the operator.
    """
    odd = foreign(node)
    if odd is not None:
        raise IllTyped(f"{node}: version {node.op.version} of it has no {odd}")
    if any(v.type == UNKNOWN and not is_absent(v) for v in node.inputs):
        return [UNKNOWN] * node.arity
    if node.bodies:  # which the text of the attributes would spell out
        return no_body(node.bodies[0])
    names, attrs = _operands(node), _stated(node)
    given = {name: v for name, v in zip(names, node.inputs, strict=True) if name}
    told = ((n, t) for n, v in given.items() if (t := tensor_of(v)) and t.size <= _SMALL)
    try:
        return _inferred(
            _name(node),
            names,
            node.arity,
            _Alike(repr(attrs), attrs),
            tuple((name, v.type) for name, v in given.items()),
            tuple((name, _Alike(t.digest, t.array.copy())) for name, t in told),
        )
    except (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        types = ", ".join(str(v.type) for v in node.inputs)
        reason = str(error).strip().splitlines()[0]
        raise IllTyped(f"{node}: operands ({types}) do not fit: {reason}") from None
    except IllTyped as error:
        raise IllTyped(f"{node}: {error}") from None


@dataclass(frozen=True)
class _Alike:
    """What is equal to another where both are spelled alike."""

    text: str
    what: Any = field(compare=False)


@lru_cache(maxsize=2048)  # passes make the same node again and again
def _inferred(
    op: _Name,
    names: tuple[str, ...],
    arity: int,
    attrs: _Alike,
    operands: tuple[tuple[str, Type], ...],
    told: tuple[tuple[str, _Alike], ...],
) -> Sequence[Type]:
    """The output types of a node on operands of these types, of which some numbers are told.

    Raises:
        IllTyped: inference gives what is no type.
    """
    proto, (name, version, domain) = _proto(op, names, arity, attrs.what), op
    found = shape_inference.infer_node_outputs(
        schema_of(name, version, domain),
        proto,
        {name: protos.type_to(t) for name, t in operands},
        {name: protos.tensor_to(Tensor.take(held.what), name) for name, held in told},
        opset_imports=[helper.make_opsetid(domain, version)],
    )
    types = (found.get(name) for name in proto.output)
    try:
        return tuple(UNKNOWN if t is None else protos.type_from(t) for t in types)
    except ValueError as error:  # of an operand without an element type
        raise IllTyped(f"onnx infers {error}") from None


def evaluate(node: Node, *arrays: Array | None) -> Sequence[Any]:
    """The outputs by the kernel of ``onnx.reference``; absent operands are None.

    Raises:
        Unsupported: onnx has no reference kernel, or the kernel fails on these arrays.
    """
    try:
        run, names = _kernel(node)
        given = {n: a for n, a in zip(names, arrays, strict=False) if n}
        results = run.run(None, given, {})
        return [_plain(r, v.type) for r, v in zip(results, node.outputs, strict=False)]
    except MemoryError:  # for ``interpret.compute`` to word
        raise
    except Exception as error:  # the kernels raise whatever numpy raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unsupported(f"{node}: the reference kernel failed: {reason}") from error


def needs(node: Node, *arrays: Any) -> int:
    """The bytes of the results of a node on these arrays, as far as inference tells.

    Raises:
        Unsupported: the arrays do not fit the operator.
    """
    return sum(limits.nbytes(t) for t in _types_on(node, arrays))


def _types_on(node: Node, arrays: Sequence[Any]) -> Sequence[Type]:
    """The types of the results; where they are open, by the sizes and small numbers given."""
    types = [v.type for v in node.outputs]
    known = all(t.static is not None for t in types)
    if known or node.bodies or not all(a is None or isinstance(a, _ARRAYS) for a in arrays):
        return types
    pairs = zip(node.inputs, arrays, strict=True)
    try:
        inputs = tuple(v if a is None else _given(np.asarray(a)) for v, a in pairs)
        return [v.type for v in replace(node, inputs=inputs).outputs]
    except IllTyped as error:  # a kernel might take them, and any amount of memory
        raise Unsupported(str(error)) from None


def _given(array: Array) -> Value:
    if array.size <= _SMALL:
        value: Value = Const(value=Tensor(array))
        return value
    return Value(TensorType(array.dtype, array.shape))


_ARRAYS = (np.ndarray, np.generic)


def _plain(result: Any, type_: Type) -> Any:
    """An array in the type that the node states, in which the kernel may have left it out.

    Strings are Python objects, as everywhere in redir.
    """
    if not isinstance(result, _ARRAYS):
        return result
    dtype = np.dtype(object) if result.dtype.kind in "US" else type_.dtype
    return result if dtype == NO_DTYPE else result.astype(dtype, copy=False)


def _kernel(node: Node) -> tuple[Any, Sequence[str]]:
    """The evaluator that runs the node, and the names of its operands."""
    types = tuple(protos.type_to(v.type).SerializeToString() for v in node.inputs)
    proto = node_proto(node).SerializeToString(deterministic=True)
    return _evaluator(_name(node), proto, types)


@lru_cache(maxsize=256)  # a node runs on one sample after the other
def _evaluator(op: _Name, node: bytes, types: tuple[bytes, ...]) -> tuple[Any, Sequence[str]]:
    """The kernel of the operator's version, or of the newest where onnx has none so old.

    An operator that has none, and that onnx defines by others, is run by those.
    """
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow, and few runs need it

    name, version, domain = op
    proto = onnx.NodeProto.FromString(node)
    given = [name for name in proto.input if name]
    for since in (version, defs.get_schema(name, domain).since_version):
        opset = helper.make_opsetid(domain, since)
        function = helper.make_function("redir", "one", given, list(proto.output), [proto], [opset])
        try:
            return ReferenceEvaluator(function), proto.input
        except (NotImplementedError, RuntimeError) as error:
            missing = error
    schema: Any = schema_of(name, version, domain)
    if not schema.has_context_dependent_function:
        raise missing
    body = schema.get_context_dependent_function(node, list(types))
    function = onnx.FunctionProto.FromString(body)
    return ReferenceEvaluator(function), function.input


def repeatable(node: Node) -> bool:
    """False for random operators, for Dropout in training, and for bodies that hold one."""
    if node.op.name in _RANDOM or not all(n.repeatable for b in node.bodies for n in b.nodes):
        return False
    return not (node.op.name in {"Dropout", "BatchNormalization"} and trains(node))


def trains(node: Node) -> bool:
    """Whether a Dropout or BatchNormalization is, or may be, in training mode."""
    if node.op.name == "BatchNormalization":
        few = node.op.version < 14 and node.op.version >= 7  # noqa: PLR2004
        if node.op.version < 7:  # noqa: PLR2004
            return not node.attrs.get("is_test", 0)
        return node.arity > 1 if few else bool(node.attrs.get("training_mode", 0))
    if node.op.version < 7:  # noqa: PLR2004
        return not node.attrs.get("is_test", 0)
    if len(node.inputs) < 3 or is_absent(node.inputs[2]):  # noqa: PLR2004
        return False
    mode = tensor_of(node.inputs[2])
    return mode is None or bool(np.any(mode.array))
