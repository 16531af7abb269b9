"""Bipartite soft matching, written in standard operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redir import ops
from redir.ir import Node, Op, Value
from redir.ir.tensor import DType, Tensor
from redir.ops import lookup
from redir.ops.protos import dtype_code
from redir.passes.merge_tokens.blocks import Keys

_AXES = 18  # the operator set from which a ReduceMean is told its axes by an operand
_LEAST = 1e-6  # a shorter key is like none
_END = 2**31 - 1  # beyond any token


@dataclass(frozen=True)
class Writer:
    """Writes nodes of an operator set."""

    opset: int
    _held: dict[tuple[Any, ...], Value] = field(default_factory=dict, repr=False)

    def node(self, name: str, *inputs: Value, arity: int = 1, **attrs: Any) -> Node:
        """A node of a standard operator."""
        op: Op | None = lookup(name, self.opset)
        assert op is not None
        return Node(op, inputs, attrs, arity=arity)

    def op(self, name: str, *inputs: Value, **attrs: Any) -> Value:
        """The one result of a standard operator."""
        return self.node(name, *inputs, **attrs).outputs[0]

    def ints(self, *numbers: int) -> Value:
        """A constant vector of whole numbers."""
        return self.constant(numbers, np.dtype(np.int64))

    def number(self, value: float, dtype: DType) -> Value:
        """A constant number."""
        return self.constant(value, dtype)

    def constant(self, held: Any, dtype: DType) -> Value:
        """A constant, the same one where it is asked for again."""
        key = (held, dtype.name)
        if key not in self._held:
            self._held[key] = ops.constant(np.array(held, dtype))
        return self._held[key]

    def reduced(self, name: str, x: Value, *axes: int, keep: bool = False) -> Value:
        """A mean, norm or the like along axes."""
        if self.opset < _AXES:
            return self.op(name, x, axes=axes, keepdims=int(keep))
        return self.op(name, x, self.ints(*axes), keepdims=int(keep))

    def cast(self, x: Value, dtype: DType) -> Value:
        """The same numbers in another type."""
        return self.op("Cast", x, to=dtype_code(dtype))

    def cut(self, x: Value, axis: int, start: int, end: int = _END, step: int = 1) -> Value:
        """Every so many-th along an axis, from one place to before another."""
        told = (start, end, axis) if step == 1 else (start, end, axis, step)
        return self.op("Slice", x, *map(self.ints, told))

    def deeper(self, x: Value, axis: int) -> Value:
        """One more axis."""
        return self.op("Unsqueeze", x, self.ints(axis))


@dataclass(frozen=True)
class Matching:
    """How many of so many ``tokens`` are merged, none of the first ``places``.

    Of the others each of an even place may go, into one of an odd place.
    """

    tokens: int
    merged: int
    places: int

    @property
    def start(self) -> int:
        """The first even place, of those that may go."""
        return self.places + self.places % 2

    @property
    def going(self) -> int:
        """How many may go."""
        return len(range(self.start, self.tokens, 2))

    @property
    def target(self) -> int:
        """The first odd place."""
        return self.places + 1 - self.places % 2

    @property
    def targets(self) -> int:
        """How many others they may go into."""
        return len(range(self.target, self.tokens, 2))

    @property
    def most(self) -> int:
        """How many can be merged: up to half, rounded down."""
        return max(0, min(self.going, (self.tokens - self.places) // 2))

    @property
    def left(self) -> int:
        """How many tokens there are then."""
        return self.tokens - self.merged


def features(write: Writer, value: Value, keys: Keys) -> Value:
    """Keys, averaged over heads, by which tokens are compared: (examples, tokens, channels)."""
    if keys.heads > 1:
        parts = write.op("Reshape", value, write.ints(0, 0, keys.heads, -1))
        return write.reduced("ReduceMean", parts, 2)
    own = [a for a in (keys.rows, keys.tokens, keys.channels) if a is not None]
    others = [a for a in range(value.rank or 0) if a not in own]
    mean = write.reduced("ReduceMean", value, *others) if others else value
    perm = [sorted(own).index(a) for a in own]
    if perm != sorted(perm):
        mean = write.op("Transpose", mean, perm=tuple(perm))
    return mean if keys.rows is not None else write.deeper(mean, 0)


def matched(write: Writer, keys: Value, how: Matching) -> tuple[Value, Value, Value]:
    """The places of those that go, of those that stay, and into which each goes.

    Places are in the stream (examples, tokens), and (examples, targets, merged) is 1 where one goes
    into the other.
    """
    norm = write.reduced("ReduceL2", keys, 2, keep=True)
    keys = write.op("Div", keys, write.op("Max", norm, write.number(_LEAST, keys.type.dtype)))
    going, targets = (write.cut(keys, 1, start, step=2) for start in (how.start, how.target))
    alike = write.op("MatMul", going, write.op("Transpose", targets, perm=(0, 2, 1)))
    best = write.reduced("ReduceMax", alike, 2)
    whither = write.op("ArgMax", alike, axis=2, keepdims=0)
    order = write.node("TopK", best, write.ints(how.going), arity=2, axis=1).outputs[1]
    gone = write.cut(order, 1, 0, how.merged)
    target = write.deeper(write.op("GatherElements", whither, gone, axis=1), 1)
    numbers = ops.constant(np.arange(how.targets).reshape(1, -1, 1))
    goes = write.op("Equal", target, numbers)
    stays = write.cut(order, 1, how.merged)
    places = [_placed(write, each, how.start) for each in (gone, stays)]
    return places[0], places[1], goes


def _placed(write: Writer, numbers: Value, start: int) -> Value:
    """The places in the stream of even ones: (examples, tokens, 1)."""
    two, first = (write.number(n, numbers.type.dtype) for n in (2, start))
    return write.deeper(write.op("Add", write.op("Mul", numbers, two), first), 2)


def merged(
    write: Writer, x: Value, sizes: Value | None, keys: Value, how: Matching
) -> tuple[Value, Value]:
    """Tokens (examples, tokens, channels) and their sizes (examples, tokens, 1), of which some go.

    Without ``sizes`` each is 1. First come those that stay, then those that others go into.
    """
    gone, stays, goes = matched(write, keys, how)
    into = write.cast(goes, x.type.dtype)
    targets = write.cut(x, 1, how.target, step=2)
    more, rest = (_rows(write, x, places) for places in (gone, stays))
    first = [write.cut(x, 1, 0, how.places)] if how.places else []
    if sizes is None:
        one = write.number(1.0, x.type.dtype)
        size = write.op("Add", write.op("ReduceSum", into, write.ints(2), keepdims=1), one)
        kept = [_ones(write, stays, how, x.type.dtype)]
    else:
        held, added = write.cut(sizes, 1, how.target, step=2), _rows(write, sizes, gone)
        size = write.op("Add", held, write.op("MatMul", into, added))
        targets, more = write.op("Mul", targets, held), write.op("Mul", more, added)
        kept = [write.cut(sizes, 1, 0, how.places)] if how.places else []
        kept.append(_rows(write, sizes, stays))
    total = write.op("Add", targets, write.op("MatMul", into, more))
    mean = write.op("Div", total, size)
    tokens = write.op("Concat", *first, rest, mean, axis=1)
    return tokens, write.op("Concat", *kept, size, axis=1)


def _rows(write: Writer, x: Value, places: Value) -> Value:
    """The tokens at some places."""
    return write.op("GatherND", x, places, batch_dims=1)


def _ones(write: Writer, stays: Value, how: Matching, dtype: DType) -> Value:
    """The sizes at first of those that stay: (examples, tokens, 1)."""
    examples = write.cut(write.op("Shape", stays), 0, 0, 1)
    left = write.ints(how.places + how.going - how.merged, 1)
    shape = write.op("Concat", examples, left, axis=0)
    return write.op("ConstantOfShape", shape, value=Tensor.take(np.ones(1, dtype)))
