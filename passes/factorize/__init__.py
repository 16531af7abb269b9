"""Factor layers, so that a model meets a target at the least change of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redir.check.guarantees import SAME_INTERFACE, Guarantee
from redir.cost import macs, nbytes
from redir.cost.forms import no_dearer, unless_dearer
from redir.cost.models import BYTES, LATENCY, MACS, CostModel, cost_model
from redir.errors import BadPipeline, Unsupported
from redir.ir import Graph
from redir.passes.factorize.forms import PARAMETERS
from redir.passes.factorize.search import furthest, losing, nearest, planned, within
from redir.passes.factorize.study import Study, study
from redir.passes.factorize.ways import DENSE, FACTORED, FORMS, factorings
from redir.pipeline import Pass
from redir.statistics import Source, source

TARGETS = {
    "macs": (0, 1),
    "params": (0, 1),
    "bytes": (0, 1),
    "speed": (0, 100),
    "error": (0, 1),
    "max_drop": (0, 100),
}
_HALF = 0.5  # of the multiply-adds, where no target is given
_BYTES = 4  # of a parameter: those that are factored are float32


@dataclass(frozen=True)
class Factorize(Pass):
    """Layers become two of less rank, solved on what flows, so that a target is met.

    ``macs``, ``params`` or ``bytes`` is the share of the model's that may be left (half of the
    multiply-adds if no target is given). ``speed`` is how many times as fast it should be in
    onnxruntime here; ``error`` how far outputs may go, as a share of their spread; ``max_drop`` how
    many points of accuracy may be lost on the labelled data of the .npz file ``eval``: then the
    model becomes as small as that lets it.

    A kernel becomes k x 1 then 1 x k (``spatial``: Jaderberg et al., BMVC 2014), 1 x 1 then k x k
    (``reduce``), k x k then 1 x 1 (``expand``), or kernels of single channels and sums of
    them (``uneven-depthwise``: Yvinec et al., NeurIPS 2021); a matrix the product of two
    (``low-rank``). ``forms`` are those allowed, joined by +, or ``all``. Ranks,
    multiples of ``align``, are chosen for all layers at once, by what noise in each does to the
    outputs. Weights are solved by least squares against the original's results, layer after layer,
    on what the layers before give (Zhang et al., TPAMI 2016). ``statistics`` gives the inputs for
    that, ``examples`` of them: ``synthetic`` ones, made from what norms remember; ``drawn`` ones;
    those of an .npz file; or ``auto``. Layers whose name matches ``ignore`` stay. This loses
    accuracy.
    """

    macs: float = 0.0
    params: float = 0.0
    bytes: float = 0.0
    speed: float = 0.0
    error: float = 0.0
    max_drop: float = 0.0
    eval: str = ""
    cost: str | CostModel = "macs"
    forms: str = "all"
    statistics: str | Source = "auto"
    examples: int = 256
    align: int = 8
    ignore: str = ""
    seed: int = 0

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """The interface stays, and what is to fall does not rise."""
        return (SAME_INTERFACE, no_dearer(BYTES if self.params or self.bytes else MACS))

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        given = {name: value for name in TARGETS if (value := getattr(self, name))}
        if len(given) > 1:
            raise BadPipeline(f"factorize: one target at a time, not {' and '.join(given)}")
        for name, value in given.items():
            low, high = TARGETS[name]
            if not low < value <= high:
                raise BadPipeline(f"factorize: {name} is above {low} and at most {high}: {value}")
        if bool(self.max_drop) != bool(self.eval):
            raise BadPipeline("factorize: max_drop and eval, labelled data, need each other")
        if min(self.examples, self.align) < 1 or self.seed < 0:
            raise BadPipeline("factorize: examples and align must be 1 or more, seed 0 or more")
        source(self.statistics), cost_model(self.cost), self._forms()

    def _forms(self) -> Sequence[str]:
        if self.forms == "all":
            return DENSE if self.speed or cost_model(self.cost).measured else FORMS
        found = self.forms.split("+")
        for name in set(found) - set(FORMS):
            raise BadPipeline(f"factorize: there is no form {name!r}, but {', '.join(FORMS)}")
        return found

    def run(self, graph: Graph) -> Graph:
        """See what flows, choose forms and ranks, and solve."""
        if 1 in (self.macs, self.params, self.bytes, self.speed):
            return graph
        try:
            found = study(graph, source(self.statistics), self.examples, self.seed, self.ignore)
        except Unsupported:
            return graph  # what cannot be run is left alone
        if found is None:
            return graph
        after = self._factored(found)
        return unless_dearer(graph, after, self.cost) if cost_model(self.cost).measured else after

    def _factored(self, found: Study) -> Graph:
        graph, forms = found.graph, self._forms()
        plan = planned(found, macs(graph), forms, self.align)
        if self.params or self.bytes:
            saved = (1 - (self.params or self.bytes)) * nbytes(graph) / _BYTES
            return found.solved(found.plan(PARAMETERS, saved, forms, self.align))
        if self.speed:
            faster = 1 / self.speed
            return nearest(found, plan, lambda after: LATENCY.ratio(graph, after) <= faster)
        if self.error:
            return furthest(found, plan, within(found, self.error))
        if self.max_drop:
            return furthest(found, plan, losing(graph, self.max_drop, self.eval))
        return found.solved(plan(1 - (self.macs or _HALF)))

    def explain(self, graph: Graph) -> Iterator[str]:
        """Why layers that could be factored are left as they are."""
        for node in graph.nodes:
            found = factorings(graph, node, self.ignore) if node.op in FACTORED else []
            if isinstance(found, str):
                yield f"{node}: {found}"
