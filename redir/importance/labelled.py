"""A little data with labels, and what a network loses on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from redir import ops
from redir.errors import BadInput
from redir.io import arrays
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.statistics.walk import is_fixed

Loss = Callable[[Any, Any], Any]
"""Of outputs (examples, ...) and labels, both tensors of PyTorch: a loss for each example."""

_AT_ONCE = 64  # examples


@dataclass(frozen=True, eq=False)
class Labelled:
    """Examples: ``inputs`` by name and ``labels``, examples first, and the ``loss`` of each.

    Without one it is the cross-entropy of the first output, or of what goes into its Softmax.
    """

    inputs: Mapping[str, Array]
    labels: Array
    loss: Loss | None = None

    @classmethod
    def of(
        cls, batches: Iterable[tuple[Any, Any]], graph: Graph, loss: Loss | None = None
    ) -> Labelled:
        """Those of pairs of an input of the graph, its only one, and labels, as loaders give.

        Raises:
            BadInput: there are none.
        """
        pairs = [(np.asarray(x), np.asarray(labels)) for x, labels in batches]
        if not pairs:
            raise BadInput("there are no labelled examples")
        name, value = next(iter(graph.inputs.items()))
        x, labels = (np.concatenate(found) for found in zip(*pairs, strict=True))
        return cls({name: x.astype(value.type.dtype)}, labels, loss)

    @classmethod
    def read(cls, path: str | Path, graph: Graph) -> Labelled:
        """Those of an ``.npz`` file: see ``arrays.labelled``.

        Raises:
            BadInput: it has no labels, or other inputs than the graph.
        """
        return cls(*arrays.labelled(path, graph, free=1))

    def first(self, count: int) -> Labelled:
        """The first so many examples."""
        inputs = {name: array[:count] for name, array in self.inputs.items()}
        return replace(self, inputs=inputs, labels=self.labels[:count])

    def parts(self, graph: Graph) -> Iterator[tuple[Mapping[str, Array], Array]]:
        """The examples as many at a time as a graph takes, each with its labels.

        Raises:
            BadInput: it takes more than there are, or not as many of each input.
        """
        size, count = _AT_ONCE, len(self.labels)
        for name, array in self.inputs.items():
            if len(array) != count:
                raise BadInput(f"input {name!r} has {len(array)} examples, and {count} have labels")
        if is_fixed(graph):
            sizes = sorted({n for v in graph.inputs.values() if (n := v.type.size(0))})
            if len(sizes) > 1:
                raise BadInput(
                    f"the inputs of the model have first axes of {' and '.join(map(str, sizes))}: "
                    "these are no examples, and a label for each cannot be told"
                )
            size = min(sizes, default=1)
            count -= count % size
        if not count:
            raise BadInput(
                f"{len(self.labels)} examples are too few: the model takes {size} at once"
            )
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            yield {name: array[part] for name, array in self.inputs.items()}, self.labels[part]

    def batches(self, graph: Graph, count: int, seed: int) -> list[Mapping[str, Array]]:
        """The inputs alone, as a source of statistics gives them."""
        del seed
        parts = (inputs for inputs, _ in self.parts(graph))
        sizes = np.cumsum([len(labels) for _, labels in self.parts(graph)])
        return list(islice(parts, int(np.searchsorted(sizes, count)) + 1))

    def losses(self, outputs: Array, labels: Array) -> Array:
        """The loss of each example."""
        if self.loss is not None:
            import torch  # noqa: PLC0415 - slow, and only a loss of its own needs it

            found: Array = self.loss(torch.tensor(outputs), torch.tensor(labels)).numpy()
            return found
        rows = outputs.reshape(len(labels), -1).astype(np.float64)
        rows = rows - rows.max(1, keepdims=True)
        chosen = rows[np.arange(len(labels)), labels.astype(int)]
        return np.asarray(np.log(np.exp(rows).sum(1)) - chosen)


def judged(graph: Graph, loss: Loss | None = None) -> Graph:
    """The graph with the one output that losses are taken of."""
    name, value = next(iter(graph.outputs.items()))
    if loss is None and value.node is not None and value.node.op == ops.Softmax:
        value = value.node.inputs[0]
    return replace(graph, outputs={name: value})
