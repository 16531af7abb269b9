"""A graph at given sizes: each type, and the numbers that follow from sizes, without running it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from redir import ops
from redir.errors import IllTyped, RedirError
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import Array, Type
from redir.ops import constant, control, is_absent, tensor_of

_SMALL = 1024  # elements of what may say a size, as for onnx's own inference
_MOST = np.iinfo(np.int64).max  # elements that a Size can count


Memo = dict[tuple[Any, ...], Sequence[Value]]


@dataclass
class Concrete:
    """A graph whose inputs have the sizes that were given.

    ``values`` has for each value of the graph the one that stands for it, of its type at these
    sizes: a constant where its numbers follow from sizes alone; those of the branches of an If
    are there too. ``misfit`` is the first node that does not fit its operands, ``reason`` says
    why; the values behind it are missing then. ``memo`` remembers what nodes gave on operands of
    some type, to be handed to the next reading of the same graph.
    """

    values: dict[Value, Value] = field(default_factory=dict)
    misfit: Node | None = None
    reason: str = ""
    elements: int = 0  # of all values that are computed, as far as one can tell
    largest: int = 0  # of those of one value
    memo: Memo = field(default_factory=dict, repr=False)


def concrete(
    graph: Graph,
    inputs: Mapping[str, Value],
    wanted: Collection[Value] | None = None,
    memo: Memo | None = None,
) -> Concrete:
    """``graph`` on ``inputs``, as far as its outputs, or the values ``wanted``, need it."""
    if wanted is not None:
        graph = Graph(graph.inputs, {str(i): v for i, v in enumerate(wanted)})
    given = {value: inputs.get(name, value) for name, value in graph.inputs.items()}
    found = Concrete(given, memo={} if memo is None else memo)
    for value in given.values():
        _count(found, value.type)
    for node in graph.nodes:
        operands = tuple(found.values[v] for v in node.inputs)
        try:
            made = _results(found, node, operands)
        except IllTyped as error:
            found.misfit, found.reason = found.misfit or node, str(error)
            return found
        found.values.update(zip(node.outputs, made, strict=True))
        for value in made if node.inputs and node.op != ops.If else ():
            _count(found, value.type)
    return found


@dataclass(frozen=True)
class At:
    """An analysis of a graph: what it is where its inputs are of some ``types``, in their order."""

    types: tuple[Type, ...]

    def __call__(self, graph: Graph) -> Concrete:
        """The graph on inputs of these types."""
        given = zip(graph.inputs.items(), self.types, strict=True)
        return concrete(graph, {name: Value(t) for (name, v), t in given if v.type != t})


def concrete_at(graph: Graph, types: Mapping[str, Type]) -> Concrete:
    """``concrete`` on inputs of other ``types``, looked at once for each: costs and checks ask."""
    return graph.analysis(At(tuple(types.get(n, v.type) for n, v in graph.inputs.items())))


def _results(found: Concrete, node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
    if node.op == ops.If:
        return _branches(found, node, operands)
    key = (node, *map(_told, operands))
    if key not in found.memo:
        new = node.on(operands)
        why = node.misfit(operands)
        if why:
            raise IllTyped(f"{node}: {why}")
        found.memo[key] = _computed(new) or new.outputs
    return found.memo[key]


def _told(value: Value) -> Any:
    """All that the result of a node may follow from: a type, or numbers."""
    tensor = tensor_of(value)
    if tensor is None:
        return value.type
    told = tensor.size <= _SMALL and tensor.type.dtype.kind != "O"
    return (value.type, tensor.array.tobytes()) if told else value


def _count(found: Concrete, type_: Type) -> None:
    size = prod(type_.static or (0,))
    found.elements += size
    found.largest = max(found.largest, size)


def _computed(node: Node) -> Sequence[Value] | None:
    """The results as constants, where they are few numbers that follow from numbers or sizes."""
    if node.op in (ops.Shape, ops.Size):
        return _sizes(node)
    arrays = _known(node)
    few = all(prod(v.type.static or (0,)) <= _SMALL for v in node.outputs)
    told = node.op == ops.NonZero or all(v.type.static is not None for v in node.outputs)
    if arrays is None or not (few and told and node.repeatable) or node.bodies:
        return None
    try:
        return [constant(np.asarray(a)) for a in compute(node, arrays)]
    except RedirError:  # the model fails when it runs, not before
        return None


def _sizes(node: Node) -> Sequence[Value] | None:
    """What a Shape or Size gives, of an operand of any size."""
    sizes = node.inputs[0].type.static
    if sizes is None:
        return None
    if node.op == ops.Shape:
        found = np.array(sizes[node.attrs.get("start", 0) : node.attrs.get("end")], np.int64)
        return [constant(found)]
    return [constant(np.array(prod(sizes)))] if prod(sizes) <= _MOST else None


def _known(node: Node) -> list[Array | None] | None:
    """The operands, where all are few numbers."""
    held = {value: tensor_of(value) for value in node.inputs}
    if not all(t.size <= _SMALL if t else is_absent(v) for v, t in held.items()):
        return None
    return [t.array if (t := held[value]) else None for value in node.inputs] or None


def _branches(found: Concrete, node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
    """What the branch of an If gives that is taken, or else what those agree on that fit."""
    held = control.captures(node)
    captured = dict(zip(held, operands[len(operands) - len(held) :], strict=True))
    condition = tensor_of(operands[0])
    names = ["then_branch", "else_branch"]
    if condition is not None:
        names = names[:1] if condition.array.item() else names[1:]
    bodies = [node.attrs[name] for name in names]
    tried = [(body, concrete(body, captured, memo=found.memo)) for body in bodies]
    for _, at in tried:
        found.values.update(at.values)
    fitting = [(body, at) for body, at in tried if at.misfit is None]
    if not fitting:
        found.misfit = tried[0][1].misfit
        raise IllTyped(tried[0][1].reason)
    found.elements += max(at.elements for _, at in fitting)
    found.largest = max(found.largest, *(at.largest for _, at in fitting))
    first, *others = ([at.values[v] for v in body.outputs.values()] for body, at in fitting)
    if not others:
        return first
    return [Value(control.unify(a.type, b.type)) for a, b in zip(first, others[0], strict=True)]
