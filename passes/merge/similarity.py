"""Tying channels that are nearly alike: their weights become equal, so that merge finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        for groups in classes:
            clusters = _clusters(coupling, family, groups, limit, linkage)
            _share_out(coupling, family, clusters, shares)
    return _averaged(graph, shares)


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
    numbers = number_channels(levelled)
    same = dict(zip(coupling.ports, levelled.ports, strict=True))
    joins = (joins_of(levelled, [same[p] for p in family], numbers) for family in families)
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
        alike = [groups for groups in _alike(coupling, family) if len(groups) > 1]
        clusters = [_Cluster(groups, _longest(coupling, family, groups)) for groups in alike]
        _share_out(coupling, family, clusters, shares)
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


def _longest(coupling: Coupling, family: list[Port], groups: list[int]) -> Array:
    """All the weight to the group that is made by the largest numbers."""
    norms = np.linalg.norm(_slices(coupling, family, groups), axis=1)
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
    coupling: Coupling, family: list[Port], groups: list[int], limit: float, linkage: Linkage
) -> Iterator[_Cluster]:
    if limit <= 0:
        return
    from scipy.cluster import hierarchy  # noqa: PLC0415 - slow, and exact merging needs none
    from scipy.spatial.distance import squareform  # noqa: PLC0415

    rows = _slices(coupling, family, groups)
    tree = hierarchy.linkage(squareform(_distances(rows), checks=False), linkage)
    labels = hierarchy.fcluster(tree, limit, "distance")
    read = _read(coupling, family, groups)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if members.size > 1:
            weights = read[members] if read[members].any() else np.ones(members.size)
            yield _Cluster([groups[m] for m in members], weights / weights.sum())


def _slices(coupling: Coupling, family: list[Port], groups: list[int]) -> Array:
    """For each of the groups all the numbers that make it: (groups, numbers)."""
    return np.column_stack(
        [_of_groups(coupling, port, groups) for port in _making(coupling, family)]
    ).astype(np.float64)


def _of_groups(coupling: Coupling, port: Port, groups: list[int]) -> Array:
    rows, places = rows_of(port), dict(blocks(coupling.group(port)))
    assert rows is not None
    none = np.zeros(0, int)
    return np.stack([rows[places.get(group, none)].reshape(-1) for group in groups])


def _distances(rows: Array) -> Array:
    """|a - b| / max(|a|, |b|) for each two rows: (rows, rows)."""
    squares = np.einsum("ij,ij->i", rows, rows)
    apart = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    larger = np.maximum(squares[:, None], squares)
    found: Array = np.sqrt(np.divide(apart, larger, out=np.zeros_like(apart), where=larger > 0))
    np.fill_diagonal(found, 0)
    return found


def _read(coupling: Coupling, family: list[Port], groups: list[int]) -> Array:
    """The sum of squares of the weights that read each group: (groups,)."""
    total = np.zeros(len(groups))
    for port in family:
        if port in coupling.summed:
            total += np.square(_of_groups(coupling, port, groups).astype(np.float64)).sum(1)
    return total


# Means


@dataclass(frozen=True)
class _Share:
    """For each channel of an axis, the channel to whose mean it goes, and how much it counts."""

    into: Array
    weight: Array


def _share_out(
    coupling: Coupling,
    family: list[Port],
    clusters: Iterable[_Cluster],
    shares: dict[Port, list[_Share]],
) -> None:
    """Add to ``shares`` what becomes of the constants that make ``clusters``."""
    found = list(clusters)
    for port in _making(coupling, family) if found else ():
        shares.setdefault(port, []).append(_share(coupling.group(port), found))


def _share(groups: Array, clusters: Sequence[_Cluster]) -> _Share:
    places, into, weight = dict(blocks(groups)), np.arange(groups.size), np.ones(groups.size)
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
