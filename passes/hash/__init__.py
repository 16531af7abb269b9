"""Bring the weights of each layer to the peaks of their density."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np

from redir.check.guarantees import CONSTANTS_ONLY, SAME_INTERFACE, Guarantee, constants
from redir.cost import multiplications
from redir.errors import BadPipeline, Unsupported
from redir.ir import Graph, Value
from redir.ir.interpreter import values
from redir.ir.tensor import Array
from redir.layers.density import RULES, Cells
from redir.layers.linear import Linear, linear
from redir.layers.output_error import error_bound, measured_error, relative_error, second_moments
from redir.ops import tensor_of
from redir.passes.hash.budget import BANDWIDTHS, options, with_others
from redir.passes.hash.cells import cells_of, moved, widest
from redir.passes.hash.figures import draw_density, draw_distinct
from redir.passes.hash.parts import Along, Granularity, alongs, joined, parts
from redir.pipeline import Place
from redir.pipeline.weighing import Weighing
from redir.runtime.inputs import normal_feeds
from redir.statistics.effects import Options
from redir.tasks import mapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROUNDING = 1e-9  # of sums of many squares in float64


def _distinct(before: Graph, after: Graph) -> str | None:
    for old, new in zip(constants(before), constants(after), strict=True):
        many, few = old.distinct, new.distinct
        if few > many:
            return f"{many} distinct values became {few}"
    return _zeros(before, after)


def _zeros(before: Graph, after: Graph) -> str | None:
    pairs = zip(constants(before), constants(after), strict=True)
    gone = any(np.any(new.array[old.array == 0] != 0) for old, new in pairs)
    return "a weight that was 0 is not any more" if gone else None


def _weights(found: Iterable[Value]) -> dict[Value, Array]:
    return {v: t.array for v in found if (t := tensor_of(v)) is not None}


def _dearer(before: Graph, after: Graph) -> str | None:
    old, new = (sum(multiplications(graph)) for graph in (before, after))
    return f"{old} multiplications became {new}" if new > old else None


_FEWER = Guarantee("no more distinct values, zeros stay", _distinct)
_ZEROS = Guarantee("zeros stay", _zeros)
_NO_DEARER = Guarantee("no more multiplications", _dearer)


@dataclass(frozen=True)
class Hash(Weighing):
    """Adaptive, data-free scalar hashing: few distinct values in each layer.

    ``bandwidth`` is a multiple of Silverman's rule, or one of the rules silverman, scott and
    median-gap; ``error`` chooses it instead, for each layer the widest that moves its output by no
    more than that share. ``contrast`` drops a peak that stands out by less than that share of the
    highest. ``granularity``: each ``tensor`` has its values, or each output ``channel`` has, or the
    weights that read each ``input`` have; ``auto`` is tensor, but input under ``multiplications``.
    ``multiplications`` is a target, and goes before the others: this share of the model's, with
    distinct weights, is left, by wide bandwidths in layers that its outputs feel least. What they
    feel is seen on inputs of ``statistics``, ``examples`` of them (0: 32), images after
    ``preprocess``.
    Moves the constant weights of Conv, ConvTranspose, Gemm and MatMul, a shared one once.
    """

    bandwidth: float | str = 0.05
    contrast: float = 0.0
    error: float | None = None
    granularity: Granularity = "auto"
    multiplications: float = 0.0

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        super().__post_init__()
        if isinstance(self.bandwidth, str) and self.bandwidth not in RULES:
            raise BadPipeline(
                f"hash: bandwidth {self.bandwidth!r} is no number and none of {', '.join(RULES)}"
            )
        if not isinstance(self.bandwidth, str) and not 0 < self.bandwidth < np.inf:
            raise BadPipeline(f"hash: bandwidth must be above 0, not {self.bandwidth}")
        if not 0 <= self.contrast < 1:
            raise BadPipeline(f"hash: contrast must be at least 0 and below 1, not {self.contrast}")
        if self.error is not None and not 0 < self.error < 1:
            raise BadPipeline(f"hash: error must be above 0 and below 1, not {self.error}")
        if self.error is not None and self.bandwidth != Hash.bandwidth:
            raise BadPipeline("hash: error chooses the bandwidth: give one of the two")
        if self.granularity not in get_args(Granularity):
            known = ", ".join(get_args(Granularity))
            raise BadPipeline(f"hash: granularity {self.granularity!r} is none of {known}")
        if not 0 <= self.multiplications <= 1:
            raise BadPipeline(
                f"hash: multiplications is above 0 and at most 1: {self.multiplications}"
            )

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """What is promised with these options."""
        return _promises(self)

    @property
    def asked(self) -> Mapping[str, float]:
        """The share of the multiplications, if it is given."""
        return {"multiplications": self.multiplications} if self.multiplications else {}

    def run(self, graph: Graph) -> Graph:
        """Hash each weight tensor on its own."""
        return self.run_at(graph, Place(graph))

    def run_at(self, graph: Graph, place: Place) -> Graph:
        """``run``, so that a share that is asked for is left behind the last pass."""
        if self.multiplications:
            return self.having(graph, self.shared(graph, place))
        found = self.alongs(graph)
        weights = _weights(found)
        lying = [(array, found[value]) for value, array in weights.items()]
        moved = mapped(partial(_moved, self), lying, "weights", memory=_memory)
        return with_others(graph, dict(zip(weights, moved, strict=True)))

    def counted(self, graph: Graph) -> int:
        """The multiplications with distinct weights."""
        return sum(multiplications(graph))

    def offered(self, graph: Graph) -> Options:
        """Each weight hashed at all bandwidths."""
        found = self.alongs(graph)
        weights = _weights(found)
        steps = [replace(self, bandwidth=b, error=None, multiplications=0.0) for b in BANDWIDTHS]
        lying = [(array, found[value]) for value, array in weights.items()]
        moved = mapped(partial(_each_moved, steps), lying, "weights", memory=_memory)
        levels = [dict(zip(weights, made, strict=True)) for made in zip(*moved, strict=True)]
        return options(graph, [weights, *levels])

    def having(self, graph: Graph, weights: Mapping[Value, Array]) -> Graph:
        """The graph with others for some weights."""
        return with_others(graph, weights)

    def alongs(self, graph: Graph) -> dict[Value, Along]:
        """The weights to hash, and which of each are hashed together."""
        usual: Granularity = "input" if self.multiplications else "tensor"
        return alongs(graph, usual if self.granularity == "auto" else self.granularity)

    def figures(self, before: Graph, after: Graph) -> Mapping[str, Figure]:
        """The distinct values of each layer, and the density of the layer of most weights."""
        pictures = {"distinct values": draw_distinct({"before": before, "after": after})}
        weights = max((w for _, w, _ in _moves(self, before, after)), key=np.size, default=None)
        width = None if weights is None else self._bandwidth(weights)
        if weights is not None and width is not None and cells_of(weights, width, self.contrast):
            pictures["density"] = draw_density(weights, width, self.contrast)
        return pictures

    def moved(self, weights: Array, along: Along) -> Array:
        """The weights of one tensor, hashed: each part alone."""
        made = [moved(p, self.cells(p)) for p in parts(weights, along)]
        return joined(made, weights, along)

    def cells(self, weights: Array) -> Cells | None:
        """The cells of weights that are hashed together; None where they stay as they are."""
        if self.error is None:
            return cells_of(weights, self.bandwidth, self.contrast)
        found = widest(weights, self.error, self.contrast)
        return None if found is None else found.cells

    def reach(self, weights: Array, along: Along) -> Array:
        """How far each weight may move, in its unit: a bound from its cell alone, like ``weights``.

        It is the larger distance from the centre of the cell to its borders, the outermost weights
        being the outermost borders.
        """
        return joined([_reach(p, self.cells(p)) for p in parts(weights, along)], weights, along)

    def _bandwidth(self, weights: Array) -> float | str | None:
        if self.error is None:
            return self.bandwidth
        found = widest(weights, self.error, self.contrast)
        return None if found is None else found.multiple


def _reach(weights: Array, found: Cells | None) -> Array:
    if found is None:
        return np.zeros(weights.shape)
    flat = weights.astype(np.float64)
    return np.where(flat == 0, 0.0, found.reach[found.index(flat)])


def _moved(step: Hash, lying: tuple[Array, Along]) -> Array:
    return step.moved(*lying)


def _each_moved(steps: Sequence[Hash], lying: tuple[Array, Along]) -> list[Array]:
    return [step.moved(*lying) for step in steps]


def _memory(lying: tuple[Array, Along]) -> int:
    """What hashing a tensor holds: some copies in float64."""
    return 12 * lying[0].nbytes


# What it promises


def _promises(step: Hash) -> tuple[Guarantee, ...]:
    order = Guarantee("equal weights stay equal, in order", partial(_disordered, step))
    if step.multiplications:
        return (SAME_INTERFACE, CONSTANTS_ONLY, _ZEROS, order, _NO_DEARER)
    return (
        SAME_INTERFACE,
        CONSTANTS_ONLY,
        _FEWER if step.granularity in {"auto", "tensor"} else _ZEROS,
        order,
        Guarantee("no weight leaves its cell", partial(_strayed, step)),
        Guarantee("the error of a layer is within its bound", partial(_off, step), numeric=True),
        *(
            [Guarantee("the error of a layer is what was asked", partial(_costly, step))]
            if step.error is not None
            else []
        ),
    )


def _moves(step: Hash, before: Graph, after: Graph) -> Iterator[tuple[Value, Array, Array]]:
    """The weights that are hashed, before and after."""
    found = step.alongs(before)
    for old, new in zip(before.nodes, after.nodes, strict=True):
        value, a, b = old.outputs[0], tensor_of(old.outputs[0]), tensor_of(new.outputs[0])
        if a is not None and b is not None and value in found:
            yield value, a.array, b.array


def _by_part(step: Hash, before: Graph, after: Graph) -> Iterator[tuple[Array, Array]]:
    found = step.alongs(before)
    for value, old, new in _moves(step, before, after):
        yield from zip(parts(old, found[value]), parts(new, found[value]), strict=True)


def _disordered(step: Hash, before: Graph, after: Graph) -> str | None:
    """Refute that hashing is a function of the value, and one that keeps the order."""
    for old, new in _by_part(step, before, after):
        order = np.argsort(old, axis=None, kind="stable")
        a, b = old.reshape(-1)[order], new.reshape(-1)[order].astype(np.float64)
        apart, steps = a[1:] != a[:-1], np.diff(b)
        nonzero = (a[:-1] != 0) & (a[1:] != 0)
        if np.any((steps < 0) & nonzero) or np.any(~apart & (steps != 0)):
            return "equal weights came apart or changed their order"
    return None


def _strayed(step: Hash, before: Graph, after: Graph) -> str | None:
    """Refute that each weight stays in its cell, and moves no further than the borders of it."""
    for old, new in _by_part(step, before, after):
        found, a, b = step.cells(old), old.astype(np.float64), new.astype(np.float64)
        if np.array_equal(a, b, equal_nan=True):
            continue
        beyond = float(np.max(np.abs(b - a) - _reach(old, found)))
        if found is None or beyond > 0:
            return f"a weight moved {beyond:.3g} further than its cell reaches"
        if np.any((found.index(a) != found.index(b)) & (a != 0)):
            return "a weight left its cell"
    return None


def _costly(step: Hash, before: Graph, after: Graph) -> str | None:
    for old, new in _by_part(step, before, after):
        found = relative_error(old, new)
        if step.error is not None and found > step.error:
            return f"the output of a layer moved by {found:.3g} of itself"
    return None


def _off(step: Hash, before: Graph, after: Graph) -> str | None:
    """Run the graph before, and each layer whose weights moved with what they moved by."""
    lying = step.alongs(before)
    moves = {v: (a, b) for v, a, b in _moves(step, before, after) if not np.array_equal(a, b)}
    found = (linear(n) for n in before.nodes if n.has("layer") and n.inputs[1] in moves)
    layers = [layer for layer in found if isinstance(layer, Linear)]
    try:
        read = values(before, normal_feeds(before, 0), [layer.x for layer in layers])
    except Unsupported:
        return None  # what cannot be run cannot be refuted
    for layer, x in zip(layers, read, strict=True):
        old, new = moves[layer.held]
        reach = step.reach(old, lying[layer.held])
        beyond = _beyond(layer, x, new.astype(np.float64) - old.astype(np.float64), reach)
        if beyond > 0:
            return f"the output of {layer.node} is off by {beyond:.3g} more than its bound"
    return None


def _beyond(layer: Linear, x: Array, moves: Array, reach: Array) -> float:
    """By how much a layer exceeds its bound, but for rounding, where weights went by ``moves``."""
    with np.errstate(all="ignore"):  # inputs may be infinite
        bound = error_bound(layer.rows(reach), second_moments(layer, x))
        off = measured_error(layer, x, moves) - bound * (1 + _ROUNDING)
        return float(np.max(off, initial=0.0))
