"""The forms of a layer that is factored: a kernel along some axes, then one along the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import ceil, prod
from typing import ClassVar, TypeAlias
from zlib import crc32

import numpy as np
from scipy import linalg

from redir.ir.tensor import Array, Type
from redir.layers.linear import CONVS, Linear
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.metric import Metric
from redir.passes.factorize.rows import Blocks, best_rows
from redir.statistics.least_squares import System, cholesky, solve
from redir.statistics.moments import Moments, Places, features

MULTIPLY_ADDS, PARAMETERS = "macs", "parameters"
RIDGE = 0.1  # of the mean energy of a feature, towards what the original weights would say
_ROUNDS = 2  # of alternating least squares
_LEAST = 1e-6  # of the whole: what is less is rounding
AIMS = 3  # times that targets which depend on the results are set anew
_STEPS_OF = 16  # ranks that a thin layer can have, about
_COARSE = 8  # what ranks of wide layers are multiples of
SAMPLES = 20_000  # of a layer, or as many for each of its features as this:
_OF_UNKNOWNS = 4  # which is enough to solve for one
_TOLD = 64  # weights by which layers are told apart


@dataclass(frozen=True, eq=False)
class Flow:
    """What a layer ``read`` (samples, features), and what its results should be, by what they are.

    Results are (samples, outputs), times what each output counts. ``operands`` are the arrays that
    samples of ``read`` are from, and ``places`` where.
    """

    read: Array
    aim: Callable[[Array], Array]
    operands: Sequence[Array] = ()
    places: Sequence[Places] = ()


Site: TypeAlias = tuple[Linear, tuple[Type, Type]]
"""A layer, and the types of what it reads and gives."""


@dataclass(frozen=True, eq=False)
class Factoring:
    """A layer as two: the first has the kernel along the axes ``first``, the second along the rest.

    Of a k x k kernel, ``first`` of {0} gives k x 1 then 1 x k; of no axis 1 x 1 then k x k; of both
    k x k then 1 x 1. A matrix becomes the product of two. ``metric`` is what errors of the outputs
    count. Moments are those of outputs as they count by it. ``ends``
    are the types of what the layer reads and gives, at the sizes for which costs are counted. Those
    that read the same weights ``also`` take the form with it, and are counted with it.
    """

    layer: Linear
    first: frozenset[int]
    metric: Metric
    ends: tuple[Type, Type]
    also: tuple[Site, ...] = field(default=(), kw_only=True)
    made: ClassVar[type[Factors]] = Factors
    rounds: ClassVar[int] = _ROUNDS
    picks: ClassVar[bool] = False  # whether what it costs depends on which inputs it reads
    flows: ClassVar[bool] = False  # whether it is solved on what flows, and not by moments alone

    @cached_property
    def alike(self) -> tuple[Factoring, ...]:
        """The form of each layer that reads the weights, alone: of this one first."""
        sites = (self.layer, self.ends), *self.also
        return tuple(replace(self, layer=layer, ends=ends, also=()) for layer, ends in sites)

    @property
    def name(self) -> str:
        """What the form is called."""
        if prod(self.layer.kernel) == 1:
            return "low-rank"
        if not self.first:
            return "reduce"
        return "expand" if len(self.first) == len(self.layer.kernel) else "spatial"

    @property
    def full(self) -> int:
        """The rank at which the form can do all that the layer does."""
        inputs, taps = self.order.shape
        return int(min(inputs, taps * self.layer.outputs))

    @property
    def step(self) -> int:
        """Of what ranks are multiples unless it is said: less in thin layers."""
        return min(max(self.layer.outputs // _STEPS_OF, 1), _COARSE)

    def ranks(self, step: int) -> range:
        """The ranks that are multiples of ``step``."""
        return range(step, self.full + 1, step)

    @cached_property
    def order(self) -> Array:
        """Where the features of the layer stand among (inputs and first taps, second taps)."""
        kernel = self.layer.kernel
        axes = [*sorted(self.first), *(a for a in range(len(kernel)) if a not in self.first)]
        held = np.arange(self.layer.channels * prod(kernel)).reshape(self.layer.channels, *kernel)
        rows = self.layer.channels * prod(kernel[a] for a in self.first)
        return held.transpose(0, *(a + 1 for a in axes)).reshape(rows, -1)

    @property
    def examples(self) -> int:
        """How many give a few times as many places as an output of the layer has weights."""
        places = self._places[1] / (self.ends[1].size(0) or 1)
        return ceil(_OF_UNKNOWNS * self.order.size / max(places, 1))

    @property
    def samples(self) -> int:
        """How many are taken of the layer."""
        return max(SAMPLES, _OF_UNKNOWNS * self.order.size)

    def read(self, x: Array, places: Places) -> Array:
        """What moments are taken of, at some places of the result: (samples, features)."""
        return features(self.layer, x, places)

    def alone(self, read: Array, counts: Array | None = None) -> Moments:
        """The moments of what was read: layers that read the same have the same."""
        return Moments.alone(read, counts)

    def told(self, moments: Moments) -> Moments:
        """The moments of what was read, with what the layer makes of it for targets."""
        return moments.told(self.flat)

    def seen(self, read: Array, targets: Array, counts: Array | None = None) -> Moments:
        """The moments of what was read, with ``targets`` times what each output counts.

        ``counts`` (samples,) is what each sample counts, if not all count alike.
        """
        return Moments.of(read, targets, self.flat, counts)

    def dense(self, price: str) -> int:
        """What the layer costs as it is: see ``cost``."""
        places = self._places[1] if price == MULTIPLY_ADDS else 1
        return int(places * self.order.size * self.layer.outputs)

    def cost(self, rank: int, price: str) -> int:
        """What the two layers cost at ``rank``: ``macs`` of one example, or ``parameters``.

        Biases are not counted.
        """
        first, second = self._places if price == MULTIPLY_ADDS else (1, 1)
        inputs, taps = self.order.shape
        return int(rank * (first * inputs + second * taps * self.layer.outputs))

    @property
    def _places(self) -> tuple[int, int]:
        """The places of the result of the first layer, and of the second, of all alike."""
        each = [self._places_of(ends) for ends in (self.ends, *(ends for _, ends in self.also))]
        return sum(first for first, _ in each), sum(second for _, second in each)

    def _places_of(self, ends: tuple[Type, Type]) -> tuple[int, int]:
        x, y = map(sizes_within, ends)
        batch = ends[1].size(0) or 1
        if self.layer.node.op not in CONVS:
            return batch * prod(y[:-1]), batch * prod(y[:-1])
        axes = enumerate(zip(x[1:], y[1:], strict=True))
        first = prod(n if self.is_first(a) else m for a, (m, n) in axes)
        return batch * first, batch * prod(y[1:])

    def is_first(self, axis: int) -> bool:
        """Whether the first layer steps along an axis: what neither has a kernel for, it does."""
        return axis in self.first or self.layer.kernel[axis] == 1

    def errors(self, moments: Moments) -> Array:
        """The share of the output's energy that is lost at each rank from 0 on, as estimated."""
        energy = np.square(self._values(moments))
        total = float(energy.sum()) or 1.0
        return np.clip(1 - np.concatenate([[0.0], np.cumsum(energy)]) / total, 0, 1)

    def _directions(self, moments: Moments) -> tuple[Array, Array]:
        """Rows for the first layer, those that matter most first, and how much each matters.

        They are those of the weights in the metric of what the first layer reads.
        """
        metric, weights = self._first_moments(moments), self.weights
        if len(metric) < weights.shape[1]:
            lower = cholesky(metric)
            seen = weights @ weights.T
            values, vectors = _spectrum(lower.T @ seen @ lower)
            return _over(values) ** 2 * (vectors.T @ lower.T @ seen), values
        values, vectors = _spectrum(weights.T @ metric @ weights)
        return _over(values) * (vectors.T @ weights.T), values

    def _values(self, moments: Moments) -> Array:
        """How much each direction matters: the same as of ``_directions``, but sooner."""
        metric, weights = self._first_moments(moments), self.weights
        if len(metric) < weights.shape[1]:
            lower = cholesky(metric)
            matrix = lower.T @ (weights @ weights.T) @ lower
        else:
            matrix = weights.T @ metric @ weights
        found: Array = np.sqrt(np.maximum(linalg.eigvalsh(matrix)[::-1], 0))
        return found

    def _rows(self, rank: int, moments: Moments, *, once: bool = False) -> Array:
        """The rows for the first layer at a rank: (rank, inputs and first taps).

        ``once`` says that these moments are not asked about again.
        """
        found = self._directions(moments) if once else _asked(self, moments)
        return found[0][:rank]

    def _unit(self, rows: Array, moments: Moments) -> Array:
        """Rows that give results of variance 1, or none where there is next to no variance."""
        metric = self._first_moments(moments)
        energy = np.einsum("rp,rp->r", times(rows, metric), rows)
        least = _LEAST * np.square(rows).sum(1) * np.trace(metric) / len(metric)
        held = energy > least
        found: Array = rows * (held / np.sqrt(np.where(held, energy, 1)))[:, None]
        return found

    def _first_moments(self, moments: Moments) -> Array:
        places = self.order.T
        blocks = (moments.gram[np.ix_(p, p)] for p in places)
        return sum(blocks, start=np.zeros((len(self.order),) * 2)) / len(places)

    def _gram(self, moments: Moments) -> Array:
        flat, shape = self.order.reshape(-1), self.order.shape
        found: Array = moments.gram[np.ix_(flat, flat)].reshape(*shape, *shape)
        return found

    @property
    def weights(self) -> Array:
        """The original weights: (inputs and first taps, second taps and outputs)."""
        found: Array = self.flat[self.order].reshape(len(self.order), -1)
        return found

    @property
    def flat(self) -> Array:
        """The original weights, as what they make counts: (features, outputs)."""
        return _flat(self.layer, self.metric)

    def fitted(
        self, rank: int, new: Moments, old: Moments, flow: Flow | None = None, mix: float = 0.2
    ) -> Factors:
        """The factors of ``rank`` whose results are nearest to the targets of ``new``.

        ``new`` are the moments of what the layer reads in the network so far, with the original's
        results for targets; ``old`` those of the original. Rows are chosen on a mix of both.
        Where the targets depend on the results, ``flow`` gives them.
        """
        both = new.mixed(self.told(old), mix)
        first = self._unit(self._rows(rank, both, once=True), both)
        gram, cross = self._gram(both), both.cross[self.order]
        for _ in range(self.rounds):
            system, prior = self._behind(first, both, gram)
            second = system.solved(_reduced(first, cross), prior)
            shaped = second.reshape(rank, self.order.shape[1], -1)
            found = best_rows(first, shaped, gram, cross, self._free(first))
            first = self._unit(found, both)
        return self._solved(first, new, flow)

    def guess(self, rank: int, moments: Moments) -> Factors:
        """Factors of ``rank`` of which the weights are not solved, but cost as much.

        Layers of other weights have others, or passes behind would take two of them for one.
        """
        own = crc32(self.layer.array.reshape(-1)[:_TOLD].tobytes())
        rng, taps = np.random.default_rng(own), self.order.shape[1]
        drawn = rng.standard_normal((rank, len(self.order))).astype(np.float32)
        first = self._rows(rank, moments) if self.picks else drawn
        second = rng.standard_normal((len(first), taps, self.layer.outputs)).astype(np.float32)
        return self._made(first, second, rng.standard_normal(self.layer.outputs))

    def rough(self, rank: int, moments: Moments) -> Factors:
        """The factors of ``rank`` chosen in one step, as if nothing before the layer changed.

        Behind rows that read all that the layer does at once, what its weights say is best then.
        """
        first = self._unit(self._rows(rank, moments), moments)
        if self.order.shape[1] > 1:
            return self._solved(first, self.told(moments))
        second = self._told(first, moments)
        mean = times(first, moments.mean[self.order])[:, 0]
        return self._second(first, second, moments.target - mean @ second)

    def _solved(self, first: Array, new: Moments, flow: Flow | None = None) -> Factors:
        """The factors with the best second layer behind ``first``."""
        system, prior = self._behind(first, new, self._gram(new))
        mean = self._between(first, new.mean[None])[0]
        found, target = system.solved(_reduced(first, new.cross[self.order]), prior), new.target
        if flow is not None:
            between = (self._between(first, flow.read) - mean).astype(flow.read.dtype)
            unseen = _reduced(first, new.unseen(self.flat)[self.order])
            for _ in range(AIMS):
                target, cross = aimed(flow, between, found, target)
                found = system.solved(cross + unseen, prior)
        return self._second(first, found, target - mean @ found)

    def _second(self, first: Array, second: Array, bias: Array) -> Factors:
        """The factors, of a second layer (rank and second taps, outputs) and a bias."""
        shaped = second.reshape(len(first), self.order.shape[1], -1)
        return self._made(first, self.metric.undone(shaped), self.metric.undone(bias))

    def _between(self, first: Array, read: Array) -> Array:
        """What the first layer gives for ``read``: (samples, rank and second taps)."""
        rows = first.T.astype(read.dtype)
        parts = [read[:, places] @ rows for places in self.order.T]
        return np.stack(parts, 2).reshape(len(read), -1)

    def _made(self, first: Array, second: Array, bias: Array) -> Factors:
        mine = tuple(self.is_first(axis) for axis in range(len(self.layer.kernel)))
        return self.made(self.layer, mine, first, second, bias)

    def _free(self, _: Array) -> Blocks:
        """Which weights of the first layer may be any."""
        return [(slice(None), slice(None))]

    def _behind(self, first: Array, moments: Moments, gram: Array) -> tuple[System, Array]:
        """What solves for weights behind the rows of a first layer, and what they should be near.

        Both are of (rank and second taps, outputs).
        """
        seen = np.einsum("rp,ptqu,sq->rtsu", first, gram, first, optimize=True)
        size = len(first) * self.order.shape[1]
        return System(seen.reshape(size, size), RIDGE), self._told(first, moments)

    def _told(self, first: Array, moments: Moments) -> Array:
        """What the original weights say of those behind a first layer: (rank and taps, outputs)."""
        told = times(first, self._first_moments(moments))
        wanted = told @ self.weights
        found = solve(times(first, told.T), wanted, np.zeros_like(wanted), 0)
        return found.reshape(len(first) * self.order.shape[1], -1)


