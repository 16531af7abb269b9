"""Remove the channels that matter least by a criterion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.families import and_more
from redir.channels.ports import axes
from redir.channels.removal import silenced, without
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, Guarantee
from redir.cost import total
from redir.cost.forms import no_dearer
from redir.cost.models import LATENCY, MACS
from redir.errors import BadPipeline
from redir.importance import Criterion, Evidence, Labelled, criterion, families, scored
from redir.importance.criterion import Normalizer, Reduction
from redir.ir import Graph
from redir.passes.prune.choosing import COUNTS, Gone, Ranked, Ranking
from redir.passes.prune.plan import Line, Pruning
from redir.passes.prune.reconstruction import reconstructed
from redir.pipeline import Place
from redir.pipeline.observing import Observing
from redir.pipeline.planning import Planning
from redir.progress import progress
from redir.statistics import Source, is_made_up

_HALF = 0.5  # of the channels, where no target is given
_TARGETS = {"macs": 1, "params": 1, "speed": 100}  # each with the most that may be asked
Scope = Literal["layer", "global"]


@dataclass(frozen=True)
class Prune(Observing, Planning):
    """Structured pruning: the channels that matter least go, from all that is coupled to them.

    ``channel_ratio`` is the share of the channels that goes, or ``macs`` or ``params`` is the share
    of the original that stays, or ``speed`` how many times as fast it becomes in onnxruntime here;
    or what scores less than ``threshold`` goes.
    The same share of each family goes (``scope=layer``), or what matters least of all of them
    (``global``), for a count by what channels cost. They are ranked by a ``criterion``: one of
    redir's, such as ``l2``, or of another package; its scores for the members of a family become
    one by ``reduction``, and those of families comparable by ``normalizer``. In several ``steps``
    the scores are taken anew, without what is gone. ``labelled`` is an .npz file of examples and
    their labels, for criteria that need some.

    With ``reconstruct`` what reads channels that go is solved by least squares for the results of
    the original, layer after layer, on inputs of ``statistics``, ``examples`` of them (0: 256, or
    fewer of a large model), as for ``factorize``. ``min_channels`` stay at least wherever channels
    lie, and a multiple of ``align``. Layers whose name matches ``ignore`` stay as they are. What is
    random is drawn by ``seed``. With ``compact=false`` the channels only become zero, for
    comparison: the outputs are the same. Pinned channels stay. This loses accuracy.
    """

    channel_ratio: float = _HALF
    criterion: str | Criterion = "l2"
    compact: bool = True
    seed: int = 0
    macs: float = 0.0
    params: float = 0.0
    speed: float = 0.0
    scope: Scope = "layer"
    reduction: Reduction = "mean"
    normalizer: Normalizer = "auto"
    reconstruct: bool = False
    steps: int = 1
    min_channels: int = 1
    align: int = 1
    ignore: str = ""
    labelled: str | Labelled = ""
    threshold: float | None = None
    statistics: str | Source = field(default="auto", kw_only=True)

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """What is solved may need a bias where there was none."""
        if self.reconstruct:
            return (SAME_INTERFACE, no_dearer(MACS))
        return (SAME_INTERFACE, NO_GROWTH, NO_MORE_PARAMETERS)

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        if not 0 <= self.channel_ratio < 1:
            raise BadPipeline(
                f"prune: channel_ratio must be at least 0 and below 1, not {self.channel_ratio}"
            )
        others = ["channel_ratio"] * (self.channel_ratio != _HALF)
        self.targets(_TARGETS, *others, *["threshold"] * (self.threshold is not None))
        if self.seed < 0:
            raise BadPipeline(f"prune: seed must be 0 or more, not {self.seed}")
        if min(self.steps, self.min_channels, self.align) < 1:
            raise BadPipeline("prune: steps, min_channels and align are 1 or more")
        super().__post_init__()
        criterion(self.criterion)

    @property
    def asked(self) -> Mapping[str, float]:
        """The target, if it is one of the whole model."""
        return self.targets(_TARGETS)

    @property
    def observes(self) -> bool:
        """Whether inputs of ``statistics`` flow: they do not where labelled ones are there."""
        asks = getattr(criterion(self.criterion), "observes", False)
        return not self.labelled and (self.reconstruct or asks)

    def run(self, graph: Graph) -> Graph:
        """Rank, choose, and remove or silence."""
        return self.run_at(graph, Place(graph))

    def run_at(self, graph: Graph, place: Place) -> Graph:
        """``run``, so that a share that is asked for is left behind the last pass."""
        coupling = graph.analysis(Coupling)
        _, gone = self._chosen(coupling, place)
        if not gone:
            return graph
        if self.reconstruct:
            return reconstructed(coupling, gone, self._evidence(graph), compact=self.compact)
        return without(coupling, gone) if self.compact else silenced(coupling, gone)

    def planned(self, graph: Graph, place: Place | None = None) -> Pruning:
        """What it would do to a graph, and what all passes would leave."""
        coupling, place = graph.analysis(Coupling), place or Place(graph)
        ranking, gone = self._chosen(coupling, place)
        after = place.behind.run(without(coupling, gone))
        return Pruning(
            tuple(Line.of(ranked, gone) for ranked in ranking.families),
            self.asked or {"channel_ratio": self.channel_ratio},
            str(self.criterion),
            total(place.original, place.shapes),
            total(after, place.shapes),
        )

    def _evidence(self, graph: Graph) -> Evidence:
        """What is known of a graph; labelled examples flow where inputs would be made up."""
        given = None if self.labelled == "" else self.labelled
        given = Labelled.read(given, graph) if isinstance(given, str) else given
        flows = given if given is not None and is_made_up(self.source) else self.source
        return Evidence(graph, flows, self.examples, self.seed, given)

    def _chosen(self, coupling: Coupling, place: Place) -> tuple[Ranking, Gone]:
        """The last ranking, and what goes by it."""
        self.heed(coupling.graph.nodes, self.ignore)
        gone, first = frozenset[int](), self._ranking(coupling, frozenset())
        for step in progress(range(1, self.steps + 1), "steps"):
            ranking = self._ranking(coupling, gone) if gone else first
            gone = self._by(ranking, place, step / self.steps)
        return first, gone

    def _ranking(self, coupling: Coupling, gone: Gone) -> Ranking:
        """The families with their scores, those of what is gone below all others."""
        now = coupling if not gone else Coupling(silenced(coupling, gone))
        evidence, given = self._evidence(now.graph), criterion(self.criterion)
        ranked = list[Ranked]()
        for family in progress(families(now, self._ignored(now)), "families"):
            out = np.isin(family.channels, sorted(gone))
            left = replace(family, channels=family.channels[~out])
            scores = np.full(len(out), -np.inf)
            if left.channels.size:
                scores[~out] = scored(given, left, evidence, self.reduction, self._compared)
            ranked.append(Ranked(family, scores))
        return Ranking(coupling, ranked, self.min_channels, self.align, self.scope == "global")

    @property
    def _compared(self) -> Normalizer:
        """By what scores compare: where families share a count, each is a part of its family's."""
        shared = self.normalizer == "auto" and self.scope == "global" and self.asked
        own = getattr(criterion(self.criterion), "normalizer", "mean")
        return "sum" if shared and own == "mean" else self.normalizer

    def _ignored(self, coupling: Coupling) -> frozenset[int]:
        nodes = (n for n in coupling.graph.nodes if n.matches(self.ignore))
        values = (v for node in nodes for v in (*node.inputs, *node.outputs))
        return coupling.groups_of([port for value in values for port in axes(value)])

    def _by(self, ranking: Ranking, place: Place, part: float) -> Gone:
        """What goes if a part of what is asked for is done."""
        graph = ranking.coupling.graph
        if self.threshold is not None:
            return ranking.below(self.threshold)
        if not self.asked:
            return ranking.share(part * self.channel_ratio)
        ((name, value),) = self.asked.items()
        if name == "speed":
            times = 1 + part * (value - 1)

            def fast(gone: Gone) -> bool:
                return LATENCY.ratio(graph, without(ranking.coupling, gone)) <= 1 / times

            return ranking.least_of(ranking.saving, fast)
        whole = COUNTS[name](place.original, place.shapes)

        def left(gone: Gone) -> float:
            after = place.behind.run(without(ranking.coupling, gone))
            return COUNTS[name](after, place.shapes)

        return ranking.counted(name, (1 - part * (1 - value)) * whole, left)

    def explain(self, graph: Graph) -> Iterator[str]:
        """Of which families the criterion says nothing."""
        coupling = graph.analysis(Coupling)
        for ranked in self._ranking(coupling, frozenset()).families:
            if np.isnan(ranked.scores).all():
                made = [str(layer.node) for w in ranked.family.makers for layer in w.layers]
                yield f"{and_more(made or ['a family'])}: {self.criterion} says nothing of it"
