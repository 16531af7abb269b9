"""Sizes for the dimensions that a model leaves open, found from the graph without running it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

from redir.errors import BadInput, IllTyped, Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Dim, TensorType, Type
from redir.ops import tensor_of
from redir.runtime.concrete import Concrete, Memo, concrete, concrete_at

__all__ = ["Shapes", "chosen_shapes", "fitting_shapes"]

Shapes = Mapping[str, tuple[int, ...]]
Sizes = dict[str, int]  # by symbol

USUAL = (64, 32, 224, 320, 16, 8, 4, 2, 1, 512, 1024, 4096, 16000)  # sizes to start from
_LARGEST, _ELEMENTS = 2**25, 2**28  # of one value, and of all that are computed
_LONGEST = 2**16  # sizes looked at on one axis
_STEPS = 100_000  # values looked at, which takes seconds
_FEW = 8  # numbers that may be a shape
_NAMELESS = frozenset({"", "?", "-1", "None"})  # what exporters write for any size at all


def chosen_shapes(graph: Graph, input_shapes: Shapes | None = None) -> dict[str, tuple[int, ...]]:
    """A shape for each input without a default: those given, and others that fit them.

    Raises:
        BadInput: a shape that is given contradicts the model.
        Unsupported: none was found; the message names the symbols, and says how to give them.
    """
    return next(fitting_shapes(graph, input_shapes))


def parsed_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes that ``NAME=1x3x640x640`` says, by name; ``NAME=`` is that of a scalar.

    Raises:
        BadInput: a text is of another form, or a name is there twice.
    """
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, sign, shape = text.rpartition("=")
        sizes = shape.split("x") if shape else []
        if not (name and sign and all(s.isascii() and s.isdigit() for s in sizes)):
            raise BadInput(f"--input {text}: expected NAME=SHAPE, as in x=1x3x640x640")
        if name in found:
            raise BadInput(f"--input {text}: the shape of {name!r} is given twice")
        found[name] = tuple(map(int, sizes))
    return found


def check_shapes(graph: Graph, input_shapes: Shapes) -> None:
    """Refuse shapes that contradict ``graph``, as far as they tell.

    Raises:
        BadInput: there is no such input, it has another shape, or a node does not fit.
    """
    _bound(graph, input_shapes)
    if input_shapes.keys() >= graph.inputs.keys() - graph.defaults.keys():
        chosen_shapes(graph, input_shapes)


