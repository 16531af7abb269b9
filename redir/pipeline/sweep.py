"""One model under several pipelines, side by side or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

from redir.check.guarantees import Guarantee
from redir.cost import macs, nbytes
from redir.cost.models import cost_model
from redir.ir import Graph
from redir.pipeline import compress
from redir.pipeline.compress import Result
from redir.pipeline.pipeline import Pass, Pipeline
from redir.runtime.open_sizes import Shapes
from redir.tasks import Serial, Task, executor

__all__ = ["Swept", "swept"]

_LARGE = 10**6  # multiply-adds from which on a run takes longer than the start of a process
_TIMES, _BESIDE = 8, 2**29  # bytes that a run takes: times those of the model, and beside them


def unjudged(_: Graph) -> None:
    """Nothing is judged."""


class Swept(NamedTuple):
    """What the pipeline at a ``place`` gave, and what was ``judged`` of it."""

    place: int
    result: Result
    judged: Any


@dataclass(frozen=True, eq=False)
class Sweep:
    """Runs of ``pipelines`` on a graph, and what ``judge`` says of each result.

    ``seed`` and ``input_shapes`` are those of ``compress.run``. Nothing is timed: for that the
    machine has to do nothing else.
    """

    graph: Graph
    pipelines: Sequence[Pipeline]
    judge: Callable[[Graph], Any] = unjudged
    seed: int = 0
    input_shapes: Shapes | None = None

    def __post_init__(self) -> None:
        """Let the passes that all pipelines begin with run once in each process."""
        object.__setattr__(self, "pipelines", _sharing(self.pipelines))

    @property
    def is_here(self) -> bool:
        """Whether the runs are one after the other: small ones, and those that measure times."""
        if executor().is_here or macs(self.graph, self.input_shapes) < _LARGE:
            return True
        return any(_measures(step) for pipeline in self.pipelines for step in pipeline.passes)

    def __call__(self, place: int) -> tuple[Result, Any]:
        """The result at a place, and what is judged of it."""
        shapes, pipeline = self.input_shapes, self.pipelines[place]
        how: Any = {"seed": self.seed, "timing": False, "input_shapes": shapes}
        result = compress.run(self.graph, pipeline, **how)
        return result, self.judge(result.graph)

    def points(self, places: Sequence[int] | None = None) -> Generator[Swept, None, None]:
        """What all of them give, or those at some places, as they get done."""
        left = range(len(self.pipelines)) if places is None else places
        memory = _TIMES * nbytes(self.graph) + _BESIDE
        tasks = [Task(_name(self.pipelines[place]), place, memory) for place in left]
        chosen = Serial() if self.is_here else executor()
        for number, (result, judged) in chosen.done(self, tasks):
            yield Swept(left[number], result, judged)


def _name(pipeline: Pipeline) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in pipeline.asked.items()) or str(pipeline)


def _measures(step: Pass) -> bool:
    """Whether a pass measures times, which others that run would disturb."""
    return "speed" in step.asked or cost_model(getattr(step, "cost", "macs")).measured


def swept(graph: Graph, pipelines: Sequence[Pipeline], **how: Any) -> Iterator[Swept]:
    """What each pipeline makes of a graph, as it gets done; ``how`` are the fields of ``Sweep``.

    A pass that caches what it knows of a graph, as ``Factorize`` does, learns it once in each
    process: behind the passes that all begin with, it gets the very same graph.
    """
    return Sweep(graph, pipelines, **how).points()


def _sharing(pipelines: Sequence[Pipeline]) -> list[Pipeline]:
    """The pipelines, of which the passes that all begin with run once."""
    columns = zip(*(pipeline.passes for pipeline in pipelines), strict=False)
    shared = [_Once(steps[0]) for steps in takewhile(_alike, columns)]
    return [Pipeline((*shared, *pipeline.passes[len(shared) :])) for pipeline in pipelines]


def _alike(steps: Sequence[Pass]) -> bool:
    """Whether passes do the same, whatever is run behind them."""
    return all(type(s).run_at is Pass.run_at and s == steps[0] for s in steps)


@dataclass(frozen=True, eq=False)
class _Once(Pass):
    """A pass that runs once on each graph, and remembers."""

    step: Pass
    made: dict[Graph, Graph] = field(default_factory=dict)

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """Those of the pass."""
        return self.step.guarantees

    def run(self, graph: Graph) -> Graph:
        """What the pass gave, or gives."""
        if graph not in self.made:
            self.made[graph] = self.step.run(graph)
        return self.made[graph]

    def __str__(self) -> str:
        return str(self.step)
