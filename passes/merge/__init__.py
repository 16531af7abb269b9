"""Merge channels that are always equal or multiples, and add up what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from redir.channels.coupling import Coupling
from redir.check.guarantees import (
    NO_GROWTH,
    NO_MORE_PARAMETERS,
    SAME_INTERFACE,
    SAME_OUTPUTS,
    Guarantee,
    stored,
)
from redir.cost.forms import unless_dearer
from redir.cost.models import CostModel, cost_model
from redir.errors import BadPipeline
from redir.ir import Graph
from redir.ir.rewriter import settled
from redir.ops import tensor_of
from redir.passes.merge.linear_sums import plan_added
from redir.passes.merge.plan import Plan, in_steps, joins_of
from redir.passes.merge.repeated_operands import plan_unrepeated
from redir.passes.merge.similarity import Linkage, Schedule, tied
from redir.passes.merge.value_numbering import number_channels
from redir.pipeline import Pass


@dataclass(frozen=True)
class Merge(Pass):
    """Channels of a coupled group that always hold the same become one; consumers add up.

    Two groups merge where every constant that makes them (weight rows, biases, norm parameters,
    each producer of a residual stream) holds the same for both, place by place, or the same but
    for a power of two that passes all operators in between. What reads them adds up its slices,
    times that factor, in float64 and rounds once. So it does where a Concat repeats an operand.
    Groups that all readers have equal slices for are added up before, where nothing but linear
    operators lies between. Groups that reach a graph input or output, or an operator that mixes
    channels, are left alone.

    With a ``tolerance`` above 0, channels that differ by no more are tied first, and
    outputs change. ``schedule`` sets the tolerance by depth, ``linkage`` how the distance of two
    clusters is measured.

    Nothing is merged where the model would then cost more under ``cost``: macs, multiplications,
    bytes, latency, or a cost model of another package. Widths of large convolutions that are
    multiples of ``step`` stay such, unless half of the channels go: others may be slower.
    """

    tolerance: float = 0.0
    schedule: Schedule = "constant"
    linkage: Linkage = "complete"
    step: int = 1
    cost: str | CostModel = "macs"

    def __post_init__(self) -> None:
        """Refuse a tolerance that is no distance, a step below 1, and a cost that there is not."""
        cost_model(self.cost)
        if self.step < 1:
            raise BadPipeline(f"merge: step is 1 or more: {self.step}")
        if not 0 <= self.tolerance < np.inf:
            raise BadPipeline(f"merge: tolerance must be at least 0, not {self.tolerance}")

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """At tolerance 0 the same outputs; always a model that is no larger."""
        exact = () if self.tolerance else (SAME_OUTPUTS,)
        return (SAME_INTERFACE, *exact, NO_GROWTH, NO_MORE_PARAMETERS)

    def explain(self, graph: Graph) -> Iterator[str]:
        """Each family of channels that is pinned, and what pins it."""
        coupling = graph.analysis(Coupling)
        for family in coupling.channel_families():
            pins = coupling.pins_of(family)
            value, axis = next(p for p in family if tensor_of(p[0]) is not None)
            if pins:
                width = value.type.size(axis)
                yield f"axis {axis} of {value.node}: {width} channels, pinned by {pins[0]}"

    def run(self, graph: Graph) -> Graph:
        """Tie, then merge until nothing changes: equal columns may make equal rows further on."""
        after = graph
        if self.tolerance:
            after = tied(graph, self.tolerance, self.schedule, self.linkage)
        return unless_dearer(graph, settled(after, partial(_merged, step=self.step)), self.cost)


def _merged(graph: Graph, step: int) -> Graph:
    coupling = graph.analysis(Coupling)
    plans = (partial(plan_merge, step=step), plan_unrepeated, partial(plan_added, step=step))
    found = (plan(coupling) for plan in plans)
    after = next((plan for plan in found if plan.kept), Plan()).carried_out(graph)
    return after if stored(after) <= stored(graph) else graph


def plan_merge(coupling: Coupling, step: int = 1) -> Plan:
    """Which channels merge into which, and times what in the weights that read them."""
    plan, numbers = Plan(), number_channels(coupling, coupling.pinned)
    fixed = coupling.marked(coupling.unmergeable)
    for family in coupling.families():
        joins = joins_of(coupling, family, numbers, fixed)
        plan.merge(coupling, family, in_steps(coupling, joins, step), numbers)
    return plan
