"""One model under several pipelines, where what they begin with is done once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from redir.check.guarantees import Guarantee
from redir.ir import Graph
from redir.pipeline import compress
from redir.pipeline.compress import Result
from redir.pipeline.pipeline import Pass, Pipeline


def swept(graph: Graph, pipelines: Sequence[Pipeline], **how: Any) -> Iterator[Result]:
    """What each pipeline makes of a graph; ``how`` is given to ``compress.run``.

    A pass that caches what it knows of a graph, as ``Factorize`` does, learns it once: behind the
    passes that all begin with, it gets the very same graph.
    """
    for pipeline in _sharing(pipelines):
        yield compress.run(graph, pipeline, **how)


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
