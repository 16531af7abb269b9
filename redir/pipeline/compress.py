"""The main job: run a pipeline on a model, check it, and say what it gave."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from redir.check.guarantees import SAME_OUTPUTS
from redir.check.outputs import Outcome, Verdict, finite, verify
from redir.cost import Cost, example_shapes, total
from redir.cost.models import CostModel, cost_model
from redir.errors import BadInput, BadPipeline, Broken, MissingExtra, Unsupported
from redir.ir import Graph, Node, Source
from redir.ir.tensor import Array, Tensor
from redir.ops import tensor_of
from redir.pipeline.pipeline import Pass, Pipeline
from redir.pipeline.presets import preset as preset_named
from redir.runtime.inputs import runnable
from redir.runtime.onnxruntime import Times, runner, session, time_pairs
from redir.runtime.open_sizes import Shapes

Passes = str | Pass | Sequence[str | Pass]  # Pipeline is a Pass
_WORST: tuple[Outcome, ...] = ("fail", "differs", "skipped", "vacuous", "pass")


def chosen(
    preset: str | None = None,
    pipeline: Passes | None = None,
    cost: str | CostModel | None = None,
) -> Pipeline:
    """The pipeline given, or else that of the preset, its passes under ``cost`` if that is given.

    Where neither is given it is that of the preset ``exact``. A pass that names its own cost keeps
    it.

    Raises:
        BadPipeline: there is no such preset, pass, option or cost model, or both are given.
    """
    if preset is not None and pipeline is not None:
        raise BadPipeline("a preset and a pipeline are both given: one of them says what to run")
    found = preset_named(preset or "exact") if pipeline is None else _pipeline(pipeline)
    if cost is None:
        return found
    cost_model(cost)  # there is one, even if no pass asks for it
    return found.given(cost=cost)


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
class Step:
    """One pass of a run: its time in seconds, and how far it moved the outputs.

    ``deviation`` is the largest difference as a share of the output's magnitude; None where the
    model cannot be run. ``verdict`` is that of a pass that promises the same outputs. ``ties`` is
    the share of the results of steps that fell the other way, which the deviation leaves out.
    """

    name: str
    seconds: float
    changed: bool
    deviation: float | None
    verdict: Outcome | None
    ties: float = 0.0


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
        times = self.times and {**asdict(self.times), "verdict": self.times.verdict}
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "sizes": {name: list(shape) for name, shape in self.sizes.items()},
            "time": times,
            "passes": [{k: finite(v) for k, v in asdict(s).items()} for s in self.steps],
            "verdict": self.verdict,
            "deviation": finite(self.deviation),
            "active": self.active,
            "map": dict(self.map),
        }


def run(
    graph: Graph,
    pipeline: Pipeline,
    *,
    seed: int = 0,
    timing: bool = True,
    input_shapes: Shapes | None = None,
) -> Result:
    """Run ``pipeline`` and check after each pass what it promises of the outputs.

    Inputs to check on are drawn, of ``input_shapes`` where the model leaves their sizes open.
    ``timing`` also measures both models in onnxruntime, if anything changed.

    Raises:
        Broken: a pass that promises the same outputs changed them, or made what does not run.
        BadInput: a weight is NaN, or a shape does not fit the model.
    """
    refuse_nan(graph)
    feeds, why = _feeds(graph, seed, input_shapes)
    sizes = example_shapes(graph, input_shapes)
    after, steps, verdicts = _stepped(graph, pipeline, feeds, why)
    whole = Verdict("pass")
    if verdicts:  # one change alone is the whole
        whole = verdicts[0][0] if len(verdicts) == 1 else _verdict(graph, after, feeds, why)
    judged = [verdict for verdict, promised in verdicts if promised]
    exact = len(judged) == len(verdicts)
    worst = whole if exact else min(judged, key=_order, default=Verdict("pass"))
    return Result(
        after,
        total(graph, sizes),
        total(after, sizes),
        sizes,
        tuple(steps),
        worst.verdict,
        worst.reason,
        None if whole.verdict == "skipped" else whole.deviation,
        whole.active,
        _times(graph, after, feeds) if timing and after is not graph else None,
        renamed(graph, after),
    )


def checked(graph: Graph, pipeline: Pipeline, input_shapes: Shapes | None = None) -> Graph:
    """What ``run`` gives, checked as there after each pass, but neither counted nor timed.

    Raises:
        Broken: a pass that promises the same outputs changed them, or made what does not run.
        BadInput: a weight is NaN.
    """
    refuse_nan(graph)
    return _stepped(graph, pipeline, *_feeds(graph, 0, input_shapes))[0]


def _stepped(
    graph: Graph, pipeline: Pipeline, feeds: Sequence[Mapping[str, Array]], why: str
) -> tuple[Graph, list[Step], list[tuple[Verdict, bool]]]:
    """What all passes gave, their records, and of each change the verdict, and if it counts."""
    steps, verdicts = list[Step](), list[tuple[Verdict, bool]]()
    for step in pipeline.passes:
        graph, record, verdict = _step(step, graph, feeds, why)
        steps.append(record)
        verdicts += [(verdict, record.verdict is not None)] if record.changed else []
    return graph, steps, verdicts


def _order(verdict: Verdict) -> int:
    return _WORST.index(verdict.verdict)


def _feeds(
    graph: Graph, seed: int, input_shapes: Shapes | None
) -> tuple[Sequence[Mapping[str, Array]], str]:
    """Inputs on which the model runs, or none and why."""
    try:
        return list(runnable(graph, runner(graph), 2, seed, input_shapes)), ""
    except Unsupported as error:
        return (), str(error)


def _verdict(a: Graph, b: Graph, feeds: Sequence[Mapping[str, Array]], why: str) -> Verdict:
    return verify(a, b, feeds) if feeds else Verdict("skipped", why)


def _step(
    step: Pass, graph: Graph, feeds: Sequence[Mapping[str, Array]], why: str
) -> tuple[Graph, Step, Verdict]:
    start = time.perf_counter()
    after = step.run(graph)
    seconds = time.perf_counter() - start
    exact = SAME_OUTPUTS in step.guarantees
    clean: Outcome | None = "pass" if exact else None
    if after is graph:
        record = Step(str(step), seconds, changed=False, deviation=0.0, verdict=clean)
        return graph, record, Verdict("pass")
    verdict = _verdict(graph, after, feeds, why)
    if verdict.verdict == "fail" and not verdict.outputs:
        raise Broken(f"{step} made a model that does not run and was stopped: {verdict.reason}")
    if exact and verdict.verdict == "fail":
        raise Broken(f"{step} changed the outputs and was stopped: {verdict.reason}")
    deviation = None if verdict.verdict == "skipped" else verdict.deviation
    outcome = verdict.verdict if exact else None
    record = Step(str(step), seconds, True, deviation, outcome, verdict.ties)  # noqa: FBT003
    return after, record, verdict


def _times(before: Graph, after: Graph, feeds: Sequence[Mapping[str, Array]]) -> Times | None:
    """The times of both in onnxruntime, if it is there and takes both."""
    try:
        first, second = (session(graph, exact=False) for graph in (before, after))
        return time_pairs(first, second, feeds[0]) if feeds else None
    except (MissingExtra, Unsupported):
        return None


def refuse_nan(graph: Graph) -> None:
    """Refuse a weight that holds NaN: whatever is done with it would be wrong.

    Raises:
        BadInput: a constant of more than one number holds NaN.
    """
    for node in graph.walk():
        tensor = tensor_of(node.outputs[0])
        if tensor is not None and _has_nan(tensor):
            raise BadInput(f"tensor {_name(node)!r} holds NaN")
    for name, tensor in graph.defaults.items():
        if _has_nan(tensor):
            raise BadInput(f"tensor {name!r} holds NaN")


def _has_nan(tensor: Tensor) -> bool:
    array = tensor.array
    return array.size > 1 and array.dtype.kind == "f" and bool(np.isnan(array).any())


def _name(node: Node) -> str:
    return next(iter(node.source.outputs), "") if node.source else ""


def renamed(before: Graph, after: Graph) -> dict[str, Any]:
    """For each named constant of ``before``: its name now, None if gone, and the channels kept.

    ``channels`` gives, for each axis that was narrowed, the old index of each channel that is left.
    """
    sources = [n.source for n in after.nodes if not n.inputs and n.source]
    left = {source.origin: source for source in sources}
    left |= {source.outputs[0]: source for source in sources if source.outputs}
    names = [_name(n) for n in before.nodes if not n.inputs and _name(n)]
    return {name: _entry(name, left.get(name)) for name in names}


def _entry(name: str, source: Source | None) -> dict[str, Any]:
    """What is left of the constant ``name``: it, or what was computed from it alone."""
    if source is None or not source.outputs:
        return {"name": None, "channels": {}}
    if source.outputs[:1] == (name,):
        return {"name": name, "channels": {str(a): list(kept) for a, kept in source.channels}}
    kept = {source.axes[a]: list(kept) for a, kept in source.channels if a < len(source.axes)}
    channels = {str(a): kept[a] for a in sorted(kept) if a >= 0}
    return {"name": source.outputs[0], "channels": channels}
