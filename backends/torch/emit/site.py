"""One node being emitted: its operands as text, its layers and its bodies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from redir import ops
from redir.backends.torch.emit.flow import Result, Step
from redir.backends.torch.emit.literals import SHAPES, Ints, bare, literal, real, torch_dtype
from redir.backends.torch.emit.scene import Scene
from redir.backends.torch.emit.text import Path, path_mark, value_mark, values_in
from redir.backends.torch.names import dotted
from redir.errors import Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.tensor import NO_DTYPE, Array, DType
from redir.ops import control

_FEW = 64  # whole numbers that are written out
Emit: TypeAlias = "Callable[[Site], Result]"
Tensors: TypeAlias = dict[str, int | tuple[Array, Value | None]]
"""The tensors of a layer: operands by their places, or arrays and the constants that they are."""
__all__ = ["Emit", "Result", "Site", "Tensors"]


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
        tensors: Tensors,
        nodes: Sequence[Node] = (),
    ) -> str:
        """How forward reaches a layer, made by ``text``, that holds ``tensors`` by name.

        Operands that are not given are left out; the first tensor's name says where the layer is.
        ``nodes`` are what the layer does besides this node; ``kind`` is its name where nothing
        else says one.
        """
        given = {n: t for n, t in tensors.items() if not isinstance(t, int) or self.has(t)}
        held = {n: self._held(t) if isinstance(t, int) else t for n, t in given.items()}
        path = self._layer_path(kind, next((v for _, v in held.values()), None), nodes)
        dtype = _common_type([array for array, _ in held.values()])
        self.flow.layers[path] = _typed(text, dtype)
        for name, (array, value) in held.items():
            key = ".".join((*path, name))
            self.flow.state[key] = array.astype(dtype) if _is_real(array) else array
            constant = self.scene.resolve(value) if value is not None else None
            if constant in self.scene.constants:
                self.flow.origin[key] = self.scene.constants[constant][1]
            self.flow.frozen |= {key} if constant in self.scene.frozen else set()
        return path_mark(path)

    def _held(self, place: int) -> tuple[Array, Value]:
        array = self.array(place)
        assert array is not None
        return array, self.value(place)

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
