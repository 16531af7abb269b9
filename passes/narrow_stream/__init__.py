"""Turn the stream of a transformer, and leave out the directions that hold least."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from redir.check.guarantees import SAME_INTERFACE
from redir.cost import Sizes, macs
from redir.cost.forms import no_dearer
from redir.cost.models import MACS
from redir.errors import BadPipeline, TooLarge, Unchanged, Unsupported
from redir.ir import Graph
from redir.passes.narrow_stream.choosing import bases
from redir.passes.narrow_stream.narrowing import Narrowing
from redir.passes.narrow_stream.readings import readings
from redir.passes.narrow_stream.spaces import Space, spaces
from redir.pipeline.observing import Observing
from redir.statistics import Source
from redir.statistics.walk import Batches, cut, size_of

_ENOUGH = 16  # samples for each channel
_LEAST, _MOST = 16, 256  # examples


@dataclass(frozen=True)
class NarrowStream(Observing):
    """The stream of a transformer has fewer channels, those of most energy once it is turned.

    What norms by the mean of squares read is a sum of what weights and tables make. If all of
    these are turned, and all that reads it the other way, the model computes the same. Then the
    directions along which what is read holds least go: ``width`` is the share of the channels that
    stay, rounded to a multiple of ``align``. What is read then is solved by least squares for what
    was read before. Scales of norms go into the layers that read them, or become matrices between,
    where a last layer shares its weights with the table of words.

    Inputs come from ``statistics``, ``examples`` of them (0: as many as the channels need), drawn
    by ``seed``. A model stays as it is where something else reads or makes its stream, or has to
    know its channels apart; where a LayerNormalization takes off a mean that is not zero, as it is
    behind ``canonical-norms``; and where the multiply-adds would not become fewer. This loses
    accuracy. From SliceGPT (Ashkboos et al., ICLR 2024).
    """

    width: float = 0.9
    align: int = 8
    seed: int = 0
    statistics: str | Source = field(default="auto", kw_only=True)

    guarantees = (SAME_INTERFACE, no_dearer(MACS))

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        super().__post_init__()
        if not 0 < self.width <= 1:
            why = f"width must be above 0 and at most 1, not {self.width}"
            raise BadPipeline(f"narrow-stream: {why}")
        if self.align < 1:
            raise BadPipeline(f"narrow-stream: align is 1 or more: {self.align}")
        if self.seed < 0:
            raise BadPipeline(f"narrow-stream: seed is 0 or more: {self.seed}")

    def run(self, graph: Graph) -> Graph:
        """Turn each stream, and leave channels out."""
        after, place = graph, 0
        while len(found := list(spaces(after))) > place:
            after, place = self._narrowed(found[place]), place + 1
        return after

    def explain(self, graph: Graph) -> Iterator[str]:
        """Why streams stay as they are."""
        found = [space for space in spaces(graph) if space.constants]
        if not found:
            yield "no norm reads a stream that constants write to"
        for space in found:
            plan = self._plan(space)
            if isinstance(plan, str):
                yield f"{space}: {plan}"

    def _narrowed(self, space: Space) -> Graph:
        """The graph with fewer channels in a stream, or the same."""
        plan = self._plan(space)
        if isinstance(plan, str):
            return space.graph
        try:
            return plan.on(bases(plan, self._batches(plan)))
        except TooLarge:  # about which something can be done
            raise
        except Unsupported as error:  # what cannot be run is left alone
            why = f"narrow-stream leaves the model as it is: it cannot be run: {error}"
            warnings.warn(why, Unchanged, stacklevel=4)
            return space.graph

    def _plan(self, space: Space) -> Narrowing | str:
        """What is to be done with a stream, or why it stays as it is."""
        wanted = max(round(self.width * space.width / self.align), 1) * self.align
        if wanted >= space.width:
            return space.obstacle or "all of its channels are to stay"
        plan = Narrowing.of(space, wanted)
        if isinstance(plan, str):
            return plan
        fewer = macs(plan.plain()) < macs(space.graph)
        return plan if fewer else "to turn it takes more multiply-adds than fewer channels save"

    def _batches(self, plan: Narrowing) -> Batches:
        """Inputs, so many that each channel is seen often enough."""
        graph, count = plan.space.graph, self.examples
        sizes = Sizes.of(graph)
        held = sum(size_of(sizes.type(reading.port[0])) for reading in readings(plan.space))
        if not count:
            rows = size_of(sizes.type(next(iter(plan.space.normed)))) // plan.space.width
            count = min(max(_ENOUGH * plan.space.width // max(rows, 1), _LEAST), _MOST)
        return cut(graph, self.source.batches(graph, count, self.seed), held)
