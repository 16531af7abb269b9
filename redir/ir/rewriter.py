"""Rewriting: rules and visits that make a new graph from an old one, inputs first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from redir.ir.builtin import Absent, tensor_of
from redir.ir.graph import Graph, Node, Value
from redir.ir.tensor import Tensor

Outputs = Value | Sequence[Value]
Rule = Callable[[Node], Outputs | None]
Visit = Callable[[Node, tuple[Value, ...]], Outputs | None]


def transform(graph: Graph, visit: Visit, inputs: Mapping[str, Value] | None = None) -> Graph:
    """Rebuild ``graph``, asking ``visit(node, inputs)`` what stands for each node.

    ``inputs`` are the node's operands already rebuilt; to return None keeps the node on them. The
    node is not retyped before it is visited, so that a visit may repair what no longer fits. A
    new node that has no source takes the old one's, and with it the names of its results. The
    answer is ``graph`` itself, not a copy, where nothing changed. ``inputs`` replaces the graph's
    own inputs, each under its name.
    """
    given = inputs or {}
    env: dict[Value, Value] = {v: given[name] for name, v in graph.inputs.items() if name in given}
    known: set[Node | None] = {None}
    for node in graph.nodes:
        operands = tuple(env.get(v, v) for v in node.inputs)
        made = visit(node, operands)
        values = (made,) if isinstance(made, Value) else tuple(made or node.on(operands).outputs)
        if values[0].node not in known:
            values = _sourced(node, values)
        known.update(v.node for v in values)
        env.update(zip(node.outputs, values, strict=True))
    outputs = {name: env.get(v, v) for name, v in graph.outputs.items()}
    if not given:
        return graph.computing(outputs)
    return replace(
        graph, inputs={n: env.get(v, v) for n, v in graph.inputs.items()}, outputs=outputs
    )


def _sourced(old: Node, values: tuple[Value, ...]) -> tuple[Value, ...]:
    """The same new values under the old names, if they have none of their own."""
    new = values[0].node
    if new is None or new.source is not None or old.source is None or values != new.outputs:
        return values
    return replace(new, source=old.source).outputs


def map_constants(graph: Graph, change: Callable[[Value, Tensor], Tensor | None]) -> Graph:
    """``graph`` with other constants: ``change(value, tensor)``, or the same where that is None."""

    def visit(node: Node, _: tuple[Value, ...]) -> Outputs | None:
        tensor = tensor_of(node.outputs[0])
        new = None if tensor is None else change(node.outputs[0], tensor)
        return None if new is None else node.on((), value=new).outputs

    return transform(graph, visit)


def settled(graph: Graph, sweep: Callable[[Graph], Graph]) -> Graph:
    """``graph`` after ``sweep`` upon sweep, until one changes nothing."""
    while (after := sweep(graph)) is not graph:
        graph = after
    return graph


def in_branches(graph: Graph, run: Callable[[Graph], Graph]) -> Graph:
    """``graph`` with ``run`` of each branch of an If in place of that.

    All types are known there. A body that runs more than once is left alone: what it passes on to
    itself may be of other sizes than it says.
    """
    if not any(node.bodies for node in graph.nodes):
        return graph

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node.op.standard != "If":
            return None
        bodies = {k: a for k, a in node.attrs.items() if isinstance(a, Graph)}
        ran = {name: run(replace(body, opset=graph.opset)) for name, body in bodies.items()}
        new = {name: replace(body, opset=bodies[name].opset) for name, body in ran.items()}
        changed = {k: body for k, body in new.items() if body.outputs != bodies[k].outputs}
        return node.on(inputs, **changed).outputs if changed else None

    return transform(graph, visit)


def opened(graph: Graph) -> Graph:
    """``graph`` with what is in local functions in place of their calls, in branches too.

    A function of which nothing is known stays.
    """

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        body = node.op.body(node.on(inputs)) if node.op.opaque else None
        if body is None or all(inner.op.opaque for inner in body.nodes if inner.inputs):
            return None
        given = (value for value in inputs if value.node is None or value.node.op != Absent)
        return grafted(body, dict(zip(body.inputs.values(), given, strict=True)), _kept)

    return in_branches(settled(graph, lambda closed: transform(closed, visit)), opened)


def _kept(_: Node, __: tuple[Value, ...]) -> None:
    """Keep a node as it is."""


def grafted(body: Graph, given: Mapping[Value, Value], visit: Visit) -> list[Value]:
    """What ``body`` gives on the values ``given`` for its inputs, its nodes visited one by one."""
    env = dict(given)
    for node in body.nodes:
        operands = tuple(env.get(v, v) for v in node.inputs)
        own = node if node.repeatable else replace(node)  # each call draws for itself
        made = visit(own, operands)
        values = (made,) if isinstance(made, Value) else made or own.on(operands).outputs
        env.update(zip(node.outputs, values, strict=True))
    return [env.get(value, value) for value in body.outputs.values()]


def rewrite(graph: Graph, *rules: Rule, sweeps: int = 100) -> Graph:
    """Apply ``rules``, the first that matches each node, until none does.

    Raises:
        RuntimeError: rules still fire after so many sweeps; they undo each other.
    """

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        new = node.on(inputs)
        made = next((out for rule in rules if (out := rule(new)) is not None), None)
        return new.outputs if made is None else made

    for _ in range(sweeps):
        after = transform(graph, visit)
        if after is graph:
            return graph
        graph = after
    raise RuntimeError(f"{graph.name}: rules still fire after {sweeps} sweeps")
