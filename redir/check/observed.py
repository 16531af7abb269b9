"""A graph and what it gives on inputs: each computed once, and only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from redir.errors import Unsupported
from redir.ir import Graph, Port, limits
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.progress import progress
from redir.runtime.float64 import widened
from redir.runtime.inputs import runnable
from redir.runtime.onnxruntime import (
    Run,
    Session,
    is_huge,
    mixes_bytes,
    runner,
    session,
    stored_bytes,
)
from redir.runtime.open_sizes import Shapes

Feeds = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Observed:
    """``graph`` on ``feeds``, run by what ``make`` makes of it and of what becomes of it.

    ``awake`` tells of ports which of their channels are not constant over the feeds, once that was
    looked at, and ``known`` are outputs that were computed before, by the place of their feeds.
    """

    graph: Graph
    feeds: Sequence[Feeds]
    make: Callable[[Graph], Run] = runner
    awake: dict[Port, Array] = field(default_factory=dict)
    known: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        graph: Graph,
        feeds: Sequence[Feeds] | None = None,
        samples: int = 2,
        seed: int = 0,
        input_shapes: Shapes | None = None,
    ) -> Observed:
        """``graph`` on ``feeds``, or on ``samples`` drawn ones of ``input_shapes``, run.

        Raises:
            BadInput: a shape does not fit it.
            Unsupported: it cannot be run on them, or on any that were tried.
        """
        run, known = runner(graph), dict[int, dict[str, Any]]()

        def trying(given: Feeds) -> None:
            known[0] = run(given)

        if feeds is None:
            feeds = list(runnable(graph, trying, samples, seed, input_shapes))
        found = cls(graph, feeds, session if isinstance(run, Session) else runner, known=known)
        vars(found)["run"] = run
        _ = found.outputs
        return found

    def successor(self, graph: Graph) -> Observed:
        """What became of the graph, on the same inputs, in onnxruntime too if this runs there."""
        return Observed(graph, self.feeds, self.make)

    @cached_property
    def run(self) -> Run:
        """What computes the outputs.

        Raises:
            Unsupported: onnxruntime refuses the graph, and has to run it.
        """
        return self.make(self.graph)

    def unload(self) -> None:
        """Give back what a large model takes as it runs; to run it once more takes seconds."""
        if stored_bytes(self.graph) >= _LARGE:
            vars(self).pop("run", None)

    @property
    def fast(self) -> Session:
        """What runs it in onnxruntime as fast as that does by itself, to be timed.

        Raises:
            MissingExtra: onnxruntime is not installed.
            Unsupported: it refuses the graph, or this is huge.
        """
        if is_huge(self.graph):
            raise Unsupported("a model of this size is not timed")
        if isinstance(self.run, Session) and not mixes_bytes(self.graph):
            return self.run
        return session(self.graph, exact=False)

    @cached_property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs for each of the feeds.

        Raises:
            Unsupported: the graph cannot be run on them.
        """
        pairs = enumerate(self.feeds)
        return [self.known.get(i) or self.run(given) for i, given in pairs]

    @cached_property
    def references(self) -> list[dict[str, Any] | None]:
        """The outputs in float64 for each of the feeds, None where it cannot be run so.

        Loops may take no more steps for all of the feeds than for one.
        """
        run = reference(self.graph)
        with limits.counting():
            return [attempt(run, given) for given in progress(self.feeds, "runs")]


_LARGE = 2**29  # bytes of constants


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
