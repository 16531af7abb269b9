"""Tying channels that are nearly alike: their weights become equal, so that merge finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from redir.channels.coupling import Coupling
from redir.ir import Graph, Port, Value
from redir.ir.rewriter import map_constants
from redir.ir.tensor import Array, Tensor, is_floating
from redir.passes.merge.plan import blocks, joins_of
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
    rows: Array
    places: Mapping[int, Array]

    @classmethod
    def of(cls, coupling: Coupling, port: Port) -> _Slices:
        """Those of an axis of a constant."""
        rows = rows_of(port)
        assert rows is not None
        return cls(port, rows, dict(blocks(coupling.group(port))))

    def of_groups(self, groups: Sequence[int]) -> Array | None:
        """The numbers of each group, (groups, numbers), if any of them has some."""
        if self.places.keys().isdisjoint(groups):
            return None
        none = np.zeros(0, int)
        held = [self.rows[self.places.get(group, none)].reshape(-1) for group in groups]
        return np.stack(held).astype(np.float64)


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

    def slices(self, groups: Sequence[int]) -> Array:
        """For each of the groups all the numbers that make it: (groups, numbers)."""
        return np.column_stack([a for s in self.making if (a := s.of_groups(groups)) is not None])

    def read(self, groups: Sequence[int]) -> Array:
        """The sum of squares of the weights that read each group: (groups,)."""
        held = (a for s in self.reading if (a := s.of_groups(groups)) is not None)
        total: Array = sum((np.square(a).sum(1) for a in held), np.zeros(len(groups)))
        return total


def _making(coupling: Coupling, family: list[Port]) -> list[Port]:
    """The axes of constants that make the channels of a family."""
    ports = (port for port in family if port not in coupling.summed)
    return [port for port in ports if (rows := rows_of(port)) is not None and _is_usable(rows)]


def _is_usable(rows: Array) -> bool:
    return is_floating(rows.dtype) and bool(np.isfinite(rows).all())


# Which channels could be merged if their weights were equal


def _mergeable(coupling: Coupling) -> list[tuple[list[Port], list[list[int]]]]:
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


def _joined(joins: Mapping[int, int]) -> list[list[int]]:
    classes: dict[int, list[int]] = {}
    for group, to in joins.items():
        classes.setdefault(to, [to]).append(group)
    return list(classes.values())


def _levelled(coupling: Coupling, families: Sequence[list[Port]]) -> Graph:
    """The graph in which all groups that look alike from outside are made by equal constants."""
    shares: dict[Port, list[_Share]] = {}
    for family in families:
        held = _Family.of(coupling, family)
        alike = [groups for groups in _alike(coupling, family) if len(groups) > 1]
        _share_out(coupling, held, [_Cluster(g, _longest(held, g)) for g in alike], shares)
    return _averaged(coupling.graph, shares)


def _alike(coupling: Coupling, family: list[Port]) -> Iterator[list[int]]:
    """The groups that have equally many channels on each axis of the family."""
    counts: dict[int, list[tuple[int, int]]] = {}
    for place, port in enumerate(family):
        for group, block in blocks(coupling.group(port)):
            counts.setdefault(group, []).append((place, block.size))
    found: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for group, where in counts.items():
        if group not in coupling.unmergeable:
            found.setdefault(tuple(where), []).append(group)
    yield from found.values()


def _longest(family: _Family, groups: list[int]) -> Array:
    """All the weight to the group that is made by the largest numbers."""
    norms = np.linalg.norm(family.slices(groups), axis=1)
    weights = np.zeros(len(groups))
    weights[int(norms.argmax())] = 1
    return weights


# Clusters


@dataclass(frozen=True)
class _Cluster:
    """Groups that become one, and how much each of them counts: (groups,), with sum 1."""

    groups: list[int]
    weights: Array


def _clusters(
    family: _Family, groups: list[int], limit: float, linkage: Linkage
) -> Iterator[_Cluster]:
    from scipy.cluster import hierarchy  # noqa: PLC0415 - slow, and exact merging needs none
    from scipy.spatial.distance import squareform  # noqa: PLC0415

    rows = family.slices(groups)
    tree = hierarchy.linkage(squareform(_distances(rows), checks=False), linkage)
    labels = hierarchy.fcluster(tree, limit, "distance")
    read = family.read(groups)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if members.size > 1:
            weights = read[members] if read[members].any() else np.ones(members.size)
            yield _Cluster([groups[m] for m in members], weights / weights.sum())


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


def _share(places: Mapping[int, Array], size: int, clusters: Sequence[_Cluster]) -> _Share:
    into, weight = np.arange(size), np.ones(size)
    for cluster in clusters:
        for group, share in zip(cluster.groups, cluster.weights, strict=True):
            if group in places:
                into[places[group]] = places[cluster.groups[0]]
                weight[places[group]] = share
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
