"""Store tensors of few distinct values as packed places in a palette."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from redir import ops
from redir.check.guarantees import (
    CONSTANTS_ONLY,
    SAME_INTERFACE,
    SAME_OUTPUTS,
    Guarantee,
    constants,
)
from redir.cost import nbytes
from redir.errors import BadPipeline
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor, is_floating
from redir.layers.codebook import reduced
from redir.layers.output_error import relative_error
from redir.layers.palette import WIDTHS, distinct, least_bits, split, unpacked
from redir.ops import tensor_of
from redir.passes.palettize.fewer import options, within
from redir.passes.palettize.storing import Writer, plan
from redir.pipeline import Place
from redir.pipeline.weighing import Weighing
from redir.statistics.effects import Options
from redir.tasks import mapped

_OLDEST = 6  # operator set: before it, Cast named its type in words
_WEIGHTS: Mapping[str, slice] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), slice(1, 2)),
    "MatMul": slice(0, 2),
    "Gather": slice(0, 1),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), slice(1, 3)),
}


@dataclass(frozen=True)
class Palettize(Weighing):
    """A tensor of few distinct values becomes places of 1, 2, 4 or 8 bits in a palette of them.

    It is rebuilt by standard operators, which runtimes compute once, when they load the model. A
    tensor is stored so only where that takes fewer bytes. By itself exact. ``bits`` first reduces
    each weight to 2^bits values; ``error`` to so few that the mean error of the layers' outputs, a
    share of them, stays below it; and ``bytes`` to so few that this share of the model's bytes is
    left, those first of which the model's outputs feel least; it goes before the others. What
    they feel is seen on inputs of ``statistics``, ``examples`` of them (0: 32), images after
    ``preprocess``.
    """

    bits: int | None = None
    error: float | None = None
    bytes: float = 0.0

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        super().__post_init__()
        if self.bits not in {None, *WIDTHS}:
            raise BadPipeline(f"palettize: bits must be 1, 2, 4 or 8, not {self.bits}")
        if self.error is not None and not 0 < self.error < 1:
            raise BadPipeline(f"palettize: error must be above 0 and below 1, not {self.error}")
        if self.bits is not None and self.error is not None:
            raise BadPipeline("palettize: error chooses the bits: give one of the two")
        if not 0 <= self.bytes <= 1:
            raise BadPipeline(f"palettize: bytes is above 0 and at most 1: {self.bytes}")

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """What is promised with these options."""
        return _promises(self)

    @property
    def asked(self) -> Mapping[str, float]:
        """The share of the bytes, if it is given."""
        return {"bytes": self.bytes} if self.bytes else {}

    def run(self, graph: Graph) -> Graph:
        """Reduce what is to be reduced, then store what pays."""
        return self.run_at(graph, Place(graph))

    def run_at(self, graph: Graph, place: Place) -> Graph:
        """``run``, so that a share that is asked for is left behind the last pass."""
        return graph if _is_old(graph) else _stored(graph, self._made(graph, place))

    def explain(self, graph: Graph) -> Iterator[str]:
        """Which weights have too many values to be stored in a palette."""
        if _is_old(graph):
            yield f"operator set {_version(graph)} has no Cast to a number of a type"
        for value, tensor in _weights(graph).items():
            count = distinct(tensor.array)
            if least_bits(count) is None:
                name = value.node.name if value.node is not None else ""
                yield f"{name}: {count} distinct values are more than {2 ** WIDTHS[-1]}"

    def _made(self, graph: Graph, place: Place) -> Made:
        weights = _weights(graph)
        if self.bits:
            return {v: partial(_few, tensor, 2**self.bits) for v, tensor in weights.items()}
        if self.bytes:
            return _as_they_are(self.shared(graph, place))
        if self.error is None:
            return {}
        offered = options({v: t.array for v, t in weights.items()}, range(WIDTHS[-1], 0, -1))
        return _as_they_are(within(offered, self.error))

    def counted(self, graph: Graph) -> int:
        """The bytes of the parameters."""
        return nbytes(graph)

    def offered(self, graph: Graph) -> Options:
        """Each weight in palettes of all widths."""
        return options({v: t.array for v, t in _weights(graph).items()}, WIDTHS[::-1])

    def having(self, graph: Graph, weights: Mapping[Value, Array]) -> Graph:
        """The graph with others for some weights, and in palettes what pays."""
        return graph if _is_old(graph) else _stored(graph, _as_they_are(weights))


def _is_old(graph: Graph) -> bool:
    return _version(graph) < _OLDEST


def _stored(graph: Graph, made: Made) -> Graph:
    """The graph with what is ``made`` in place of some weights, and in palettes what pays."""
    held = _held(graph)
    makers = [made.get(v, partial(_array, tensor)) for v, tensor in held.items()]
    parts = mapped(_split, makers, "palettes", memory=lambda make: 12 * int(make.args[0].nbytes))
    found = {v: part for v, part in zip(held, parts, strict=True) if part is not None}
    widths = plan({v: held[v] for v in found}, {v: part[0].size for v, part in found.items()})
    writer = Writer(_version(graph))

    def visit(node: Node, _: tuple[Value, ...]) -> Outputs | None:
        value = node.outputs[0]
        if value not in widths:
            return None
        return writer.written(held[value].type.static or (), *found[value], widths[value])

    return transform(graph, visit)


Made = Mapping[Value, "partial[Array]"]
"""What becomes of weights, made when they are written: few at a time are in memory."""


def _few(tensor: Tensor, count: int) -> Array:
    return reduced(tensor.array, count)


def _as_they_are(arrays: Mapping[Value, Array]) -> Made:
    return {v: partial(_itself, array) for v, array in arrays.items()}


def _itself(array: Array) -> Array:
    return array


def _array(tensor: Tensor) -> Array:
    return tensor.array


def _split(make: Callable[[], Array]) -> tuple[Array, Array] | None:
    """What ``split`` gives, if a byte holds a place; None where there are too many values."""
    array = make()
    if least_bits(distinct(array)) is None:
        return None
    values, places = split(array)
    return values, places.astype(np.uint8)


def _version(graph: Graph) -> int:
    return graph.opset.get("", ops.OPSET)


def _held(graph: Graph) -> dict[Value, Tensor]:
    """The constants that may be stored otherwise: floats that standard operators read."""
    outputs, found = set(graph.outputs.values()), {}
    for value, readers in graph.readers.items():
        tensor = tensor_of(value)
        if tensor is None or value in outputs or not is_floating(tensor.type.dtype):
            continue
        if all(n.op.standard and not n.bodies for n in readers):
            found[value] = tensor
    return found


def _weights(graph: Graph) -> dict[Value, Tensor]:
    """Those of them that are weights: what is multiplied by inputs, and tables."""
    read = {v for n in graph.nodes for v in n.inputs[_WEIGHTS.get(n.op.standard, slice(0))]}
    return {v: t for v, t in _held(graph).items() if v in read and t.array.ndim > 1}


# What it promises


def _promises(step: Palettize) -> tuple[Guarantee, ...]:
    fewer = Guarantee("fewer bytes", _fewer_bytes)
    if step.bytes:
        return (SAME_INTERFACE, Guarantee("only weights move, zeros stay", _moved), fewer)
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