def fitting_shapes(
    graph: Graph,
    input_shapes: Shapes | None = None,
    usual: int = USUAL[0],
    *,
    single: bool = False,
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes of the inputs at which all types of the graph fit, the likeliest first.

    Dimensions of one symbol get one size, where nothing asks for another ``usual``. The batch is
    2, several that are not the same are 2, 3 and so on; or 1 where the model wants it so, and
    first of all where ``single``.

    Raises:
        BadInput: a shape that is given contradicts the model.
        Unsupported: there are none, or no more.
    """
    search = _Search(graph, _dims(graph, input_shapes or {}))
    symbols = search.symbols
    if not symbols:  # what is given is not up to us
        if input_shapes:
            search.check()
        yield search.shapes({})
        return
    batches, seen = _batches(graph, search.dims), list[Sizes]()
    for size in (usual, *USUAL):
        starts = list(_starts(symbols, batches, size))
        for start in reversed(starts) if single else starts:
            sizes = search.fitted(start, set(symbols) - batches)
            if sizes is not None and sizes not in seen:
                seen.append(sizes)
                yield search.shapes(sizes)
    raise Unsupported(search.failure())


def _starts(symbols: Sequence[str], batches: set[str], size: int) -> Iterator[Sizes]:
    """Sizes to start from: batches that differ, that are 2, that are 1."""
    apart = [s for s in symbols if s in batches]
    for counts in ([2 + i for i in range(len(apart))], [2] * len(apart), [1] * len(apart)):
        yield dict.fromkeys(symbols, size) | dict(zip(apart, counts, strict=True))


def _dims(graph: Graph, given: Shapes) -> dict[str, tuple[int | str, ...]]:
    """The sizes of each input that needs an array, or their symbols where they are open."""
    bound = _bound(graph, given)
    found: dict[str, tuple[int | str, ...]] = {}
    for name, value in graph.inputs.items():
        if name in given:
            found[name] = tuple(given[name])
        elif name not in graph.defaults:
            symbols = (_symbol(name, a, d) for a, d in enumerate(_shape(name, value)))
            found[name] = tuple(bound.get(s, s) if isinstance(s, str) else s for s in symbols)
    return found


def _bound(graph: Graph, given: Shapes) -> Sizes:
    """The size of each symbol in the shapes that are given."""
    bound: Sizes = {}
    for name, shape in given.items():
        if name not in graph.inputs:
            known = ", ".join(map(repr, graph.inputs))
            raise BadInput(f"the model has no input {name!r}; it has {known}")
        for axis, (size, dim) in enumerate(_pairs(name, graph.inputs[name].type, shape)):
            symbol = _symbol(name, axis, dim)
            if isinstance(symbol, str) and bound.setdefault(symbol, size) != size:
                raise BadInput(f"input {name!r}: {dim!r} is {size} here and {bound[symbol]} before")
    return bound


def _pairs(name: str, type_: Type, shape: Sequence[int]) -> list[tuple[int, Dim]]:
    """Each size that is given with what the type says of it."""
    if not isinstance(type_, TensorType):
        raise BadInput(f"input {name!r} is {type_}, which has no shape")
    dims = (None,) * len(shape) if type_.shape is None else type_.shape
    pairs = list(zip(shape, dims, strict=False))
    if len(shape) != len(dims) or any(isinstance(d, int) and d != n for n, d in pairs):
        text = "x".join(map(str, shape)) or "()"
        raise BadInput(f"input {name!r} is {type_}: the shape {text} does not fit it")
    return pairs


def _shape(name: str, value: Value) -> tuple[Dim, ...]:
    type_ = value.type
    if not isinstance(type_, TensorType):
        raise Unsupported(f"input {name!r} is {type_}: give arrays for it")
    if type_.shape is None:
        raise Unsupported(f"input {name!r} is {type_}: give its shape, as in --input {name}=1x3")
    return type_.shape


def _symbol(name: str, axis: int, dim: Dim) -> int | str:
    """The size, or what it is called: dimensions without a name are each on their own."""
    if isinstance(dim, int):
        return dim
    return f"axis {axis} of {name}" if dim is None or dim in _NAMELESS else dim


def _batches(graph: Graph, dims: Mapping[str, Sequence[int | str]]) -> set[str]:
    """The symbols that count examples: the first of inputs, but not that of a lone signal."""
    first = {
        shape[0]
        for name, shape in dims.items()
        if len(shape) > 1 or (shape and graph.inputs[name].type.dtype.kind != "f")
    }
    named = {s for shape in dims.values() for s in shape if isinstance(s, str)}
    return {s for s in named if s in first or "batch" in s.lower()}


@dataclass
class _Search:
    """Sizes being looked for: what was tried, and what was wrong with it."""

    graph: Graph
    dims: Mapping[str, tuple[int | str, ...]]
    left: int = _STEPS
    memo: Memo = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def symbols(self) -> list[str]:
        """What is open, in the order of the inputs."""
        return list(
            dict.fromkeys(d for shape in self.dims.values() for d in shape if isinstance(d, str))
        )

    def shapes(self, sizes: Sizes) -> dict[str, tuple[int, ...]]:
        """The shape of each input at ``sizes``."""
        return {
            name: tuple(d if isinstance(d, int) else sizes[d] for d in shape)
            for name, shape in self.dims.items()
        }

    def check(self) -> None:
        """Refuse shapes that were given for everything that is open, but do not fit."""
        found = self.at({})
        if found.misfit is not None:
            raise BadInput(f"the model does not fit the shapes given: {found.reason}")

    def failure(self) -> str:
        """Why there are no sizes, and what to do."""
        name, shape = next((n, s) for n, s in self.dims.items() if set(s) & set(self.symbols))
        sizes = [str(d) if isinstance(d, int) else "640" if a else "1" for a, d in enumerate(shape)]
        symbols, reason = ", ".join(map(repr, self.symbols)), next(iter(self.reasons), "")
        return (
            f"no sizes were found for {symbols} on which the model runs ({reason}); "
            f"give them, as in --input {name}={'x'.join(sizes)}"
        )

    def fitted(self, sizes: Sizes, free: set[str]) -> Sizes | None:
        """``sizes``, changed until every node fits, those that are ``free`` first."""
        found = self.first(sizes)
        while found.misfit is not None:
            better = next(self._better(found, sizes, free), None)
            if better is None:
                self.reasons.append(found.reason)
                return None
            sizes, found = better
        if found.largest > _LARGEST or found.elements > _ELEMENTS:
            where = ", ".join(f"{symbol} = {size}" for symbol, size in sizes.items())
            self.reasons.append(f"at {where} it computes {found.elements:.1g} numbers")
            return None
        return sizes

    def at(self, sizes: Sizes, wanted: Value | None = None) -> Concrete:
        """The graph at ``sizes``, as far as ``wanted`` needs it."""
        alone = None if wanted is None or wanted not in self._own else (wanted,)
        inputs = {name: Value(type_) for name, type_ in self._types(sizes).items()}
        found = concrete(self.graph, inputs, alone, self.memo)
        self.left -= len(found.values)
        return found

    def first(self, sizes: Sizes) -> Concrete:
        """The graph at ``sizes`` that are tried first: mostly they fit, and others ask again."""
        found = concrete_at(self.graph, self._types(sizes))
        self.memo.update(found.memo)
        self.left -= len(found.values)
        return found

    def _types(self, sizes: Sizes) -> dict[str, Type]:
        return {
            name: TensorType(self.graph.inputs[name].type.dtype, shape)
            for name, shape in self.shapes(sizes).items()
        }

    @cached_property
    def _own(self) -> frozenset[Value]:
        """The values that are not of a body, which cannot be computed alone."""
        results = (v for node in self.graph.nodes for v in node.outputs)
        return frozenset([*self.graph.inputs.values(), *results])

    def _better(
        self, found: Concrete, sizes: Sizes, free: set[str]
    ) -> Iterator[tuple[Sizes, Concrete]]:
        """Sizes at which the node that did not fit does, and what is there.

        First those of all free symbols together that move an axis, then of one alone.
        """
        assert found.misfit is not None
        repairs = [
            (_Measure(self, sizes, value, axis), goal)
            for value, axis, goal in _repairs(found, found.misfit)
        ]
        ordered = sorted(sizes, key=lambda s: s not in free)  # the batch last
        for together in (free, *({s} for s in ordered)):
            for measure, goal in repairs:
                group = frozenset(filter(measure.moves, together))
                size = measure.solved(group, goal) if group else None
                if size is not None:
                    changed = sizes | dict.fromkeys(group, size)
                    after = self.at(changed)
                    if after.misfit is None or len(after.values) > len(found.values):
                        yield changed, after


@dataclass
class _Measure:
    """An axis of a value, or the number of its elements, as the sizes of symbols change."""

    search: _Search
    sizes: Sizes
    value: Value
    axis: int | None

    def at(self, group: frozenset[str], size: int) -> int | None:
        """What it is where the symbols of ``group`` have ``size``, if the model fits as far."""
        if self.search.left < 0:
            return None
        found = self.search.at(self.sizes | dict.fromkeys(group, size), self.value)
        known = found.values.get(self.value)
        shape = None if known is None else known.type.static
        if shape is None or self.axis is None:
            return None if shape is None else prod(shape)
        return shape[self.axis] if self.axis < len(shape) else None  # a rank may follow sizes

    def moves(self, symbol: str) -> bool:
        """Whether a larger size of ``symbol`` changes it."""
        start, group = self.sizes[symbol], frozenset({symbol})
        now = self.at(group, start)
        return any(self.at(group, s) not in {None, now} for s in (2 * start, 16 * start, _LONGEST))

    def solved(self, group: frozenset[str], goal: int) -> int | None:
        """The size of the symbols in ``group`` at which it is ``goal``: of several the roundest."""
        start = max(self.sizes[s] for s in group)

        def reaches(size: int) -> bool:
            found = self.at(group, size)  # a window finds no room in too small a size
            return size > start if found is None else found >= goal

        least = bisect_left(range(_LONGEST), 1, lo=1, key=reaches)
        if self.at(group, least) != goal:
            return None
        rounder = (-(-least // step) * step for step in (64, 32, 16, 8, 4, 2, 1))
        return next((size for size in rounder if self.at(group, size) == goal), None)


def _repairs(found: Concrete, node: Node) -> Iterator[tuple[Value, int | None, int]]:
    """Sizes of an axis of an operand, or numbers of its elements, on which the node may fit."""
    operands = [found.values[v] for v in node.inputs]
    for place, value in enumerate(operands):
        shape = value.type.static
        if shape and tensor_of(value) is None:
            for axis in reversed(range(len(shape))):
                for size in _likely(operands, place, axis):
                    if size != shape[axis] and _fits(node, operands, place, axis, size):
                        yield node.inputs[place], axis, size
            for size in sorted({n * d for n in _products(operands) for d in (1, shape[0])}):
                yield node.inputs[place], None, size


def _likely(operands: Sequence[Value], place: int, axis: int) -> list[int]:
    """What the other operands say of an axis: their sizes and their numbers, the largest first."""
    shape = operands[place].type.static or ()
    others = [v for i, v in enumerate(operands) if i != place]
    rest = prod(shape[:axis] + shape[axis + 1 :])
    sizes = {d for v in others for d in v.type.static or ()}
    shares = {n // rest for n in _products(operands) if rest and n % rest == 0}
    return sorted(sizes | shares | {n for v in others for n in _numbers(v)}, reverse=True)


def _products(operands: Sequence[Value]) -> set[int]:
    """How many elements an operand may ask for that holds a shape."""
    return {prod(n for n in _numbers(v) if n > 0) for v in operands if _numbers(v)}


def _numbers(value: Value) -> list[int]:
    tensor = tensor_of(value)
    few = tensor is not None and tensor.size <= _FEW and tensor.type.dtype.kind in "iu"
    return [int(n) for n in tensor.array.reshape(-1)] if few and tensor is not None else []


def _fits(node: Node, operands: Sequence[Value], place: int, axis: int, size: int) -> bool:
    """Whether the node fits once that operand, and all of its shape, are of another size."""
    old = operands[place].type.static or ()
    new = (*old[:axis], size, *old[axis + 1 :])
    inputs = tuple(
        Value(TensorType(v.type.dtype, new)) if v.type.static == old and not tensor_of(v) else v
        for v in operands
    )
    try:
        node.on(inputs)
    except IllTyped:
        return False
    return not node.misfit(inputs)
