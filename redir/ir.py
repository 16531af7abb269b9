"""The graph: immutable, acyclic and well typed by construction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from keyword import iskeyword
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from redir.show import show

Array: TypeAlias = npt.NDArray[Any]
DType: TypeAlias = "np.dtype[Any]"
Dim: TypeAlias = int | str | None
Shape: TypeAlias = tuple[Dim, ...]
NO_DTYPE: DType = np.dtype(np.void)  # not None, which numpy takes for float64


@dataclass(frozen=True)
class TensorType:
    """What is known of a tensor before it is computed.

    A dimension is a number, a symbol (``"batch"``) or None where it is unknown. ``shape`` is
    None where even the rank is unknown, and ``dtype`` NO_DTYPE where nothing is known at all.
    """

    dtype: DType = NO_DTYPE
    shape: Shape | None = None

    def __str__(self) -> str:
        """Print as Python that reads as a type: ``float32[batch, 3, _]``."""
        name = "Unknown" if self.dtype == NO_DTYPE else dtype_name(self.dtype)
        return name if name == "Unknown" else f"{name}[{_dims(self.shape)}]"

    @property
    def static(self) -> tuple[int, ...] | None:
        """The shape, if every dimension is a number."""
        dims = tuple(d for d in self.shape or () if isinstance(d, int))
        return dims if self.shape is not None and len(dims) == len(self.shape) else None

    def size(self, axis: int) -> int | None:
        """The number of channels of ``axis`` where it is known."""
        dim = self.shape[axis] if self.shape is not None else None
        return dim if isinstance(dim, int) else None


@dataclass(frozen=True)
class ContainerType:
    """A sequence, optional, map or sparse tensor: carried, never looked into.

    ``kind`` is Sequence, Optional, Map or Sparse; ``items`` are the types inside.
    """

    kind: str
    items: tuple[Type, ...]
    dtype: DType = NO_DTYPE
    shape: None = None

    def __str__(self) -> str:
        """Print as ``Sequence[float32[3]]``."""
        return f"{self.kind}[{', '.join(map(str, self.items))}]"

    @property
    def static(self) -> None:
        """A container has no shape."""

    def size(self, axis: int) -> None:
        """Nothing is known of the axes of a container."""


Type: TypeAlias = TensorType | ContainerType
UNKNOWN = TensorType()


def dtype_name(dtype: DType) -> str:
    """The name of an element type; strings are kept as Python objects."""
    return "string" if dtype == np.dtype(object) else dtype.name


def dtype_named(name: str) -> DType:
    """The element type that ``dtype_name`` named."""
    return np.dtype(object) if name == "string" else np.dtype(name)


def bits(dtype: DType) -> int:
    """The bits that a file spends on an element; numpy spends a byte at least."""
    for name, few in (("int4", 4), ("float4", 4), ("int2", 2)):
        if name in dtype.name:
            return few
    return 8 * dtype.itemsize


def _dims(shape: Shape | None) -> str:
    if shape is None:
        return "..."
    return ", ".join(_dim(d) for d in shape) if shape else "()"


def _dim(dim: Dim) -> str:
    if dim is None:
        return "_"
    plain = isinstance(dim, int) or (dim.isidentifier() and not iskeyword(dim) and dim != "_")
    return str(dim) if plain else repr(dim)


_SMALL = 32  # elements of a tensor that is printed whole


class Tensor:
    """A constant: a read-only array that is equal to another when its bytes are.

    The array may be memory-mapped; it is read from disk when it is first used.
    """

    def __init__(self, array: npt.ArrayLike) -> None:
        """Keep ``array`` as it is if it is read-only already, and a copy of it if not."""
        kept = array if isinstance(array, np.ndarray) else np.asarray(array)
        self.array: Array = kept.copy() if kept.flags.writeable else kept
        self.array.setflags(write=False)

    @classmethod
    def take(cls, array: Array) -> Tensor:
        """Own ``array``, which nobody else may write to, without a copy."""
        array.setflags(write=False)
        return cls(array)

    @property
    def type(self) -> TensorType:
        """The element type and the shape."""
        return TensorType(self.array.dtype, self.array.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that a file spends on it; several small elements may share one."""
        return (self.array.size * bits(self.array.dtype) + 7) // 8

    @property
    def file(self) -> str | None:
        """The file that the array is mapped from, if it is."""
        base: object = self.array
        while base is not None and not isinstance(base, np.memmap):
            base = getattr(base, "base", None)
        return None if base is None else str(base.filename)

    @cached_property
    def digest(self) -> str:
        """A name for the content, computed at most once."""
        array = self.array
        data = repr(array.tolist()).encode() if array.dtype == np.dtype(object) else _bytes(array)
        return hashlib.sha256(str(self.type).encode() + b"\0" + data).hexdigest()

    def __repr__(self) -> str:
        """Print the numbers of a small tensor, and the digest of a large one."""
        plain = self.array.dtype.kind in "biO" or bool(np.isfinite(self.array).all())
        if self.array.size > _SMALL or self.array.dtype.kind not in "biufO" or not plain:
            return f"Tensor({self.type}, {self.digest!r})"
        return f"Tensor({self.type}, {self.array.tolist()!r})"

    def __eq__(self, other: object) -> bool:
        """Compare by identity first, then by type, then by content."""
        if self is other or not isinstance(other, Tensor):
            return self is other
        return self.type == other.type and self.digest == other.digest

    def __hash__(self) -> int:
        """Hash the content."""
        return hash(self.digest)


