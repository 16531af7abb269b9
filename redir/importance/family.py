"""Coupled channels as criteria see them: the weights that make them, and those that read them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.resting import resting
from redir.ir import Node, Port, width
from redir.ir.builtin import tensor_of
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.statistics.norms import is_norm


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a family in one constant: they make its channels, or ``reads`` them.

    ``rows`` (slices, weights) holds those of each slice of ``port``, and ``places`` (slices,) the
    place of each among the channels of the family, -1 for one that is none. ``layers`` are those
    that have these weights, as far as they are linear.
    """

    port: Port
    reads: bool
    places: Array
    rows: Array
    layers: Sequence[Linear]


@dataclass(frozen=True, eq=False)
class Norm:
    """A BatchNormalization of a family: ``scale`` and ``shift`` are numbers for each slice."""

    node: Node
    places: Array
    scale: Array
    shift: Array


@dataclass(frozen=True, eq=False)
class Family:
    """Channels that can go, and all that is coupled to them.

    ``channels`` are groups of the ``coupling``: what is removed as one; ``ports`` the axes on which
    they lie.
    """

    coupling: Coupling
    ports: Sequence[Port]
    channels: Array

    def places(self, port: Port) -> Array:
        """The place of each slice of an axis among the channels, -1 for one that is none."""
        groups = self.coupling.group(port)
        found = np.minimum(np.searchsorted(self.channels, groups), max(len(self.channels) - 1, 0))
        return np.where(self.channels[found] == groups, found, -1)

    def total(self, places: Array, numbers: Array) -> Array:
        """The sum of the numbers of the slices of each channel; NaN where it has none."""
        held = places >= 0
        sums = np.bincount(places[held], numbers[held], len(self.channels))
        return np.where(self._count(places), sums, np.nan)

    def mean(self, places: Array, numbers: Array) -> Array:
        """The mean of the numbers of the slices of each channel; NaN where it has none."""
        return self.total(places, numbers) / np.maximum(self._count(places), 1)

    def _count(self, places: Array) -> Array:
        return np.bincount(places[places >= 0], minlength=len(self.channels))

    @cached_property
    def weights(self) -> Sequence[Weights]:
        """All weights of the family; a number for each channel alone, as of a bias, is none."""
        return tuple(self._weights())

    @property
    def makers(self) -> Sequence[Weights]:
        """The weights that make the channels."""
        return [weights for weights in self.weights if not weights.reads]

    @property
    def readers(self) -> Sequence[Weights]:
        """The weights that read the channels, and add up over them."""
        return [weights for weights in self.weights if weights.reads]

    def _weights(self) -> Iterator[Weights]:
        for port in self.ports:
            tensor, layers = tensor_of(port[0]), self._layers(port)
            if tensor is None or not (layers or tensor.size > width(port)):
                continue
            rest = self.coupling.graph.analysis(resting).get(port[0], 0.0)
            array = np.moveaxis(tensor.array.astype(np.float64) - rest, port[1], 0)
            rows, reads = array.reshape(len(array), -1), port in self.coupling.summed
            yield Weights(port, reads, self.places(port), rows, layers)

    def _layers(self, port: Port) -> Sequence[Linear]:
        found = map(linear, self.coupling.graph.readers.get(port[0], ()))
        return [layer for layer in found if isinstance(layer, Linear) and layer.held is port[0]]

    @cached_property
    def norms(self) -> Sequence[Norm]:
        """The norms that scale the channels by constants."""
        return tuple(self._norms())

    def _norms(self) -> Iterator[Norm]:
        for node in dict.fromkeys(v.node for v, axis in self.ports if axis == 1):
            held = [tensor_of(v) for v in node.inputs[1:3]] if node and is_norm(node) else []
            numbers = [t.array.astype(np.float64) for t in held if t is not None]
            if node is not None and len(numbers) == 2:  # noqa: PLR2004 - scale and shift
                yield Norm(node, self.places((node.outputs[0], 1)), *numbers)


def families(coupling: Coupling, left: Collection[int] = ()) -> list[Family]:
    """The families that an operator adds up over, as far as their channels may go.

    Pinned channels may not, nor those ``left`` alone.
    """
    found = []
    stay = np.array(sorted({*coupling.pinned, *left}), int)
    for ports in coupling.families():
        if any(link.kind == "summed" for port in ports for _, link in coupling.links_of(port)):
            free = np.setdiff1d(sorted(coupling.groups_of(ports)), stay).astype(int)
            if free.size:
                found.append(Family(coupling, ports, free))
    return found
