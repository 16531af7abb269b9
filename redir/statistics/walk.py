"""Running a graph node by node on several batches, with what flows at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from redir.ir import Graph, Node, Value
from redir.ir.builtin import is_absent, tensor_of
from redir.ir.interpreter import compute
from redir.ir.tensor import Array, Type
from redir.progress import progress
from redir.runtime.onnxruntime import Run, runner

Batches = Sequence[Mapping[str, Array]]
"""Inputs by name: those of several runs."""

Held = Mapping[Value, list[Any]]
"""For some values, an array for each batch."""

Step = Callable[[Node, list[list[Any]], Held], list[Sequence[Any]] | None]
"""What becomes of a node whose operands are, for each batch, some arrays; None computes it.

The last argument is what else is held just then.
"""

_LARGE = 2**16  # numbers that a node reads
_AT_ONCE = 2**22  # numbers in a value, about, so that what flows fits into memory
_CACHED = 2**15  # numbers that are compared at once
_MOST, _FEW = 32, 2**11  # examples at once, or more where they are of so few numbers together


def cut(graph: Graph, batches: Batches, largest: int = 0) -> Batches:
    """The batches in pieces that fit into memory, where the graph takes any number of examples.

    ``largest`` are the numbers of the largest value of one example, if not all are computed.
    """
    if is_fixed(graph):
        return batches
    largest = largest or max((size_of(v) for n in graph.nodes for v in n.outputs), default=1)
    return [piece for batch in batches for piece in _pieces(batch, largest)]


def needed(graph: Graph, wanted: Collection[Node] | None) -> Sequence[Node]:
    """The nodes that some ``wanted`` ones need, and these, in order; None needs all."""
    if wanted is None:
        return graph.nodes
    found = set(wanted)
    for node in reversed(graph.nodes):
        if node in found:
            found.update(value.node for value in node.inputs if value.node is not None)
    return [node for node in graph.nodes if node in found]


def flowing(graph: Graph) -> int:
    """The numbers of all values that are computed for one example, as far as they are known."""
    return sum(size_of(value) for node in graph.nodes if node.inputs for value in node.outputs)


def size_of(value: Value | Type) -> int:
    """The numbers of a value, or of one of a type, in one example, as far as they are known."""
    shape = value.type.shape if isinstance(value, Value) else value.shape
    return prod(size or 1 for size in (shape or ())[1:] if isinstance(size, int))


def is_fixed(graph: Graph) -> bool:
    """Whether a graph says how many examples it takes at once."""
    return any(v.type.size(0) is not None for v in graph.inputs.values() if v.rank)


def count_of(batch: Mapping[str, Array]) -> int:
    """The examples of a batch."""
    return max(map(len, batch.values()), default=1)


def _pieces(batch: Mapping[str, Array], largest: int) -> Batches:
    count = count_of(batch)
    given = sum(array.size for array in batch.values()) / count
    step = int(min(max(_AT_ONCE / max(largest, given), 1), max(_MOST, _FEW / max(given, 1))))
    return [{n: a[i : i + step] for n, a in batch.items()} for i in range(0, count, step)]


def some(batches: Batches, count: int) -> Batches:
    """The first batches, of about ``count`` examples together, but at least one."""
    sizes = np.cumsum(list(map(count_of, batches)))
    return batches[: max(int(np.searchsorted(sizes, count, "right")), 1)]


def walk(
    graph: Graph,
    batches: Batches,
    step: Step,
    what: str,
    wanted: Collection[Node] | None = None,
) -> None:
    """Compute every node of ``graph``, unless ``step(node, operands, held)`` gives its results.

    Where some nodes are ``wanted``, only those and what they need. An array is dropped after its
    last use. ``what`` says what this is for, where it takes long.

    Raises:
        Unsupported: an operator has no kernel.
    """
    nodes = needed(graph, wanted)
    left = Counter(graph.uses if wanted is None else (v for node in nodes for v in node.inputs))
    held: dict[Value, list[Any]] = {
        value: [batch[name] if name in batch else graph.defaults[name].array for batch in batches]
        for name, value in graph.inputs.items()
    }
    for node in progress(nodes, what):
        operands = [list(each) for each in zip(*(held[v] for v in node.inputs), strict=True)]
        operands = operands or [[] for _ in batches]
        made = step(node, operands, held) or applied(graph, node, operands)
        held.update(zip(node.outputs, map(list, zip(*made, strict=True)), strict=False))
        left.subtract(node.inputs)
        for value in {*node.inputs, *node.outputs}:
            if not left[value]:
                held.pop(value, None)


def applied(graph: Graph, node: Node, operands: Sequence[list[Any]]) -> list[Sequence[Any]]:
    """What a node of ``graph`` gives on the operands of several runs.

    Large ones go to onnxruntime, if it is there: the reference kernels take minutes for some. What
    is the same array in all runs gives one that is: a table that is turned, say, is held once.

    Raises:
        Unsupported: there is no kernel.
    """
    first, *others = operands
    if others and all(a is b for arrays in others for a, b in zip(arrays, first, strict=True)):
        return applied(graph, node, [first]) * len(operands)
    if sum(np.size(array) for array in operands[0]) < _LARGE:
        return [compute(node, arrays) for arrays in operands]
    given = {v: Value(v.type) for v in node.inputs if tensor_of(v) is None and not is_absent(v)}
    made = node.on(given.get(v, v) for v in node.inputs)
    inputs = {f"x{place}": value for place, value in enumerate(given.values())}
    results = {f"y{place}": value for place, value in enumerate(made.outputs)}
    run = running(Graph(inputs, results, opset=graph.opset))
    feeds = [dict(zip(node.inputs, arrays, strict=True)) for arrays in operands]
    runs = [run({f"x{i}": feed[v] for i, v in enumerate(given)}) for feed in feeds]
    return [[found[name] for name in results] for found in runs]


def running(graph: Graph) -> Run:
    """What computes a graph, and whose results may be kept.

    Those of onnxruntime count towards the memory that it may take.
    """
    run = runner(graph)
    return lambda feeds: {name: np.array(found) for name, found in run(feeds).items()}


def outputs(graph: Graph, batches: Batches) -> dict[str, Array]:
    """The outputs of a graph by name, those of all batches one after the other, as one row each."""
    run = running(graph)
    made = [run(batch) for batch in batches]
    return {name: np.concatenate([np.ravel(m[name]) for m in made]) for name in graph.outputs}


def far(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    """How far all outputs went together: the sum of their distances."""
    return sum(distance(array, after[name]) for name, array in before.items())


def distance(before: Array, after: Array) -> float:
    """How far an output went, as a share of its variance."""
    a, b = np.ravel(before), np.ravel(after)
    moved = sum(float(np.square(part - other).sum()) for part, other in _parts(a, b))
    return moved / (energy(a) or float(a.size)) if a.size else float("nan")


def energy(array: Array) -> float:
    """The variance of an output, times how many numbers it has."""
    a = np.ravel(array)
    mean = sum(float(part.sum()) for (part,) in _parts(a)) / max(a.size, 1)
    return sum(float(np.square(part - mean).sum()) for (part,) in _parts(a))


def _parts(*arrays: Array) -> Iterator[Sequence[Array]]:
    """Arrays of one size as float64, a part that fits into a cache at a time."""
    for start in range(0, arrays[0].size, _CACHED):
        yield [array[start : start + _CACHED].astype(np.float64) for array in arrays]
