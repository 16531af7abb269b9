"""Tying channels that are nearly alike: their weights become equal, so that merge finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from redir.channels.coupling import Coupling
from redir.ir import Graph, Port, Value, width
from redir.ir.rewriter import map_constants
from redir.ir.tensor import Array, Tensor, is_floating
from redir.ops import tensor_of
from redir.passes.merge.plan import Blocks, joins_of
from redir.passes.merge.value_numbering import number_channels, rows_of

Schedule = Literal["constant", "block", "ascending", "descending"]
Linkage = Literal["complete", "average", "single"]
_STEPS = 4  # blocks of one tolerance each

SCHEDULES: Mapping[Schedule, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "block": lambda depth: (1 + min(int(_STEPS * depth), _STEPS - 1)) / _STEPS,
    "ascending": lambda depth: depth,
    "descending": lambda depth: 1 - depth,
}
"""The share of the tolerance by the place of a family of channels: 0 the first, 1 the last."""


def tied(
    graph: Graph,
    tolerance: float,
    schedule: Schedule = "constant",
    linkage: Linkage = "complete",
) -> Graph:
    """``graph`` with the weights of similar channels made equal, so that they can be merged.

    The channels of a family are clustered by the distance of all the constants that make them,
    |a - b| / max(|a|, |b|) of the slices of every producer one behind the other (RED, Yvinec et
    al., NeurIPS 2021), and each cluster becomes its mean, a channel counting by the sum of
    squares of the weights that read it. Only channels are tied that can be merged then.
    """
    coupling = graph.analysis(Coupling)
    shares: dict[Port, list[_Share]] = {}
    found = _mergeable(coupling)
    for place, (family, classes) in enumerate(found):
        limit = tolerance * SCHEDULES[schedule](place / max(len(found) - 1, 1))
        if limit > 0:
            held = _Family.of(coupling, family)
            clusters = [c for groups in classes for c in _clusters(held, groups, limit, linkage)]
            _share_out(coupling, held, clusters, shares)
    return _averaged(graph, shares)


@dataclass(frozen=True)
class _Slices:
    """The slices of a constant along an axis, and which of them are of each group."""

    port: Port
    places: Blocks

    @classmethod
    def of(cls, coupling: Coupling, port: Port) -> _Slices:
        """Those of an axis of a constant."""
        return cls(port, Blocks.of(coupling.group(port)))

    @cached_property
    def rows(self) -> Array:
        """A row for each slice."""
        rows = rows_of(self.port)
        assert rows is not None
        return rows

    def of_groups(self, groups: Array) -> Array | None:
        """The numbers of each group, (groups, numbers), if they have some: all do, or none does."""
        if not self.places.hold(groups[0]):
            return None
        held: Array = self.rows[self.places.channels(groups)].reshape(groups.size, -1)
        return held.astype(np.float64)


@dataclass(frozen=True)
class _Family:
    """The constants that make the channels of a family, and those that read them."""

    making: list[_Slices]
    reading: list[_Slices]

    @classmethod
    def of(cls, coupling: Coupling, family: list[Port]) -> _Family:
        """Those of a family of ports."""
        reading = [port for port in family if port in coupling.summed]
        made = _making(coupling, family)
        return cls(*([_Slices.of(coupling, port) for port in ports] for ports in (made, reading)))

    def slices(self, groups: Array) -> Array:
        """For each of the groups all the numbers that make it: (groups, numbers)."""
        return np.column_stack([a for s in self.making if (a := s.of_groups(groups)) is not None])

    def read(self, groups: Array) -> Array:
        """The sum of squares of the weights that read each group: (groups,)."""
        held = (a for s in self.reading if (a := s.of_groups(groups)) is not None)
        total: Array = sum((np.square(a).sum(1) for a in held), np.zeros(groups.size))
        return total


def _making(coupling: Coupling, family: list[Port]) -> list[Port]:
    """The axes of constants that make the channels of a family."""
    return [port for port in family if port not in coupling.summed and _is_usable(port[0])]


def _is_usable(value: Value) -> bool:
    tensor = tensor_of(value)
    if tensor is None or not is_floating(tensor.type.dtype):
        return False
    return bool(np.isfinite(tensor.peak))


# Which channels could be merged if their weights were equal


def _mergeable(coupling: Coupling) -> list[tuple[list[Port], list[Array]]]:
    """Each family that has groups which could become one if constants were equal, and those."""
    families = [family for family in coupling.families() if _making(coupling, family)]
    levelled = Coupling(_levelled(coupling, families))
    if not families or not np.array_equal(_labels(coupling), _labels(levelled)):
        return []  # what is followed hangs on what is zero
    numbers, fixed = number_channels(levelled), levelled.marked(levelled.unmergeable)
    same = dict(zip(coupling.ports, levelled.ports, strict=True))
    joins = (joins_of(levelled, [same[p] for p in f], numbers, fixed) for f in families)
    return [(f, _joined(j)) for f, j in zip(families, joins, strict=True) if j]


def _labels(coupling: Coupling) -> Array:
    return np.concatenate([coupling.group(port) for port in coupling.ports])


def _joined(joins: Mapping[int, int]) -> list[Array]:
    classes: dict[int, list[int]] = {}
    for group, to in joins.items():
        classes.setdefault(to, [to]).append(group)
    return [np.array(groups) for groups in classes.values()]


def _levelled(coupling: Coupling, families: Sequence[list[Port]]) -> Graph:
    """The graph in which all groups that look alike from outside are made by equal constants."""
    shares: dict[Port, list[_Share]] = {}
    for family in families:
        alike = [groups for groups in _alike(coupling, family) if groups.size > 1]
        if alike:
            held = _Family.of(coupling, family)
            _share_out(coupling, held, [_Cluster(g, _longest(held, g)) for g in alike], shares)
    return _averaged(coupling.graph, shares)


def _alike(coupling: Coupling, family: list[Port]) -> list[Array]:
    """The groups that have equally many channels on each axis of the family, in its order."""
    groups = coupling.sorted_groups(family)
    look, first = np.zeros(groups.size, int), np.full(groups.size, len(family))
    spans = {(coupling.starts[port], width(port)): port for port in family}  # each once, in order
    for place, port in reversed(list(enumerate(spans.values()))):
        there = np.searchsorted(groups, coupling.group(port))
        counts = np.bincount(there, minlength=groups.size)
        first[counts > 0] = place
        look = np.unique(look * (counts.max(initial=0) + 1) + counts, return_inverse=True)[1]
    free = ~coupling.marked(coupling.unmergeable)[groups]
    order = np.argsort(first, kind="stable")
    found: dict[int, list[int]] = {}
    for kind, group in zip(look[order][free[order]], groups[order][free[order]], strict=True):
        found.setdefault(kind, []).append(group)
    return [np.array(alike) for alike in found.values()]


def _longest(family: _Family, groups: Array) -> Array:
    """All the weight to the group that is made by the largest numbers."""
    norms = np.linalg.norm(family.slices(groups), axis=1)
    weights = np.zeros(groups.size)
    weights[int(norms.argmax())] = 1
    return weights


# Clusters


@dataclass(frozen=True)
class _Cluster:
    """Groups that become one, and how much each of them counts: (groups,), with sum 1."""

    groups: Array
    weights: Array


def _clusters(family: _Family, groups: Array, limit: float, linkage: Linkage) -> Iterator[_Cluster]:
    from scipy.cluster import hierarchy  # noqa: PLC0415 - slow, and exact merging needs none
    from scipy.spatial.distance import squareform  # noqa: PLC0415

    rows = family.slices(groups)
    tree = hierarchy.linkage(squareform(_distances(rows), checks=False), linkage)
    labels = hierarchy.fcluster(tree, limit, "distance")
    found = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    many = [members for members in found if members.size > 1]
    read = family.read(groups) if many else np.zeros(0)
    for members in many:
        weights = read[members] if read[members].any() else np.ones(members.size)
        yield _Cluster(groups[members], weights / weights.sum())


def _distances(rows: Array) -> Array:
    """|a - b| / max(|a|, |b|) for each two rows: (rows, rows)."""
    squares = np.einsum("ij,ij->i", rows, rows)
    apart = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    larger = np.maximum(squares[:, None], squares)
    found: Array = np.sqrt(np.divide(apart, larger, out=np.zeros_like(apart), where=larger > 0))
    np.fill_diagonal(found, 0)
    return found


# Means


@dataclass(frozen=True)
class _Share:
    """For each channel of an axis, the channel to whose mean it goes, and how much it counts."""

    into: Array
    weight: Array


def _share_out(
    coupling: Coupling,
    family: _Family,
    clusters: Sequence[_Cluster],
    shares: dict[Port, list[_Share]],
) -> None:
    """Add to ``shares`` what becomes of the constants that make ``clusters``."""
    for held in family.making if clusters else ():
        share = _share(held.places, coupling.group(held.port).size, clusters)
        shares.setdefault(held.port, []).append(share)


def _share(places: Blocks, size: int, clusters: Sequence[_Cluster]) -> _Share:
    into, weight = np.arange(size), np.ones(size)
    for cluster in clusters:
        if places.hold(cluster.groups[0]):
            channels = places.channels(cluster.groups)
            into[channels], weight[channels] = channels[:1], cluster.weights[:, None]
    return _Share(into, weight)


def _averaged(graph: Graph, shares: Mapping[Port, Sequence[_Share]]) -> Graph:
    axes: dict[Value, list[tuple[int, _Share]]] = {}
    for (value, axis), found in shares.items():
        axes.setdefault(value, []).extend((axis, share) for share in found)

    def averaged(value: Value, tensor: Tensor) -> Tensor | None:
        if value not in axes:
            return None
        array = tensor.array
        for axis, share in axes[value]:
            array = _mean(array, axis, share)
        return None if np.array_equal(array, tensor.array) else Tensor.take(array)

    return map_constants(graph, averaged)


def _mean(array: Array, axis: int, share: _Share) -> Array:
    """Each slice of ``array`` along ``axis`` replaced by the mean of those that go together."""
    alone = np.bincount(share.into, minlength=share.into.size)[share.into] == 1
    rows = np.moveaxis(array, axis, 0)
    total = np.zeros(rows.shape, np.float64)
    np.add.at(total, share.into, rows * share.weight.reshape(-1, *(1,) * (rows.ndim - 1)))
    mean = total[share.into].astype(array.dtype)
    mean[alone] = rows[alone]
    return np.moveaxis(mean, 0, axis)
