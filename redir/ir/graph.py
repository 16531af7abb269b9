"""The graph: immutable, acyclic and well typed by construction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import Any, TypeVar

from redir.errors import FAULTS, BadInput, Fault, IllTyped
from redir.ir.op import Attr, Op, Port, Trait
from redir.ir.printer import show
from redir.ir.source import Source
from redir.ir.tensor import Array, Tensor, Type

_Said = TypeVar("_Said")


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an operator. Its types are inferred, never asserted."""

    op: Op
    inputs: tuple[Value, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)  # each an Attr; the operator says which
    arity: int = field(default=1, kw_only=True)
    source: Source | None = field(default=None, repr=False, kw_only=True)
    outputs: tuple[Value, ...] = field(init=False, repr=False)
    sizes: Array | None = field(init=False, repr=False)  # what it tells of those that it gives

    def __post_init__(self) -> None:
        """Leave out what the shapes say, and infer the output types.

        Raises:
            IllTyped: the operands do not fit.
        """
        set_ = object.__setattr__
        set_(self, "inputs", tuple(self.inputs))
        set_(self, "attrs", MappingProxyType(dict(self.attrs)))
        set_(self, "op", self._ask(self.op.form))
        implied = self._ask(self.op.implied)
        if any(self.attrs.get(name) == what for name, what in implied.items()):
            left = {k: a for k, a in self.attrs.items() if k not in implied or a != implied[k]}
            set_(self, "attrs", MappingProxyType(left))
        types = self._ask(self.op.infer)
        if len(types) != self.arity:
            raise IllTyped(f"{self}: it has {len(types)} results, not {self.arity}")
        set_(self, "outputs", tuple(Value(t, self, i) for i, t in enumerate(types)))
        set_(self, "sizes", self._ask(self.op.sizes))

    def on(self, inputs: Iterable[Value], **attrs: Attr) -> Node:
        """This node on other inputs, or with other attributes: itself if they are the same."""
        inputs = tuple(inputs)
        same = len(inputs) == len(self.inputs) and all(map(_is, inputs, self.inputs))
        return (
            self
            if same and not attrs
            else replace(self, inputs=inputs, attrs={**self.attrs, **attrs})
        )

    def matches(self, pattern: str) -> bool:
        """Whether its name is of a pattern, with * for any letters; an empty one has no names."""
        return bool(pattern) and fnmatchcase(self.name, pattern)

    def _ask(self, rule: Callable[..., _Said], *given: Any) -> _Said:
        """What a rule of the operator's entry says of this node.

        Raises:
            IllTyped: the node does not fit, or the rule fails.

        Warns:
            Fault: the rule fails on a node that the operator's schema allows.
        """
        try:
            return rule(self, *given)
        except FAULTS as error:
            if self.op.odd(self) is None:
                Fault.tell(f"entry for {self}", error)
            raise IllTyped(f"{self}: it is not well formed: {error}") from error

    def misfit(self, inputs: tuple[Value, ...]) -> str:
        """Why this node cannot run on ``inputs``, of other sizes; empty if it can."""
        try:
            return self._ask(self.op.misfit, inputs)
        except IllTyped:
            return "it is not well formed"

    def wants(self, inputs: Sequence[Value], wanted: Sequence[Any]) -> Sequence[Any]:
        """The numbers that it wants of each of ``inputs``, by those wanted of its results.

        Nothing, if it is not well formed.
        """
        try:
            return self._ask(self.op.wants, inputs, wanted)
        except IllTyped:
            return ()

    def has(self, trait: Trait) -> bool:
        """Whether its operator has a trait on operands and attributes like its own."""
        try:
            return self._ask(self.op.has, trait)
        except IllTyped:
            return False

    def __deepcopy__(self, _: object) -> Node:
        return self  # nothing of it can be changed

    @property
    def name(self) -> str:
        """What its file called the node, or else its first result; empty where it named neither."""
        names = (self.source.name, *self.source.outputs) if self.source else ()
        return next(filter(None, names), "")

    @property
    def result_name(self) -> str:
        """What its file called the first result; empty where it named none."""
        return next(iter(self.source.outputs), "") if self.source else ""

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
        return f"{self.op} {self.name!r}" if self.name else str(self.op)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that flows: an output of ``node``, or a graph input if that is None."""

    type: Type
    node: Node | None = field(default=None, repr=False)
    index: int = 0

    __match_args__ = ("node",)

    def __deepcopy__(self, _: object) -> Value:
        return self  # nothing of it can be changed

    @property
    def rank(self) -> int | None:
        """The number of axes where it is known."""
        return None if self.type.shape is None else len(self.type.shape)


WIDEST = 2**24  # an axis of more numbers than this is none of channels


def width(port: Port) -> int:
    """The number of channels of a port, 0 where it is not known."""
    return port[0].type.size(port[1]) or 0


@dataclass(frozen=True, eq=False)
class Graph:
    """A function of its inputs: whatever its outputs need, and nothing else.

    ``opset`` gives the version of each operator set that the model was written in. ``defaults``
    are the values of inputs that need not be given; ``shell`` is what a frontend keeps of the file
    for its own backend. ``metadata`` are texts that passes leave for whoever uses the model, by
    names that start with ``redir.``.
    """

    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    name: str = "main"
    opset: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Tensor] = field(default_factory=dict)
    shell: bytes = field(default=b"", repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the mappings and check that every input read is declared."""
        for name in ("inputs", "outputs", "opset", "defaults", "metadata"):
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

    def analysis(self, of: Callable[[Graph], _Said]) -> _Said:
        """What an analysis says of this graph: it is made once, and kept as long as the graph is.

        It must not change what it said, since all that ask get the same.
        """
        if of not in self._analyses:
            self._analyses[of] = of(self)
        said: _Said = self._analyses[of]
        return said

    @cached_property
    def _analyses(self) -> dict[Callable[[Graph], Any], Any]:
        return {}

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
        """The textual form, whole: ``redir.text.parse`` reads it back."""
        return show(self, Tensor.spelled, notes=True)

    def __repr__(self) -> str:
        """The textual form for people: large tensors by their digests, and no notes."""
        return show(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: ``redir.app.notebook``, which is not loaded for anything else."""
        shown: str = import_module("redir.app.notebook").page(self)
        return shown

    def __deepcopy__(self, _: object) -> Graph:
        return self  # nothing of it can be changed

    def __reduce__(self) -> Any:
        """Pickle the nodes side by side: one inside the other, they would nest too deep."""
        numbers = {value: i for i, value in enumerate(self.inputs.values())}
        count, rows = len(self.inputs), []
        for node in self.nodes:
            operands = [numbers[v] for v in node.inputs]
            numbers.update((v, count + i) for i, v in enumerate(node.outputs))
            count += len(node.outputs)
            rows.append((node.op, operands, dict(node.attrs), node.arity, node.source))
        inputs = [(name, v.type) for name, v in self.inputs.items()]
        outputs = [(name, numbers[v]) for name, v in self.outputs.items()]
        rest = (self.name, dict(self.opset), dict(self.defaults), self.shell, dict(self.metadata))
        return _graph, (inputs, rows, outputs, rest)


def _graph(
    inputs: Sequence[tuple[str, Type]],
    rows: Sequence[tuple[Op, Sequence[int], dict[str, Any], int, Source | None]],
    outputs: Sequence[tuple[str, int]],
    rest: tuple[Any, ...],
) -> Graph:
    """The graph that was pickled; values are numbered in the order in which they are defined."""
    given = {name: Value(type_) for name, type_ in inputs}
    values = list(given.values())
    for op, operands, attrs, arity, source in rows:
        node = Node(op, tuple(values[i] for i in operands), attrs, arity=arity, source=source)
        values += node.outputs
    return Graph(given, {name: values[i] for name, i in outputs}, *rest)


def _is(a: object, b: object) -> bool:
    return a is b


def expect_graph(given: object) -> None:
    """Refuse what is no graph, such as the name of a file.

    Raises:
        BadInput: it is something else.
    """
    if not isinstance(given, Graph):
        raise BadInput(
            f"expected a graph, not a {type(given).__name__}: redir.load reads a file, and "
            "redir.from_torch a module"
        )
