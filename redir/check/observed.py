"""A graph and what it gives on inputs: each computed once, and only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from redir.errors import Unsupported
from redir.ir import Graph, Port
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.runtime.float64 import widened
from redir.runtime.inputs import runnable
from redir.runtime.onnxruntime import Run, Session, runner, session
from redir.runtime.open_sizes import Shapes

Feeds = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Observed:
    """``graph`` on ``feeds``, run by what ``make`` makes of it.

    ``awake`` tells of ports which of their channels are not constant over the feeds, once that was
    looked at.
    """

    graph: Graph
    feeds: Sequence[Feeds]
    make: Callable[[Graph], Run] = runner
    awake: dict[Port, Array] = field(default_factory=dict)

    @classmethod
    def drawn(cls, graph: Graph, samples: int, seed: int, input_shapes: Shapes | None) -> Observed:
        """``graph`` on so many inputs on which it runs, of ``input_shapes`` where sizes are open.

        Raises:
            BadInput: a shape does not fit it.
            Unsupported: it runs on none of those that were tried.
        """
        run = runner(graph)
        feeds = list(runnable(graph, run, samples, seed, input_shapes))
        return cls(graph, feeds, lambda _: run)

    def successor(self, graph: Graph) -> Observed:
        """What became of the graph, on the same inputs, in onnxruntime too if this runs there."""
        return Observed(graph, self.feeds, session if isinstance(self.run, Session) else runner)

    @cached_property
    def run(self) -> Run:
        """What computes the outputs.

        Raises:
            Unsupported: onnxruntime refuses the graph, and has to run it.
        """
        return self.make(self.graph)

    @cached_property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs for each of the feeds.

        Raises:
            Unsupported: the graph cannot be run on them.
        """
        return [self.run(given) for given in self.feeds]

    @cached_property
    def references(self) -> list[dict[str, Any] | None]:
        """The outputs in float64 for each of the feeds, None where it cannot be run so."""
        run = reference(self.graph)
        return [attempt(run, given) for given in self.feeds]


def reference(graph: Graph) -> Run:
    """What computes the outputs of ``graph`` in float64."""
    wide = widened(graph)
    kinds = {name: v.type.dtype for name, v in wide.inputs.items()}
    return lambda feeds: evaluate(wide, {n: a.astype(kinds[n]) for n, a in feeds.items()})


def attempt(run: Run, feeds: Feeds) -> dict[str, Any] | None:
    """What ``run`` gives on ``feeds``, None where it cannot be run."""
    try:
        return run(feeds)
    except Unsupported:
        return None
