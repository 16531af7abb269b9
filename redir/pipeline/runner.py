"""Running a pipeline under watch: for people who write and compose passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from redir.check.guarantees import SAME_OUTPUTS
from redir.check.outputs import Verdict, verify
from redir.errors import BadInput, Broken
from redir.ir import Graph
from redir.pipeline.pipeline import Pass, Pipeline
from redir.runtime.open_sizes import Shapes


@dataclass(frozen=True)
class Watch:
    """What to check and print after each pass.

    ``verify``: ``structure`` checks the guarantees that need no run, ``numeric`` all of them, and
    both models on drawn inputs, of ``input_shapes`` where sizes are open. ``show``: the pass after
    which to print the text, or ``all``. ``explain``: say why each pass left what it left. ``say``
    gets what is to be printed.
    """

    verify: Literal["off", "structure", "numeric"] = "off"
    show: str | None = None
    explain: bool = False
    say: Callable[[str], object] = str  # to nobody
    input_shapes: Shapes | None = None


@dataclass(frozen=True)
class Record:
    """A pass that ran: its textual form, its time in seconds, and the graph it gave.

    ``exact`` says whether it promises the same outputs; ``verdict`` compares the graph before it
    with the one after it, where that was asked for and they differ.
    """

    name: str
    seconds: float
    graph: Graph
    exact: bool
    verdict: Verdict | None


def optimize(graph: Graph, pipeline: Pipeline, watch: Watch) -> tuple[Graph, list[Record]]:
    """Run each pass under watch.

    Raises:
        Broken: a check failed.
        BadInput: ``watch.show`` names a pass that does not run.
    """
    names = {step.name for step in pipeline.passes}
    if watch.show not in {None, "all", *names}:
        raise BadInput(
            f"--print-ir-after {watch.show}: the pipeline runs {', '.join(sorted(names))}"
        )
    records = []
    for step in pipeline.passes:
        start = time.perf_counter()
        after = step.run(graph)
        seconds = time.perf_counter() - start
        verdict = _check(step, graph, after, watch)
        exact = SAME_OUTPUTS in step.guarantees
        records.append(Record(str(step), seconds, after, exact, verdict))
        _show(step, after, watch)
        graph = after
    return graph, records


def _check(step: Pass, before: Graph, after: Graph, watch: Watch) -> Verdict | None:
    how = watch.verify
    for promise in step.guarantees:
        due = how == "numeric" or (how == "structure" and not promise.numeric)
        why = promise.refute(before, after) if due else None
        if why is not None:
            raise Broken(f"{step} breaks its promise {promise.name!r}: {why}")
    if how != "numeric" or after is before:
        return None
    verdict = verify(before, after, input_shapes=watch.input_shapes)
    if verdict.verdict == "fail" and SAME_OUTPUTS in step.guarantees:
        raise Broken(f"{step} changed the outputs: {verdict.reason}")
    return verdict


def _show(step: Pass, after: Graph, watch: Watch) -> None:
    if watch.show in {"all", step.name}:
        watch.say(f"# after {step}\n{after!r}")
    if watch.explain:
        for line in step.explain(after):
            watch.say(f"{step}: {line}")
