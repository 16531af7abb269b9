"""Choosing, layer by layer, the form of least cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf

from redir import ops
from redir.check.guarantees import Guarantee
from redir.cost.counts import macs
from redir.cost.models import CostModel, cost_model
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import transform
from redir.ops import is_absent, tensor_of

Form = Callable[[tuple[Value, ...]], Value]
"""Builds one form of a node's only result on the operands given."""

Offers = Callable[[Node], Sequence[Form]]
"""The forms that may stand for a node."""

_CHAIN = 4  # layers in a row: one alone says little of its time in a network


def improved(graph: Graph, offers: Offers, cost: CostModel) -> Graph:
    """``graph`` with each node in the cheapest of its forms, where that is cheaper than it is.

    ``offers(node)`` gives the forms that may stand for ``node``. Where costs add up, each node is
    judged alone. Where they do not, as times do, a form must pay in a chain of such layers, and
    then, together with the others of its shape, in the whole model.
    """
    best = [c for node in graph.nodes if (c := _best(graph, node, offers, cost)) is not None]
    after = _applied(graph, best) if cost.by_parts else graph
    if cost.by_parts and cost.ratio(graph, after) <= 1:
        return after
    return _tried(graph, best, cost)


def unless_dearer(before: Graph, after: Graph, cost: str | CostModel) -> Graph:
    """``after``, or ``before`` where that costs less."""
    if after is before or cost_model(cost).ratio(before, after) <= 1:
        return after
    return before


def no_dearer(cost: CostModel) -> Guarantee:
    """The promise that what a pass makes costs no more: for costs that add up."""

    def refute(before: Graph, after: Graph) -> str | None:
        ratio = cost.ratio(before, after)
        return f"it costs {ratio:.3g} times as much" if ratio > 1 else None

    return Guarantee(f"no more {cost}", refute)


def ratios(
    graph: Graph, node: Node, forms: Sequence[Form], cost: CostModel, kept: Sequence[Value] = ()
) -> list[float]:
    """The cost of each of the ``forms`` of ``node`` as a multiple of that of the node as it is.

    Where costs do not add up, both stand in a chain of such layers. What is ``kept`` is read by
    others, too: see ``kept_by_others``. A form of more multiply-adds is not timed, as it may take
    minutes, and counts as endless.
    """
    times = 1 if cost.by_parts else _CHAIN
    part = _part(graph, node, _itself(node), times, kept)
    afters = (_part(graph, node, form, times, kept) for form in forms)
    return [
        inf if cost.measured and macs(after) > macs(part) else cost.ratio(part, after)
        for after in afters
    ]


def kept_by_others(graph: Graph, node: Node, offers: Offers) -> list[Value]:
    """The constants of a node that stay, since nodes without another form read them as well."""
    shared = [v for v in node.inputs if tensor_of(v) is not None and graph.uses[v] > 1]
    given = set(graph.outputs.values())
    return [
        v for v in shared if v in given or not all(offers(n) for n in graph.readers[v] if n != node)
    ]


@dataclass(frozen=True)
class _Choice:
    """A node, the form that pays most, and about how much that saves."""

    node: Node
    form: Form
    saved: float


def _best(graph: Graph, node: Node, offers: Offers, cost: CostModel) -> _Choice | None:
    forms = offers(node)
    if not forms:
        return None
    costs = ratios(graph, node, forms, cost, kept_by_others(graph, node, offers))
    least = min(costs)
    if not least < 1:
        return None
    size = macs(_part(graph, node, _itself(node), 1, ()))
    return _Choice(node, forms[costs.index(least)], (1 - least) * (1 + size))


def _itself(node: Node) -> Form:
    return lambda inputs: node.on(inputs).outputs[0]


def _part(graph: Graph, node: Node, form: Form, times: int, kept: Sequence[Value]) -> Graph:
    """A graph of the node alone in one of its forms, up to ``times`` in a row if that fits.

    What is ``kept`` is read, too.
    """
    given = {v: Value(v.type) for v in node.inputs if tensor_of(v) is None and not is_absent(v)}
    inputs = {f"x{i}": value for i, value in enumerate(given.values())}
    value = form(tuple(given.get(v, v) for v in node.inputs))
    if [value.type] == [v.type for v in given] and value.type.dtype.kind == "f":
        for _ in range(times - 1):
            last = {v: ops.Relu(value) for v in given}
            value = form(tuple(last.get(v, v) for v in node.inputs))
    more = {f"kept{i}": ops.Identity(v) for i, v in enumerate(kept)}
    return Graph(inputs, {"y": value, **more}, opset=graph.opset)


def _applied(graph: Graph, choices: Iterable[_Choice]) -> Graph:
    forms: Mapping[Node, Form] = {choice.node: choice.form for choice in choices}

    def visit(node: Node, inputs: tuple[Value, ...]) -> Value | None:
        return forms[node](inputs) if node in forms else None

    return transform(graph, visit)


def _tried(graph: Graph, choices: Sequence[_Choice], cost: CostModel) -> Graph:
    """The choices that make the whole cheaper, those for layers of one shape together."""
    taken: list[_Choice] = []
    current = graph
    for together in _alike(choices):
        after = _applied(graph, [*taken, *together])
        if cost.ratio(current, after) < 1:
            taken, current = [*taken, *together], after
    return current if taken and cost.ratio(graph, current) < 1 else graph


def _alike(choices: Iterable[_Choice]) -> list[list[_Choice]]:
    """The choices grouped by the shape of their layers, those that save most first."""
    ordered = sorted(choices, key=_shape)
    groups = [list(found) for _, found in groupby(ordered, _shape)]
    return sorted(groups, key=lambda found: -sum(choice.saved for choice in found))


def _shape(choice: _Choice) -> str:
    types = [str(value.type) for value in (*choice.node.inputs, *choice.node.outputs)]
    attrs = sorted((key, str(value)) for key, value in choice.node.attrs.items())
    return f"{choice.node.op} {types} {attrs}"
