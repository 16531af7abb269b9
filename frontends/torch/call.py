"""Lowering one call of a PyTorch operator: the table of rules, and what every rule works with.

Nothing here imports torch: its element types are numpy's by now, and its symbolic sizes are text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from redir import ops
from redir.errors import IllTyped, Unsupported
from redir.ir import Attr, Node, Op, Source, Value
from redir.ir.tensor import Dim, DType, Shape, TensorType
from redir.ops import protos

OPSETS = (21, 23)  # tried in turn: 23 has attention, and onnxruntime runs it
INT64: DType = np.dtype(np.int64)
FLOAT32: DType = np.dtype(np.float32)
BOOL: DType = np.dtype(np.bool_)
END = 2**63 - 1  # of any axis


class NotLowered(Exception):
    """Raised by a rule for a form of its operator that no standard operators express."""


@dataclass(frozen=True)
class Sym:
    """A number that depends on the inputs' shapes: how torch writes it, and what computes it."""

    text: str
    compute: Callable[[], Value] = field(repr=False, compare=False)

    def __float__(self) -> float:
        """Nothing: the rule needs a number that is known."""
        raise NotLowered

    def __int__(self) -> int:
        """Nothing, as for a float."""
        raise NotLowered


Size: TypeAlias = int | Sym
Number: TypeAlias = bool | int | float
Operand: TypeAlias = Value | Number | Sym
Result: TypeAlias = "Value | tuple[Value | None, ...]"
Rule: TypeAlias = Callable[..., Result]
_AnyRule = TypeVar("_AnyRule", bound=Callable[..., Any])

RULES: dict[str, Rule] = {}


def aten(*names: str) -> Callable[[_AnyRule], _AnyRule]:
    """Enter a rule into the table: ``name`` for every overload, ``name.overload`` for one."""

    def enter(rule: _AnyRule) -> _AnyRule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return enter


def first_only(rule: Rule) -> Rule:
    """``rule`` for an operator that gives more, which nobody reads."""

    @wraps(rule)
    def first(c: Call, *args: object) -> tuple[Value | None, ...]:
        found = rule(c, *args)
        assert isinstance(found, Value)
        return (found, *[None] * (len(c.results) - 1))

    return first


def standard(name: str) -> list[Op]:
    """The standard operator ``name`` as it is in each of the operator sets, the oldest first."""
    return [op for opset in OPSETS if (op := ops.lookup(name, opset)) is not None]


def _applied(name: str, inputs: tuple[Value, ...], attrs: dict[str, Attr], **more: Any) -> Node:
    """A node of the oldest operator that takes such operands: bfloat16 came late."""
    *older, newest = standard(name)
    for op in older:
        with suppress(IllTyped):
            return Node(op, inputs, attrs, **more)
    return Node(newest, inputs, attrs, **more)


