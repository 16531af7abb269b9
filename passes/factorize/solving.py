"""What flows through the layers of a graph, and their weights solved one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.removal import without
from redir.ir import Graph, Node, Port, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array
from redir.layers.linear import CONVS, Linear
from redir.passes.factorize.behind import Behind, behind
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.forms import Factoring, Flow
from redir.passes.factorize.gone import Mean
from redir.passes.factorize.narrower import Narrowed
from redir.passes.factorize.scores import Silent
from redir.statistics.moments import Moments, Places, drawn_places, targets, window
from redir.statistics.walk import Batches, Held, applied, running, walk

Aim: TypeAlias = "Callable[[Array], Array]"


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of a layer of the original, at some ``places`` of each batch.

    ``moments`` are of what it read, with the mean of its results, times what each output counts;
    ``spread`` (outputs,) is the deviation of these. ``behind`` is what they flow into. ``counts``
    (samples,) is what each sample counts, if not all count alike.
    """

    places: Sequence[Places]
    moments: Moments
    spread: Array
    behind: Behind
    counts: Array | None = None


@dataclass(frozen=True)
class Choice:
    """A form of a layer, and its rank."""

    form: Factoring
    rank: int


def observed(
    graph: Graph, batches: Batches, forms: Mapping[Node, Factoring], seed: int, apart: int = 0
) -> dict[Node, Seen]:
    """What flows through the layers of ``forms``; which form it is does not matter.

    The first batches, as many as ``apart``, stay out of the moments: what these lead to is judged
    on them.

    Raises:
        Unsupported: the graph cannot be run.
    """
    rng, seen, shared = np.random.default_rng(seed), dict[Node, Seen](), _Shared()

    def step(node: Node, operands: list[list[Any]], held: Held) -> list[Sequence[Any]] | None:
        if node not in forms:
            return None
        form, made = forms[node], applied(graph, node, operands)
        sizes = [y.size // form.layer.outputs for (y,) in made]
        share = form.samples / max(sum(sizes), 1)
        counted = zip(made, sizes, strict=True)
        places = [drawn_places(rng, form.layer, y, int(share * n)) for (y,), n in counted]
        wanted = _wanted(form, made, places)
        flows, ends = behind(graph, form.layer), (operands[apart:], places[apart:])
        counts = flows.counts(wanted + _added(form.layer, flows, places, held, slice(None)))
        kept = sum(len(where[0]) for where in ends[1])
        seen_of = None if counts is None else counts[-kept:]
        moments = shared.alone(form, *ends, seen_of).towards(wanted[-kept:], seen_of)
        deviation = wanted.std(0) if len(wanted) else np.zeros(form.layer.outputs)
        spread = deviation / np.abs(form.metric.scale)
        seen[node] = Seen(places, moments, spread, flows, counts)
        return made

    walk(graph, batches, step, "what flows", _with_sums(graph, forms.values()))
    return seen


@dataclass
class _Shared:
    """The moments of what layers read: of those that read the same but once."""

    found: dict[Hashable, tuple[Sequence[Places], Moments]] = field(default_factory=dict)

    def alone(
        self,
        form: Factoring,
        operands: Sequence[Sequence[Any]],
        places: Sequence[Places],
        counts: Array | None,
    ) -> Moments:
        """The moments of what a layer reads, at some places of its results."""
        layer = form.layer
        how = tuple(map(tuple, window(layer))) if layer.node.op in CONVS else layer.x_axis
        key = (type(form), layer.x, layer.kernel, how)
        known, moments = self.found.get(key, ((), None))
        if moments is None or counts is not None or not _alike(known, places):
            moments = form.alone(_read(form, operands, places), counts)
            self.found.update({} if counts is not None else {key: (places, moments)})
        return moments


def _alike(some: Sequence[Places], others: Sequence[Places]) -> bool:
    """Whether samples are taken at the same places."""
    pairs = zip(some, others, strict=False)
    each = (np.array_equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))
    return len(some) == len(others) and all(each)