def _bytes(array: Array) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@dataclass(frozen=True)
class SparseTensor:
    """A constant that its file keeps sparse, and that no pass looks into.

    ``values`` is (n,), ``indices`` (n,) or (n, rank), ``shape`` that of the dense tensor.
    """

    values: Tensor
    indices: Tensor
    shape: tuple[int, ...]

    def dense(self) -> Array:
        """The dense tensor of ``shape``."""
        array = np.zeros(self.shape, self.values.array.dtype)
        where = self.indices.array
        flat = where if where.ndim == 1 else np.ravel_multi_index(tuple(where.T), self.shape)
        array.reshape(-1)[flat] = self.values.array
        return array


Attr: TypeAlias = (
    "bool | int | float | str | bytes | Tensor | SparseTensor | Graph | Type | tuple[Attr, ...]"
)
Port: TypeAlias = "tuple[Value, int]"
Kept: TypeAlias = Mapping[Port, Array]


@dataclass(frozen=True)
class Link:
    """Channel ``i`` of axis ``a`` is channel ``index[i]`` of axis ``b``.

    It says that the operator treats the channels alike: exchange two of them in every linked
    operand and they are exchanged in the result. Where ``summed``, the operator adds up over
    ``b``: two equal channels of ``a`` become one if their slices of ``b`` are added. Channels of
    an output that no link reaches all hold one same constant (a Pad's border). An axis that no
    link of a node mentions is pinned. ``either`` marks the links of axes that are flattened into
    one: only one of them can be followed, one whose channels are not pinned.
    """

    a: Port
    b: Port
    index: Array
    summed: bool = False
    either: bool = False


@dataclass(frozen=True)
class Op:
    """Everything redir knows of an operator: the one place to add a new one.

    infer(node) gives the output types; evaluate(node, *arrays) the output arrays; links(node)
    how axes are tied; narrow(node, inputs, kept) the node on operands of which only the channels
    ``kept`` are left; repeatable(node) whether two evaluations agree and have no effect;
    implied(node) the attributes that shapes say and that only a file writes down.
    Two versions of an operator are equal: patterns match the operator, not its version.
    """

    name: str
    domain: str = ""
    version: int = field(default=0, compare=False)
    infer: Callable[[Node], Sequence[Type]] = field(repr=False, compare=False, kw_only=True)
    evaluate: Callable[..., Sequence[Any]] = field(repr=False, compare=False, kw_only=True)
    links: Callable[[Node], Iterable[Link]] = field(
        repr=False, compare=False, kw_only=True, default=lambda _: ()
    )
    narrow: Callable[[Node, tuple[Value, ...], Kept], Node] = field(
        repr=False, compare=False, kw_only=True, default=lambda node, inputs, _: node.on(inputs)
    )
    repeatable: Callable[[Node], bool] = field(
        repr=False, compare=False, kw_only=True, default=lambda _: True
    )
    implied: Callable[[Node], Mapping[str, Attr]] = field(
        repr=False, compare=False, kw_only=True, default=lambda _: {}
    )

    def __call__(self, *inputs: Value, **attrs: Attr) -> Value:
        """Apply the operator; make a ``Node`` where it has several outputs."""
        return Node(self, inputs, attrs).outputs[0]

    def __str__(self) -> str:
        """The name, with the domain before it unless it is a standard one."""
        return f"{self.domain}.{self.name}" if self.domain not in {"", "redir"} else self.name


