"""Planting redundancy: copies of channels, for merge to find."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from redir.channels.coupling import Coupling
from redir.ir import Graph, Link, Node, Port, Value, width
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor
from redir.ops import tensor_of

Layout: TypeAlias = "list[tuple[int, int]]"  # in order, the old channel and the number of its copy


def plant_duplicates(graph: Graph, share: float, seed: int) -> Graph:
    """``graph`` with copies of about ``share`` of its free channels, and the same outputs.

    Every slice that makes a channel is copied, and every weight that reads it is split at random
    among the copies. A family whose order of channels cannot be followed is left as it is.
    """
    rng, coupling = np.random.default_rng(seed), graph.analysis(Coupling)
    layouts: dict[Port, Layout] = {}
    for family in coupling.families():
        groups = {int(g) for port in family for g in coupling.group(port)} - coupling.unmergeable
        copies = {g: int(rng.integers(2, 4)) for g in sorted(groups) if rng.random() < share}
        layouts.update(_layouts(coupling, family, copies))
    return _planted(coupling, layouts, rng)


def _layouts(coupling: Coupling, family: list[Port], copies: dict[int, int]) -> dict[Port, Layout]:
    """The new channels of each port of a family, without the copies that it cannot hold."""
    found: dict[Port, Layout] = {}
    for port in (p for p in family if tensor_of(p[0]) is None):
        groups = coupling.group(port).tolist()
        free = [(i, c) for i, g in enumerate(groups) for c in range(copies.get(g, 1))]
        links = [k for k in _making(coupling, port) if tensor_of(_end(k, port)[0]) is None]
        if any(_scatters(link) if link.a == port else _breaks(link) for link in links):
            return {}  # a Gather in another order, or a channel shuffle
        found[port] = _moved(port, links, found) or free
        if sorted(found[port]) != free:  # a border that a Pad adds, as a rule
            odd = {groups[i] for i, _ in set(free) ^ set(found[port])} & copies.keys()
            fewer = {g: n for g, n in copies.items() if g not in odd}
            return _layouts(coupling, family, fewer) if odd else {}
    for port in (p for p in family if tensor_of(p[0]) is not None):
        for _, link in coupling.links_of(port):
            end = _end(link, port)
            other, size = found.get(end), width(port)
            straight = np.array_equal(link.index, np.arange(link.index.size) % width(link.b))
            if other is None or not straight:
                return {}
            steps = range(0, size, width(end) or 1)  # a part for each gate, and groups share one
            first = [(s + i, c) for s in steps for i, c in other if s + i < size]
            if found.setdefault(port, first) != first:
                return {}
    return found


def _making(coupling: Coupling, port: Port) -> list[Link]:
    """The links along which a result gets its channels."""
    return [k for node, k in coupling.links_of(port) if node is port[0].node and k.kind != "summed"]


def _end(link: Link, port: Port) -> Port:
    """The other end of a link."""
    return link.a if link.b == port else link.b


def _scatters(link: Link) -> bool:
    """Whether a result's channels are others in an order of their own."""
    index = link.index
    alone = np.unique(index).size == index.size
    return alone and not np.array_equal(index, np.arange(index.size) + index[:1])


def _breaks(link: Link) -> bool:
    """Whether a result's channels are made from several each."""
    return np.unique(link.index).size < link.index.size


def _moved(port: Port, links: list[Link], found: dict[Port, Layout]) -> Layout:
    """The layout of a result by those of its operands; none where they leave it free."""
    parts: dict[int, Layout] = {}
    for link in links:
        operand = found.get(_end(link, port))
        if operand is None or not link.index.size:
            continue
        part = _linked(link, operand) if link.a == port else operand
        start = int(link.index[0]) if link.b == port else 0
        shifted = [(start + i, c) for i, c in part]
        if len(parts.setdefault(start, shifted)) <= len(shifted):
            parts[start] = shifted
    covered = {i for part in parts.values() for i, _ in part}
    rest = {i: [(i, 0)] for i in range(width(port)) if i not in covered}
    whole = sorted({**rest, **parts}.items())
    return [channel for _, part in whole for channel in part] if parts else []


def _linked(link: Link, operand: Layout) -> Layout:
    """What ``link`` makes of the channels of ``operand``: a part of them, or a block of each."""
    first, last = int(link.index[0]), int(link.index[-1])
    if last - first == link.index.size - 1:
        return [(i - first, c) for i, c in operand if first <= i <= last]
    count = int(link.index.max()) + 1
    inner = int(np.argmax(link.index != link.index[0])) or link.index.size // count
    outer = link.index.size // (inner * count)
    steps = [(o * count, i, c) for o in range(outer) for i, c in operand]
    return [((start + i) * inner + k, c) for start, i, c in steps for k in range(inner)]


def _planted(coupling: Coupling, layouts: dict[Port, Layout], rng: np.random.Generator) -> Graph:
    sources = {port: np.array([i for i, _ in layout]) for port, layout in layouts.items()}
    kept = {p: s for p, s in sources.items() if s.size > width(p)}
    touched = {value for value, _ in kept}

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if touched.isdisjoint((*node.inputs, *node.outputs)):
            return None
        tensor = tensor_of(node.outputs[0])
        if tensor is None:
            return node.op.narrow(node, inputs, kept).outputs
        array, ports = tensor.array, [p for p in kept if p[0] is node.outputs[0]]
        for port in sorted(ports, key=lambda p: p not in coupling.summed):  # before rows are copied
            array = _copied(array, port[1], kept[port], rng if port in coupling.summed else None)
        return replace(node, attrs={"value": Tensor.take(array)}).outputs

    return transform(coupling.graph, visit)


def _copied(array: Array, axis: int, source: Array, rng: np.random.Generator | None) -> Array:
    """The slices ``source`` of ``array``; with ``rng``, those of one slice add up to it."""
    copied = array.take(source, axis)
    if rng is None:
        return copied
    parts, total = rng.uniform(0.5, 1.5, copied.shape), np.zeros(array.shape)
    np.add.at(np.moveaxis(total, axis, 0), source, np.moveaxis(parts, axis, 0))
    return (copied * (parts / total.take(source, axis))).astype(array.dtype)