@lru_cache(maxsize=2)  # by one form of a layer after the other
def _flat(layer: Linear, metric: Metric) -> Array:
    return metric.of(layer.weight[0].reshape(layer.outputs, -1).T.astype(np.float64))


@lru_cache(maxsize=1)  # of one layer, at one rank after the other
def _asked(form: Factoring, moments: Moments) -> tuple[Array, Array]:
    return form._directions(moments)  # noqa: SLF001


def aimed(flow: Flow, between: Array, second: Array, target: Array) -> tuple[Array, Array]:
    """The mean of what results should be, and the moments of that with what is ``between``.

    ``between`` (samples, rank and second taps) has no mean, ``target`` (outputs,) is what comes on
    top of what ``second`` makes of it.
    """
    aim = flow.aim((between @ second + target).astype(between.dtype))
    mean = aim.mean(0, dtype=np.float64)
    return mean, between.T @ (aim - mean.astype(aim.dtype)) / len(between)


def times(rows: Array, matrix: Array) -> Array:
    """A product of matrices, of which the first often has one number in each row."""
    if np.count_nonzero(rows) != len(rows) or not rows.any(1).all():
        found: Array = rows @ matrix
        return found
    places = np.abs(rows).argmax(1)
    picked: Array = rows[np.arange(len(rows)), places, None] * matrix[places]
    return picked


def _reduced(first: Array, cross: Array) -> Array:
    """Moments of features and targets, as moments of what rows of a first layer make of these."""
    found: Array = np.einsum("rp,pto->rto", first, cross, optimize=True)
    return found.reshape(-1, cross.shape[2])


def _spectrum(matrix: Array) -> tuple[Array, Array]:
    """The roots of the eigenvalues of a matrix of energies, the largest first, and its vectors."""
    values, vectors = linalg.eigh(matrix)
    return np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]


def _over(values: Array) -> Array:
    """One over each value, as a column; 0 for those that are only rounding."""
    held = values > _LEAST * values.max(initial=0)
    found: Array = (held / np.where(held, values, 1))[:, None]
    return found


def sizes_within(type_: Type) -> list[int]:
    """The sizes of a value but the first, that of the batch; None for one that is open."""
    return [type_.size(axis) for axis in range(1, len(type_.shape or ()))]  # type: ignore[misc]
