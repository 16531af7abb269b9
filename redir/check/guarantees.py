"""What a pass promises: each promise is the check that can refute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from redir import ops
from redir.check.equality import SAME, Bounds, judge
from redir.errors import Unsupported
from redir.ir import Graph, Value
from redir.ir.interpreter import evaluate
from redir.ir.rewriter import map_constants, opened
from redir.ir.tensor import NO_DTYPE, Array, Tensor, Type, shapes_agree
from redir.ops import is_operator, tensor_of
from redir.runtime.float64 import widened
from redir.runtime.inputs import small

__all__ = [
    "CONSTANTS_ONLY",
    "NO_GROWTH",
    "NO_MORE_PARAMETERS",
    "SAME_INTERFACE",
    "SAME_OUTPUTS",
    "Guarantee",
]

_FEW = 16  # whole numbers that cost nothing


@dataclass(frozen=True)
class Guarantee:
    """``refute(before, after)`` says how the promise is broken, or None if it is not.

    ``numeric`` marks a check that runs both graphs.
    """

    name: str
    refute: Callable[[Graph, Graph], str | None]
    numeric: bool = False


def constants(graph: Graph) -> list[Tensor]:
    """The constants that the graph itself reads, each once."""
    held = (tensor_of(v) for n in graph.nodes for v in n.outputs)
    return [t for t in held if t is not None]


def stored(graph: Graph, *, sizes: bool = True) -> int:
    """How many numbers the constants hold, in control-flow bodies too: each tensor's once.

    Without ``sizes``, a few whole numbers that only say sizes do not count.
    """
    inside = (stored(body, sizes=sizes) for node in graph.nodes for body in node.bodies)
    held = {v: t for node in graph.nodes for v in node.outputs if (t := tensor_of(v)) is not None}
    counted = {v: t for v, t in held.items() if sizes or not says_sizes(graph, v, t)}
    return sum({id(t): t.size for t in counted.values()}.values()) + sum(inside)


def says_sizes(graph: Graph, value: Value, tensor: Tensor) -> bool:
    """Whether a constant is of a few whole numbers, and all that reads it takes sizes from it."""
    few = tensor.size <= _FEW and tensor.type.dtype.kind in "iu"
    return few and gives_sizes(graph, value)


def gives_sizes(graph: Graph, value: Value) -> bool:
    """Whether all that reads a constant takes sizes, or how much sizes grow, from it."""
    readers = graph.readers.get(value, ())
    sizes = all(n.has("takes_sizes") and value is not n.inputs[0] for n in readers)
    return sizes and bool(readers) and value not in graph.outputs.values()


def _interface(before: Graph, after: Graph) -> str | None:
    for kind, old, new in (
        ("inputs", before.inputs, after.inputs),
        ("outputs", before.outputs, after.outputs),
    ):
        if list(old) != list(new):
            return f"{kind} {list(old)} became {list(new)}"
        for name in old:
            if not _agree(old[name].type, new[name].type):
                return f"{name} was {old[name].type} and is {new[name].type}"
    return None


def _agree(a: Type, b: Type) -> bool:
    """Whether one tensor could be of both types."""
    same = a.dtype == b.dtype or NO_DTYPE in {a.dtype, b.dtype}
    return same and shapes_agree(a.shape, b.shape)


def is_whole(graph: Graph) -> bool:
    """Whether sums of products stay whole numbers, so that == is fair in any order.

    What is rounded before anything else reads it may be computed in any way.
    """
    nodes = [n for n in graph.walk() if is_operator(n)]
    rounded = _rounded_values(graph)
    free = {n for n in graph.nodes if rounded.issuperset(n.outputs)}
    read = {v for n in graph.nodes if n not in free for v in n.inputs} | {*graph.outputs.values()}
    held = (t.array for v in read if (t := tensor_of(v)) is not None)
    floats = [array.astype(np.float64) for array in held if array.dtype.kind == "f"]
    return all(n.has("exact_on_whole_numbers") or n in free for n in nodes) and all(
        np.array_equal(a, np.round(a)) and bool(np.all(np.abs(a) < 2**20)) for a in floats
    )


def _rounded_values(graph: Graph) -> set[Value]:
    """The values that only a Round reads, or a Mul of which that is true."""
    rounded: set[Value] = set()
    outputs = set(graph.outputs.values())
    for value in reversed([v for n in graph.nodes if n.inputs for v in n.outputs]):
        readers = graph.readers.get(value, ())
        scaled = all(
            n.op == ops.Round or (n.op == ops.Mul and rounded.issuperset(n.outputs))
            for n in readers
        )
        if readers and scaled and value not in outputs:
            rounded.add(value)
    return rounded


def _outputs(before: Graph, after: Graph) -> str | None:
    """Run both in float64: with == on whole numbers, else up to the rounding of the weights."""
    if before is after:
        return None
    old, new = widened(before), widened(after)
    shaken = None if is_whole(before) else widened(_rounded(before))
    for seed, (feeds, expected) in enumerate(_runs(old)):
        found, moved = evaluate(new, feeds), None if shaken is None else evaluate(shaken, feeds)
        for name, a in expected.items():
            bounds = SAME if moved is None else Bounds(1e-6, 16 * _reach(a, moved[name]), 1e-9)
            if judge(name, a, found[name], bounds=bounds)[1]:
                return f"output {name!r} differs on the whole numbers of seed {seed}"
    return None


def _runs(graph: Graph) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
    """Three inputs, each with what the graph makes of it."""
    try:
        inputs = small(graph)
        for seed in range(3):
            feeds = inputs.whole(seed)
            yield feeds, evaluate(graph, feeds)
    except Unsupported:
        return  # what cannot be run cannot be refuted


def _reach(a: Any, moved: Any) -> float:
    """How far rounding the weights moves an output."""
    if isinstance(a, list):
        return max(map(_reach, a, moved), default=0.0)
    a = np.asarray(a)
    if a.dtype.kind != "f":
        return 0.0
    with np.errstate(invalid="ignore"):  # of two infinities
        far = np.abs(a - moved)
    return float(np.max(far[np.isfinite(far)], initial=0.0))


def _rounded(graph: Graph) -> Graph:
    """``graph`` with each weight moved by a unit in its last place, at random.

    Exponents stay: a square of what is below 0 is a number, another power of it is none.
    """
    rng = np.random.default_rng(0)
    fixed = [n for n in graph.nodes if n.has("takes_sizes") or n.op == ops.Pow]
    scales = {v for n in fixed for v in n.inputs[1:]}

    def rounded(value: Value, tensor: Tensor) -> Tensor | None:
        if tensor.type.dtype.kind != "f" or value in scales:
            return None
        array, eps = tensor.array, np.finfo(tensor.type.dtype).eps
        signs = rng.choice([-1.0, 1.0], array.shape).astype(array.dtype)
        return Tensor.take(np.asarray(array * (1 + eps * signs)))

    return map_constants(graph, rounded)


def operations(graph: Graph) -> int:
    """The number of nodes that compute something, bodies included."""
    return sum(map(is_operator, graph.walk()))


def _no_growth(before: Graph, after: Graph) -> str | None:
    old, new = operations(opened(before)), operations(after)
    return f"{old} nodes became {new}" if new > old else None


def _no_more_parameters(before: Graph, after: Graph) -> str | None:
    """A few whole numbers that only say sizes may come on top."""
    old, new = stored(opened(before)), stored(after, sizes=False)
    return f"{old} parameters became {new}" if new > old else None


def _constants_only(before: Graph, after: Graph) -> str | None:
    old, new = before.nodes, after.nodes
    if [n.op for n in old] != [n.op for n in new]:
        return "the operators changed"
    for a, b in zip(old, new, strict=True):
        if [v.type for v in a.outputs] != [v.type for v in b.outputs]:
            return f"{a} changed its type"
        if a.op != ops.Const and a.attrs != b.attrs:
            return f"{a} changed its attributes"
    return None


SAME_INTERFACE = Guarantee("same interface", _interface)
SAME_OUTPUTS = Guarantee("same outputs", _outputs, numeric=True)
NO_GROWTH = Guarantee("no growth", _no_growth)
NO_MORE_PARAMETERS = Guarantee("no more parameters", _no_more_parameters)
CONSTANTS_ONLY = Guarantee("only constants move", _constants_only)
