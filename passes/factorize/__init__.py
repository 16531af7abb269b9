"""Factor layers, so that a model meets a target at the least change of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from redir.check.guarantees import SAME_INTERFACE, Guarantee
from redir.cost import Sizes, macs, total
from redir.cost.forms import no_dearer
from redir.cost.models import BRIEF, BYTES, LATENCY, MACS, CostModel
from redir.errors import BadPipeline
from redir.evaluation import Judge
from redir.ir import Graph
from redir.passes.factorize.alone import Expand, Heads, LowRank, Narrower, Pivoted, Reduce, Spatial
from redir.passes.factorize.budget import COUNTED, sharing
from redir.passes.factorize.chains import savings
from redir.passes.factorize.forms import MULTIPLY_ADDS, PARAMETERS
from redir.passes.factorize.plan import Plan
from redir.passes.factorize.search import furthest, hastened, losing, within
from redir.passes.factorize.study import MEASURED, NOISE, Choices, Saving, Study, counted
from redir.passes.factorize.studying import Studying
from redir.passes.factorize.tradeoff import tradeoff
from redir.passes.factorize.ways import DENSE, FORMS, THINNING, all_factorings, parted
from redir.pipeline import Place
from redir.pipeline.planning import Planning, carry_out
from redir.runtime.open_sizes import Shapes

__all__ = ["Expand", "Factorize", "Heads", "LowRank", "Narrower", "Pivoted", "Reduce", "Spatial"]

_TARGETS = {"macs": 1, "params": 1, "bytes": 1, "speed": 100, "error": 1, "max_drop": 100}
_FAST = 8  # of which runtimes like multiples
_CLEARLY = 0.7  # as far: plans whose layers are solved alone compare no better than that
_HALF = 0.5  # of the multiply-adds, where no target is given


@dataclass(frozen=True)
class Factorize(Studying, Planning):
    """Layers become two of less rank, solved on what flows, so that a target is met.

    ``macs``, ``params`` or ``bytes`` is the share of the model's that may be left (half of the
    multiply-adds if no target is given). ``speed`` is how many times as fast it should be in
    onnxruntime here; ``error`` how far outputs may go, as a share of their spread; ``max_drop`` how
    much of a ``metric`` (accuracy) may be lost on ``eval``, in points or in its unit.

    A kernel becomes k x 1 then 1 x k (``spatial``: Jaderberg et al., BMVC 2014), 1 x 1 then k x k
    (``reduce``), k x k then 1 x 1 (``expand``), or kernels of single channels and sums of
    them (``uneven-depthwise``: Yvinec et al., NeurIPS 2021); a matrix the product of two
    (``low-rank``), or some of its rows and how they make the others (``pivoted``: PIFA, ICML 2025);
    or channels go, and those that stay take over (``narrower``: Hassibi and Stork, 1992), also from
    the heads of an attention, once these are turned (``heads``). ``forms`` are those allowed,
    joined by +, or ``all``. Ranks are multiples of ``align`` (0: of 8 where time counts, else of
    what suits a layer), and chosen for all layers at once, by what noise in each does to the
    outputs, or in a language model by the ``curvature`` of what it says (K-FAC, 2015), where torch
    is installed. Weights are solved by least squares against the original's results, in order, on
    what the layers before give (Zhang et al., TPAMI 2016). ``statistics`` gives ``examples`` inputs
    for that (0: as many as the layers need, often 256): ``synthetic``, from what norms remember;
    ``drawn``; of an .npz file; images of a folder or a .zip, after the ``preprocess`` of the model;
    or ``auto``. Layers of names like ``ignore`` stay. What passes behind remove counts towards
    a share. A ``plan``, of ``planned`` or in a file of ``redir plan --json``, says what becomes of
    each layer, in place of a target. This loses accuracy.
    """

    macs: float = 0.0
    params: float = 0.0
    bytes: float = 0.0
    speed: float = 0.0
    error: float = 0.0
    max_drop: float = 0.0
    eval: str = ""
    metric: str = ""
    curvature: bool = True
    forms: str = "all"
    align: int = 0
    plan: str | Plan = ""

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """The interface stays, and what is to fall does not rise, unless a plan says so."""
        if self.plan:
            return (SAME_INTERFACE,)
        return (SAME_INTERFACE, no_dearer(BYTES if self.params or self.bytes else MACS))

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        super().__post_init__()
        given = self.targets(_TARGETS)
        if self.plan and (given or self.forms != "all"):
            raise BadPipeline("factorize: a plan says all: it goes with no target and no forms")
        if bool(self.max_drop) != bool(self.eval):
            raise BadPipeline("factorize: max_drop and eval, labelled data, need each other")
        if self.metric and not self.eval:
            raise BadPipeline("factorize: metric is for max_drop and eval")
        if self.align < 0:
            raise BadPipeline(f"factorize: align is 0 or more: {self.align}")
        _ = self.allowed

    @property
    def asked(self) -> Mapping[str, float]:
        """The target, unless a plan says what is to be done."""
        return {} if self.plan else self.targets(_TARGETS) or {"macs": _HALF}

    @property
    def _timed(self) -> bool:
        """Whether time counts."""
        return bool(self.speed) or self.model.measured

    @property
    def _clock(self) -> CostModel:
        return self.model if self.model.measured else LATENCY

    @property
    def _align(self) -> int:
        return self.align or (_FAST if self._timed else 0)

    @property
    def curved(self) -> bool:
        """Whether errors count by what they do to the outputs, where that can be told."""
        return self.curvature

    @property
    def allowed(self) -> Sequence[str]:
        """The forms that layers may take."""
        if self.forms == "all":
            return DENSE if self._timed else FORMS
        found = self.forms.split("+")
        for name in set(found) - set(FORMS):
            raise BadPipeline(f"factorize: there is no form {name!r}, but {', '.join(FORMS)}")
        return found

    def run(self, graph: Graph) -> Graph:
        """See what flows, choose forms and ranks, and solve."""
        return self.run_at(graph, Place(graph))

    def run_at(self, graph: Graph, place: Place) -> Graph:
        """``run``, so that a share that is asked for is left behind the last pass."""
        found = self._study(graph, place.shapes)
        if found is None:
            return graph
        choices = self._choices(found, place)
        after = found.solved(choices) if choices else graph
        if self._timed and after is graph:
            self.unchanged("no form of a layer that is faster fits")
        elif self._timed and self._time(graph, after, place) > 1:
            self.unchanged("factored it would not be faster")
            return graph
        if not self.plan:  # which is carried out without a look at errors
            carry_out(lambda: self._carried(found, choices))
        return after

    def _carried(self, found: Study, choices: Choices) -> Plan:
        """The plan that is carried out, and what others would come to, unless they take times."""
        plan = Plan.of(found, choices, self._unit)
        if self._timed:
            return plan
        rule, forms = MEASURED if found.curved else NOISE, self._forms(found)
        planned = found.planner(counted(self._unit, 1), forms, self._align, rule)
        return replace(plan, curve=tradeoff(found, planned, self._unit))

    def planned(self, graph: Graph, place: Place | None = None) -> Plan:
        """What it would do to a graph, and what all passes would leave.

        Nothing is solved for that, unless the target is one of outputs: ``error`` or ``max_drop``.
        """
        place = place or Place(graph)
        found = self._study(graph, place.shapes)
        plan, after = Plan(()), graph
        if found is not None:
            choices = self._choices(found, place)
            plan, after = Plan.of(found, choices, self._unit), found.unsolved(choices)
        return replace(
            plan,
            target=self.asked,
            statistics=str(self.statistics),
            before=total(place.original, place.shapes),
            after=total(place.behind.run(after), place.shapes),
        )

    @property
    def _unit(self) -> str:
        return PARAMETERS if self.params or self.bytes else MULTIPLY_ADDS

    def _study(self, graph: Graph, shapes: Shapes | None = None) -> Study | None:
        """What is known of a graph at ``shapes``, None where nothing is to be done, or can be.

        Raises:
            BadInput: there is a plan that is not for it, or it cannot be run.
            TooLarge: to run it takes too much memory, or time.
        """
        if 1 in (self.macs, self.params, self.bytes, self.speed):
            return None
        if self.plan:  # which is refused before statistics are taken, for these take long
            own = parted(sizes := Sizes.of(graph, shapes), self.ignore).graph
            self._plan.choices(own, all_factorings(Sizes(own, sizes.shapes), self.ignore))
        return self.study(graph, shapes, needed=bool(self.plan))

    @property
    def _plan(self) -> Plan:
        return Plan.read(self.plan) if isinstance(self.plan, str) else self.plan

    def _choices(self, found: Study, place: Place) -> Choices:
        if self.plan:
            return self._plan.choices(found.graph, found.ways)
        saving = self._saving(found)
        if found.curved:
            return self._by(found, place, saving, MEASURED, self._forms(found))
        usual = self._by(found, place, saving, NOISE, self.allowed)
        if not any(target in {*COUNTED, "speed"} for target in self.asked):
            return usual
        other = self._by(found, place, saving, MEASURED, self.allowed)
        clear = found.deviation(other) < _CLEARLY * found.deviation(usual)
        return other if clear else usual

    def _forms(self, found: Study) -> Sequence[str]:
        """The forms that are allowed, or those of them in which channels stay that others make.

        Those would keep some others from being ``pivoted``. So the kind is taken that is estimated
        to move the outputs less; that is known only where errors of all layers are told alike.
        """
        stay = [form for form in self.allowed if form not in THINNING]
        if not found.curved or "pivoted" not in stay or len(stay) == len(self.allowed):
            return self.allowed
        counts, ((target, value),) = counted(self._unit, 1), self.asked.items()
        share = 1 - value if target in COUNTED else _HALF
        asked = share * total(found.graph, found.sizes.shapes).structural[self._unit]

        def drift(forms: Sequence[str]) -> float:
            return found.drift(found.planner(counts, forms, self._align, MEASURED)(asked))

        return min(self.allowed, stay, key=drift)

    def _by(
        self, found: Study, place: Place, saving: Saving, rule: str, forms: Sequence[str]
    ) -> Choices:
        ((target, value),) = self.asked.items()
        planned = found.planner(saving, forms, self._align, rule)
        if target in COUNTED:
            return sharing(found, target, value, place, planned)
        if target == "speed":
            time = partial(self._time, found.original, place=place)
            return hastened(planned, lambda plan: time(found.unsolved(plan)), 1 / value)
        if target == "error":
            return furthest(planned, within(found, value))
        return furthest(planned, losing(found, value, self._judge(found)))

    def _judge(self, found: Study) -> Judge:
        return Judge.of(found.original, self.eval, self.metric, self.preprocess)

    def _saving(self, found: Study) -> Saving:
        """What forms save of what is asked for: a count, or a share of the whole.

        Where time counts, they have to save time as well.
        """
        is_count = any(target in COUNTED for target in self.asked)
        counts = counted(self._unit, 1 if is_count else macs(found.graph, found.sizes.shapes))
        if not self._timed:
            return counts
        clock = BRIEF if self._clock is LATENCY else self._clock
        times = savings(found, self.allowed, self._align, clock)
        if not is_count:
            return times
        return lambda form, rank: counts(form, rank) if times(form, rank) > 0 else 0.0

    def _time(self, before: Graph, after: Graph, place: Place) -> float:
        """The time of one graph over that of another, once all passes are done."""
        done = (place.behind.run(graph) for graph in (before, after))
        return self._clock.ratio(*(Sizes.of(graph, place.shapes).whole for graph in done))
