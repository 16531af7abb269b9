"""Groups of channels that become one: which can, and what that means for each axis."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from redir.channels.coupling import Coupling, largest
from redir.channels.removal import Joined, narrowed
from redir.channels.steps import stepped
from redir.ir import Graph, Port
from redir.ir.tensor import Array
from redir.passes.merge.value_numbering import Numbers, finite, rows_of, same_rows


@dataclass(frozen=True)
class Plan:
    """For axes that get narrower, the channels kept; and of constants, how slices are added."""

    kept: dict[Port, Array] = field(default_factory=dict)
    added: dict[Port, Joined] = field(default_factory=dict)

    def narrow(self, ports: Mapping[Port, Joined], added: Collection[Port]) -> None:
        """Join channels of each of ``ports``; the slices of those in ``added`` are added up."""
        for port, joined in ports.items():
            kept = np.flatnonzero(joined.into == np.arange(joined.into.size))
            if kept.size < joined.into.size:
                self.kept[port] = kept
                if port in added:
                    self.added[port] = joined

    def merge(
        self,
        coupling: Coupling,
        family: list[Port],
        joins: dict[int, int],
        numbers: Mapping[Port, Numbers],
    ) -> None:
        """Let groups of ``family`` join others; what reads them adds up its slices."""
        ports = {port: _scaled(coupling, port, joins, numbers) for port in family if joins}
        self.narrow(ports, coupling.summed)

    def carried_out(self, graph: Graph) -> Graph:
        """The graph with narrower axes: itself if there are none."""
        return narrowed(graph, self.kept, self.added) if self.kept else graph


def joins_of(
    coupling: Coupling, family: list[Port], numbers: Mapping[Port, Numbers], fixed: Array
) -> dict[int, int]:
    """For each group of a family that is a multiple of an earlier one, that one.

    ``fixed`` says of each group whether it must stay.
    """
    joins = alike(coupling, family, lambda p: numbers[p].direction, fixed)
    for port in family if joins else ():
        if port in coupling.summed:
            scaled = _scaled(coupling, port, joins, numbers)
            joins = unjoined(joins, coupling.group(port)[_inexact(port, scaled)])
    return joins


def _scaled(
    coupling: Coupling, port: Port, joins: dict[int, int], numbers: Mapping[Port, Numbers]
) -> Joined:
    into = places(coupling.group(port), joins)
    length = finite(numbers[port].length)
    return Joined(into, np.exp2(length - length[into]))


def _inexact(port: Port, joined: Joined) -> Array:
    """Which slices of a weight cannot be scaled without rounding, or are too large for it."""
    rows, factor = rows_of(port), joined.factor
    if rows is None or np.all(factor == 1):
        return np.zeros(factor.size, bool)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = rows.astype(np.float64) * factor[:, None]
        rounded = np.any(scaled.astype(rows.dtype) != scaled, axis=1)
        large = np.abs(scaled).sum(0).max() >= largest(rows.dtype)
    wrong: Array = rounded | (large & (factor != 1))
    return wrong


def alike(
    coupling: Coupling, family: list[Port], numbers: Callable[[Port], Array], fixed: Array
) -> dict[int, int]:
    """For each group with the numbers of an earlier one on every axis of its family, that one.

    Groups that are ``fixed`` stay.
    """
    groups = coupling.sorted_groups(family)
    groups = groups[~fixed[groups]]
    if groups.size <= 1 or any(tells_apart(coupling, p, numbers(p), groups) for p in family):
        return {}
    same = np.zeros(groups.size, int)  # a number for what is alike so far
    for port in family:
        held = _held(groups, coupling.group(port), numbers(port))
        found, same = np.unique(same * (held.max() + 2) + held + 1, return_inverse=True)
        if found.size == groups.size:
            return {}
    first = np.unique(same, return_index=True)[1]
    joins = zip(groups.tolist(), groups[first[same]].tolist(), strict=True)
    return {g: to for g, to in joins if g != to}


def tells_apart(coupling: Coupling, port: Port, numbers: Array, groups: Array) -> bool:
    """Whether all ``groups`` have a channel on ``port``, and no two channels there are alike."""
    there = coupling.group(port)
    if there.size < groups.size:
        return False
    differ = np.all(numbers[1:] > numbers[:-1]) or np.unique(numbers).size == numbers.size
    return bool(differ and np.isin(groups, there).all())


def _held(wanted: Array, groups: Array, numbers: Array) -> Array:
    """For each group a number, equal where its channels of an axis have equal ones; -1 for none."""
    there, fresh, held = Blocks.of(groups), 0, np.full(wanted.size, -1)
    known = np.isin(there.names, wanted, assume_unique=True)
    for size in np.unique(there.sizes[known]):
        names = there.names[known & (there.sizes == size)]
        channels = there.channels(names)
        held[np.searchsorted(wanted, names)] = same_rows(numbers[channels]) + fresh
        fresh += len(channels)
    return held


def places(groups: Array, joins: Mapping[int, int]) -> Array:
    """For each channel of an axis the one that it joins, itself where it stays."""
    into, there = np.arange(groups.size), Blocks.of(groups)
    moves = np.array([*joins.items()], int).reshape(-1, 2)
    moves = moves[np.isin(moves[:, 0], there.names)]
    sizes = there.sizes[np.searchsorted(there.names, moves[:, 0])]
    for size in np.unique(sizes):
        names, to = moves[sizes == size].T
        into[there.channels(names)] = there.channels(to)
    return into


def in_steps(coupling: Coupling, joins: dict[int, int], step: int) -> dict[int, int]:
    """The joins after which widths are multiples of ``step``, as ``stepped`` says."""
    gone = stepped(coupling, joins, step) if joins else set[int]()
    return {group: to for group, to in joins.items() if group in gone}


def unjoined(joins: dict[int, int], groups: Array) -> dict[int, int]:
    """The joins of all but ``groups``."""
    lost = set(groups.tolist())
    return {g: to for g, to in joins.items() if g not in lost}


@dataclass(frozen=True)
class Blocks:
    """The channels of an axis by their groups: of each so many of ``order``, from its start on.

    ``names`` are the groups, in order.
    """

    names: Array
    starts: Array
    sizes: Array
    order: Array

    @classmethod
    def of(cls, groups: Array) -> Blocks:
        """Those of an axis whose channels are of these groups: (channels,)."""
        order = np.argsort(groups, kind="stable")
        names, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
        return cls(names, starts, sizes, order)

    def channels(self, groups: Array) -> Array:
        """The channels of each of ``groups``, which have equally many: (groups, channels)."""
        places = np.searchsorted(self.names, groups)
        size = self.sizes[places[:1]].sum()
        found: Array = self.order[self.starts[places][:, None] + np.arange(size)]
        return found

    def hold(self, group: int) -> bool:
        """Whether a channel of a group is there."""
        place = int(np.searchsorted(self.names, group))
        return place < self.names.size and bool(self.names[place] == group)
