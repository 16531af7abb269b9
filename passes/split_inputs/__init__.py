"""Compute each product of an input channel with one kernel once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from redir.check.guarantees import SAME_INTERFACE, SAME_OUTPUTS, Guarantee
from redir.cost.forms import improved, kept_by_others, no_dearer, ratios
from redir.cost.models import CostModel, cost_model
from redir.ir import Graph, Node
from redir.passes.split_inputs.forms import SPLITTABLE, Offers, layer_of
from redir.pipeline import Pass


@dataclass(frozen=True)
class SplitInputs(Pass):
    """Compute each product of an input channel with one kernel once, then add up.

    Outputs of a Conv, Gemm or MatMul that read an input channel with the same kernel, or with a
    multiple of it, share the product (RED, Yvinec et al., NeurIPS 2021). ``cost`` is what a split
    has to pay in: macs, multiplications, bytes, latency, or a cost model of another package.
    """

    cost: str | CostModel = "macs"

    def __post_init__(self) -> None:
        """Refuse a cost model that there is not."""
        cost_model(self.cost)

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """The same outputs, and where the cost is the sum of that of the layers, no higher one."""
        cost = cost_model(self.cost)
        same = SAME_INTERFACE, SAME_OUTPUTS
        return (*same, no_dearer(cost)) if cost.by_parts else same

    def run(self, graph: Graph) -> Graph:
        """Each layer in the form that costs least."""
        cost = cost_model(self.cost)
        return improved(graph, Offers.at_once(graph, dense=not cost.zeros_free), cost)

    def explain(self, graph: Graph) -> Iterator[str]:
        """The first condition that each layer fails."""
        cost = cost_model(self.cost)
        offers = Offers(graph, dense=not cost.zeros_free)
        for node in graph.nodes:
            why = _obstacle(graph, node, offers, cost) if node.op in SPLITTABLE else None
            if why is not None:
                yield f"{node}: {why}"


def _obstacle(graph: Graph, node: Node, offers: Offers, cost: CostModel) -> str | None:
    layer = layer_of(graph, node)
    if isinstance(layer, str):
        return layer
    forms = offers(node)
    if not forms:
        return "too few products are the same"
    least = min(ratios(graph, node, forms, cost, kept_by_others(graph, node, offers)))
    return None if least < 1 else f"split, it would cost {least:.3g} times as much ({cost})"