@dataclass(eq=False)
class Call:
    """One call that is being lowered, and what torch says of it.

    ``results`` are the types that torch states, ``shapes`` the shapes of every value so far;
    ``place`` is where the call stands, for messages, and ``source`` what its main operator keeps.
    ``transposed`` are the constants that hold the transpose of a parameter, ``named`` counts the
    nodes of each name.
    """

    place: str
    source: Source
    results: Sequence[TensorType]
    shapes: dict[Value, Shape]
    transposed: set[Value]
    named: Counter[str]

    # What torch says

    @property
    def dtype(self) -> DType:
        """The element type of the first result."""
        return self.results[0].dtype

    @property
    def dims(self) -> Shape:
        """The shape of the first result."""
        shape = self.results[0].shape
        assert shape is not None
        return shape

    def shape(self, x: Value) -> Shape:
        """The shape of a value; its symbols are written as torch writes them."""
        shape = self.shapes.get(x, x.type.shape)
        if shape is None:
            raise NotLowered
        return shape

    def rank(self, x: Value) -> int:
        """The number of axes of a value."""
        return len(self.shape(x))

    def axis(self, x: Value, axis: int) -> int:
        """An axis that ``x`` must have, counted from the first."""
        if not self.shape(x):
            raise NotLowered
        return axis % self.rank(x)

    def size(self, x: Value, axis: int) -> int:
        """The size of an axis, which must be known."""
        size = self.shape(x)[axis]
        if not isinstance(size, int):
            raise NotLowered
        return size

    def refusal(self, why: str) -> Unsupported:
        """The error that names this call."""
        return Unsupported(f"{self.place}: {why}")

    # Nodes

    def main(self, name: str, *inputs: Value, **attrs: Attr | None) -> Value:
        """The result of the operator that the call is known by."""
        return self._node(name, 1, self.source, inputs, attrs)[0]

    def several(
        self, name: str, arity: int, *inputs: Value, **attrs: Attr | None
    ) -> tuple[Value, ...]:
        """The results of the operator that the call is known by, if it has ``arity`` of them."""
        names = tuple(f"{stem}_{i}" for stem in self.source.outputs for i in range(arity))
        return self._node(name, arity, replace(self.source, outputs=names), inputs, attrs)

    def op(self, name: str, *inputs: Value, **attrs: Attr | None) -> Value:
        """The result of an operator beside the main one."""
        source = replace(self.source, name=f"{self.source.name}/{name}", outputs=())
        return self._node(name, 1, source, inputs, attrs)[0]

    def _node(
        self,
        name: str,
        arity: int,
        source: Source,
        inputs: tuple[Value, ...],
        attrs: dict[str, Attr | None],
    ) -> tuple[Value, ...]:
        given = {k: a for k, a in attrs.items() if a is not None}
        while inputs and ops.is_absent(inputs[-1]):
            inputs = inputs[:-1]
        before = self.named[source.name]
        self.named[source.name] += 1
        source = replace(source, name=f"{source.name}_{before}") if before else source
        return _applied(name, inputs, given, arity=arity, source=source).outputs

    # Numbers

    @staticmethod
    def const(held: npt.ArrayLike, dtype: DType = INT64) -> Value:
        """A constant."""
        return ops.constant(np.array(held, dtype))

    def cast(self, x: Value, dtype: DType) -> Value:
        """``x`` in another element type: itself if it is of that."""
        if x.type.dtype == dtype:
            return x
        return self.like(x, self.op("Cast", x, to=protos.dtype_code(dtype)))

    def like(self, x: Value, y: Value) -> Value:
        """``y``, which has the shape of ``x``."""
        self.shapes[y] = self.shape(x)
        return y

    def operand(self, x: Operand, dtype: DType) -> Value:
        """A value, or a number as a constant without axes, in an element type."""
        if isinstance(x, Sym):
            return self.cast(self.op("Squeeze", x.compute(), self.const([0])), dtype)
        return self.cast(x, dtype) if isinstance(x, Value) else self.const(x, dtype)

    def same(self, *operands: Operand) -> tuple[Value, ...]:
        """All operands in the element type of the result."""
        return tuple(self.operand(x, self.dtype) for x in operands)

    # Shapes

    def sizes(self, numbers: Sequence[Size]) -> Value:
        """A vector of whole numbers: a constant, unless some depend on the inputs' shapes."""
        if not any(isinstance(n, Sym) for n in numbers):
            return self.const(np.array(numbers, np.int64))
        parts = [n.compute() if isinstance(n, Sym) else self.const([n]) for n in numbers]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def shape_of(self, x: Value) -> Value:
        """The shape of ``x`` as a vector: a constant where it is known."""
        shape = self.shape(x)
        known = [d for d in shape if isinstance(d, int)]
        return self.op("Shape", x) if len(known) < len(shape) else self.const(np.array(known, int))

    def size_of(self, x: Value, axis: int) -> Value:
        """One size of ``x`` as a vector of one number."""
        size = self.shape(x)[axis]
        if isinstance(size, int):
            return self.const([size])
        return self.op("Shape", x, start=axis, end=axis + 1)

    def reshape(
        self, x: Value, goal: Shape | None = None, given: Sequence[Size] = (), *, main: bool = False
    ) -> Value:
        """``x`` in the shape ``goal``, by default that of the result.

        No size that depends on the inputs becomes a number: 0 copies it from the same axis, -1
        leaves it open, or ``given``, which is how the program wrote the shape, says how to compute
        it.
        """
        goal = self.dims if goal is None else goal
        if goal == self.shape(x):
            return x
        wanted = _wanted(self.shape(x), goal, given)
        zero = 1 if 0 in goal and -1 not in wanted else None
        make = self.main if main else self.op
        y = make("Reshape", x, self.sizes(wanted), allowzero=zero)
        self.shapes[y] = goal
        return y

    def transpose(self, x: Value, perm: Sequence[int], *, main: bool = False) -> Value:
        """``x`` with its axes in another order: itself if they keep theirs."""
        perm = tuple(p % len(perm) for p in perm)
        if perm == tuple(range(len(perm))):
            return x
        y = (self.main if main else self.op)("Transpose", x, perm=perm)
        old = self.shape(x)
        self.shapes[y] = tuple(old[p] for p in perm)
        return y

    def unsqueeze(self, x: Value, *axes: int) -> Value:
        """``x`` with axes of size 1 put in; ``axes`` count those of the result, none negative."""
        if not axes:
            return x
        y = self.op("Unsqueeze", x, self.const(list(axes)))
        shape: list[Dim] = list(self.shape(x))
        for axis in sorted(axes):
            shape.insert(axis, 1)
        self.shapes[y] = tuple(shape)
        return y

    def squeeze(self, x: Value, *axes: int) -> Value:
        """``x`` without the ``axes``, which are of size 1; none is negative."""
        if not axes:
            return x
        y = self.op("Squeeze", x, self.const(list(axes)))
        self.shapes[y] = tuple(d for i, d in enumerate(self.shape(x)) if i not in axes)
        return y

    def cut(self, x: Value, axis: int, start: Size, end: Size, step: int = 1) -> Value:
        """``x`` from ``start`` to ``end`` along one axis."""
        places = [self.sizes([start]), self.sizes([end]), self.const([axis])]
        return self.op("Slice", x, *places, *([self.const([step])] if step != 1 else []))


def _wanted(old: Shape, goal: Shape, given: Sequence[Size]) -> list[Size]:
    """The target of a Reshape."""
    copied = {i for i, d in enumerate(goal) if isinstance(d, str) and old[i : i + 1] == (d,)}
    left = [i for i, d in enumerate(goal) if not isinstance(d, int) and i not in copied]
    written = [i for i, g in enumerate(given) if g == -1]
    opened = left if len(left) == 1 else written
    wanted: list[Size] = [d if isinstance(d, int) else 0 for d in goal]
    for i in opened:
        wanted[i] = -1
    for i in (i for i in left if i not in opened):
        if i >= len(given) or isinstance(given[i], int):
            raise NotLowered
        wanted[i] = given[i]
    return wanted


ABSENT: Value = ops.Absent()


def given_or_absent(x: Value | None) -> Value:
    """The value, or what stands for an operand that is not given."""
    return ABSENT if x is None else x


def whole(x: object) -> int:
    """A number that must not depend on the inputs' shapes."""
    if not isinstance(x, int):
        raise NotLowered
    return x
