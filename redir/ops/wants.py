"""What an operator wants of its operands: the numbers on which it can run and shows what it does.

A rule is given the node, its operands as they are at given sizes, and what is wanted of each of its
results; it says what it wants of each operand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from redir.ir import Node, Value
from redir.ir.builtin import tensor_of
from redir.ir.tensor import Array


@dataclass(frozen=True)
class Numbers:
    """Numbers from ``low`` to ``high``; a ``flag`` is 0 or 1.

    ``told`` are numbers that the graph tells from others. ``scale`` is that of what it makes small
    first: 255 of the bytes of an image.
    """

    low: float = -np.inf
    high: float = np.inf
    flag: bool = False
    told: frozenset[float] = frozenset()
    scale: float = 0.0

    def __and__(self, other: Numbers) -> Numbers:
        """What both want."""
        return Numbers(
            max(self.low, other.low),
            min(self.high, other.high),
            self.flag or other.flag,
            self.told | other.told,
            max(self.scale, other.scale),
        )

    def within(self, most: float) -> Numbers:
        """These, but none beyond ``most`` and -``most`` where there is a bound."""
        low, high = (
            float(np.clip(x, -most, most)) if np.isfinite(x) else x for x in (self.low, self.high)
        )
        told = frozenset(t for t in self.told if abs(t) <= most)
        return Numbers(low, high, self.flag, told, min(self.scale, most))

    @property
    def bounded(self) -> bool:
        """Whether there is a least and a largest number."""
        return np.isfinite(self.low) and np.isfinite(self.high) and self.low <= self.high


ANY = Numbers()
FLAG = Numbers(flag=True)
Operands = Sequence[Value]
Rule = Callable[[Node, Operands, Sequence[Numbers]], Sequence[Numbers]]

_SCALED = 100  # what a number is divided by that is no fraction yet
_SHIFTED = 10  # what is taken from it
_HIDING = 1000  # what a mask is multiplied by, so that softmax gives 0


def both(wanted: Iterable[Numbers]) -> Numbers:
    """What all of several want."""
    return reduce(Numbers.__and__, wanted, ANY)


def moved(*places: int) -> Rule:
    """The operands at ``places``, or all, reach the results as they are."""

    def rule(_: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
        found = both(wanted)
        return [found if not places or i in places else ANY for i in range(len(inputs))]

    return rule


def cast(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """What becomes true or false was 0 or 1."""
    flag = node.outputs[0].type.dtype.kind == "b"
    return [FLAG if flag else wanted[0], *(ANY for _ in inputs[1:])]


def _held(value: Value) -> Array | None:
    tensor = tensor_of(value)
    if tensor is None or not tensor.size or tensor.type.dtype.kind not in "iuf":
        return None
    array = tensor.array.astype(np.float64)
    return array if np.isfinite(array).all() else None


def _beside(inputs: Operands) -> tuple[int, Array] | None:
    """The place of the operand that flows, and the constant that is the other one."""
    if len(inputs) != 2:  # noqa: PLR2004
        return None
    for place in (0, 1):
        held = _held(inputs[1 - place])
        if held is not None and tensor_of(inputs[place]) is None:
            return place, held
    return None


def _at(place: int, found: Numbers) -> Sequence[Numbers]:
    return [found if i == place else ANY for i in range(2)]


def add(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """A constant shifts what is wanted."""
    del node
    beside = _beside(inputs)
    return () if beside is None else _at(beside[0], _shifted(wanted[0], beside[1]))


def _shifted(wanted: Numbers, by: Array) -> Numbers:
    size = float(np.abs(by).max())
    scale = 2 * size if _SHIFTED <= size < _HIDING else 0.0
    told = frozenset(t - float(by.flat[0]) for t in wanted.told) if by.size == 1 else frozenset()
    least, most = float(by.min()), float(by.max())
    return Numbers(wanted.low - least, wanted.high - most, told=told, scale=scale)


def sub(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """A constant shifts what is wanted; what 1 is reduced by is a mask."""
    del node
    beside = _beside(inputs)
    if beside is None:
        return ()
    place, by = beside
    if place == 0:
        return _at(0, _shifted(wanted[0], -by))
    if wanted[0].flag:
        return _at(1, FLAG)
    if np.all(by == 1):
        return _at(1, Numbers(0, 1))
    return _at(1, Numbers(float(by.max()) - wanted[0].high, float(by.min()) - wanted[0].low))


def mul(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """A mask is made huge, the bytes of an image are made small."""
    del node, wanted
    beside = _beside(inputs)
    if beside is None:
        return ()
    place, by = beside
    size = float(np.abs(by).max())
    if size >= _HIDING:
        return _at(place, FLAG)
    return _at(place, Numbers(scale=1 / size if 0 < size <= 1 / _SCALED else 0.0))


def div(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """The bytes of an image are divided."""
    del node, wanted
    beside = _beside(inputs)
    if beside is None or beside[0] == 1:
        return ()
    size = float(np.abs(beside[1]).max())
    return _at(0, Numbers(scale=size if size >= _SCALED else 0.0))


def compared(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """One number is told from its neighbours; lengths are compared with all places of an axis."""
    del wanted
    beside = _beside(inputs)
    if beside is None:
        return ()
    place, by = beside
    if by.size > 1:
        return _at(place, Numbers(float(by.min()) + 1, float(by.max()) + 1))
    limit = float(by.flat[0])
    near = {limit} if node.op.name == "Equal" else {np.floor(limit), np.floor(limit) + 1}
    return _at(place, Numbers(told=frozenset(near)))


def positive(_: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """A root or logarithm is taken of what is positive."""
    del inputs, wanted
    return [Numbers(low=0.0)]


def places(size: int | None, least: int = 0, most: int = -1) -> Numbers:
    """Numbers from ``least`` to ``size + most``."""
    return ANY if not size else Numbers(float(least), float(max(least, size + most)))


def _along(x: Value, axis: int) -> int | None:
    """The size of an axis, None where that, or whether there is one, is not known."""
    return x.type.size(axis) if x.rank and -x.rank <= axis < x.rank else None


def gather(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """Indices are places of the axis; what is gathered is moved."""
    axis = node.attrs.get("axis", 0)
    return [wanted[0], places(_along(inputs[0], axis))]


def gather_nd(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """Indices are places of the axes that they walk over."""
    return [wanted[0], _walked(inputs, node.attrs.get("batch_dims", 0))]


def scatter_nd(_: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """As of a GatherND; what is scattered is moved."""
    return [wanted[0], _walked(inputs, 0), wanted[0]]


def _walked(inputs: Operands, start: int) -> Numbers:
    shape, indices = inputs[0].type.static, inputs[1].type.static
    sizes = shape[start : start + indices[-1]] if shape and indices else ()
    return places(min(sizes, default=None))


def scatter(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """Indices are places of the axis; what is scattered is moved."""
    axis = node.attrs.get("axis", 0)
    return [wanted[0], places(_along(inputs[0], axis)), wanted[0]]


def one_hot(_: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """Indices are below the depth."""
    del wanted
    depth = _held(inputs[1])
    return [ANY if depth is None else places(int(depth.flat[0])), Numbers(1, 8), ANY]


def top_k(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """One at least, and no more than there are."""
    del wanted
    axis = node.attrs.get("axis", -1)
    return [ANY, places(_along(inputs[0], axis), 1, 0)]


def recurrent(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """Lengths are those of sequences that are not empty."""
    del wanted
    axis = 1 if node.attrs.get("layout") else 0
    lengths = places(_along(inputs[0], axis), 1, 0)
    return [lengths if i == 4 else ANY for i in range(len(inputs))]  # noqa: PLR2004


def reversed_sequence(node: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """Lengths are those of sequences that are not empty."""
    axis = node.attrs.get("time_axis", 0)
    return [wanted[0], places(_along(inputs[0], axis), 1, 0)]


def cumulated(_: Node, inputs: Operands, wanted: Sequence[Numbers]) -> Sequence[Numbers]:
    """The second operand is an axis."""
    del wanted
    return [ANY, places(inputs[0].rank)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        """CastLike Dropout Expand Flatten Identity Pad Reshape Slice Split Squeeze Tile Transpose
        Unsqueeze""".split(),
        moved(0),
    ),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), compared),
    **dict.fromkeys(("CumProd", "CumSum"), cumulated),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), recurrent),
    **dict.fromkeys(("Gather", "GatherElements"), gather),
    **dict.fromkeys(("Log", "Sqrt"), positive),
    "Add": add,
    "Cast": cast,
    "Concat": moved(),
    "Div": div,
    "GatherND": gather_nd,
    "Mul": mul,
    "OneHot": one_hot,
    "ReverseSequence": reversed_sequence,
    "ScatterElements": scatter,
    "ScatterND": scatter_nd,
    "Sub": sub,
    "TopK": top_k,
    "Where": moved(1, 2),
}
