"""Running a graph node by node on several batches, with what flows at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redir.ir import Graph, Node, Value
from redir.ir.interpreter import compute
from redir.ir.tensor import Array

Batches = Sequence[Mapping[str, Array]]
"""Inputs by name: those of several runs."""

Held = Mapping[Value, list[Any]]
"""For some values, an array for each batch."""

Step = Callable[[Node, list[list[Any]], Held], list[Sequence[Any]] | None]
"""What becomes of a node whose operands are, for each batch, some arrays; None computes it.

The last argument is what else is held just then.
"""


def walk(graph: Graph, batches: Batches, step: Step) -> None:
    """Compute every node of ``graph``, unless ``step(node, operands, held)`` gives its results.

    An array is dropped after its last use.

    Raises:
        Unsupported: an operator has no kernel.
    """
    left = Counter(graph.uses)
    held: dict[Value, list[Any]] = {
        value: [batch[name] if name in batch else graph.defaults[name].array for batch in batches]
        for name, value in graph.inputs.items()
    }
    for node in graph.nodes:
        operands = [list(each) for each in zip(*(held[v] for v in node.inputs), strict=True)]
        operands = operands or [[] for _ in batches]
        made = step(node, operands, held) or [compute(node, arrays) for arrays in operands]
        held.update(zip(node.outputs, map(list, zip(*made, strict=True)), strict=False))
        left.subtract(node.inputs)
        for value in {*node.inputs, *node.outputs}:
            if not left[value]:
                held.pop(value, None)
