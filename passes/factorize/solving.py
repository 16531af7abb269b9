"""What flows through the layers of a graph, and their weights solved one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.removal import without
from redir.ir import Graph, Node, Port, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array
from redir.layers.linear import Linear
from redir.passes.factorize.behind import Behind, behind
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.forms import Factoring, Flow
from redir.passes.factorize.gone import Mean
from redir.passes.factorize.narrower import Narrowed
from redir.passes.factorize.scores import Silent
from redir.statistics.moments import Moments, Places, drawn_places, targets
from redir.statistics.walk import Batches, Held, applied, running, walk

Aim: TypeAlias = "Callable[[Array], Array]"


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of a layer of the original, at some ``places`` of each batch.

    ``targets`` (samples, outputs) are its results, times what each output counts; ``moments`` are
    of what it read, and these; ``spread`` (outputs,) is the deviation of its results. ``behind``
    is what they flow into, and ``other`` (samples, outputs) what is added to them there. ``counts``
    (samples,) is what each sample counts, if not all count alike.
    """

    places: Sequence[Places]
    targets: Array
    moments: Moments
    spread: Array
    behind: Behind
    other: Array | None = None
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
    rng, seen = np.random.default_rng(seed), dict[Node, Seen]()
    adds = {b.sum: n for n, form in forms.items() if (b := behind(graph, form.layer)).sum}

    def step(node: Node, operands: list[list[Any]], held: Held) -> list[Sequence[Any]] | None:
        if node in adds:
            was = seen[adds[node]]
            place = node.inputs.index(was.behind.other)
            layer = forms[adds[node]].layer
            other = [targets(layer, x[place], p) for x, p in zip(operands, was.places, strict=True)]
            seen[adds[node]] = replace(was, other=_joined(other))
        if node not in forms:
            return None
        form, made = forms[node], applied(graph, node, operands)
        sizes = [y.size // form.layer.outputs for (y,) in made]
        share = form.samples / max(sum(sizes), 1)
        counted = zip(made, sizes, strict=True)
        places = [drawn_places(rng, form.layer, y, int(share * n)) for (y,), n in counted]
        wanted = _joined(targets(form.layer, y, p) for (y,), p in zip(made, places, strict=True))
        spread, wanted = wanted.std(0), wanted * form.scale.astype(wanted.dtype)
        kept, flows = _read(form, operands[apart:], places[apart:]), behind(graph, form.layer)
        counts = flows.counts(wanted + _added(form.layer, flows, places, held))
        seen_of = None if counts is None else counts[-len(kept) :]
        moments = form.seen(kept, wanted[-len(kept) :], seen_of)
        seen[node] = Seen(places, wanted, moments, spread, flows, counts=counts)
        return made

    walk(graph, batches, step, "what flows")
    return seen


def solved(
    graph: Graph, batches: Batches, plan: Mapping[Node, Choice], seen: Mapping[Node, Seen]
) -> dict[Node, Factors]:
    """The layers of ``plan`` factored, each solved on what those before it give."""
    made: dict[Node, Factors] = {}

    def step(node: Node, operands: list[list[Any]], held: Held) -> list[Sequence[Any]] | None:
        if node not in plan:
            return None
        (form, rank), was = (plan[node].form, plan[node].rank), seen[node]
        read = _read(form, operands, was.places)
        aim = _aim(form.layer, was, held)
        moments = form.seen(read, aim(was.targets), was.counts)
        flow = Flow(read, aim, [arrays[0] for arrays in operands], was.places)
        needed = was.behind.clips or form.flows
        made[node] = form.fitted(rank, moments, was.moments, flow if needed else None)
        x = Value(form.layer.x.type)
        run = running(Graph({"x": x}, {"y": made[node].on(x)}, opset=graph.opset))
        return [[run({"x": arrays[0]})["y"]] for arrays in operands]

    if plan:
        walk(graph, batches, step, "solving")
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


def _added(layer: Linear, flows: Behind, places: Sequence[Places], held: Held) -> Array:
    """What is added to the results of a layer, as far as that is held: (samples, outputs)."""
    shift: Array = flows.shift.astype(layer.array.dtype)
    if flows.other is None or flows.other not in held:
        return shift
    arrays = zip(held[flows.other], places, strict=True)
    return _joined(targets(layer, x, p) for x, p in arrays) + shift


def _aim(layer: Linear, was: Seen, held: Held) -> Aim:
    """What the results of a layer should be, from what they are."""
    flows = was.behind
    if flows.other is None:
        given, wanted = flows.shift.astype(was.targets.dtype), was.targets
    elif flows.other in held and was.other is not None:
        given, wanted = _added(layer, flows, was.places, held), was.targets + was.other
    else:
        return lambda _: was.targets
    wanted = wanted + flows.shift.astype(wanted.dtype)
    return lambda now: flows.aim(wanted, given, now)


def _read(form: Factoring, operands: Sequence[Sequence[Any]], places: Sequence[Places]) -> Array:
    pairs = zip(operands, places, strict=True)
    return _joined(form.read(arrays[0], where) for arrays, where in pairs)


def _joined(parts: Any) -> Array:
    return np.concatenate(list(parts))
