"""Passes that factor layers by what flows through them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redir.cost import Sizes
from redir.cost.models import CostModel, cost_model
from redir.errors import BadInput, BadPipeline, TooLarge, Unchanged, Unsupported
from redir.ir import Graph
from redir.passes.factorize.study import Study, study
from redir.passes.factorize.ways import FACTORED, FORMS, factorings, unthinned
from redir.passes.factorize.weighed import weighed
from redir.pipeline.observing import Observing
from redir.runtime.open_sizes import Shapes
from redir.statistics import Source


@dataclass(frozen=True, kw_only=True)
class Studying(Observing):
    """A pass that studies the layers of a graph.

    Those whose name matches ``ignore`` stay. ``cost`` is what a layer must not cost more in: macs,
    multiplications, bytes, latency, or a model of costs. What is random is drawn by ``seed``.
    """

    statistics: str | Source = "auto"
    cost: str | CostModel = "macs"
    ignore: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a source or a cost that there is not."""
        super().__post_init__()
        if self.seed < 0:
            raise BadPipeline(f"{self.name}: seed is 0 or more: {self.seed}")
        _ = self.model

    @property
    def model(self) -> CostModel:
        """The model of costs."""
        return cost_model(self.cost)

    @property
    def curved(self) -> bool:
        """Whether errors count by what they do to the outputs, where that can be told."""
        return False

    @property
    def allowed(self) -> Sequence[str]:
        """The forms that layers may take."""
        return FORMS

    def study(
        self, graph: Graph, shapes: Shapes | None = None, *, needed: bool = False
    ) -> Study | None:
        """What is known of a graph at ``shapes``.

        None where no layer may be factored, or it cannot be run.

        Raises:
            BadInput: it cannot be run, and that is ``needed``.
            TooLarge: to run it takes too much memory, or time.

        Warns:
            Skipped: ``ignore`` names none of its layers.
            Unchanged: it cannot be run.
        """
        self.heed((node for node in graph.nodes if node.inputs), self.ignore)  # no constants
        try:
            at = tuple((shapes or {}).items())
            at_all = self.source, self.examples, self.seed, self.ignore, at
            found = study(graph, *at_all, tuple(self.allowed))
            return weighed(found) if found is not None and self.curved else found
        except TooLarge:  # about which something can be done
            raise
        except Unsupported as error:  # what cannot be run is left alone
            if needed:
                raise BadInput(f"{self.name}: the model cannot be run: {error}") from None
            self.unchanged(f"it cannot be run: {error}")
            return None

    def unchanged(self, why: str) -> None:
        """Say that a model is given back as it was."""
        warnings.warn(f"{self.name} leaves the model as it is: {why}", Unchanged, stacklevel=4)

    def explain(self, graph: Graph) -> Iterator[str]:
        """Why layers that could be factored are left as they are."""
        sizes = Sizes.of(graph)
        for node in graph.nodes:
            found = factorings(sizes, node, self.ignore) if node.op in FACTORED else []
            if isinstance(found, str):
                yield f"{node}: {found}"
        if "heads" in self.allowed:
            yield from (f"{node}: heads: {why}" for node, why in unthinned(sizes, self.ignore))
