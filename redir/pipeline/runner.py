"""Running a pipeline under instruments: the one runner of the command line and of Python."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from redir.errors import BadInput
from redir.ir import Graph
from redir.ops import tensor_of
from redir.pipeline.pipeline import Pass, Pipeline
from redir.progress import progress as told
from redir.runtime.memory import give_back
from redir.runtime.open_sizes import Shapes
from redir.tasks import one_thread

_LOG = logging.getLogger("redir")


@dataclass(frozen=True)
class Ran:
    """A pass that ran in so many ``seconds``; ``after`` is ``before`` where it found nothing."""

    step: Pass
    before: Graph
    after: Graph
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return self.after is not self.before


Instrument = Callable[[Ran], object]  # is told of each pass; an error that it raises stops the run
Progress = Callable[[str, int, int], object]


def run(
    graph: Graph,
    pipeline: Pipeline,
    *instruments: Instrument,
    shapes: Shapes | None = None,
    progress: Progress | None = None,
) -> tuple[Graph, list[Ran]]:
    """What ``pipeline`` makes of ``graph``, and the records of its passes.

    Each pass is told to each of ``instruments``, and is a line in the log ``redir``, at level INFO.
    Costs are those at ``shapes``. ``progress`` gets the name of each pass that starts, how many are
    done, and of how many; at the end an empty name.

    Raises:
        BadInput: a constant of more than one number holds NaN: all that is done with it is wrong.
    """
    _refuse_nan(graph)
    tell, count = progress or (lambda *_: None), len(pipeline.passes)
    records: list[Ran] = []
    placed = list(pipeline.placed(graph, shapes))
    for step, place in told(placed, "passes", alike=False):
        tell(str(step), len(records), count)
        start = time.perf_counter()
        with one_thread("blas"):
            after = step.run_at(graph, place)
        ran = Ran(step, graph, after, time.perf_counter() - start)
        give_back()
        _LOG.info("%s: %.3f s%s", step, ran.seconds, "" if ran.changed else ", unchanged")
        for instrument in instruments:
            instrument(ran)
        records.append(ran)
        graph = after
    tell("", count, count)
    return graph, records


def _refuse_nan(graph: Graph) -> None:
    held = ((node.result_name, tensor_of(node.outputs[0])) for node in graph.walk())
    for name, tensor in (*held, *graph.defaults.items()):
        if tensor is None or tensor.type.dtype.kind != "f" or tensor.size == 1:
            continue
        if np.isnan(tensor.peak):
            raise BadInput(f"tensor {name!r} holds NaN")
