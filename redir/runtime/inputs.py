"""Arrays to run a graph on, drawn by what the graph says of its inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import prod

import numpy as np

from redir.errors import OutOfSteps, RedirError, Unsupported
from redir.ir import Graph, Value, limits
from redir.ir.tensor import NO_DTYPE, Array, DType, TensorType
from redir.ops import control
from redir.ops.wants import ANY, FLAG, Numbers
from redir.runtime.concrete import Concrete, concrete_at
from redir.runtime.open_sizes import Shapes, fitting_shapes

_RUNS = 12  # sizes to run a model on, where it fails on those that seem to fit
_SMALL = 4  # a size that keeps whole numbers small
_USED = 0.7  # the share of a mask that is 1
_SPARSE = 0.1  # the share of sparse numbers that are not 0
_TOLD = 0.1  # the share of numbers that the graph tells from others
_FEW = 2  # the largest whole number where nothing is known
_LENGTHS = {"length", "lengths", "len", "lens"}

Style = Callable[[np.random.Generator, tuple[int, ...]], Array]
Draw = Callable[[np.random.Generator, tuple[int, ...], Numbers], Array]


def whole_feeds(graph: Graph, seed: int) -> dict[str, Array]:
    """Small whole numbers for each input without a default; open dimensions are small too.

    On these, sums of products are exact in any order, so that == is fair.

    Raises:
        Unsupported: an input is of no known type, or no sizes fit the model.
    """
    return small(graph).whole(seed)


def small(graph: Graph) -> Inputs:
    """The inputs of ``graph``, open dimensions so small that sums stay small whole numbers.

    Raises:
        Unsupported: no sizes fit the model.
    """
    return Inputs(graph, next(fitting_shapes(graph, usual=_SMALL)))


def normal_feeds(graph: Graph, seed: int) -> dict[str, Array]:
    """Standard normal numbers for each input without a default, and whole numbers that fit.

    Raises:
        Unsupported: an input is of no known type, or no sizes fit the model.
    """
    return Inputs(graph, next(fitting_shapes(graph))).normal(seed)


def runnable(
    graph: Graph,
    run: Callable[[Mapping[str, Array]], object],
    samples: int,
    seed: int = 0,
    input_shapes: Shapes | None = None,
) -> Iterator[dict[str, Array]]:
    """``samples`` feeds on which ``run`` does not fail, of ``input_shapes`` and what fits them.

    Their numbers are of several distributions: see ``Inputs.sample``.

    Raises:
        BadInput: a shape that is given contradicts the model.
        Unsupported: no sizes fit, or it fails on all that do.
    """
    last: Exception | None = None
    try:
        for shapes in islice(fitting_shapes(graph, input_shapes), _RUNS):
            inputs = Inputs(graph, shapes)
            first = inputs.sample(seed, 0)
            try:
                run(first)
            except OutOfSteps:
                raise
            except RedirError as error:
                last = error
                continue
            yield from (inputs.sample(seed, n) if n else first for n in range(samples))
            return
    except Unsupported:
        if last is None:
            raise
    raise Unsupported(f"the model runs on none of the inputs tried ({last})")


@dataclass(frozen=True)
class Inputs:
    """The inputs of ``graph`` that have no default, at ``shapes``."""

    graph: Graph
    shapes: Shapes

    def whole(self, seed: int) -> dict[str, Array]:
        """Small whole numbers."""
        return self._drawn(seed, lambda rng, shape, _: rng.integers(-4, 5, shape))

    def normal(self, seed: int) -> dict[str, Array]:
        """Standard normal numbers where the graph asks for none of its own."""
        return self.styled(seed, _STYLES[0])

    def styled(self, seed: int, style: Style) -> dict[str, Array]:
        """Numbers as ``style(rng, shape)`` draws them, where the graph asks for none of its own."""
        return self._drawn(seed, lambda rng, shape, wanted: _floats(rng, shape, wanted, style))

    def wanted(self) -> dict[str, Numbers]:
        """What the graph wants each input to be, as far as it or the name of that tells."""
        given = ((n, self.graph.inputs[n]) for n in self.shapes)
        return {n: self._wanted.get(v, ANY) & _by_name(n, v.type.dtype.kind) for n, v in given}

    def sample(self, seed: int, number: int) -> dict[str, Array]:
        """The sample of that ``number``, the examples in it each of another distribution.

        These are, in turn: standard normal; from 0 to 1; mostly 0; wide, and off the middle.
        """

        def draw(rng: np.random.Generator, shape: tuple[int, ...], wanted: Numbers) -> Array:
            if len(shape) < 2:  # noqa: PLR2004 - there are no examples in it
                return _floats(rng, shape, wanted, _STYLES[number % len(_STYLES)])
            styles = (_STYLES[(number + row) % len(_STYLES)] for row in range(shape[0]))
            rows = [_floats(rng, shape[1:], wanted, style) for style in styles]
            return np.stack(rows) if rows else np.zeros(shape)

        return self._drawn(seed + number, draw)

    def _drawn(self, seed: int, floats: Draw) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        return {name: self._array(name, shape, rng, floats) for name, shape in self.shapes.items()}

    def _array(
        self, name: str, shape: tuple[int, ...], rng: np.random.Generator, floats: Draw
    ) -> Array:
        type_ = self.graph.inputs[name].type
        if type_.dtype == NO_DTYPE:
            raise Unsupported(f"input {name!r} is {type_}: give arrays for it")
        limits.ask(8 * prod(shape), f"input {name!r}")
        if type_.dtype == np.dtype(object):
            return rng.choice(np.array(["a", "b", "c"], object), shape)
        wanted = self.wanted()[name].within(_most(type_.dtype))
        if type_.dtype.kind == "b" or wanted.flag:
            return _mask(rng, shape).astype(type_.dtype)
        if type_.dtype.kind in "iu":
            return _integers(rng, shape, wanted, type_.dtype).astype(type_.dtype)
        return np.asarray(floats(rng, shape, wanted)).astype(type_.dtype)

    @cached_property
    def _wanted(self) -> Mapping[Value, Numbers]:
        """What is wanted of each input."""
        inputs, found = self.graph.inputs, dict[Value, Numbers]()
        given = {n: TensorType(inputs[n].type.dtype, shape) for n, shape in self.shapes.items()}
        _collect(self.graph, concrete_at(self.graph, given), found)
        return found


def _collect(graph: Graph, at: Concrete, found: dict[Value, Numbers]) -> None:
    """Note what each value of ``graph`` is wanted to be, the outputs first."""
    for node in reversed(graph.nodes):
        if not all(v in at.values for v in node.inputs):
            continue  # behind what does not fit
        for body in node.bodies:
            _collect(body, at, found)
            held = control.captures(node)
            read = [body.inputs.get(name) for name in held]  # of which another body may read more
            inner = [ANY if value is None else found.get(value, ANY) for value in read]
            _note(found, node.inputs[len(node.inputs) - len(held) :], inner)
        operands = [at.values[v] for v in node.inputs]
        wants = node.wants(operands, [found.get(v, ANY) for v in node.outputs])
        _note(found, node.inputs, wants)


def _note(found: dict[Value, Numbers], values: Sequence[Value], wants: Sequence[Numbers]) -> None:
    for value, wanted in zip(values, wants, strict=False):
        found[value] = found.get(value, ANY) & wanted


def _by_name(name: str, kind: str) -> Numbers:
    """What the usual names of inputs tell."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    if "mask" in words and kind in "iub":
        return FLAG
    if words & _LENGTHS and kind in "iu":
        return Numbers(low=1)
    return ANY


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Zeros and ones: in each row of two or more at least one of each."""
    mask = rng.random(shape) < _USED
    if shape and shape[-1]:
        rows, count = mask.reshape(-1, shape[-1]), prod(shape[:-1])
        places = rng.permuted(np.tile(np.arange(shape[-1]), (count, 1)), axis=1)
        rows[np.arange(count), places[:, -1]] = False
        rows[np.arange(count), places[:, 0]] = True
    return mask


def _integers(
    rng: np.random.Generator, shape: tuple[int, ...], wanted: Numbers, dtype: DType
) -> Array:
    """Whole numbers over all that is wanted, some of them those that the graph tells apart."""
    told = sorted(t for t in wanted.told if wanted.low <= t <= wanted.high)
    if dtype.itemsize == 1 and wanted == ANY:
        return rng.integers(*_range(dtype), shape, endpoint=True)
    low = max(wanted.low, 0)
    if (low, wanted.high) == (0, 1) or (told and not wanted.bounded and {0, 1}.issuperset(told)):
        return _mask(rng, shape)
    if told and not wanted.bounded and not shape:
        return np.asarray(rng.choice(told))  # one of the modes that the model knows
    high = wanted.high if np.isfinite(wanted.high) else low + max([_FEW, *told])
    found = rng.integers(int(low), int(max(low, high)), shape, endpoint=True)
    return np.where(rng.random(shape) < _TOLD, rng.choice(told, shape), found) if told else found


def _most(dtype: DType) -> float:
    """How large the numbers of an input may be: its type and float64 hold them."""
    if dtype.kind in "iu":
        return float(min(_range(dtype)[1], 2**53))
    return float(np.finfo(dtype).max) / 4 if dtype.kind == "f" else 2.0**7


def _range(dtype: DType) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _floats(
    rng: np.random.Generator, shape: tuple[int, ...], wanted: Numbers, style: Style
) -> Array:
    if wanted.bounded:
        return rng.uniform(wanted.low, wanted.high, shape)
    if wanted.scale:
        return rng.uniform(0, wanted.scale, shape)
    drawn = style(rng, shape)
    return np.abs(drawn) + wanted.low if np.isfinite(wanted.low) else drawn


_STYLES: tuple[Style, ...] = (
    lambda rng, shape: rng.standard_normal(shape),
    lambda rng, shape: rng.random(shape),
    lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < _SPARSE),
    lambda rng, shape: 4 * rng.standard_normal(shape) + 1,
)
