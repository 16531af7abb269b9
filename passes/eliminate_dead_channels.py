"""Remove the channels that nothing reads, and those that are always zero."""

from __future__ import annotations

from dataclasses import dataclass

from redir.coupling import Coupling
from redir.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph
from redir.narrow import without
from redir.pipeline import Pass
from redir.zeros import zeros


@dataclass(frozen=True)
class EliminateDeadChannels(Pass):
    """Channels that every reader multiplies by zero, or that are zero wherever they are read, go.

    A channel counts as zero where the weights and biases that make it are zero and what lies
    between gives zero for zero. Groups that reach a graph input or output, or an operator that
    mixes channels, are left alone, and so is the last channel of an axis. An activation that is
    infinite or NaN, which a zero does not silence, is not provided for.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Remove until nothing is dead: a reader that goes may have been the last one."""
        while (after := _sweep(graph)) is not graph:
            graph = after
        return graph


def _sweep(graph: Graph) -> Graph:
    coupling = Coupling(graph)
    zero, read, alive = zeros(coupling), set[int](), set[int]()
    for _, link in coupling.links:
        if link.summed:
            groups = coupling.group(link.a)
            used = ~zero[link.b][link.index] & ~zero[link.a]
            read.update(groups.tolist())
            alive.update(groups[used].tolist())
    return without(coupling, read - alive)
