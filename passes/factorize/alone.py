"""Each form as a pass of its own: every layer takes it that loses little by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from redir.check.guarantees import SAME_INTERFACE, Guarantee
from redir.cost.forms import no_dearer, unless_dearer
from redir.cost.models import MACS
from redir.errors import BadPipeline
from redir.ir import Graph, Node
from redir.passes.factorize.forms import MULTIPLY_ADDS, Factoring
from redir.passes.factorize.solving import Choice
from redir.passes.factorize.study import Study
from redir.passes.factorize.studying import Studying
from redir.statistics.moments import Moments

_ERROR = 0.05


@dataclass(frozen=True)
class Alone(Studying):
    """Every layer that may takes the form that the pass is named after, where that pays.

    A layer takes it at ``rank``, or else at the least rank at which it is estimated to lose at most
    ``error`` of the energy of its results. ``cost`` is what it must pay in; under one that is
    measured, in multiply-adds, and the model stays as it was where it is not faster then.
    """

    error: float = _ERROR
    rank: int = 0

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        super().__post_init__()
        if not 0 < self.error < 1:
            raise BadPipeline(f"{self.name}: error is above 0 and below 1: {self.error}")
        if self.rank < 0:
            raise BadPipeline(f"{self.name}: rank is 0 or more: {self.rank}")
        if self.rank and self.error != _ERROR:
            raise BadPipeline(f"{self.name}: error chooses the rank: give one of the two")

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """The interface stays, and what is counted does not rise."""
        return (SAME_INTERFACE, *([] if self.model.measured else [no_dearer(self.model)]))

    @property
    def allowed(self) -> Sequence[str]:
        """The form that the pass is named after."""
        return (self.name,)

    def run(self, graph: Graph) -> Graph:
        """See what flows, choose ranks, and solve."""
        found = self.study(graph)
        chosen = {} if found is None else dict(self._chosen(found))
        after = found.solved(chosen) if found and chosen else graph
        kept = unless_dearer(graph, after, self.cost)
        if kept is not after:
            self.unchanged(f"with other layers it would cost more {self.cost}")
        return kept

    def _chosen(self, found: Study) -> Iterator[tuple[Node, Choice]]:
        for node, forms in found.ways.items():
            for form in (form for form in forms if form.name == self.name):
                choice = Choice(form, self.rank or self._rank(form, found.seen[node].moments))
                if choice.rank <= form.full and self._pays(found, node, choice):
                    yield node, choice

    def _rank(self, form: Factoring, moments: Moments) -> int:
        """The least rank at which a form loses little."""
        return max(1, int(np.sum(form.errors(moments) > self.error)))

    def _pays(self, found: Study, node: Node, choice: Choice) -> bool:
        """Whether a graph costs less where a layer is factored."""
        if self.model is MACS or self.model.measured:  # which is known without the graph
            form, price = choice.form, MULTIPLY_ADDS
            return form.cost(choice.rank, price) < form.dense(price)
        return self.model.ratio(found.original, found.unsolved({node: choice})) < 1


class Spatial(Alone):
    """A kernel becomes k x 1, then 1 x k (Jaderberg et al., BMVC 2014)."""


class Reduce(Alone):
    """A kernel becomes 1 x 1 to fewer channels, then k x k."""


class Expand(Alone):
    """A kernel becomes k x k to fewer channels, then 1 x 1."""


class LowRank(Alone):
    """A matrix, or a 1 x 1 convolution, becomes the product of two."""


class Narrower(Alone):
    """Channels that the others can say go, of all layers that share them (Hassibi and Stork)."""


class Heads(Alone):
    """Heads of attention get fewer channels: queries and keys, and values."""


class Pivoted(Alone):
    """A matrix, or a 1 x 1 convolution, becomes some of its outputs, and sums of these (PIFA)."""
