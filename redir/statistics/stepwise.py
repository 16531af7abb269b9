"""A model of language run at a place of its texts after the other: what was there is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from redir import ops
from redir.errors import Unsupported
from redir.ir import Graph, Node, Port, Value
from redir.ir.interpreter import values
from redir.ir.tensor import Array, TensorType
from redir.ops.sizes import goal_of
from redir.statistics.walk import running

_OF_SIZES = (ops.Shape, ops.Size)  # which tell the same of all texts of a size

Part = tuple[Value, int | None]
"""What does not hang on words, and along which axis a place of it is read, if not all is."""

Ties = Sequence[tuple[Port, Port]]
"""Axes of operands, each with the axis of a result that it is."""


class Stepwise:
    """What tells the next words, where all before a place of some texts are known.

    The places of a text are followed by the links of operators, from the ids on, and each node is
    computed at one place. What reads all places at once, as attention reads keys and values, finds
    those that were computed before, and whatever is left there where texts go on. So a model has to
    hide what comes later; that it does is for others to see, by comparing.
    """

    def __init__(self, graph: Graph, feeds: Mapping[str, Array], words: str, logits: str) -> None:
        """Follow the places of ``words``, (texts, length), to ``logits``; all sizes are known.

        ``feeds`` are what the graph reads, of which words are given later.

        Raises:
            Unsupported: places cannot be followed.
        """
        source = graph.inputs[words]
        self._axes = dict[Value, int]({source: 1})
        self._given = {value for name, value in graph.inputs.items() if name != words}
        self._now = {source: _one(source, 1)}  # what is at one place
        self._parts = dict[Part, Value]()
        self._whole = dict[Value, tuple[Value, Value, Value]]()  # kept, where to put it, and all
        for node in graph.nodes:
            hangs = any(value in self._axes for value in node.inputs)
            if hangs and node.op not in _OF_SIZES:
                self._follow(node)
            elif hangs or not self._given.isdisjoint(node.inputs):
                self._given.update(node.outputs)
        told = graph.outputs[logits]
        if self._axes.get(told) != 1:
            raise Unsupported("the places of texts are lost before the logits")
        self._words, self._logits = self._now[source], self._now[told]
        fixed = values(replace(graph, outputs={}), feeds, [value for value, _ in self._parts])
        self._fixed = dict(zip(self._parts, fixed, strict=True))
        self._kept = {v: np.zeros(v.type.static or (), v.type.dtype) for v in self._whole}
        self._run = running(self._graph(graph))

    def step(self, ids: Array, place: int) -> Array:
        """The logits (texts, words) at a place, of the ids (texts,) there; after those before."""
        feeds = {"words": ids[:, None].astype(self._words.type.dtype)}
        for number, ((_, axis), array) in enumerate(self._fixed.items()):
            feeds[f"part {number}"] = array if axis is None else array[_only(axis, place)]
        for number, (value, kept) in enumerate(self._kept.items()):
            feeds[f"kept {number}"] = kept
            feeds[f"here {number}"] = _here(self._whole[value][1], place)
        found = self._run(feeds)
        for number, (value, kept) in enumerate(self._kept.items()):
            kept[_only(self._axes[value], place)] = found[f"new {number}"]
        logits: Array = found["logits"][:, 0]
        return logits

    def _graph(self, graph: Graph) -> Graph:
        """What is computed in a step."""
        inputs, outputs = {"words": self._words}, {"logits": self._logits}
        inputs.update({f"part {n}": part for n, part in enumerate(self._parts.values())})
        for number, (value, (kept, here, _)) in enumerate(self._whole.items()):
            inputs.update({f"kept {number}": kept, f"here {number}": here})
            outputs[f"new {number}"] = self._now[value]
        return Graph(inputs, outputs, opset=graph.opset)

    def _follow(self, node: Node) -> None:
        """Add a node to what is computed in a step.

        Raises:
            Unsupported: places cannot be followed through it.
        """
        ties, own = _ties(node), [(v, self._axes[v]) for v in node.inputs if v in self._axes]
        ends = [b for port in own for a, b in ties if a == port]
        if not ends or len(node.outputs) > 1:
            raise Unsupported(f"the places of texts are lost at {node}")
        operands = [self._operand(value, _at(ties, value, ends[0])) for value in node.inputs]
        goal, (y, axis) = goal_of(node), ends[0]
        if goal is not None and goal.constant is not None and axis in goal.axes:
            told = np.array(goal.constant)
            told[goal.axes.index(axis)] = 1
            operands[node.inputs.index(goal.vector)] = ops.constant(told)
        self._axes[y], (self._now[y],) = axis, node.on(operands).outputs
        if self._now[y].type.static != _one(y, axis).type.static:
            raise Unsupported(f"the places of texts are lost at {node}")

    def _operand(self, value: Value, axis: int | None) -> Value:
        """What is read of an operand: at one place along an axis, or all where there is none."""
        if value not in self._axes:
            if axis is None and value not in self._given:
                return value
            return self._parts.setdefault((value, axis), _one(value, axis))
        if axis == self._axes[value]:
            return self._now[value]
        if axis is not None:
            raise Unsupported("places of texts are exchanged")
        if value not in self._whole:
            sizes = np.ones(value.rank or 0, int)
            sizes[self._axes[value]] = value.type.size(self._axes[value]) or 1
            here = Value(TensorType(np.dtype(bool), tuple(sizes.tolist())))
            kept = Value(value.type)
            self._whole[value] = kept, here, ops.Where(here, self._now[value], kept)
        return self._whole[value][2]


def _ties(node: Node) -> Ties:
    """The axes of operands that are axes of results, place by place."""
    links = [(k.a, k.b) for k in node.op.links(node) if k.kind == "same" and _is_plain(k.index)]
    found = [pair for a, b in links for pair in ((a, b), (b, a)) if pair[1][0] in node.outputs]
    if node.op == ops.Gather:  # its links are those of what it reads, not of where
        first, where = int(node.attrs.get("axis", 0)) % (node.inputs[0].rank or 1), node.inputs[1]
        found += [((where, a), (node.outputs[0], first + a)) for a in range(where.rank or 0)]
    return found


def _is_plain(index: Array) -> bool:
    return np.array_equal(index, np.arange(len(index)))


def _at(ties: Ties, value: Value, port: Port) -> int | None:
    """The axis of an operand that is that of a result, if one is."""
    return next((a[1] for a, b in ties if a[0] is value and b == port), None)


def _one(value: Value, axis: int | None) -> Value:
    """What is at one place along an axis of a value, or all of it."""
    shape = value.type.shape or ()
    return Value(
        TensorType(value.type.dtype, tuple(1 if a == axis else n for a, n in enumerate(shape)))
    )


def _only(axis: int, place: int) -> tuple[slice, ...]:
    """What takes one place along an axis."""
    return (*[slice(None)] * axis, slice(place, place + 1))


def _here(mark: Value, place: int) -> Array:
    """Where a place is, in the shape of a mark."""
    sizes = mark.type.static or ()
    found: Array = (np.arange(max(sizes)) == place).reshape(sizes)
    return found