@dataclass(frozen=True)
class Source:
    """Where a node came from: the names and notes of its file, which no pass reads.

    ``outputs`` are the names of the output values; ``declared`` the types that the file states
    for them, None where it states none. ``channels`` says, for each axis of a constant that was
    narrowed, which channels of the file's are left.
    """

    name: str = ""
    outputs: tuple[str, ...] = ()
    doc: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    declared: tuple[Type | None, ...] = ()
    channels: tuple[tuple[int, tuple[int, ...]], ...] = ()

    def keeping(self, axis: int, kept: Array) -> Source:
        """The source of the same constant with only the channels ``kept`` of ``axis``."""
        left = dict(self.channels)
        before = left.get(axis)
        left[axis] = tuple(int(k) if before is None else before[k] for k in kept)
        return replace(self, channels=tuple(sorted(left.items())))


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an operator. Its types are inferred, never asserted."""

    op: Op
    inputs: tuple[Value, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)  # each an Attr; the operator says which
    arity: int = field(default=1, kw_only=True)
    source: Source | None = field(default=None, repr=False, kw_only=True)
    outputs: tuple[Value, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Infer the output types, which raises IllTyped if the operands do not fit."""
        set_ = object.__setattr__
        set_(self, "inputs", tuple(self.inputs))
        set_(self, "attrs", MappingProxyType(dict(self.attrs)))
        types = self.op.infer(self)
        set_(self, "outputs", tuple(Value(t, self, i) for i, t in enumerate(types)))

    def on(self, inputs: Iterable[Value], **attrs: Attr) -> Node:
        """This node on other inputs, or with other attributes: itself if they are the same."""
        inputs = tuple(inputs)
        same = len(inputs) == len(self.inputs) and all(map(_is, inputs, self.inputs))
        return (
            self
            if same and not attrs
            else replace(self, inputs=inputs, attrs={**self.attrs, **attrs})
        )

    @property
    def repeatable(self) -> bool:
        """Whether evaluating twice gives the same and has no other effect."""
        return self.op.repeatable(self)

    @property
    def bodies(self) -> tuple[Graph, ...]:
        """The graphs among the attributes: the branches of an If, the body of a Loop."""
        return tuple(a for a in self.attrs.values() if isinstance(a, Graph))

    def __str__(self) -> str:
        """The operator and the name it had in its file, for messages."""
        name = self.source and (self.source.name or next(filter(None, self.source.outputs), ""))
        return f"{self.op} {name!r}" if name else str(self.op)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that flows: an output of ``node``, or a graph input if that is None."""

    type: Type
    node: Node | None = field(default=None, repr=False)
    index: int = 0

    __match_args__ = ("node",)

    @property
    def rank(self) -> int | None:
        """The number of axes where it is known."""
        return None if self.type.shape is None else len(self.type.shape)


@dataclass(frozen=True, eq=False)
class Graph:
    """A function of its inputs: whatever its outputs need, and nothing else.

    ``opset`` gives the version of each operator set that the model was written in. ``defaults``
    are the values of inputs that need not be given; ``shell`` is what a frontend keeps of the file
    for its own backend.
    """

    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    name: str = "main"
    opset: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Tensor] = field(default_factory=dict)
    shell: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        """Freeze the mappings and check that every input read is declared."""
        for name in ("inputs", "outputs", "opset", "defaults"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        declared = set(self.inputs.values())
        for value in self.uses:
            if value.node is None and value not in declared:
                reader = next((str(n) for n in self.nodes if value in n.inputs), "an output")
                raise ValueError(f"{self.name}: {reader} reads an undeclared input")

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node that an output needs, inputs before users."""
        order: dict[Node, None] = {}
        stack = [(v.node, False) for v in reversed(list(self.outputs.values()))]
        while stack:
            node, ready = stack.pop()
            if node is None or node in order:
                continue
            if ready:
                order[node] = None
                continue
            stack.append((node, True))
            stack.extend((v.node, False) for v in reversed(node.inputs))
        return tuple(order)

    @cached_property
    def uses(self) -> Counter[Value]:
        """How often each value is read, by nodes and by the outputs."""
        reads = (v for node in self.nodes for v in node.inputs)
        return Counter([*reads, *self.outputs.values()])

    @cached_property
    def readers(self) -> Mapping[Value, tuple[Node, ...]]:
        """The nodes that read each value, in order."""
        readers: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                readers.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in readers.items()}

    def walk(self) -> Iterator[Node]:
        """Every node, those of control-flow bodies behind the node that holds them."""
        for node in self.nodes:
            yield node
            for body in node.bodies:
                yield from body.walk()

    def computing(self, outputs: Mapping[str, Value]) -> Graph:
        """The same function's interface on new outputs: itself if none changed."""
        same = all(outputs[name] is value for name, value in self.outputs.items())
        return self if same else replace(self, outputs=outputs)

    def __str__(self) -> str:
        """The textual form, which ``redir.text.parse`` reads back."""
        return show(self)

    __repr__ = __str__


def _is(a: object, b: object) -> bool:
    return a is b
