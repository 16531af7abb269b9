"""The main job: run a pipeline on a model, check it, and say what it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from redir.check.observed import Observed
from redir.check.outputs import Outcome, Verdict, finite
from redir.cost import Cost, example_shapes, total
from redir.cost.models import CostModel, cost_model
from redir.errors import BadPipeline, MissingExtra, Unsupported
from redir.evaluation import Judged
from redir.ir import Graph
from redir.pipeline import runner
from redir.pipeline.instruments import Outputs, Step
from redir.pipeline.pipeline import Pass, Pipeline
from redir.pipeline.presets import USUAL
from redir.pipeline.presets import preset as preset_named
from redir.pipeline.renaming import renamed
from redir.pipeline.runner import Instrument, Progress
from redir.runtime.onnxruntime import Times, is_huge, time_pairs
from redir.runtime.open_sizes import Shapes

__all__ = ["Clock", "Result", "Target", "chosen", "run"]

Passes = str | Pass | Sequence[str | Pass]  # Pipeline is a Pass
COUNTS = {  # targets, by what is counted
    "macs": "macs",
    "params": "parameters",
    "bytes": "bytes",
    "multiplications": "multiplications",
}
_CLOSE = 0.01  # within which a target is met
_WORST: tuple[Outcome, ...] = ("fail", "differs", "skipped", "vacuous", "pass")


def chosen(
    preset: str | None = None,
    pipeline: Passes | None = None,
    cost: str | CostModel | None = None,
    *,
    usual: str = "exact",
    **options: Any,
) -> Pipeline:
    """The pipeline given, or else that of the preset, its passes under ``cost`` if that is given.

    Where neither is given it is that of the preset ``usual``, or if there are other ``options``, a
    target and how to reach it, of the preset for that target: mostly ``best``. They go to the
    passes that take them. A pass that names its own cost or target keeps it.

    Raises:
        BadPipeline: there is no such preset, pass, option or cost model, or both are given, or no
            pass takes an option.
    """
    if preset is not None and pipeline is not None:
        raise BadPipeline("a preset and a pipeline are both given: one of them says what to run")
    named = preset or next((USUAL[name] for name in options if name in USUAL), None)
    named = named or ("best" if options else usual)
    found = preset_named(named) if pipeline is None else _pipeline(pipeline)
    for name in options:
        if not any(hasattr(step, name) for step in found.passes):
            raise BadPipeline(f"no pass takes {name}: it is for another preset, such as best")
    if cost is not None:
        cost_model(cost)  # there is one, even if no pass asks for it
        options["cost"] = cost
    return found.given(**options)


def _pipeline(given: Passes) -> Pipeline:
    """The pipeline of a text, of a pass, or of several of either."""
    if isinstance(given, Pipeline):
        return given
    steps: list[Pass] = []
    for each in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(each, str | Pass):
            raise BadPipeline(f"a pipeline is made of passes and their texts, not of {each!r}")
        steps += Pipeline.parse(each).passes if isinstance(each, str) else [each]
    return Pipeline(tuple(steps))


@dataclass(frozen=True)
class Target:
    """What was asked for, and what is reached, if that was measured; from which ``statistics``."""

    name: str
    asked: float
    reached: float | None
    statistics: str

    @property
    def undershot(self) -> bool:
        """Whether less is left of a count than there might be."""
        return self.name in COUNTS and (self.reached or 0) < self.asked - _CLOSE


@dataclass(frozen=True)
class Result:
    """What a run gave: the graph, the costs and times before and after, and the checks.

    ``verdict`` is that of the whole where every pass promises the same outputs, else the worst of
    the passes that do; ``reason`` says why there is none. ``deviation`` is that of the whole, and
    ``active`` the share of its channels with new weights that were awake: see ``Verdict``.
    ``times`` are None where nothing changed, or nothing was timed.
    ``sizes`` are the shapes of the inputs with which both were counted.
    """

    graph: Graph
    before: Cost
    after: Cost
    sizes: Mapping[str, tuple[int, ...]]
    steps: tuple[Step, ...]
    verdict: Outcome
    reason: str
    deviation: float | None
    active: float | None
    times: Times | None
    map: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The result as ``compress --json`` prints it."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "sizes": {name: list(shape) for name, shape in self.sizes.items()},
            "time": times_as_dict(self.times),
            "passes": [{k: finite(v) for k, v in asdict(s).items()} for s in self.steps],
            "verdict": self.verdict,
            "deviation": finite(self.deviation),
            "active": self.active,
            "map": dict(self.map),
        }

    @property
    def changed(self) -> bool:
        """Whether any pass found anything to do."""
        return any(step.changed for step in self.steps)

    def target(self, pipeline: Pipeline, judged: Judged | None) -> Target | None:
        """The target that was asked of ``pipeline``, if one was."""
        for name, value in pipeline.asked.items():
            return Target(name, value, self._reached(name, judged), statistics_of(pipeline))
        return None

    def _reached(self, name: str, judged: Judged | None) -> float | None:
        if name in COUNTS:
            before, after = (getattr(c, COUNTS[name]) for c in (self.before, self.after))
            return after / before if before else 1.0
        if name == "speed" and self.times:
            return 1 / self.times.ratio
        if name == "max_drop" and judged:
            return judged.lost
        return None


def times_as_dict(times: Times | None) -> dict[str, Any] | None:
    """Times as JSON holds them."""
    return None if times is None else {**asdict(times), "verdict": times.verdict}


def statistics_of(pipeline: Pipeline) -> str:
    """Where the first of its passes that looks at inputs has them from; empty if none does."""
    sources = (s for step in pipeline.passes if (s := getattr(step, "statistics", None)))
    return str(next(sources, ""))


def run(
    graph: Graph,
    pipeline: Pipeline,
    *,
    seed: int = 0,
    timing: bool = True,
    input_shapes: Shapes | None = None,
    progress: Progress | None = None,
    watching: Sequence[Instrument] = (),
) -> Result:
    """Run ``pipeline`` and check after each pass what it promises of the outputs.

    Each pass is told to those ``watching``, too.

    Inputs to check on are drawn, of ``input_shapes`` where the model leaves their sizes open.
    ``timing`` also measures both models in onnxruntime, if anything changed.

    Raises:
        Broken: a pass that promises the same outputs changed them, or made what does not run.
        BadInput: a weight is NaN, or a shape does not fit the model.
    """
    check = Outputs(1 if is_huge(graph) else 2, seed, input_shapes)
    sizes = example_shapes(graph, input_shapes)
    values = "multiplications" in pipeline.asked or not is_huge(graph)
    before = total(graph, sizes, values=values)
    after, _ = runner.run(graph, pipeline, check, *watching, shapes=sizes, progress=progress)
    whole = check.whole()
    found = _worst(check.verdicts, whole)
    times = _times(check.seen) if timing else None
    check.seen.clear()  # which hold both models, as they run
    return Result(
        graph=after,
        before=before,
        after=total(after, sizes, values=values),
        sizes=sizes,
        steps=tuple(check.steps),
        verdict=found.verdict,
        reason=found.reason,
        deviation=None if whole.verdict == "skipped" else whole.deviation,
        active=whole.active,
        times=times,
        map=renamed(graph, after),
    )


@dataclass(frozen=True, eq=False)
class Clock:
    """Takes the times of a graph and of what became of it, as ``run`` does."""

    graph: Graph
    seed: int = 0
    input_shapes: Shapes | None = None

    def times(self, after: Graph) -> Times | None:
        """Those in onnxruntime, if it is there and takes both."""
        try:
            return _times([self._before, self._before.successor(after)])
        except Unsupported:
            return None

    @cached_property
    def _before(self) -> Observed:
        return Observed.of(self.graph, seed=self.seed, input_shapes=self.input_shapes)


def missed(
    before: Cost, after: Cost, asked: Mapping[str, float], times: Times | None = None
) -> str | None:
    """Why a target is not met, if it is not: the share that is left of a count, or the speed."""
    if times and asked.get("speed", 0) * times.low > 1:
        return f"it is {1 / times.ratio:.3g} times as fast, where {asked['speed']:g} was asked"
    for name, count in COUNTS.items():
        old, new = getattr(before, count), getattr(after, count)
        if asked.get(name) and new > (asked[name] + _CLOSE) * old:
            return (
                f"{new / old:.3f} of the {count} are left, where {asked[name]:g} was asked: "
                "--explain says which layers are left alone"
            )
    return None


def _worst(verdicts: Sequence[tuple[Verdict, bool]], whole: Verdict) -> Verdict:
    """That of the whole where all promise the same outputs, else the worst of those that do."""
    judged = [verdict for verdict, promised in verdicts if promised]
    if len(judged) == len(verdicts):
        return whole
    return min(judged, key=lambda v: _WORST.index(v.verdict), default=Verdict("pass"))


def _times(seen: Sequence[Observed]) -> Times | None:
    """The times of both in onnxruntime, if there are two, and it is there and takes them."""
    if len(seen) < 2:  # noqa: PLR2004 - before and after
        return None
    try:
        return time_pairs(seen[0].fast, seen[1].fast, seen[0].feeds[0])
    except (MissingExtra, Unsupported):
        return None
