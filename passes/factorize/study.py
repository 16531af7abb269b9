"""What is known of a graph before layers are factored, and the plans that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from redir.cost import Sizes, macs
from redir.cost.allocation import Option, allocated
from redir.ir import Graph, Node
from redir.ir.tensor import Array
from redir.passes.factorize.alike import (
    chosen_everywhere,
    everywhere,
    made_everywhere,
    seen_together,
)
from redir.passes.factorize.blocks import without_blocks
from redir.passes.factorize.effects import Effect, effects, effects_together
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.forms import MULTIPLY_ADDS, Factoring
from redir.passes.factorize.gone import Gone
from redir.passes.factorize.narrower import Narrower
from redir.passes.factorize.pivoted import Pivoted
from redir.passes.factorize.solving import Choice, Seen, observed, rebuilt, solved
from redir.passes.factorize.tables import Apart
from redir.passes.factorize.turning import turned
from redir.passes.factorize.ways import (
    FORMS,
    THINNING,
    all_factorings,
    parted,
    thinned,
    thinner,
)
from redir.progress import progress
from redir.runtime.memory import give_back
from redir.statistics import Source, draws_lengths, is_made_up
from redir.statistics.judge import Judge, judge
from redir.statistics.norms import fitted, is_norm
from redir.statistics.walk import Batches, count_of, cut, is_fixed, needed, size_of, some

_JUDGED, _LEAST = 64, 2  # examples on which outputs are compared
_WORK = 1e12  # multiply-adds of those, times layers: a minute or two on a core
_USUAL, _MOST = 256, 1024  # examples
_CHEAP = 2.5e11  # multiply-adds of as many as are usual: seconds on a core
_NUMBERS = 2**27  # of inputs, at most: half a gigabyte
_HELD = 2**28  # of what norms give, at most, while outputs are compared
_MATTERS = 0.02  # of the multiply-adds, from which on it counts what a layer needs

NOISE, MEASURED = "noise", "measured"
RULES: Mapping[str, Callable[[Effect, float], float]] = {
    NOISE: lambda effect, error: effect.felt(error),
    MEASURED: lambda effect, error: effect.moved_by(error),
}
"""What an error of a layer counts when forms are chosen."""

Choices = Mapping[Node, Choice]
"""The layers that are factored, and how."""

Saving = Callable[[Factoring, int], float]
"""What a layer saves in a form of a rank."""


def counted(price: str, of: int = 1) -> Saving:
    """What is saved of a ``price``, as a share of so much."""
    return lambda form, rank: (form.dense(price) - form.cost(rank, price)) / of


@dataclass(frozen=True, eq=False)
class Study:
    """A graph with the layers that may be factored, what flows through them, and what that says.

    Heads are turned in the ``original``, and ``graph`` is that with norms fitted to inputs that are
    made up; ``twins``
    are the nodes of the original for those of it. The ``judge`` compares plans on some of the
    examples, which moments leave out if there are enough. ``ways`` are the forms of each layer,
    ``seen`` what was seen of it, and ``seed`` that of the noise by which effects are measured.
    Costs are those at ``sizes``, and ``parts`` the heads that have tables of their own. Of the
    layers that are ``curved`` the forms have a metric by what their errors do to the outputs.
    """

    original: Graph
    graph: Graph
    twins: Mapping[Node, Node]
    batches: Batches
    judge: Judge
    ways: Mapping[Node, Sequence[Factoring]]
    seen: Mapping[Node, Seen]
    seed: int
    sizes: Sizes
    parts: Apart
    curved: frozenset[Node] = frozenset()

    @cached_property
    def errors(self) -> Mapping[Factoring, Array]:
        """What each form is estimated to lose at each rank."""
        found = dict[Factoring, Array]()
        for node, (first, *others) in progress(self.ways.items(), "forms"):
            moments = self.seen[node].moments
            plain = found[first] = first.errors(moments)
            for form in others:  # a pivoted product is the same as a plain one of that rank
                found[form] = plain if isinstance(form, Pivoted) else form.errors(moments)
        return found

    @cached_property
    def thinned(self) -> frozenset[Node]:
        """The layers whose results may lose channels."""
        return thinner(self.graph, self.ways)

    @cached_property
    def effects(self) -> Mapping[Node, Effect]:
        """What an error in each layer does to the outputs."""
        forms = {n: _shown(found) for n, found in self.ways.items()}
        shown = {n: (form, self.errors[form]) for n, form in forms.items()}
        alone = {n: way for n, way in shown.items() if not way[0].also}
        several = {n: way for n, way in shown.items() if way[0].also}
        ends = {n: f for n, found in self.ways.items() for f in found if isinstance(f, Gone)}
        known = {n: self._energy(n) for n in self.curved}
        found = effects(self.judge, alone, ends, self.seen, self.seed, known)
        found.update(effects_together(self.judge, several, self.seen, self.seed))
        give_back()
        return found

    def _energy(self, node: Node) -> float:
        """That of the results of a layer, as its forms count it."""
        return self.ways[node][0].told(self.seen[node].moments).energy

    def planner(
        self, saving: Saving, forms: Sequence[str], align: int, rule: str = NOISE
    ) -> Callable[[float], Choices]:
        """What errs least by a rule of all that saves so much."""
        options = {n: list(self._options(n, saving, forms, align, rule)) for n in self.ways}

        def plan(saved: float) -> Choices:
            chosen = allocated(without_blocks(options, -saved), -saved)
            return {n: o.what for n, o in chosen.items() if o.what is not None}

        return plan

    def _options(
        self, node: Node, saving: Saving, forms: Sequence[str], align: int, rule: str
    ) -> Iterator[Option[Choice | None]]:
        """The layer as it is, and each form of it that saves something."""
        yield Option(None, 0.0, 0.0)
        whole = node in self.thinned and not set(THINNING).isdisjoint(forms)
        for form in (f for f in self.ways[node] if f.name in forms):
            if whole and isinstance(form, Pivoted):  # which reads its own results: they would stay
                continue
            for rank in self.ranks(form, align):
                saved = saving(form, rank)
                if saved > 0:
                    error = RULES[rule](self.effects[node], float(self.errors[form][rank]))
                    yield Option(Choice(form, rank), -saved, error)

    @staticmethod
    def ranks(form: Factoring, align: int) -> Sequence[int]:
        """The ranks that a form may have: multiples of ``align``, or of what suits the layer."""
        return form.ranks(align or form.step)

    def saved(self, plan: Choices, price: str) -> int:
        """What the layers of a plan cost less under it."""
        costs = (
            (self.ways[n][0].dense(price), c.form.cost(c.rank, price)) for n, c in plan.items()
        )
        return sum(before - after for before, after in costs)

    def drift(self, plan: Choices) -> float:
        """How far the outputs are estimated to go under a plan, as a share of their spread."""
        each = (self.effects[n].moved_by(self.errors[c.form][c.rank]) for n, c in plan.items())
        return float(np.sqrt(sum(each)))

    def deviation(self, plan: Choices) -> float:
        """How far outputs go, in shares of their variance, if each layer is solved by itself."""
        made = {n: c.form.rough(c.rank, self.seen[n].moments) for n, c in plan.items()}
        moved = self._moved(made)
        give_back()
        return sum(moved.values())

    def unsolved(self, plan: Choices) -> Graph:
        """The original under a plan, its weights not solved: what takes as long."""
        guessed = {n: c.form.guess(c.rank, self.seen[n].moments) for n, c in plan.items()}
        after = self._rebuilt(guessed)
        guessed.clear()
        give_back()
        return after

    def solved(self, plan: Choices) -> Graph:
        """The original under a plan, its weights solved."""
        return self._rebuilt(self._solved(plan))

    def moved(self, plan: Choices) -> Mapping[str, float]:
        """How far each output goes under a plan, as a share of its variance, weights solved."""
        return self._moved(self._solved(plan))

    def _solved(self, plan: Choices) -> Mapping[Node, Factors]:
        """The factors of a plan: what is weighed by curvature is not solved on what flows.

        The texts of a language model are few for its features, and what fits them fits no others.
        Nor are weights that several layers read.
        """
        told = ((n, c) for n, c in plan.items() if n in self.curved or c.form.also)
        known = {n: c.form.rough(c.rank, self.seen[n].moments) for n, c in told}
        known, whole = made_everywhere(self.ways, known), chosen_everywhere(plan)
        made = solved(self.graph, self.batches, whole, self.seen, known)
        return {n: made[n] for n in plan}

    def _moved(self, made: Mapping[Node, Factors]) -> Mapping[str, float]:
        whole = made_everywhere(self.ways, made)
        return self.judge.moved({node: factors.on for node, factors in whole.items()})

    def _rebuilt(self, made: Mapping[Node, Factors]) -> Graph:
        twins = {self.twins[n]: f for n, f in made_everywhere(self.ways, made).items()}
        return self.parts.shared(rebuilt(self.original, twins))


@lru_cache(maxsize=1)
def study(
    graph: Graph,
    source: Source,
    examples: int,
    seed: int,
    ignore: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = (),
    allowed: tuple[str, ...] = FORMS,
) -> Study | None:
    """What ``examples`` of a source tell of a graph, 0 being as many as its layers need.

    Only layers are looked at that may take some form that is ``allowed``.

    Costs are those at ``shapes``, by default ``example_shapes``, and inputs that are made up are of
    them. None if no layer of the graph may be factored so.

    Raises:
        Unsupported: the graph cannot be run.
    """
    sizes = Sizes.of(graph, dict(shapes) or None)
    parts = parted(sizes, ignore) if "heads" in allowed else Apart(graph)
    graph, sizes = parts.graph, Sizes(parts.graph, sizes.shapes)
    ways = all_factorings(sizes, ignore)
    if not _allowed(ways, allowed):
        return None
    count, made_up = examples or _enough(sizes, ways), is_made_up(source)
    is_sized = made_up and not draws_lengths(source, graph)
    given = source.batches(sizes.batched if is_sized else graph, count, seed)
    largest = max(size_of(sizes.type(v)) for node in needed(graph, ways) for v in node.outputs)
    batches = cut(sizes.batched, given, largest)
    heads = thinned(sizes, ways) if "heads" in allowed else ()
    original = after = turned(graph, batches, heads)
    if made_up and any(map(is_norm, graph.nodes)):
        after = fitted(original, batches)
    if after is not graph:
        graph, sizes = after, Sizes(after, sizes.shapes)
        ways = all_factorings(sizes, ignore)
    twins = dict(zip(*([n for n in g.nodes if n.inputs] for g in (graph, original)), strict=True))
    judged, others = _judged(sizes, batches, len(ways))
    batches, apart = [*judged, *others], len(judged) if others else 0
    judging = judge(original, graph, judged)
    _ = judging.plain  # to know early that it can be run
    ways = _allowed(ways, allowed)
    seen = seen_together(ways, observed(graph, batches, everywhere(ways), seed, apart))
    return Study(original, graph, twins, batches, judging, ways, seen, seed, sizes, parts)


def _allowed(
    ways: Mapping[Node, Sequence[Factoring]], names: Sequence[str]
) -> Mapping[Node, Sequence[Factoring]]:
    """The layers that may take a form of some names, with all of their forms."""
    return {n: forms for n, forms in ways.items() if any(form.name in names for form in forms)}


def _enough(sizes: Sizes, ways: Mapping[Node, Sequence[Factoring]]) -> int:
    """The usual number of examples, but fewer where these take long, and more if layers need it.

    Layers that together cost next to nothing do not count, nor what would fill the memory.
    """
    all_forms = sorted((forms[0] for forms in ways.values()), key=lambda form: -form.examples)
    counts = np.cumsum([form.dense(MULTIPLY_ADDS) for form in all_forms])
    wanted = all_forms[int(np.argmax(counts >= _MATTERS * counts[-1]))].examples
    graph = sizes.batched
    cheap = int(min(_USUAL, _CHEAP / max(macs(graph, sizes.shapes), 1)))
    fits = _NUMBERS // max(sum(map(size_of, graph.inputs.values())), 1)
    return max(min(max(cheap, min(wanted, _MOST)), fits), _LEAST)


def _judged(sizes: Sizes, batches: Batches, layers: int) -> tuple[Batches, Batches]:
    """The first examples, a quarter at most, and the others.

    They are so few that measuring all layers takes minutes.
    """
    graph, total = sizes.batched, sum(map(count_of, batches))
    most = _WORK / max(layers * macs(graph, sizes.shapes), 1)
    held = sum(size_of(node.outputs[0]) for node in graph.nodes if is_norm(node))
    count = max(int(min(_JUDGED, total / 4, most, _HELD / max(held, 1))), _LEAST)
    found = some(batches, count)
    others = batches[len(found) :]
    if len(found) > 1 or is_fixed(graph) or count_of(found[0]) <= count:
        return found, others
    parts = slice(None, count), slice(count, None)
    first, rest = ({n: a[part] for n, a in found[0].items()} for part in parts)
    return [first], [rest, *others]


def _shown(forms: Sequence[Factoring]) -> Factoring:
    """The form by which it is seen what an error of a layer does."""
    return forms[-1] if isinstance(forms[-1], Narrower) else forms[0]
