"""From a graph to steps of PyTorch: one operator after the other, in text with marks.

What each operator becomes is said by its entry in a table of functions ``emit(site)``; a ``Site``
is a node with what the text of its operands, its layers and its tensors is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from redir import ops
from redir.backends.torch.emit.literals import SHAPES, Ints, bare, literal, real, torch_dtype
from redir.backends.torch.emit.text import Path, path_mark, value_mark, values_in
from redir.backends.torch.emit.types import dtype_of, rank_of
from redir.backends.torch.interface import Signature, State, signature, states, text_of, unreturned
from redir.backends.torch.names import (
    HIERARCHY,
    RESERVED,
    SCOPES,
    common,
    dotted,
    identifier,
    is_part,
    module_path,
    module_scope,
    quoted,
    tensor_name,
)
from redir.errors import Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import NO_DTYPE, Array, DType, SparseTensor, Tensor
from redir.ops import control, schema

_FEW = 64  # whole numbers that are written out


Result: TypeAlias = "str | Ints | Value | Sequence[str | Ints | Value]"
Emit: TypeAlias = "Callable[[Site], Result]"


@dataclass(frozen=True)
class Step:
    """One statement of a forward: ``targets = text``, run in the module ``scope``.

    One without targets is run for what it does.
    """

    scope: Path
    targets: str
    text: str


@dataclass(frozen=True)
class Held:
    """A tensor that a module holds itself."""

    array: Array
    trained: bool


@dataclass(eq=False)
class Body:
    """A forward: of the whole graph, or of a body of control flow, a module at ``path``."""

    path: Path
    names: tuple[str, ...]
    inputs: list[int]
    defaults: dict[int, Path] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    signature: Signature | None = None


@dataclass(eq=False)
class Flow:
    """All that is emitted: the bodies, and by path the layers and tensors they use.

    ``closed`` are paths that are known to become layers.

    ``state`` are the arrays by the name that torch's ``state_dict`` has for them, ``origin`` the
    names that they have in the graph, ``frozen`` those that are not to be trained; ``classes`` the
    names of classes by path where the graph knows them.
    """

    table: Mapping[str, Emit]
    bodies: list[Body] = field(default_factory=list)
    layers: dict[Path, str] = field(default_factory=dict)
    tensors: dict[Path, Held] = field(default_factory=dict)
    state: dict[str, Array] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    classes: dict[Path, str] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)
    taken: set[Path] = field(default_factory=set)
    closed: frozenset[Path] = frozenset()
    count: int = 0

    def value(self) -> int:
        """A new value."""
        self.count += 1
        return self.count

    def clear(self, scope: Path) -> Path:
        """The scope, or that around the layer in which it lies."""
        for length in range(1, len(scope) + 1):
            if scope[:length] in self.layers or scope[:length] in self.closed:
                return scope[: length - 1]
        return scope

    def free(self, path: Path) -> Path:
        """``path``, or one like it that nothing has."""
        *above, wish = path
        name, tries = wish, 1
        while (*above, name) in self.taken or name in RESERVED:
            tries += 1
            name = f"{wish}_{tries}" if wish[-1].isdigit() else f"{wish}{tries}"
        self.taken.add((*above, name))
        return (*above, name)


def emit(graph: Graph, table: Mapping[str, Emit]) -> Flow:
    """The steps of ``graph`` and everything they use.

    Raises:
        Unsupported: an operator has no form in PyTorch; the message names it.
    """
    flow = _emitted(graph, Flow(table))
    inside = any(flow.clear(path[:-1]) != path[:-1] for path in flow.tensors)
    return _emitted(graph, Flow(table, closed=frozenset(flow.layers))) if inside else flow


def _emitted(graph: Graph, flow: Flow) -> Flow:
    scene = Scene(flow, graph)
    flow.taken.update(p for p in scene.counts if p)
    scene.run()
    return flow


class Scene:
    """One graph being emitted: what its values are so far."""

    def __init__(
        self, flow: Flow, graph: Graph, base: Path = (), given: Mapping[str, Any] | None = None
    ) -> None:
        """Emit into ``flow``; ``given`` are inputs known from around: an array and its name."""
        self.flow, self.graph, self.base = flow, graph, base
        self.env: dict[Value, int | Ints] = {}
        self.alias: dict[Value, Value] = {}
        self.constants: dict[Value, tuple[Array, str]] = {}
        self.turned: set[Value] = set()
        self.buffers: set[Value] = set()
        self.frozen: set[Value] = set()
        self.placed: dict[Value, str] = {}
        self.done: set[Node] = set()
        self.types: dict[Value, tuple[int | None, DType]] = {}
        known = given or {}
        self.reached: list[Step] = []
        self.states = [] if base else states(graph)
        own = [n for n in graph.inputs if n not in {*known, *(s.input for s in self.states)}]
        taken = None if base else signature(graph)
        names = own if taken is None else [p.name for p in taken.parameters]
        self.body = Body(base, tuple(names), [flow.value() for _ in names], signature=taken)
        if taken is None:
            inputs = zip(own, self.body.inputs, strict=True)
            self.env.update({graph.inputs[n]: v for n, v in inputs})
        else:
            self._take(taken)
        self.constants.update({graph.inputs[n]: held for n, held in known.items()})
        flow.bodies.append(self.body)

    @cached_property
    def counts(self) -> Counter[Path]:
        """How many nodes run in a scope or below it."""
        scopes = [self.scope(n) for n in self.running]
        return Counter(s[:k] for s in scopes for k in range(len(s) + 1))

    @cached_property
    def running(self) -> list[Node]:
        """The nodes that are not constants or names of them."""
        return [n for n in self.graph.nodes if n.inputs and not renames(n)]

    @cached_property
    def below(self) -> Mapping[Path, list[Node]]:
        """The nodes that run right in each scope."""
        found: dict[Path, list[Node]] = {}
        for node in self.running:
            found.setdefault(self.scope(node), []).append(node)
        return found

    def run(self) -> None:
        """Emit every node, and then the outputs."""
        held = {s.input for s in self.states}
        for name, tensor in self.graph.defaults.items():
            if name not in held:
                self._default(name, tensor)
        places = {s.output: self._state(s) for s in self.states}
        self.nodes(self.graph)
        self._reach_late()
        kept = set() if self.base else unreturned(self.graph)
        outputs = [v for n, v in self.graph.outputs.items() if n not in kept]
        self.body.outputs = [self._output(v) for v in outputs]
        for name, path in places.items():
            after = self._output(self.graph.outputs[name])
            text = f"{path_mark(path)}.copy_({value_mark(after)}.detach())"
            self.body.steps.append(Step(self.base, "", text))

    def _take(self, taken: Signature) -> None:
        """Reach the inputs in the arguments, and hold the constants among them to what they are."""
        fixed = []
        for leaf in taken.leaves:
            argument = self.body.inputs[leaf.parameter]
            reached = leaf.reached(value_mark(argument))
            if leaf.input:
                self.env[self.graph.inputs[leaf.input]] = index = (
                    self.flow.value() if leaf.steps else argument
                )
                if leaf.steps:
                    self.reached.append(Step(self.base, value_mark(index), reached))
            elif leaf.constant:
                name = text_of(leaf.reached(taken.parameters[leaf.parameter].name))
                fixed.append(f"({name}, {reached}, {leaf.constant})")
        if fixed:
            self.flow.helpers.add("fixed")
            self.body.steps.append(Step(self.base, "", f"fixed({', '.join(fixed)})"))
        self.body.steps += self.reached

    def _reach_late(self) -> None:
        """Reach each input right before the first step that reads it."""
        steps = self.body.steps
        for step in self.reached:
            steps.remove(step)
            (value,) = values_in(step.targets)
            readers = (k for k, s in enumerate(steps) if value in values_in(s.text))
            steps.insert(next(readers, len(steps)), step)

    def _state(self, state: State) -> Path:
        """Hold a buffer that forward changes, and read what it is before."""
        value = self.graph.inputs[state.input]
        scopes = self._scopes(value)
        path = self._place(state.buffer, scopes, weight=False)
        self._hold(path, self.graph.defaults[state.input].array, trained=False)
        self.flow.origin[".".join(path)] = state.input
        self.env[value] = index = self.flow.value()
        top = common([*scopes, path[:-1]])
        self.body.steps.append(Step(top, value_mark(index), f"{path_mark(path)}.clone()"))
        return path

    def nodes(self, graph: Graph) -> None:
        """Emit the nodes of the graph, or of a body in its place."""
        for node in graph.nodes:
            if node.op == ops.Const:
                self._constant(node)
        for node in graph.nodes:
            if node not in self.done and node.op not in (ops.Const, ops.Absent):
                self._node(node)

    def _constant(self, node: Node) -> None:
        held, value = node.attrs["value"], node.outputs[0]
        array = held.dense() if isinstance(held, SparseTensor) else held.array
        self.constants[value] = (array, _first_name(node))
        notes = dict(node.source.metadata) if node.source else {}
        turned = "transposed" in notes and array.ndim == 2  # noqa: PLR2004
        self.turned |= {value} if turned else set()
        self.buffers |= {value} if "buffer" in notes else set()
        self.frozen |= {value} if "frozen" in notes else set()

    def _default(self, name: str, tensor: Tensor) -> None:
        index = self.env[self.graph.inputs[name]]
        assert isinstance(index, int)
        path = self.flow.free((*self.base, "default_" + identifier(name)))
        self._hold(path, tensor.array, trained=False)
        self.flow.origin[".".join(path)] = name
        self.body.defaults[index] = path

    def _output(self, value: Value) -> int:
        value = self.resolve(value)
        known = self.env.get(value)
        if isinstance(known, int):
            return known
        text = self.constant(value) if known is None else self.tensor(value, known)
        self.env[value] = index = self.flow.value()
        self.body.steps.append(Step(self.base, value_mark(index), text))
        return index

    def resolve(self, value: Value) -> Value:
        """What ``value`` is another name of."""
        while value in self.alias:
            value = self.alias[value]
        return value

    def _node(self, node: Node) -> None:
        self.remember_classes(node)
        if renames(node):
            array = self.constants[self.resolve(node.inputs[0])][0]
            self.constants[node.outputs[0]] = (array, _first_name(node))
            return
        self._put(node, self._emitter(node)(Site(self, node)))

    def _emitter(self, node: Node) -> Emit:
        domain = f"{node.op.domain}." if node.op.domain else ""
        family = "aten.*" if domain.startswith(("aten.", "torch.")) else ""
        found = self.flow.table.get(domain + node.op.name, self.flow.table.get(family))
        if found is None:
            raise Unsupported(f"{node}: there is no PyTorch form of this operator")
        odd = None if domain else ops.beyond(node)
        if odd is not None:
            raise Unsupported(f"{node}: redir does not know {odd} of this operator")
        odd = None if family else schema.odd_attribute(node)
        if odd is not None:
            raise Unsupported(f"{node}: attribute {odd!r} is not as the operator has it")
        return found

    def remember_classes(self, node: Node) -> None:
        """Note what the classes of the modules were called that the node ran in."""
        notes = dict(node.source.metadata) if node.source else {}
        if HIERARCHY in notes and SCOPES in notes:
            scopes, kinds = quoted(notes[SCOPES]), quoted(notes[HIERARCHY])
            found = zip(map(module_path, scopes[:-1]), kinds[:-1], strict=False)
            self.flow.classes.update((p, k.rpartition(".")[2]) for p, k in found if p is not None)
        path, names = module_path(notes.get("module", "")), notes.get("classes", "").split("/")
        if path is None or not names[0]:
            return
        every = [path[:k] for k in range(len(path) + 1)]
        lists = [p for p in every[1:-1] if path[len(p)].isdigit()]
        if len(every) - len(lists) == len(names):  # a ModuleList is not called, and not named
            every = [p for p in every if p not in lists]
        if len(every) == len(names):
            self.flow.classes.update(zip(every, names, strict=True))

    def _put(self, node: Node, result: Result) -> None:
        if isinstance(result, str) and node.arity > 1:
            self._assign(node, node.outputs, result)
            return
        results = [result] if isinstance(result, str | Ints | Value) else list(result)
        for value, each in zip(node.outputs, results, strict=False):
            if isinstance(each, Value):
                self.alias.update({value: each} if value is not each else {})
            elif isinstance(each, Ints):
                self.env[value] = each
            elif values_in(each) and each == value_mark(values_in(each)[0]):
                self.env[value] = values_in(each)[0]
            else:
                self._assign(node, (value,), each)

    def _assign(self, node: Node, values: Iterable[Value], text: str) -> None:
        marks = []
        for value in values:
            self.env[value] = index = self.flow.value()
            marks.append(value_mark(index))
        self.body.steps.append(Step(self.scope(node), ", ".join(marks), text))

    def scope(self, node: Node) -> Path:
        """The module in which a node runs, as far as the graph says."""
        return self.base or module_scope(node)

    def readers(self, value: Value) -> list[Node]:
        """The nodes that use a value, not counting those that only rename it."""
        return [n for n in self.graph.readers.get(value, ()) if not renames(n)]

    def type(self, value: Value) -> tuple[int | None, DType]:
        """The rank and the element type of a value, as far as they can be told."""
        value = self.resolve(value)
        if value in self.constants:
            array = self.constants[value][0]
            return array.ndim, array.dtype
        rank, dtype = value.rank, value.type.dtype
        if rank is None or dtype == NO_DTYPE:
            if value not in self.types:
                self.types[value] = self._told(value.node)
            more = self.types[value]
            rank, dtype = more[0] if rank is None else rank, more[1] if dtype == NO_DTYPE else dtype
        return rank, dtype

    def _told(self, node: Node | None) -> tuple[int | None, DType]:
        if node is None or node.op == ops.Absent:
            return None, NO_DTYPE
        types = [self.type(v) for v in node.inputs]
        return rank_of(node, [r for r, _ in types], self._length(node)), dtype_of(
            node, [d for _, d in types]
        )

    def _length(self, node: Node) -> int | None:
        """How many numbers the operand of a node holds that gives a shape or axes."""
        place = 0 if node.op.name == "ConstantOfShape" else 1
        if place >= len(node.inputs):
            return None
        value = self.resolve(node.inputs[place])
        known = self.env.get(value)
        if isinstance(known, Ints):
            return len(known.items)
        return (
            self.constants[value][0].size
            if value in self.constants
            else value.type.size(0)
            if value.rank == 1
            else None
        )

    def folded(self, value: Value) -> Array | None:
        """What a value is that only constants decide."""
        value = self.resolve(value)
        if value in self.constants:
            return self.constants[value][0]
        node = value.node
        if node is None or not node.inputs or not node.repeatable or node.bodies:
            return None
        arrays = [None if ops.is_absent(v) else self.folded(v) for v in node.inputs]
        missing = any(
            a is None and not ops.is_absent(v) for a, v in zip(arrays, node.inputs, strict=True)
        )
        if missing:
            return None
        found: Array = np.asarray(compute(node, arrays)[value.index])
        return found

    # Tensors

    def constant(self, value: Value, *, weight: bool = False) -> str:
        """How forward reaches a constant: as a tensor of the module it is used in."""
        if value in self.placed:
            return self.placed[value]
        array, name = self.constants[value]
        scopes, path = self._scopes(value), self._path(name)
        numeric = array.dtype.kind in "fcV" and array.ndim > 0 and value not in self.buffers
        named = path is not None and not path[-1].startswith("running_")
        path = self._place(name, scopes, weight=weight)
        held = array.T if value in self.turned else array
        self._hold(path, np.asarray(held, order="C"), trained=numeric and (weight or named))
        self.flow.origin[".".join(path)] = name
        self.flow.frozen |= {".".join(path)} if value in self.frozen and numeric else set()
        text = path_mark(path) + (".T" if value in self.turned else "")
        self.placed[value] = text
        if any(s != path[: len(s)] for s in scopes):
            index = self.flow.value()
            top = common([*scopes, path[:-1]])
            self.body.steps.append(Step(top, value_mark(index), text))
            self.placed[value] = value_mark(index)
        return self.placed[value]

    def _scopes(self, value: Value) -> list[Path]:
        """The modules that read a value."""
        scopes = [self.flow.clear(self.scope(n)) for n in self.readers(value)]
        unknown = self.base or not scopes or value in self.graph.outputs.values()
        return [self.base] if unknown else scopes

    def _place(self, name: str, scopes: Sequence[Path], *, weight: bool) -> Path:
        """Where a tensor of a name that modules in ``scopes`` read is held: a place of its own."""
        path = self._path(name)
        if path is None or self.flow.clear(path[:-1]) != path[:-1]:
            path = (*common(scopes), tensor_name(name, weight=weight))
        return self.flow.free(path)

    def _path(self, name: str) -> Path | None:
        """The path of a tensor by its name, if that is one."""
        if self.base:
            return None
        single = (name,) if self.from_torch and is_part(name) and not name.isdigit() else None
        return dotted(name) or single

    @property
    def from_torch(self) -> bool:
        """Whether the names are those of a PyTorch module, which are kept."""
        return self.graph.shell.startswith(b"torch:")

    def _hold(self, path: Path, array: Array, *, trained: bool) -> None:
        torch_dtype(array.dtype)
        self.flow.tensors[path] = Held(array, trained)
        self.flow.state[".".join(path)] = array

    def tensor(self, value: Value, known: Ints, device: str = "") -> str:
        """Whole numbers as a tensor."""
        text = f"[{known}]" if known.rank else bare(known.items[0])
        found = self.type(value)[1]
        dtype = found if found != NO_DTYPE else np.dtype(np.int64)
        stated = dtype != np.dtype(np.int64) or not known.items
        kind = f", dtype={torch_dtype(dtype)}" if stated else ""
        return f"torch.tensor({text}{kind}{device})"


class Site:
    """A node that is being emitted."""

    def __init__(self, scene: Scene, node: Node) -> None:
        """Emit ``node`` in ``scene``."""
        self.scene, self.node, self.flow = scene, node, scene.flow

    @property
    def version(self) -> int:
        """The operator set from which the operator is as it is."""
        return self.node.op.version

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, also one that the shapes say."""
        attrs = self.node.attrs
        return attrs[name] if name in attrs else self.node.op.implied(self.node).get(name, default)

    def real(self, name: str, default: float = 0.0) -> str:
        """An attribute that is a real number, as text."""
        return real(self.attr(name, default), self.kind(0) if self.node.inputs else NO_DTYPE)

    def has(self, place: int) -> bool:
        """Whether an operand is given."""
        return place < len(self.node.inputs) and not ops.is_absent(self.node.inputs[place])

    def wants(self, place: int) -> bool:
        """Whether an output is used."""
        value = self.node.outputs[place] if place < self.node.arity else None
        return value is not None and self.scene.graph.uses[value] > 0

    def value(self, place: int) -> Value:
        """The operand, or what it is another name of."""
        return self.scene.resolve(self.node.inputs[place])

    def array(self, place: int) -> Array | None:
        """The operand if it is a constant."""
        if not self.has(place):
            return None
        value = self.value(place)
        known = self.scene.env.get(value)
        if isinstance(known, Ints) and known.known is not None:
            return np.array(known.known, np.int64).reshape([-1] * known.rank)
        return self.scene.constants[value][0] if value in self.scene.constants else None

    def folded(self, place: int) -> Array | None:
        """The operand if only constants decide it."""
        return self.scene.folded(self.node.inputs[place]) if self.has(place) else None

    def ints(self, place: int) -> Ints | None:
        """The operand if forward holds it as whole numbers."""
        known = self.scene.env.get(self.value(place))
        if isinstance(known, Ints):
            return known
        array = self.array(place)
        if array is None or array.ndim > 1 or array.size > _FEW or array.dtype not in SHAPES:
            return None
        return Ints(tuple(int(n) for n in array.reshape(-1)), array.ndim)

    def numbers(self, place: int) -> str:
        """The operand as a Python list."""
        known = self.ints(place)
        if known is not None:
            return f"[{known}]"
        array = self.array(place)
        if array is not None and array.size <= _FEW:
            return f"[{', '.join(literal(n) for n in array.reshape(-1))}]"
        return f"{self.ref(place)}.tolist()"

    def number(self, place: int) -> str:
        """The operand, which holds one number, as a Python number."""
        known = self.ints(place)
        if known is not None:
            return bare(known.items[0])
        array = self.array(place)
        return literal(array.reshape(-1)[0]) if array is not None else f"{self.ref(place)}.item()"

    def shape(self, place: int) -> tuple[Any, ...] | None:
        """The shape of an operand as far as it is known."""
        return self.node.inputs[place].type.shape

    def size(self, place: int, axis: int) -> int | None:
        """The size of an axis of an operand if it is known."""
        array, shape = self.array(place), self.shape(place)
        shape = array.shape if array is not None else shape
        size = shape[axis] if shape is not None else None
        return size if isinstance(size, int) else None

    def rank(self, place: int = 0) -> int:
        """The rank of an operand.

        Raises:
            Unsupported: it is not known.
        """
        rank = self.maybe_rank(place)
        if rank is None:
            raise self.refused(f"the rank of operand {place} is not known")
        return rank

    def maybe_rank(self, place: int = 0) -> int | None:
        """The rank of an operand where it is known."""
        known = self.scene.env.get(self.value(place))
        return (
            known.rank if isinstance(known, Ints) else self.scene.type(self.node.inputs[place])[0]
        )

    def axis(self, default: int, place: int = 0) -> int:
        """The attribute ``axis``, counted from the front."""
        axis: int = self.attr("axis", default)
        return axis + self.rank(place) if axis < 0 else axis

    def dtype(self, place: int = 0) -> np.dtype[Any]:
        """The element type of an operand.

        Raises:
            Unsupported: it is not known.
        """
        dtype = self.kind(place)
        if dtype == NO_DTYPE:
            raise self.refused(f"the element type of operand {place} is not known")
        return dtype

    def kind(self, place: int = 0) -> DType:
        """The element type of an operand where it is known."""
        return self.scene.type(self.node.inputs[place])[1]

    def ref(self, place: int, *, weight: bool = False) -> str:
        """The operand as a tensor."""
        return self.tensor(self.value(place), weight=weight, place=place)

    def tensor(self, value: Value, *, weight: bool = False, place: int = 0) -> str:
        """A value as a tensor."""
        value = self.scene.resolve(value)
        known = self.scene.env.get(value)
        if isinstance(known, int):
            return value_mark(known)
        if known is None:
            if value not in self.scene.constants:
                raise self.refused(f"operand {place} is not given")
            return self.scene.constant(value, weight=weight)
        if known.known:
            array = np.array(known.known, self._whole_kind(value)).reshape([-1] * known.rank)
            self.scene.constants.setdefault(value, (array, ""))
            return self.scene.constant(value)
        return self.let(self.scene.tensor(value, known, self.device()))

    def _whole_kind(self, value: Value) -> DType:
        dtype = self.scene.type(value)[1]
        return np.dtype(np.int64) if dtype == NO_DTYPE else dtype

    def operand(self, place: int) -> str:
        """The operand of an arithmetic operator: a single constant number is written out."""
        if not self._is_scalar(place):
            return self.ref(place)
        known = self.ints(place)
        if known is not None:
            return str(known.items[0])
        array = self.array(place)
        assert array is not None
        return literal(array.reshape(-1)[0])

    def _is_scalar(self, place: int) -> bool:
        """Whether an operand is one number, and another gives the rank and the element type."""
        known, array = self.ints(place), self.array(place)
        if known is None and (array is None or array.dtype.kind not in "biuf"):
            return False
        size = len(known.items) if known is not None else array.size if array is not None else 0
        rank = known.rank if known is not None else array.ndim if array is not None else 0
        others = [k for k in range(len(self.node.inputs)) if k != place and self.has(k)]
        tensors = [k for k in others if self._is_tensor(k) and self._like(k, place)]
        return size == 1 and any((self.maybe_rank(k) or 0) >= rank for k in tensors)

    def _like(self, a: int, b: int) -> bool:
        return self.kind(a) == self.kind(b)

    def _is_tensor(self, place: int) -> bool:
        return isinstance(self.scene.env.get(self.value(place)), int)

    def device(self) -> str:
        """The argument that makes a new tensor on the device of the operands."""
        for place in range(len(self.node.inputs)):
            known = self.scene.env.get(self.value(place)) if self.has(place) else None
            if isinstance(known, int):
                return f", device={value_mark(known)}.device"
            found = values_in(str(known)) if known is not None else []
            if found:
                return f", device={value_mark(found[0])}.device"
        inputs = map(self.scene.env.get, self.scene.graph.inputs.values())
        first = next((v for v in inputs if isinstance(v, int)), None)
        return f", device={value_mark(first)}.device" if first is not None else ""

    def let(self, text: str) -> str:
        """Compute ``text`` in a statement of its own, and mention the result."""
        return self.lets(text, 1)[0]

    def lets(self, text: str, count: int, pattern: str = "") -> list[str]:
        """Compute ``text``, which gives several values, in a statement of its own.

        ``pattern`` is the left side, with ``{}`` for each value.
        """
        marks = [value_mark(self.flow.value()) for _ in range(count)]
        left = pattern.format(*marks) if pattern else ", ".join(marks)
        self.scene.body.steps.append(Step(self.scene.scope(self.node), left, text))
        return marks

    def unpacked(self, text: str, nodes: Sequence[Node]) -> str:
        """Unpack what ``text`` gives into the results of ``nodes``, this one's among them."""
        if len({self.scene.scope(node) for node in nodes}) != 1:
            return ""
        marks = dict(zip(nodes, self.lets(text, len(nodes)), strict=True))
        others = {n.outputs[0]: values_in(m)[0] for n, m in marks.items() if n is not self.node}
        self.scene.env.update(others)
        self.scene.done.update(nodes)
        return marks[self.node]

    def helper(self, name: str) -> str:
        """The name of a function that the file then holds."""
        self.flow.helpers.add(name)
        return name

    def refused(self, why: str) -> Unsupported:
        """The error that says why the node has no form in PyTorch."""
        return Unsupported(f"{self.node}: no PyTorch form: {why}")

    # Layers

    def fused(self, nodes: Sequence[Node], result: Node) -> None:
        """Take ``nodes`` for done: this node is emitted as what gives the output of ``result``."""
        self.scene.done.update(nodes)
        self.scene.alias[result.outputs[0]] = self.node.outputs[0]

    def owns(self, *values: Value) -> bool:
        """Whether the values are constants that one node alone reads."""
        found = [self.scene.resolve(v) for v in values]
        return len(set(found)) == len(found) and all(self._alone(v) for v in found)

    def owned(self, *places: int) -> bool:
        """Whether the operands, a weight first, are constants that only this node reads."""
        if self.scene.from_torch and not self._stays(self.value(places[0])):
            return False
        return self.owns(*(self.value(p) for p in places if self.has(p)))

    def _stays(self, weight: Value) -> bool:
        """Whether a layer with this weight leaves it the name that the model has for it."""
        path = dotted(self.scene.constants.get(weight, (None, ""))[1])
        if path is None or path[-1] != "weight":
            return False
        scope = self.scene.scope(self.node)
        added = [r for r in self.scene.readers(self.node.outputs[0]) if r.op.name == "Add"]
        own = 1 + sum(self.scene.scope(r) == scope for r in added)
        alone = scope == path[:-1] and self.scene.counts[scope] in (1, own)
        return path[:-1] not in self.flow.taken or alone

    def _alone(self, value: Value) -> bool:
        graph = self.scene.graph
        if value not in self.scene.constants or value in self.scene.placed:
            return False
        return value not in graph.outputs.values() and len(self.scene.readers(value)) == 1

    def layer(
        self,
        text: str,
        kind: str,
        tensors: Mapping[str, tuple[Array, Value | None]],
        nodes: Sequence[Node] = (),
    ) -> str:
        """How forward reaches a layer, made by ``text``, that holds ``tensors`` by name.

        With each tensor comes the constant that it is; the first one's name says where the layer
        is. ``nodes`` are what the layer does besides this node; ``kind`` is its name where
        nothing else says one.
        """
        values = [v for _, v in tensors.values()]
        path = self._layer_path(kind, next(iter(values), None), nodes)
        dtype = _common_type([array for array, _ in tensors.values()])
        self.flow.layers[path] = _typed(text, dtype)
        for name, (array, value) in tensors.items():
            key = ".".join((*path, name))
            self.flow.state[key] = array.astype(dtype) if _is_real(array) else array
            held = self.scene.resolve(value) if value is not None else None
            if held in self.scene.constants:
                self.flow.origin[key] = self.scene.constants[held][1]
            self.flow.frozen |= {key} if held in self.scene.frozen else set()
        return path_mark(path)

    def _layer_path(self, kind: str, weight: Value | None, nodes: Sequence[Node]) -> Path:
        scene, scope = self.scene, self.scene.scope(self.node)
        same = sum(scene.scope(n) == scope for n in (self.node, *nodes))
        alone = scope and not scene.base and scene.counts[scope] == same
        alone = alone and scope not in self.flow.layers
        named = scene.constants.get(scene.resolve(weight)) if weight is not None else None
        path = dotted(named[1]) if named is not None and not scene.base else None
        if path is not None and path[-1] == "weight" and path[:-1] not in self.flow.taken:
            self.flow.taken.add(path[:-1])
            return path[:-1]
        return scope if alone else self.flow.free((*scope, kind))

    def module(self, text: str) -> str | None:
        """How forward reaches a layer without tensors that the model had here, if it had one."""
        scope = self.scene.scope(self.node)
        if not scope or self.scene.base:
            return None
        same = self.scene.below[scope]
        alike = all(n.op == self.node.op and n.attrs == self.node.attrs for n in same)
        if not alike or self.scene.counts[scope] != len(same):
            return None
        if self.flow.layers.setdefault(scope, text) != text:
            return None
        return path_mark(scope)

    def activation(self, module: str, function: str) -> str:
        """A layer applied to operand 0 where the model had one here, else a function."""
        layer = self.module(module)
        return f"{layer}({self.ref(0)})" if layer else function.format(self.ref(0))

    # Control flow

    def inner(self, graph: Graph, kind: str) -> tuple[str, list[str]]:
        """Emit a body as a module: how it is reached, and the captured operands it is given."""
        base = self.flow.free((*self.scene.scope(self.node), kind))
        captured = control.captures(self.node)
        first = len(self.node.inputs) - len(captured)
        places = {n: first + k for k, n in enumerate(captured) if n in graph.inputs}
        constants = self.scene.constants
        known = {
            n: constants[self.value(p)] for n, p in places.items() if self.value(p) in constants
        }
        scene = Scene(self.flow, graph, base, known)
        inside = {graph.inputs[n]: self.scene.type(self.node.inputs[p]) for n, p in places.items()}
        scene.types.update({v: t for v, t in inside.items() if v not in scene.constants})
        scene.run()
        ends = zip(self.node.outputs, graph.outputs.values(), strict=False)
        for value, end in ends:
            other, found = self.scene.types.get(value), scene.type(end)
            agrees = other is None or other[0] == found[0]
            self.scene.types[value] = (found[0] if agrees else None, found[1])
        given = [self.ref(places[n]) for n in scene.body.names if n in places]
        return path_mark(base), given

    def inline(self, graph: Graph) -> list[Value]:
        """Emit a body in place: its outputs, as values of the graph around it."""
        scene, captured = self.scene, control.captures(self.node)
        operands = self.node.inputs[len(self.node.inputs) - len(captured) :]
        for name, value in zip(captured, operands, strict=True):
            if name in graph.inputs:
                scene.alias[graph.inputs[name]] = value
        scene.nodes(graph)
        return list(graph.outputs.values())


def _first_name(node: Node) -> str:
    return node.source.outputs[0] if node.source and node.source.outputs else ""


def renames(node: Node) -> bool:
    """Whether the node gives a constant a second name: two parameters that were equal."""
    return node.op.name == "Identity" and ops.tensor_of(node.inputs[0]) is not None


def _is_real(array: Array) -> bool:
    return array.dtype.kind in "fV"


def _common_type(arrays: Sequence[Array]) -> DType:
    """The element type of a layer that holds ``arrays``: one that holds all real numbers."""
    kinds = {a.dtype for a in arrays if _is_real(a)}
    return np.result_type(*kinds, *([] if len(kinds) == 1 else [np.float32])) if kinds else NO_DTYPE


def _typed(layer: str, dtype: DType) -> str:
    """The call that makes a layer, with the element type of its tensors unless that is usual."""
    if dtype in (NO_DTYPE, np.float32):
        return layer
    before, comma = layer[:-1], "" if layer.endswith("()") else ", "
    return f"{before}{comma}dtype={torch_dtype(dtype)})"