def solved(
    graph: Graph,
    batches: Batches,
    plan: Mapping[Node, Choice],
    seen: Mapping[Node, Seen],
    known: Mapping[Node, Factors] | None = None,
) -> dict[Node, Factors]:
    """The layers of ``plan`` factored, each solved on what those before it give.

    The original runs beside, as its results are the goal: to keep them takes gigabytes. Of some
    layers the factors are ``known``.
    """
    made: dict[Node, Factors] = dict(known or {})
    before, after = slice(None, len(batches)), slice(len(batches), None)

    def step(node: Node, operands: list[list[Any]], held: Held) -> list[Sequence[Any]] | None:
        if node not in plan:
            return None
        original, now = applied(graph, node, operands[before]), operands[after]
        if node not in made:
            made[node] = fitted(node, original, now, held)
        x = Value(plan[node].form.layer.x.type)
        run = running(Graph({"x": x}, {"y": made[node].on(x)}, opset=graph.opset))
        return [*original, *([run({"x": arrays[0]})["y"]] for arrays in now)]

    def fitted(
        node: Node, original: Sequence[Sequence[Any]], now: Sequence[Sequence[Any]], held: Held
    ) -> Factors:
        (form, rank), was = (plan[node].form, plan[node].rank), seen[node]
        read, wanted = _read(form, now, was.places), _wanted(form, original, was.places)
        aim = _aim(form, was, wanted, held, (before, after))
        moments = form.seen(read, aim(wanted), was.counts)
        flow = Flow(read, aim, [arrays[0] for arrays in now], was.places)
        needed = was.behind.clips or form.flows
        return form.fitted(rank, moments, was.moments, flow if needed else None)

    if plan.keys() > made.keys():
        forms = [choice.form for choice in plan.values()]
        walk(graph, [*batches, *batches], step, "solving", _with_sums(graph, forms))
    return made


def rebuilt(graph: Graph, made: Mapping[Node, Factors]) -> Graph:
    """The graph with factors in place of layers, and without the channels that then none reads."""
    lost, silent = dict[Port, Array](), dict[Port, Array]()

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node not in made:
            return None
        factors, (x, *_) = made[node], inputs
        if isinstance(factors, Mean):
            return factors.value
        if isinstance(factors, Silent):  # and then all of them go, so that nothing else changes
            (y,) = node.on(inputs).outputs
            silent[y, factors.layer.y_axis % (y.rank or 1)] = factors.silent
            return [y]
        if isinstance(factors, Narrowed):
            lost[x, factors.layer.x_axis % (x.rank or 1)] = factors.lost
        return [factors.on(x)]

    after = transform(graph, visit)
    if not lost and not silent:
        return after
    coupling = after.analysis(Coupling)
    gone = (coupling.group(port)[channels].tolist() for port, channels in silent.items())
    return without(coupling, _unread(coupling, lost).union(*gone))


def _unread(coupling: Coupling, lost: Mapping[Port, Array]) -> set[int]:
    """The groups of channels ``lost`` at some ports that nothing reads at another.

    The form of another layer may, as ``pivoted`` reads some of its own results.
    """
    found = [coupling.group(port)[unread].tolist() for port, unread in lost.items()]
    sums = (link.a for _, link in coupling.links if link.kind == "summed")
    read = [coupling.group(p)[~lost[p] if p in lost else slice(None)].tolist() for p in sums]
    return set[int]().union(*found).difference(*read)


def _with_sums(graph: Graph, forms: Collection[Factoring]) -> Collection[Node]:
    """The nodes of layers, and those that add to their results what the aim has to know."""
    sums = (behind(graph, form.layer).sum for form in forms)
    return {*(form.layer.node for form in forms), *(node for node in sums if node is not None)}


def _added(
    layer: Linear, flows: Behind, places: Sequence[Places], held: Held, runs: slice
) -> Array:
    """What is added to the results of a layer in some runs, as far as that is held.

    It is (samples, outputs).
    """
    shift: Array = flows.shift.astype(layer.array.dtype)
    if flows.other is None or flows.other not in held:
        return shift
    arrays = zip(held[flows.other][runs], places, strict=True)
    return _joined(targets(layer, x, p) for x, p in arrays) + shift


def _aim(form: Factoring, was: Seen, wanted: Array, held: Held, runs: tuple[slice, slice]) -> Aim:
    """What the results of a layer should be, from what they are, where they are ``wanted``.

    ``runs`` are those of the original, and those of what became of it.
    """
    flows = was.behind
    if flows.other is not None and flows.other not in held:
        return lambda _: wanted
    added = (_added(form.layer, flows, was.places, held, part) for part in runs)
    before, given = map(form.metric.turned, added)
    return lambda now: flows.aim(wanted + before, given, now)


def _wanted(form: Factoring, made: Sequence[Sequence[Any]], places: Sequence[Places]) -> Array:
    """The results of a layer at some places, times what each output counts."""
    found = _joined(targets(form.layer, y, p) for (y, *_), p in zip(made, places, strict=True))
    return form.metric.of(found)


def _read(form: Factoring, operands: Sequence[Sequence[Any]], places: Sequence[Places]) -> Array:
    pairs = zip(operands, places, strict=True)
    return _joined(form.read(arrays[0], where) for arrays, where in pairs)


def _joined(parts: Any) -> Array:
    return np.concatenate(list(parts))
