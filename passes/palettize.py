"""Store tensors of few distinct values as packed places in a palette."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

import numpy as np

from redir import ops
from redir.check.guarantees import (
    CONSTANTS_ONLY,
    SAME_INTERFACE,
    SAME_OUTPUTS,
    Guarantee,
    constants,
)
from redir.errors import BadPipeline
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor, is_floating
from redir.layers.codebook import reduced
from redir.layers.output_error import relative_error
from redir.layers.palette import WIDTHS, least_bits, opened, packed, split, unpacked
from redir.ops import tensor_of
from redir.pipeline import Pass

_PART = 64  # bytes that a file spends on a node, or on a tensor beside its numbers
_OLDEST = 6  # operator set: before it, Cast named its type in words
_WEIGHTS: Mapping[str, slice] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), slice(1, 2)),
    "MatMul": slice(0, 2),
    "Gather": slice(0, 1),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), slice(1, 3)),
}


@dataclass(frozen=True)
class Palettize(Pass):
    """A tensor of few distinct values becomes places of 1, 2, 4 or 8 bits in a palette of them.

    It is rebuilt by standard operators, which runtimes compute once, when they load the model. A
    tensor is stored so only where that takes fewer bytes. By itself exact. ``bits`` first reduces
    each weight to 2^bits values; ``error`` to so few that the mean error of the layers' outputs, a
    share of them, stays below it.
    """

    bits: int | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        if self.bits not in {None, *WIDTHS}:
            raise BadPipeline(f"palettize: bits must be 1, 2, 4 or 8, not {self.bits}")
        if self.error is not None and not 0 < self.error < 1:
            raise BadPipeline(f"palettize: error must be above 0 and below 1, not {self.error}")
        if self.bits is not None and self.error is not None:
            raise BadPipeline("palettize: error chooses the bits: give one of the two")

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """What is promised with these options."""
        return _promises(self)

    def run(self, graph: Graph) -> Graph:
        """Reduce what is to be reduced, then store what pays."""
        if _version(graph) < _OLDEST:
            return graph
        held = {v: t.array for v, t in _held(graph).items()} | self._reduced(graph)
        parts = {v: split(a) for v, a in held.items()}
        plan = _plan(held, {v: values.size for v, (values, _) in parts.items()})
        writer = _Writer(_version(graph))

        def visit(node: Node, _: tuple[Value, ...]) -> Outputs | None:
            value = node.outputs[0]
            if value not in plan:
                return None
            return writer.written(held[value].shape, *parts[value], plan[value])

        return transform(graph, visit)

    def explain(self, graph: Graph) -> Iterator[str]:
        """Which weights have too many values to be stored in a palette."""
        if _version(graph) < _OLDEST:
            yield f"operator set {_version(graph)} has no Cast to a number of a type"
        for value, tensor in _weights(graph).items():
            count = split(tensor.array)[0].size
            if least_bits(count) is None:
                name = value.node.name if value.node is not None else ""
                yield f"{name}: {count} distinct values are more than {2 ** WIDTHS[-1]}"

    def _reduced(self, graph: Graph) -> dict[Value, Array]:
        weights = {v: t.array for v, t in _weights(graph).items()}
        if self.error is not None:
            return _within(weights, self.error)
        few = 2 ** (self.bits or 0)
        return {v: reduced(a, few) for v, a in weights.items()} if self.bits else {}


def _version(graph: Graph) -> int:
    return graph.opset.get("", ops.OPSET)


def _held(graph: Graph) -> dict[Value, Tensor]:
    """The constants that may be stored otherwise: floats that standard operators read."""
    outputs, found = set(graph.outputs.values()), {}
    for value, readers in graph.readers.items():
        tensor = tensor_of(value)
        if tensor is None or value in outputs or not is_floating(tensor.array.dtype):
            continue
        if all(n.op.standard and not n.bodies for n in readers):
            found[value] = tensor
    return found


def _weights(graph: Graph) -> dict[Value, Tensor]:
    """Those of them that are weights: what is multiplied by inputs, and tables."""
    read = {v for n in graph.nodes for v in n.inputs[_WEIGHTS.get(n.op.standard, slice(0))]}
    return {v: t for v, t in _held(graph).items() if v in read and t.array.ndim > 1}


# Fewer values


@dataclass(eq=False)
class _Choice:
    """The widths that one tensor may be stored in, the exact one first, and the one taken."""

    arrays: list[Array]
    errors: list[float]
    sizes: list[int]
    taken: int = 0

    def price(self, other: int) -> float:
        """The squared error for each byte that another width saves."""
        more = self.errors[other] ** 2 - self.errors[self.taken] ** 2
        return more / (self.sizes[self.taken] - self.sizes[other])


def _within(weights: Mapping[Value, Array], error: float) -> dict[Value, Array]:
    """The weights, reduced where that saves most for a root mean square of errors up to ``error``.

    Step by step the width is taken that costs the least squared error for each byte it saves.
    """
    choices = {v: _choice(a) for v, a in weights.items()}
    left = len(choices) * error**2
    while True:
        steps = [
            (c.price(k), c.errors[k] ** 2 - c.errors[c.taken] ** 2, k, c)
            for c in choices.values()
            for k in range(len(c.arrays))
            if c.sizes[k] < c.sizes[c.taken]
        ]
        _, cost, place, choice = min(
            (s for s in steps if s[1] <= left), key=lambda s: s[0], default=(0, 0, 0, None)
        )
        if choice is None:
            return {v: c.arrays[c.taken] for v, c in choices.items()}
        choice.taken, left = place, left - cost


def _choice(array: Array) -> _Choice:
    arrays = [array, *(reduced(array, 2**bits) for bits in range(WIDTHS[-1], 0, -1))]
    counts = [split(a)[0].size for a in arrays]
    widths = [least_bits(count) for count in counts]
    sizes = [
        array.nbytes if bits is None else min(array.nbytes, _bytes(array, bits, count))
        for bits, count in zip(widths, counts, strict=True)
    ]
    return _Choice(arrays, [relative_error(array, a) for a in arrays], sizes)


# Fewer bytes


def _bytes(array: Array, bits: int, count: int) -> int:
    """About what a file spends on ``array`` as places in a palette of ``count`` values.

    What is spent once for all tensors of that width is in ``_table``.
    """
    places, parts = -(-array.size * bits // 8), 4
    if bits < 8:  # noqa: PLR2004 - a byte holds several places, and a palette is filled up
        count, parts = 2**bits, 7 + 4 * (array.size * bits % 8 > 0)
    return int(places + count * array.dtype.itemsize + parts * _PART)


def _table(bits: int) -> int:
    return 0 if bits == 8 else 256 * (8 // bits) + 2 * _PART  # noqa: PLR2004


def _plan(held: Mapping[Value, Array], counts: Mapping[Value, int]) -> dict[Value, int]:
    """The width for each tensor that makes the file least, none for one that stays as it is.

    ``counts`` are the distinct values of each. A width below a byte needs a table, once for all
    that use it: each set of them is tried.
    """
    sets = [(*some, 8) for k in range(len(WIDTHS)) for some in combinations(WIDTHS[:-1], k)]
    plans = [_chosen(held, counts, some) for some in sets]
    sizes = [
        sum(map(_table, some))
        + sum(_bytes(held[v], b, counts[v]) - held[v].nbytes for v, b in plan.items())
        for plan, some in zip(plans, sets, strict=True)
    ]
    return plans[int(np.argmin(sizes))]


def _chosen(
    held: Mapping[Value, Array], counts: Mapping[Value, int], widths: tuple[int, ...]
) -> dict[Value, int]:
    found = {}
    for value, array in held.items():
        sizes = {b: _bytes(array, b, counts[value]) for b in widths if counts[value] <= 2**b}
        best = min(sizes, key=lambda b: sizes[b], default=None)
        if best is not None and sizes[best] < array.nbytes:
            found[value] = best
    return found


@dataclass(eq=False)
class _Writer:
    """Makes the nodes in the model's operator set; a table serves all tensors of its width."""

    version: int
    tables: dict[int, Value] = field(default_factory=dict)
    shapes: dict[tuple[int, ...], Value] = field(default_factory=dict)

    def written(self, shape: tuple[int, ...], values: Array, places: Array, bits: int) -> Value:
        """The tensor, rebuilt from its palette."""
        if bits == 8:  # noqa: PLR2004
            whole = self._index(places.astype(np.uint8).reshape(shape))
            return self._op("Gather", ops.constant(values), whole)
        palette = np.concatenate([values, np.repeat(values[:1], 2**bits - values.size)])
        if bits not in self.tables:
            self.tables[bits] = self._index(opened(bits))
        met = self._op("Gather", ops.constant(palette), self.tables[bits])  # by each of the bytes
        found = self._op("Gather", met, self._index(packed(places, bits)[None]))
        if places.size % (8 // bits):
            found = self._first(self._op("Reshape", found, self._sizes(-1)), places.size)
        return self._op("Reshape", found, self._sizes(*shape))

    def _index(self, places: Array) -> Value:
        return self._op("Cast", ops.constant(places), to=_INT32)

    def _sizes(self, *sizes: int) -> Value:
        return self.shapes.setdefault(sizes, ops.constant(np.array(sizes, np.int64)))

    def _first(self, x: Value, count: int) -> Value:
        if self.version < _SLICE_BY_OPERANDS:
            return self._op("Slice", x, starts=(0,), ends=(count,))
        return self._op("Slice", x, self._sizes(0), self._sizes(count))

    def _op(self, name: str, *inputs: Value, **attrs: int | tuple[int, ...]) -> Value:
        op = ops.lookup(name, self.version)
        assert op is not None
        return op(*inputs, **attrs)


_INT32 = 6  # as TensorProto numbers it
_SLICE_BY_OPERANDS = 10  # operator set


# What it promises


def _promises(step: Palettize) -> tuple[Guarantee, ...]:
    fewer = Guarantee("fewer bytes", _fewer_bytes)
    if step.bits is step.error is None:
        return (SAME_INTERFACE, SAME_OUTPUTS, Guarantee("every bit of a tensor", _bits_kept), fewer)
    asked = Guarantee("as few values, or as little error, as asked", partial(_reduced, step))
    return (SAME_INTERFACE, Guarantee("only weights move, zeros stay", _moved), asked, fewer)


def _bits_kept(before: Graph, after: Graph) -> str | None:
    if str(unpacked(before)) != str(unpacked(after)):
        return "what is rebuilt from the palettes is not what was stored"
    return None


def _fewer_bytes(before: Graph, after: Graph) -> str | None:
    old, new = (sum(t.nbytes for t in constants(g)) for g in (before, after))
    return f"{old} bytes of numbers became {new}" if after is not before and new >= old else None


def _moved(before: Graph, after: Graph) -> str | None:
    old, new = unpacked(before), unpacked(after)
    why = CONSTANTS_ONLY.refute(old, new)
    if why is not None:
        return why
    weights = _weights(old)
    for a, b in zip(old.nodes, new.nodes, strict=True):
        x, y = tensor_of(a.outputs[0]), tensor_of(b.outputs[0])
        if x is None or y is None or x == y:
            continue
        if a.outputs[0] not in weights or np.any(y.array[x.array == 0] != 0):
            return "a constant moved that is no weight, or is zero"
    return None


def _reduced(step: Palettize, before: Graph, after: Graph) -> str | None:
    old, new = unpacked(before), unpacked(after)
    weights = _weights(old)
    pairs = [
        (weights[a.outputs[0]].array, b.outputs[0].node)
        for a, b in zip(old.nodes, new.nodes, strict=True)
        if a.outputs[0] in weights
    ]
    moved = [(a, t.array) for a, n in pairs if n and (t := tensor_of(n.outputs[0])) is not None]
    if step.bits is not None:
        most = max((split(b)[0].size for a, b in moved if not np.array_equal(a, b)), default=0)
        return f"{most} values in {step.bits} bits" if most > 2**step.bits else None
    mean = np.sqrt(np.mean([relative_error(a, b) ** 2 for a, b in moved] or [0.0]))
    return f"the mean error is {mean:.3g}" if mean > (step.error or 0.0) * (1 + 1e-9) else None
