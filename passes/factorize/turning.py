"""Heads turned so that what counts least stands last: exact, but for rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from scipy import linalg

from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor
from redir.layers.linear import Linear, linear
from redir.passes.factorize.heads import Heads
from redir.statistics.walk import Batches, Held, applied, walk

_SMALL = 1e-6  # of the mean energy of a channel, given to each: there may be too few samples


@dataclass
class _Energy:
    """Sums of products of channels (channels, channels), and of channels, over ``count`` places."""

    gram: Any = 0.0
    total: Any = 0.0
    count: int = 0

    def add(self, array: Array, axes: tuple[int, ...]) -> None:
        """Count all places of an array whose channels lie along some axes."""
        last = tuple(range(-len(axes), 0))
        size = prod(array.shape[axis] for axis in axes)
        rows = np.moveaxis(array, axes, last).reshape(-1, size)
        self.gram = self.gram + (rows.T @ rows).astype(np.float64)
        self.total = self.total + rows.sum(0, dtype=np.float64)
        self.count += len(rows)

    def of(self, heads: Array, *, centred: bool) -> Array:
        """The mean over ``heads`` (heads, size) of the moments of their channels: (size, size)."""
        whole = self.whole(centred=centred)
        found: Array = np.mean([whole[np.ix_(each, each)] for each in heads], 0)
        return found + _SMALL * (float(np.trace(found)) / len(found) or 1.0) * np.eye(len(found))

    def whole(self, *, centred: bool) -> Array:
        """The moments of all channels."""
        mean = self.total / self.count
        found: Array = self.gram / self.count - (np.outer(mean, mean) if centred else 0.0)
        return found


@dataclass
class _Turned:
    """A layer whose results and inputs are turned: the channels of heads, each with a matrix.

    Channels ``c`` become what they are, as a row, times the matrix.
    """

    layer: Linear
    results: list[tuple[Array, Array]] = field(default_factory=list)
    inputs: list[tuple[Array, Array]] = field(default_factory=list)

    @property
    def weight(self) -> Array:
        """The weights, as they are to be stored."""
        made = self.layer.weight.astype(np.float64)
        for channels, matrix in self.results:
            made[0, channels] = np.einsum("cit,cd->dit", made[0, channels], matrix)
        for channels, matrix in self.inputs:
            made[0][:, channels] = np.einsum("oct,cd->odt", made[0][:, channels], matrix)
        found: Array = self.layer.stored(made).astype(self.layer.array.dtype)
        return found

    @property
    def bias(self) -> Array:
        """What is to be added to the results."""
        assert self.layer.bias is not None
        made = self.layer.bias.astype(np.float64)
        for channels, matrix in self.results:
            made[channels] = made[channels] @ matrix
        return made


def turned(graph: Graph, batches: Batches, found: Sequence[Heads]) -> Graph:
    """The graph with the channels of each head turned, so that those come last that count least.

    Of scores, the product of queries and keys, both are whitened and turned to the singular vectors
    of what they make of each other: a place of both then has one energy, the square of which it
    adds to that of the scores. The mean of keys, which shifts all scores of a query alike, does not
    count. Of values, those come first that make most of the results of the layer that reads them,
    and none says anything of another.

    Queries and keys in a basis, as are those behind a rotary embedding, are not turned. Channels
    that go together are all made as large as what they add to the scores says.

    Raises:
        Unsupported: the graph cannot be run.
    """
    layers, energies = dict[Node, _Turned](), _energies(graph, batches, found)
    for heads in found:
        turn = _by_readers if heads.reads else _by_sizes if heads.operands else _by_products
        for rows in _shared(heads):
            matrix, inverse = turn(heads, rows, energies)
            for each in (heads, *heads.also):
                first = layers.setdefault(each.first.node, _Turned(each.first))
                second = layers.setdefault(each.second.node, _Turned(each.second))
                first.results += ((c, matrix) for c in np.unique(each.left[rows], axis=0))
                end = second.inputs if each.reads else second.results
                end += ((c, inverse) for c in np.unique(each.right[rows], axis=0))
    return _rewritten(graph, layers) if layers else graph


def _shared(heads: Heads) -> Iterator[Array]:
    """The heads that have the same channels on one side."""
    side = heads.left if len(np.unique(heads.left)) < heads.left.size else heads.right
    _, each = np.unique(side, axis=0, return_inverse=True)
    yield from (np.flatnonzero(each == number) for number in range(each.max() + 1))


_Port = tuple[Value, tuple[int, ...]]
_Energies = Mapping[_Port, _Energy]


def _energies(graph: Graph, batches: Batches, found: Sequence[Heads]) -> _Energies:
    """The energies of what meets: of heads that stay alike, of all together."""
    energies = dict[_Port, _Energy]()
    for heads in found:
        known = [energies.setdefault(port, _Energy()) for port in _met(heads)]
        for each in heads.also:
            energies.update(zip(_met(each), known, strict=True))
    values = {value for value, _ in energies}

    def step(node: Node, operands: list[list[Any]], _: Held) -> list[Sequence[Any]] | None:
        if values.isdisjoint(node.outputs):
            return None
        made = applied(graph, node, operands)
        for (value, axes), energy in energies.items():
            for results in made if value.node is node else ():
                energy.add(results[value.index], axes)
        return made

    if found:
        walk(graph, batches, step, "heads", [v.node for v in values if v.node is not None])
    return energies


def _met(heads: Heads) -> list[_Port]:
    """Where it is seen what meets in heads."""
    if heads.reads:
        return [_read_by(heads.second)]
    operands = [(each.value, each.axes) for each in heads.operands or ()]
    return [_made_by(heads.first), _made_by(heads.second), *operands]


def _made_by(layer: Linear) -> _Port:
    return layer.y, (layer.y_axis,)


def _read_by(layer: Linear) -> _Port:
    return layer.x, (layer.x_axis,)


def _by_products(heads: Heads, rows: Array, energies: _Energies) -> tuple[Array, Array]:
    """What turns queries, and what turns keys, so that their products stay."""
    q, whiten = _roots(energies[_made_by(heads.first)].of(heads.left[rows], centred=False))
    k, _ = _roots(energies[_made_by(heads.second)].of(heads.right[rows], centred=True))
    vectors, values, _ = linalg.svd(q @ k)
    return _balanced(whiten @ vectors, values)


def _by_sizes(heads: Heads, rows: Array, energies: _Energies) -> tuple[Array, Array]:
    """What makes queries as large as all that they add to the scores, and keys so much smaller.

    Channels that go together have one factor. The square of what they add is the product of their
    moments, of queries and of keys about their mean, as the node reads them.
    """
    assert heads.operands is not None
    parts = (heads.left.shape[1] // heads.each, heads.each)
    moments = [
        energies[operand.value, operand.axes].whole(centred=centred)[
            (at := operand.columns[rows].reshape(-1, *parts))[..., None], at[..., None, :]
        ]
        for operand, centred in zip(heads.operands, (False, True), strict=True)
    ]
    added = (moments[0] * moments[1]).sum((2, 3)).mean(0)
    own = energies[_made_by(heads.first)].whole(centred=False).diagonal()[heads.left[rows]]
    size = own.reshape(-1, *parts).sum(2).mean(0)
    spread = np.repeat(np.sqrt(_rooted(added)) / _rooted(size), heads.each)
    return np.diag(spread), np.diag(1 / spread)


def _rooted(values: Array) -> Array:
    """Roots, none much smaller than others; 1 where all are 0."""
    found: Array = np.sqrt(np.maximum(values, _SMALL * values.max()))
    return found if found.any() else np.ones_like(found)


def _by_readers(heads: Heads, rows: Array, energies: _Energies) -> tuple[Array, Array]:
    """What turns values, and what turns the weights that read them."""
    right = heads.right[rows]
    root, whiten = _roots(energies[_read_by(heads.second)].of(right, centred=True))
    read = heads.second.weight[0][:, right].astype(np.float64)
    squares, vectors = linalg.eigh(root @ np.einsum("ohct,ohdt->cd", read, read) @ root)
    return _balanced(whiten @ vectors[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0)))


def _balanced(rows: Array, values: Array) -> tuple[Array, Array]:
    """What turns channels to ``rows``, each as large as its value says, and what undoes it.

    All may be 0, as are those of a head that nothing reads.
    """
    matrix = rows * np.sqrt(np.maximum(values, _SMALL * values[0]) if values[0] > 0 else 1.0)
    return matrix, linalg.inv(matrix).T


def _roots(moments: Array) -> tuple[Array, Array]:
    """The root of moments, and its inverse."""
    values, vectors = linalg.eigh(moments)
    values = np.maximum(values, _SMALL * values.max())  # a sum of float32 may be below 0 where 0
    return vectors * np.sqrt(values) @ vectors.T, vectors / np.sqrt(values) @ vectors.T


def _rewritten(graph: Graph, layers: Mapping[Node, _Turned]) -> Graph:
    """The graph with the layers turned."""
    held = {each.layer.held: each for each in layers.values()}
    ends = {each.layer.behind or each.layer.node: each for each in layers.values() if each.results}
    biases = dict[tuple[Value, Value], Value]()  # by what they and the weights were

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node.outputs[0] in held:
            return node.on((), value=Tensor.take(held[node.outputs[0]].weight)).outputs
        old = ends[node].layer if node in ends else None
        if old is None or old.added is None:
            return None
        layer = linear(node.on(inputs))
        assert isinstance(layer, Linear)
        made = layer.with_bias(ends[node].bias)
        assert made.added is not None
        bias = biases.setdefault((old.held, old.added), made.added)
        whole = made.behind or made.node
        return whole.on(bias if v is made.added else v for v in whole.inputs).outputs

    return transform(graph, visit)
