"""One graph being emitted: what its values have become so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from redir import ops
from redir.backends.torch.emit.flow import Body, Flow, Held, Result, Step
from redir.backends.torch.emit.literals import Ints, bare, torch_dtype
from redir.backends.torch.emit.text import Path, path_mark, value_mark, values_in
from redir.backends.torch.emit.types import dtype_of, rank_of
from redir.backends.torch.interface import Signature, State, signature, states, text_of, unreturned
from redir.backends.torch.names import (
    classes_of,
    common,
    dotted,
    identifier,
    is_part,
    module_scope,
    tensor_name,
)
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import NO_DTYPE, Array, DType, SparseTensor, Tensor


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
            if node not in self.done and ops.is_operator(node):
                self._node(node)

    def _constant(self, node: Node) -> None:
        held, value = node.attrs["value"], node.outputs[0]
        array = held.dense() if isinstance(held, SparseTensor) else held.array
        self.constants[value] = (array, node.result_name)
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
        self.flow.classes.update(classes_of(node))
        if renames(node):
            array = self.constants[self.resolve(node.inputs[0])][0]
            self.constants[node.outputs[0]] = (array, node.result_name)
            return
        self._put(node, self.flow.rule(self, node))

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


def renames(node: Node) -> bool:
    """Whether the node gives a constant a second name: two parameters that were equal."""
    return node.op.name == "Identity" and ops.tensor_of(node.inputs[0]) is not None
