"""Layers that read the same weights: they take one form together, and stay as one.

Their weights are solved from what all of them read, each place for as much as samples were taken
of it, as if nothing before them changed: what flows to one hangs on the weights of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from redir.ir import Graph, Node
from redir.layers.linear import Linear, linear
from redir.passes.factorize.factors import Factors
from redir.passes.factorize.forms import Factoring
from redir.passes.factorize.heads import Heads
from redir.passes.factorize.solving import Choice, Seen
from redir.statistics.moments import together

Ways = Mapping[Node, Sequence[Factoring]]


def alike(graph: Graph, layer: Linear) -> Sequence[Linear]:
    """The layers that read the weights of one, in order; none if anything else does.

    They differ in nothing but what flows in.
    """
    found = [linear(node) for node in graph.readers[layer.held]]
    same = [each for each in found if isinstance(each, Linear) and _is_like(each, layer)]
    return same if len(same) == graph.uses[layer.held] else ()


def _is_like(one: Linear, other: Linear) -> bool:
    pairs = enumerate(zip(one.node.inputs, other.node.inputs, strict=False))
    same = all(a is b for place, (a, b) in pairs if place != 1 - other.place)
    return same and _kind(one) == _kind(other)


def _kind(layer: Linear) -> object:
    node = layer.node
    return node.op, node.attrs, len(node.inputs), layer.place, layer.x.rank


def met_together(found: Sequence[Heads], forms: Mapping[Node, Factoring]) -> Iterator[Heads]:
    """The heads in which layers of ``forms`` meet, with those ``also`` of layers alike.

    Layers that read the same weights have to meet alike, in a basis that may be any.
    """
    groups = dict[object, list[Heads]]()
    for each in found:
        ends, told = (each.first, each.second), [each.left, each.right]
        told += [end.bias for end in ends if end.bias is not None]
        arrays = ((array.shape, array.tobytes()) for array in told)
        key = (each.first.held, each.second.held, each.reads, *arrays)
        groups.setdefault(key, []).append(each)
    for first, *also in groups.values():
        alone = not first.operands and not first.aside
        own = [forms.get(end.node) for end in (first.first, first.second)]
        if all(form and len(form.also) == len(also) for form in own) and (alone or not also):
            yield replace(first, also=also)


def everywhere(ways: Ways) -> dict[Node, Factoring]:
    """The first form of each layer, also of those that go with another."""
    return {f.layer.node: f for forms in ways.values() for f in forms[0].alike}


def seen_together(ways: Ways, seen: Mapping[Node, Seen]) -> dict[Node, Seen]:
    """What was seen of layers that go together, as if of one."""
    return {n: _joined(forms[0], seen) for n, forms in ways.items()}


def _joined(form: Factoring, seen: Mapping[Node, Seen]) -> Seen:
    first, *others = parts = [seen[each.layer.node] for each in form.alike]
    if not others:
        return first
    counts = np.array([sum(len(where[0]) for where in part.places) for part in parts])
    counts = counts if counts.any() else np.ones_like(counts)  # where none reads a row
    moments = together([part.moments for part in parts], counts)
    means = np.array([part.moments.target - moments.target for part in parts]) / form.metric.scale
    squares = np.array([part.spread for part in parts]) ** 2 + means**2
    spread = np.sqrt(counts @ squares / counts.sum())
    return replace(first, moments=moments, spread=spread)


def chosen_everywhere(plan: Mapping[Node, Choice]) -> dict[Node, Choice]:
    """The choices of a plan, also for the layers that go with those of it."""
    return {f.layer.node: replace(c, form=f) for c in plan.values() for f in c.form.alike}


def made_everywhere(ways: Ways, made: Mapping[Node, Factors]) -> dict[Node, Factors]:
    """What is made of layers, also of those that go with them: of the same constants."""
    return {f.layer.node: made[n].at(f.layer) for n in made for f in ways[n][0].alike}
